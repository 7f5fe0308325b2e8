"""`neuralparts verify`: read the files of an output folder again, and compare them with their records."""

from pathlib import Path

from neuralparts.command_line import CommandLine
from neuralparts.commands import complain
from neuralparts.wording import counted, visible


def main(arguments: list[str] | None = None, program: str = "neuralparts verify") -> int:
    """Print a line for each part that is not whole; returns exit code 1 if there is one, or no part at all."""
    parser = CommandLine(
        prog=program,
        description="Read every file of an output folder again, compare it with the SHA-256 in its part's record, and "
        "print which are damaged or missing. Nothing is written.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="an output folder of a fit, or a packed folder")
    folder = Path(parser.parse_args(arguments).folder)
    from neuralparts.output import verify_folder

    parts = bad = by_size = 0
    try:
        for name, faults, hashed in verify_folder(folder):
            parts, bad, by_size = parts + 1, bad + bool(faults), by_size + (not hashed)
            if faults:
                print(visible(f"{name}: {', '.join(faults)}"))
    except OSError as error:
        return complain(program, error)
    if not parts:
        return complain(program, f"{visible(str(folder))}: no fitted part in this folder")
    print(f"{counted(parts, 'part')}, {bad} damaged or missing")
    if by_size:
        print(f"{counted(by_size, 'record')} of an earlier version: sizes were compared, not contents")
    return 1 if bad else 0
