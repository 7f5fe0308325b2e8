"""index.html of a folder run: its parts with their pictures, verdicts and errors, made from summary.csv."""

from collections.abc import Iterable
from pathlib import Path

from neuralparts.output.locks import locked
from neuralparts.output.part_files import PartFiles
from neuralparts.output.summary import SUMMARY_COLUMNS, WRITING_PATIENCE
from neuralparts.report import gallery_html
from neuralparts.verdict import GRADES
from neuralparts.whole_file import write_whole

# The end of every gallery's title; a page without it is a user's own.
GALLERY_TITLE = ": fitted parts"


def write_gallery(folder: Path, rows: Iterable[list[str]], spelled: dict[str, str]) -> Path:
    """Write index.html of a folder; returns its path. Raises OSError, BusyError.

    rows: lines of the summary, cells in the order of SUMMARY_COLUMNS. spelled: the names of parts that `text` escapes,
    by the escaped name.
    """
    page = folder / "index.html"
    shown = [_gallery_row(folder, dict(zip(SUMMARY_COLUMNS, row, strict=True)), spelled) for row in rows]
    with locked(folder / ".index.lock", WRITING_PATIENCE):  # other runs see that the file is being written
        write_whole(page, gallery_html(shown, folder.resolve().name + GALLERY_TITLE).encode())
    return page


def _gallery_row(folder: Path, row: dict[str, str], spelled: dict[str, str]) -> dict:
    """A row of the gallery from a line of the summary."""
    files = PartFiles(folder, spelled.get(row["name"], row["name"]))
    shown = {name: row[name] for name in ("name", "status")}
    shown["reason"] = "" if row["status"] == "done" else row["reason"]  # the gallery counts reasons as failures
    shown["verdict"] = row["verdict"] if row["verdict"] in GRADES else ""
    for name in ("surface_within_99", "missed_surface", "iou", "surface_error", "seconds"):
        shown[name] = _number(row[name])
    for name, path in (("report", files.page), ("thumbnail", files.thumbnail)):
        shown[name] = str(path.relative_to(folder)) if path.is_file() else None
    return shown


def _number(cell: str) -> float | None:
    """A cell as a number; None if it is empty, or if somebody has edited it into something else."""
    try:
        return float(cell)
    except ValueError:
        return None
