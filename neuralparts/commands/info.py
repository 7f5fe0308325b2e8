"""`network.py`, `neuralparts info`: what a model file holds, and its signed distance at given points."""

import sys
from typing import TYPE_CHECKING

from neuralparts.commands import complain
from neuralparts.errors import UserError
from neuralparts.flags import CommandLine, add_flags
from neuralparts.machine import LIGHT_ADDRESS_SPACE, check_address_space, settle_threads
from neuralparts.wording import quoted

if TYPE_CHECKING:
    import numpy as np

    from neuralparts.network import NeuralSDF


def main(arguments: list[str] | None = None, program: str = "network.py") -> int:
    """Print what a model holds, or with --points its signed distance at each, file units; returns the exit code."""
    parser = CommandLine(
        prog=program, description="What a model file holds; or its signed distance at points, negative inside."
    )
    parser.add_argument("model", metavar="MODEL", help="a fitted model, .safetensors")
    add_flags(parser, "points")
    flags = parser.parse_args(arguments)
    settle_threads()
    try:
        check_address_space(LIGHT_ADDRESS_SPACE)
        from neuralparts.network import NeuralSDF

        model = NeuralSDF.load(flags.model)
        if flags.points is None:
            print("\n".join(f"{name:14} {value}" for name, value in facts(model).items()))
        else:
            print("\n".join(f"{value:.9g}" for value in model(read_points(flags.points))))
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        return complain(program, error, flags.model)
    return 0


def facts(model: "NeuralSDF") -> dict[str, str]:
    """What there is to say about a model, by name."""
    transform = model.transform
    extent = transform.length_to_file(1.0)
    encoding = "none"
    if model.encoding is not None:
        encoding = ", ".join(f"{name} {value}" for name, value in model.encoding.description().items())
    return {
        "parameters": f"{model.parameter_count:,}",
        "hidden widths": " ".join(map(str, model.widths)),
        "activation": model.activation,
        "hash grid": encoding,
        "scaler": model.scaler.name,
        "center": " ".join(f"{value:.9g}" for value in transform.center) + " (file units)",
        "cube": f"center +- {extent:.9g} (file units)",
        "scale": f"{transform.scale:.9g} domain units per file unit",
    }


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
