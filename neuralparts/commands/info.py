"""`network.py`, `neuralparts info`: what a model file or a packed part holds, its signed distance at given points, and
a published network as a model file.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neuralparts.choices import KERAS_SUFFIXES
from neuralparts.command_line import CommandLine
from neuralparts.commands import complain
from neuralparts.errors import UserError
from neuralparts.flags import add_flags
from neuralparts.machine import LIGHT_ADDRESS_SPACE, check_address_space, settle_threads
from neuralparts.watch import Watch
from neuralparts.wording import quoted

if TYPE_CHECKING:
    import numpy as np

    from neuralparts.network import NeuralSDF


def main(arguments: list[str] | None = None, program: str = "network.py") -> int:
    """Print what a model holds, or with --points its signed distance at each, file units; returns the exit code.

    With --out the model, which is then a published Keras network, is written as a model file.
    """
    parser = CommandLine(
        prog=program, description="What a model file holds; or its signed distance at points, negative inside."
    )
    accepted = "a fitted model, .safetensors; a packed folder, with --name; or a published network, .h5"
    parser.add_argument("model", metavar="MODEL", help=accepted)
    add_flags(parser, "points", "name")
    add_flags(parser, "gpu", help="number of the GPU for --points; -1 is the CPU (default: GPU 0 if there is one)")
    add_flags(parser, "out", help="model file to write from a published network, .safetensors")
    flags = parser.parse_args(arguments)
    if flags.out is not None and flags.points is not None:
        parser.error("--points prints distances and --out writes a model; leave one of them out")
    if flags.gpu is not None and flags.points is None:
        parser.error("--gpu is for --points; leave it out")
    settle_threads()
    try:
        check_address_space(LIGHT_ADDRESS_SPACE)
        from neuralparts.network import NeuralSDF, facts, read_keras_file

        is_keras = Path(flags.model).suffix.lower() in KERAS_SUFFIXES
        model = read_keras_file(flags.model) if is_keras else NeuralSDF.load(flags.model, name=flags.name)
        if flags.out is not None:
            write_converted(model, Path(flags.out), is_keras)
        elif flags.points is None:
            print("\n".join(f"{name:18} {value}" for name, value in facts(model).items()))
        else:
            print_values(model, read_points(flags.points), flags.gpu)
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        return complain(program, error, flags.model)
    return 0


def print_values(model: "NeuralSDF", points: "np.ndarray", gpu: int | None) -> None:
    """Print the signed distance at points (N, 3), file units, a line each, computed on the device of --gpu."""
    from neuralparts.device import choose_device

    values = model.to(choose_device(gpu, Watch()))(points)
    print("\n".join(f"{value:.9g}" for value in values))


def write_converted(model: "NeuralSDF", out: Path, is_keras: bool) -> None:
    """Write the model of a published network. Raises UserError if it is a model file already, or for another suffix."""
    if not is_keras:
        raise UserError(f"--out converts a published network ({', '.join(KERAS_SUFFIXES)}); leave it out for a model")
    if out.suffix.lower() != ".safetensors":
        raise UserError(f"{out}: a model file has the suffix .safetensors")
    model.save(out)
    print(f"{out}: {out.stat().st_size:,} bytes")


def read_points(path: str) -> "np.ndarray":
    """(N, 3) float64 of a text file, x y z a line between spaces or commas; - is standard input. Raises UserError."""
    import numpy as np

    try:
        lines = (sys.stdin if path == "-" else open(path)).readlines()  # noqa: SIM115 (closed with the process)
        rows = [line.replace(",", " ") for line in lines if line.partition("#")[0].strip()]
        points = np.loadtxt(rows, ndmin=2) if rows else np.zeros((0, 0))
    except ValueError as error:
        raise UserError(f"{path}: not a text of numbers ({quoted(error, 200)})") from None
    if points.shape[1:] != (3,) or not np.isfinite(points).all():
        raise UserError(f"{path}: needs three finite numbers a line, x y z; found an array {points.shape}")
    return points
