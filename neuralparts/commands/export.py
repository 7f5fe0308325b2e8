"""`export.py`, `neuralparts export`: a model in a form that another tool takes, in the units of its input file."""

import argparse
from pathlib import Path

from neuralparts.choices import EXPORT_FORMS, GRID_FORMS, RECONSTRUCTION_RESOLUTION
from neuralparts.command_line import CommandLine
from neuralparts.commands import check_output, complain
from neuralparts.errors import UserError
from neuralparts.flags import add_flags
from neuralparts.machine import check_address_space, settle_threads


def main(arguments: list[str] | None = None, program: str = "export.py") -> int:
    """Write a fitted model in another form, print the files written; returns the exit code."""
    parser = CommandLine(
        prog=program, description="A fitted model in a form that another tool takes, in the units of its input file."
    )
    parser.add_argument("model", metavar="MODEL", help="a fitted model, .safetensors")
    add_flags(parser, "to")
    add_flags(parser, "out", help="file to write (default: the model's name with the form's suffix)")
    grids = ", ".join(GRID_FORMS)
    nodes = f"nodes along an edge of the grid that {grids} hold, 2 or more (default {RECONSTRUCTION_RESOLUTION})"
    add_flags(parser, "reconstructionRes", help=nodes, default=None)
    flags = parser.parse_args(arguments)
    if flags.to is None and flags.out is None:
        parser.error("give --to FORM, or --out FILE with a form's suffix")
    settle_threads()
    try:
        check_address_space()
        return write_form(flags)
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        return complain(program, error, flags.model)


def write_form(flags: argparse.Namespace) -> int:
    """Load, write, print the files written; returns 0. Raises ValueError or OSError with the line for the user."""
    from neuralparts.export import build_command, export_model, form_of
    from neuralparts.network import NeuralSDF

    form = flags.to or form_of(flags.out)
    if form not in GRID_FORMS and flags.reconstructionRes is not None:
        raise UserError(f"--reconstructionRes is for the grids {', '.join(GRID_FORMS)}; leave it out for {form}")
    resolution = RECONSTRUCTION_RESOLUTION if flags.reconstructionRes is None else flags.reconstructionRes
    out = Path(flags.out or Path(flags.model).with_suffix(EXPORT_FORMS[form]))
    check_output(out, "out", asked_for=flags.out is not None)
    for path in export_model(NeuralSDF.load(flags.model), form, out, resolution):
        print(f"{path}: {path.stat().st_size:,} bytes")
    if form == "mujoco":
        print(build_command(out))
    return 0
