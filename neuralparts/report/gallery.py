"""The gallery: the page of a folder, with a row a part, the worst first, columns to sort and a filter.

It works offline, from file://, beside the pages and thumbnails of its parts. Here rows become texts and addresses;
templates/gallery.html makes the HTML.
"""

import base64
import os
import urllib.parse
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from neuralparts.report.formatting import duration, is_finite, number
from neuralparts.report.templating import Card, render

# Rows of a gallery; summary.csv has them all. Chromium sorts so many in 0.6 s on two cores, drawing included.
GALLERY_ROWS = 10_000
COLUMNS = ("Part", "Status", "Surface error", "IoU", "Chamfer", "Time")
# Columns from this one on hold numbers.
FIRST_NUMBER = COLUMNS.index("Surface error")
PNG_START = b"\x89PNG"
PNG_START_BASE64 = "iVBORw0KGgo"
PNG_ADDRESS = "data:image/png;base64,"


class Cell(NamedTuple):
    """A number in the gallery. key: the number to sort by, as text; '' if there is none."""

    text: str
    key: str


class Row(NamedTuple):
    """A part in the gallery. page, thumbnail: addresses relative to the gallery, or ''. reason: of a failure, or ''."""

    name: str
    page: str
    thumbnail: str
    status: str
    reason: str
    cells: list[Cell]


def gallery_html(rows: Iterable[dict[str, Any]], title: str) -> str:
    """The text of the page of a folder.

    rows: dicts with `name` and, if known, `status`, `reason` (of a failure), `surface_error`, `iou`, `chamfer`
    (domain units), `seconds`, `report` (path relative to the page), `thumbnail` (PNG as bytes or base64 text, or a path
    relative to the page). Parts without a surface error come first, the failures before the others; then the parts by
    surface error, largest first. Beyond GALLERY_ROWS the page keeps the first of that order and says how many there
    are.
    """
    ordered = sorted(rows, key=_worst_first)
    shown = ordered[:GALLERY_ROWS]
    return render(
        "gallery.html",
        title=title,
        cards=_cards(ordered),
        count=f"{len(ordered):,}",
        shown_count=f"{len(shown):,}" if len(shown) < len(ordered) else "",
        columns=COLUMNS,
        first_number=FIRST_NUMBER,
        rows=map(_row, shown),
    )


def _worst_first(row: dict[str, Any]) -> tuple:
    """Sorts rows: without a surface error and with a reason, without either, then by surface error; then by name."""
    error = row.get("surface_error")
    name = str(row.get("name", ""))
    return (1, -error, name) if is_finite(error) else (0, not row.get("reason"), name)


def _cards(rows: list[dict[str, Any]]) -> list[Card]:
    """The numbers of the whole folder."""
    errors = np.array([row["surface_error"] for row in rows if is_finite(row.get("surface_error"))])
    failures = sum(bool(row.get("reason")) for row in rows)
    return [
        Card("Parts", f"{len(rows):,}", "worst first"),
        Card("Refused or failed", f"{failures:,}", "with the reason below"),
        Card("Median surface error", number(float(np.median(errors)) if len(errors) else None), "domain units"),
        Card("Worst surface error", number(float(errors.max()) if len(errors) else None), "domain units"),
    ]


def _row(row: dict[str, Any]) -> Row:
    """A part as the gallery shows it."""
    numbers = [(row.get(key), number) for key in ("surface_error", "iou", "chamfer")] + [(row.get("seconds"), duration)]
    return Row(
        name=row.get("name", ""),
        page=_relative_address(row["report"]) if row.get("report") else "",
        thumbnail=_picture_address(row["thumbnail"]) if row.get("thumbnail") else "",
        status=row.get("status") or "",
        reason=row.get("reason") or "",
        cells=[Cell(as_text(value), repr(float(value)) if is_finite(value) else "") for value, as_text in numbers],
    )


def _relative_address(path: str) -> str:
    """A path relative to the page as an address. Special characters are quoted: it can name no scheme and no host."""
    return urllib.parse.quote(os.fsencode(path).lstrip(b"/"))


def _picture_address(picture: bytes | str) -> str:
    """The address of a thumbnail: the PNG itself if it is given, else the path to it."""
    if isinstance(picture, bytes):
        return PNG_ADDRESS + (base64.b64encode(picture) if picture.startswith(PNG_START) else picture).decode("ascii")
    return PNG_ADDRESS + picture if picture.startswith(PNG_START_BASE64) else _relative_address(picture)
