"""The gallery: the page of a folder, with a row a part, the worst first, columns to sort, filters by text and grade.

It works offline, from file://, beside the pages and thumbnails of its parts. Here rows become texts and addresses;
templates/gallery.html makes the HTML.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from neuralparts.record_values import is_finite
from neuralparts.report.formatting import DASH, duration, number, relative_address
from neuralparts.report.templating import Card, render
from neuralparts.verdict import GRADES, percent
from neuralparts.wording import listed

# Rows of a gallery; summary.csv has them all. Chromium sorts so many in 0.6 s on two cores, drawing included.
GALLERY_ROWS = 10_000
# The columns of numbers: label, key of the row, how the number is shown; lengths in domain units.
NUMBERS = (
    ("99% within", "surface_within_99", number),
    ("Missing", "missed_surface", lambda fraction: percent(fraction) if is_finite(fraction) else DASH),
    ("IoU", "iou", number),
    ("Surface error", "surface_error", number),
    ("Time", "seconds", duration),
)
COLUMNS = ("Part", "Verdict", *(label for label, _, _ in NUMBERS))
# Columns from this one on hold numbers.
FIRST_NUMBER = COLUMNS.index(NUMBERS[0][0])
# Places of the grades, the worst first. A failure comes before them; a part without a grade may be poor.
RANKS = {"poor": 1, "": 2, "fair": 3, "good": 4}


class Cell(NamedTuple):
    """A number in the gallery. label: of its column. key: the number to sort by, as text; '' if there is none."""

    label: str
    text: str
    key: str


class Row(NamedTuple):
    """A part in the gallery. page, thumbnail: addresses relative to the gallery, or ''. reason: of a failure, or ''.

    grade: one of GRADES, or ''. rank: 0 for a failure, else one of RANKS.
    """

    name: str
    page: str
    thumbnail: str
    status: str
    reason: str
    grade: str
    rank: int
    cells: list[Cell]


def gallery_html(rows: Iterable[dict[str, Any]], title: str) -> str:
    """The text of the page of a folder.

    rows: dicts with `name` and, if known, `status`, `reason` (of a failure), `verdict` (one of GRADES),
    `surface_within_99`, `surface_error` (domain units), `missed_surface`, `iou`, `seconds`, `report` and `thumbnail`
    (paths relative to the page). Failures come first, then the poor parts, those without a verdict, the fair and the
    good ones; within a grade the largest `surface_within_99` first. Beyond GALLERY_ROWS the page keeps the first of
    that order and says how many there are.
    """
    ordered = sorted(rows, key=_worst_first)
    shown = ordered[:GALLERY_ROWS]
    counts = Counter(row.get("verdict") for row in ordered)
    return render(
        "gallery.html",
        title=title,
        cards=_cards(ordered),
        count=f"{len(ordered):,}",
        shown_count=f"{len(shown):,}" if len(shown) < len(ordered) else "",
        grades=[(grade, f"{counts[grade]:,}") for grade in GRADES if counts[grade]],
        columns=COLUMNS,
        first_number=FIRST_NUMBER,
        rows=map(_row, shown),
    )


def _worst_first(row: dict[str, Any]) -> tuple:
    """Sort key of a row: by rank, then the largest errors; a part without one comes before; then by name."""
    errors = [row.get(key) for key in ("surface_within_99", "surface_error")]
    largest = [(1, -error) if is_finite(error) else (0, 0.0) for error in errors]
    return (_rank(row), *largest, str(row.get("name", "")))


def _rank(row: dict[str, Any]) -> int:
    """0 for a failure, else by the grade."""
    return 0 if row.get("reason") else RANKS[row.get("verdict") or ""]


def _cards(rows: list[dict[str, Any]]) -> list[Card]:
    """The numbers of the whole folder, and the names of the poor parts, failures not among them."""
    within = np.array([row["surface_within_99"] for row in rows if is_finite(row.get("surface_within_99"))])
    failures = sum(bool(row.get("reason")) for row in rows)
    poor = [row["name"] for row in rows if row.get("verdict") == "poor" and not row.get("reason")]
    return [
        Card("Parts", f"{len(rows):,}", "worst first"),
        Card("Poor", f"{len(poor):,}", listed(poor) if poor else "by the rule in the README"),
        Card("Refused or failed", f"{failures:,}", "with the reason below"),
        Card("Median of 99% within", number(float(np.median(within)) if len(within) else None), "domain units"),
    ]


def _row(row: dict[str, Any]) -> Row:
    """A part as the gallery shows it."""
    return Row(
        name=row.get("name", ""),
        page=relative_address(row["report"]) if row.get("report") else "",
        thumbnail=relative_address(row["thumbnail"]) if row.get("thumbnail") else "",
        status=row.get("status") or "",
        reason=row.get("reason") or "",
        grade=row.get("verdict") or "",
        rank=_rank(row),
        cells=[_cell(label, row.get(key), as_text) for label, key, as_text in NUMBERS],
    )


def _cell(label: str, value: Any, as_text: Callable[[Any], str]) -> Cell:
    """A number as a cell."""
    return Cell(label, as_text(value), repr(float(value)) if is_finite(value) else "")
