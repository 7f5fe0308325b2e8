"""`sampling.py`, `neuralparts sample`: labelled points of a mesh as an .npz file, an INPUT of the trainer."""

import argparse
from pathlib import Path

from neuralparts.choices import IMPORTANCE_WEIGHT, SAMPLES_SUFFIX
from neuralparts.command_line import CommandLine
from neuralparts.commands import check_output, complain
from neuralparts.errors import UserError
from neuralparts.flag_contradictions import sampling_contradiction
from neuralparts.flags import SUFFIXES, add_flags
from neuralparts.machine import LIGHT_ADDRESS_SPACE, check_address_space


def main(arguments: list[str] | None = None, program: str = "sampling.py") -> int:
    """Label points around a mesh and write them. Exit code 1: the input cannot be used; 2: the flags are wrong."""
    flags = parse(arguments, program)
    try:
        check_address_space(LIGHT_ADDRESS_SPACE)
        print(write_samples(flags))
    except (UserError, OSError, ImportError, MemoryError, RuntimeError) as error:
        return complain(program, error, flags.mesh)
    return 0


def parse(arguments: list[str] | None, program: str) -> argparse.Namespace:
    """The flags; ends the process with code 2 and one line where they are wrong."""
    parser = CommandLine(prog=program, description="Labelled points around a mesh, as .npz.")
    parser.add_argument("mesh", help=f"mesh file: {SUFFIXES}")
    add_flags(parser, "num_points", "out", "samplingMethod")
    beta = f"beta of the density exp(-beta |d|), per domain unit (default {IMPORTANCE_WEIGHT:g})"
    add_flags(parser, "importanceWeight", default=None, help=beta)
    add_flags(parser, "uniformRatio", "seed", "distanceEngine")
    flags = parser.parse_args(arguments)
    if flags.out and Path(flags.out).suffix != SAMPLES_SUFFIX:
        parser.error(f"--out {flags.out}: the name must end in {SAMPLES_SUFFIX}")
    if flags.samplingMethod != "Importance" and flags.importanceWeight is not None:
        parser.error(f"--importanceWeight has no meaning for --samplingMethod {flags.samplingMethod}")
    if problem := sampling_contradiction(flags):
        parser.error(problem)
    return flags


def write_samples(flags: argparse.Namespace) -> str:
    """Load, sample with a progress bar, write; returns a line that says what was written. Raises UserError, OSError."""
    import numpy as np

    from neuralparts.distance import DistanceOracle
    from neuralparts.mesh import diagnosis_lines, load_mesh
    from neuralparts.sampling import draw_samples, save_samples
    from neuralparts.stage_bar import count_bar

    mesh = load_mesh(flags.mesh, reconstruction_res=0)
    out = Path(flags.out) if flags.out else Path(flags.mesh).with_suffix(SAMPLES_SUFFIX)
    check_output(out, "out", asked_for=bool(flags.out))
    print("\n".join(diagnosis_lines(mesh.diagnosis)))
    oracle = DistanceOracle(mesh, flags.distanceEngine)
    with count_bar("label", flags.num_points) as progress:
        points, sdf = draw_samples(
            flags.samplingMethod,
            oracle,
            flags.num_points,
            np.random.default_rng(flags.seed),
            flags.importanceWeight,
            flags.uniformRatio,
            progress,
        )
    save_samples(out, points, sdf, mesh.transform)
    return f"{out}: {len(sdf)} points, {np.mean(sdf < 0):.1%} inside, by {oracle.engine}"
