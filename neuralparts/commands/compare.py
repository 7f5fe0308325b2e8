"""`neuralparts compare`: the figures of several fits side by side, lengths in file units."""

from itertools import takewhile
from pathlib import Path

from neuralparts.command_line import CommandLine
from neuralparts.commands import complain
from neuralparts.commands.last_lines import OF_A_MESH
from neuralparts.errors import UserError
from neuralparts.metric_names import METRIC_NAMES
from neuralparts.record_values import file_length, is_finite
from neuralparts.verdict import verdict
from neuralparts.wording import say, visible

# The metrics of the table, one a line.
COMPARED = (*OF_A_MESH, "missed_surface")
# Shown for a figure that a fit does not have.
ABSENT = "-"


def main(arguments: list[str] | None = None, program: str = "neuralparts compare") -> int:
    """Print a table with a column for each fit; returns the exit code. Nothing is computed or written."""
    parser = CommandLine(
        prog=program,
        description="The figures of several fits side by side, from their records. Lengths are in file units.",
    )
    accepted = "NAME.json of a fit, its model NAME.safetensors, or an output folder that holds one part"
    parser.add_argument("results", metavar="RESULT", type=Path, nargs="+", help=accepted)
    results = parser.parse_args(arguments).results
    try:
        files = [record_file(result) for result in results]
        records = [record_in(file) for file in files]
    except (UserError, OSError) as error:
        return complain(program, error)
    print(table(headings(files), [figures(record) for record in records]))
    if len({record["content"] for record in records}) > 1:
        say("these are fits of different inputs")
    return 0


def record_file(result: Path) -> Path:
    """The path of the record that a result names: NAME.json. Raises UserError for a folder without just one."""
    if not result.is_dir():
        return result.with_suffix(".json")
    from neuralparts.output import read_record  # only here, so that `--help` is fast

    found = sorted(path for path in result.glob("*.json") if read_record(path) is not None)
    if len(found) != 1:
        raise UserError(f"{result}: {len(found)} records in this folder; name the NAME.json of one part")
    return found[0]


def record_in(file: Path) -> dict:
    """The record in a file. Raises UserError where there is none, OSError if the disk fails."""
    from neuralparts.output import read_record  # only here, so that `--help` is fast

    record = read_record(file)
    if record is None:
        raise UserError(f"{file}: no such record of a fit, or a damaged one; name the NAME.json that a fit left")
    return record


def headings(files: list[Path]) -> list[str]:
    """What sets each path apart: its parts, without the first and the last ones that all paths have in common."""
    parts = [file.with_suffix("").parts for file in files]
    first, last = in_common(parts), in_common([names[::-1] for names in parts])
    return [visible("/".join(names[first : len(names) - last]) or names[-1]) for names in parts]


def in_common(paths: list[tuple[str, ...]]) -> int:
    """With how many equal names all of the paths begin."""
    return len(list(takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))))


def figures(record: dict) -> dict[str, str]:
    """{label: figure} of a fit as the table shows them, lengths in file units."""
    shown = {"Verdict": verdict(record).grade or ABSENT}
    for name in COMPARED:
        label, _, is_length = METRIC_NAMES[name]
        value = record["metrics"].get(name)
        shown[label] = written(file_length(record, value), ".3g") if is_length else written(value, ".4f")
    models = [file for name, file in record["files"].items() if name.endswith(".safetensors")]
    # Records of earlier versions name the size alone.
    sizes = [file["bytes"] if isinstance(file, dict) else file for file in models]
    shown["Seconds to the report"] = written(record["timings"].get("total"), ".1f")
    shown["Parameters"] = written(record.get("parameters"), ",")
    shown["Model, bytes"] = written(next(iter(sizes), None), ",")
    return shown


def written(value: float | None, form: str) -> str:
    """A number in a form of `format`; ABSENT for anything that is no finite number."""
    return format(value, form) if is_finite(value) else ABSENT


def table(titles: list[str], columns: list[dict[str, str]]) -> str:
    """Text with a line for each label and a column for each title, right-aligned."""
    rows = [
        ["lengths in file units", *titles],
        *([label, *(column[label] for column in columns)] for label in columns[0]),
    ]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return "\n".join("  ".join(cells) for cells in lines)
