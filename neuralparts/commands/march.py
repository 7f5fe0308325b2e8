"""`marching.py`, `neuralparts march`: the zero level of a fitted model as a mesh file, in file units."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from neuralparts.choices import OUTPUT_FORMATS
from neuralparts.command_line import CommandLine
from neuralparts.commands import check_output, complain
from neuralparts.errors import UserError
from neuralparts.flags import add_flags
from neuralparts.machine import check_address_space, settle_threads
from neuralparts.watch import Watch

if TYPE_CHECKING:
    import numpy as np

    from neuralparts.domain import Transform


def main(arguments: list[str] | None = None, program: str = "marching.py") -> int:
    """March a fitted model and write its mesh; returns the exit code."""
    parser = CommandLine(prog=program, description="The mesh of a fitted model, in the units of its input file.")
    parser.add_argument("model", metavar="MODEL", help="a fitted model, .safetensors")
    add_flags(parser, "reconstructionRes", help="nodes along an edge of the marching-cubes grid, 2 or more")
    add_flags(parser, "output")
    add_flags(parser, "maxMemory", help="refuse if the process would need more memory than this; 0 is no limit")
    add_flags(parser, "simplify", "refine", "dense", "gpu")
    flags = parser.parse_args(arguments)
    if flags.dense and flags.maxMemory:
        parser.error("--maxMemory does not limit a dense march; leave one of them out")
    settle_threads()
    try:
        check_address_space()
        return march_model(flags)
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        return complain(program, error, flags.model)


def march_model(flags: argparse.Namespace) -> int:
    """Load, march, write, print what was done; returns 0. Raises ValueError or OSError with the line for the user."""
    import numpy as np

    from neuralparts.device import choose_device
    from neuralparts.domain import grid_cell
    from neuralparts.marching import as_function, as_gradient, march
    from neuralparts.mesh_files import rounding_note, write_mesh
    from neuralparts.network import NeuralSDF
    from neuralparts.stage_bar import stage_bar

    device = choose_device(flags.gpu, Watch())
    model = NeuralSDF.load(flags.model, device)
    output = Path(flags.output or Path(flags.model).with_suffix(".stl"))
    check_format(output)
    check_output(output, "output", asked_for=flags.output is not None)
    # A model may have any values, and what is computed from them may overflow.
    with stage_bar("march") as progress, np.errstate(over="ignore", invalid="ignore"):
        try:
            result = march(
                as_function(model.signed_distance, device),
                flags.reconstructionRes,
                gradient=as_gradient(model.signed_distance, device),
                refine=flags.refine,
                max_memory=flags.maxMemory or None,
                progress=progress,
                dense=bool(flags.dense),
            )
        except ValueError as error:  # no surface, a lack of memory, or values that are not finite
            raise UserError(f"{flags.model}: {error}") from error
    vertices, faces, stats = result.vertices, result.faces, result.stats
    del result  # its memory is needed for writing
    if flags.simplify:
        vertices, faces = simplified(vertices, faces, flags.simplify, model.transform)
    vertices = model.transform.to_file(vertices)
    if line := rounding_note(output, vertices, model.transform.length_to_file(grid_cell(flags.reconstructionRes))):
        print(f"{line}; --output with .ply keeps all digits")
    write_mesh(output, vertices, faces)
    print(describe(stats))
    print(f"{output}: {len(vertices)} vertices, {len(faces)} triangles")
    return 0


def simplified(
    vertices: "np.ndarray", faces: "np.ndarray", wanted: float | str, transform: "Transform"
) -> tuple["np.ndarray", "np.ndarray"]:
    """The marched mesh, domain units, as --simplify wants it; prints the number of triangles and the largest error."""
    from neuralparts.simplification import not_simplified, simplify
    from neuralparts.stage_bar import stage_bar

    with stage_bar("simplify") as progress:
        result = simplify(vertices, faces, wanted, transform.scale, progress)
    error = transform.length_to_file(result.error)
    shorter = f"simplified from {len(faces):,} triangles, at most {error:.3g} (file units) from the marched surface"
    print(shorter if len(result.faces) < len(faces) else not_simplified(wanted))
    return result.vertices, result.faces


def check_format(output: Path) -> None:
    """Raise UserError for a suffix that is not one of OUTPUT_FORMATS."""
    if output.suffix.lower().lstrip(".") not in OUTPUT_FORMATS:
        known = " ".join(f".{name}" for name in OUTPUT_FORMATS)
        raise UserError(f"{output}: cannot write a '{output.suffix}' file; use one of {known}")


def describe(stats: dict) -> str:
    """One line: how many of the nodes were evaluated, in all and as checks, and how many checks found a wrong sign."""
    fraction = stats["evaluated"] / stats["nodes"]
    line = f"{stats['resolution']}^3 nodes: evaluated {stats['evaluated']} ({fraction:.2%}), skipped {stats['skipped']}"
    if "audited" in stats:
        line += f"; {stats['audited']} of those evaluated were random checks, {stats['hits']} found a wrong sign"
    return f"{line}; {stats['seconds']:.1f} s"
