"""The page of a part: its meshes in 3-D, its curves, its metrics and everything else of its record as tables.

It works offline, from file://, with everything inside; in a browser of 2023 or later. Here the record becomes texts in
the order of the page; templates/page.html makes the HTML.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from neuralparts import metric_names
from neuralparts.metric_names import METRIC_NAMES
from neuralparts.report.curves import curves_figure, thinned_note
from neuralparts.report.formatting import DASH, DOT, duration, file_length, is_finite, lines, number, one_line
from neuralparts.report.templating import Card, compressed_json, compressed_plotly, render
from neuralparts.report.views import MeshArrays, View, mesh_views

# Entries of the record that are dicts, each a table: title and key.
TABLES = (
    ("How the fit ended", "fit"),
    ("Flags", "flags"),
    ("Diagnosis of the input", "diagnosis"),
    ("Domain = (file \N{MINUS SIGN} center) \N{MULTIPLICATION SIGN} scale", "transform"),
)
# Entries of the record that the page shows elsewhere; every other entry has a line in the last table.
SHOWN_ELSEWHERE = {"input", "parameters", "timings", "metrics", "off_surface", *(key for _, key in TABLES)}


class Panel(NamedTuple):
    """Half of the top of the page: a view with its caption, or why there is none.

    view: id of the figure, '' without one. title: bold; text: after it.
    """

    view: str
    title: str
    text: str


class MetricRow(NamedTuple):
    """A line of the table of metrics. file_units: '' unless the metric is a length."""

    label: str
    meaning: str
    value: str
    file_units: str


class BandRow(NamedTuple):
    """A line of the table of errors by distance. band: bounds of |d|, domain units; the others are of its points."""

    band: str
    mean_error: str
    overestimated: str
    gradient_within: str


class TimingRow(NamedTuple):
    """A line of the table of timings. percent: of the total, for a bar; None without one."""

    stage: str
    seconds: str
    percent: float | None


class Table(NamedTuple):
    """A table of the record: pairs of a key and the lines of its value."""

    title: str
    pairs: list[tuple[str, list[str]]]


def html_report(
    name: str,
    record: dict[str, Any],
    history: Mapping[str, np.ndarray],
    input_mesh: MeshArrays | None,
    reconstruction: MeshArrays | None,
    vertex_distance: np.ndarray | None = None,
) -> str:
    """The text of the page of one part.

    name: title, any text. record: the dict of NAME.json (`input flags diagnosis parameters timings metrics`, perhaps
    `fit`, `transform`, `failure`, `notes`); a number that is missing, None or NaN shows as a dash. history: dict of
    arrays as in `curves`. input_mesh, reconstruction: (vertices (V, 3) float64 in file units, faces (F, 3)
    integer), or None without one (a samples file; nothing crossed zero). vertex_distance (V,): distance of each vertex
    of the reconstruction to the input, in file units, or None. Raises ValueError for arrays of another shape.
    """
    meshes = {"input": input_mesh, "reconstruction": reconstruction}
    views, origin = mesh_views({key: mesh for key, mesh in meshes.items() if mesh is not None}, vertex_distance)
    curves = curves_figure(history)
    figures = {key: view.figure for key, view in views.items()} | ({"curves": curves} if curves else {})
    return render(
        "page.html",
        title=name,
        input=one_line(record.get("input")),
        ended_by=(record.get("fit") or {}).get("ended_by"),
        notes=[note for note in (record.get("failure"), *(record.get("notes") or [])) if note],
        cards=_cards(record),
        panels=_panels(views, record),
        origin=one_line(origin.tolist()) if origin.any() else "",
        has_curves=curves is not None,
        thinned=thinned_note(history),
        metrics=_metric_rows(record),
        bands=_band_rows(record.get("off_surface") or {}),
        limits=metric_names,
        timings=_timing_rows(record.get("timings") or {}),
        tables=_tables(record),
        figures=compressed_json(figures) if figures else "",
        library=compressed_plotly() if figures else "",
    )


def _panels(views: Mapping[str, View], record: dict[str, Any]) -> list[Panel]:
    """The panels of the input and the reconstruction."""
    missing = {"input": Panel("", "No input mesh to draw.", " The fit started from labelled samples.")}
    if (record.get("flags") or {}).get("reconstructionRes") == 0:
        missing["reconstruction"] = Panel("", "No reconstruction", " was asked for (--reconstructionRes 0).")
    else:
        missing["reconstruction"] = Panel("", "No reconstruction:", f" {record.get('failure') or 'none was made'}.")
    return [
        Panel(key, key.capitalize(), DOT + views[key].caption) if key in views else panel
        for key, panel in missing.items()
    ]


def _cards(record: dict[str, Any]) -> list[Card]:
    """The numbers that a person looks for first."""
    metrics, timings = record.get("metrics") or {}, record.get("timings") or {}

    def length_card(label: str, key: str) -> Card:
        in_file = file_length(record, metrics.get(key))
        note = "domain units" if in_file is None else f"{number(in_file)} file units"
        return Card(label, number(metrics.get(key)), note)

    ends = [number(metrics.get(key)) for key in ("iou_low", "iou_high")]
    interval = f"95% interval {' to '.join(ends)}" if "iou_low" in metrics else "of the insides"
    return [
        length_card("Surface error", "surface_error"),
        Card("IoU", number(metrics.get("iou")), interval),
        length_card("Chamfer", "chamfer"),
        Card("Parameters", number(record.get("parameters")), "numbers in the network"),
        Card("Total time", duration(timings.get("total")), f"fit {duration(timings.get('fit'))}"),
    ]


def _metric_rows(record: dict[str, Any]) -> list[MetricRow]:
    """Every metric that has a name in METRIC_NAMES, known or not, then the others of the record."""
    metrics = record.get("metrics") or {}
    rows = []
    for key, named in METRIC_NAMES.items():
        in_file = number(file_length(record, metrics.get(key))) if named.is_length else ""
        rows.append(MetricRow(named.label, named.meaning, number(metrics.get(key)), in_file))
    return rows + [MetricRow(key, "", one_line(value), "") for key, value in metrics.items() if key not in METRIC_NAMES]


def _band_rows(errors: dict[str, Any]) -> list[BandRow]:
    """Every band of distances from the surface, then the whole cube; none where nothing was measured."""
    rows = [
        BandRow(
            f"{band['from']:g} to {band['to']:g}" if band["to"] else f"beyond {band['from']:g}",
            number(band["mean_error"]),
            _percent(band["overestimated"]),
            _percent(band["gradient_within"]),
        )
        for band in errors.get("bands") or []
    ]
    whole = BandRow(
        "the whole cube", "", _percent(errors.get("overestimated")), _percent(errors.get("gradient_within"))
    )
    return [*rows, whole] if rows else []


def _percent(fraction: Any) -> str:
    """A fraction as a percentage; a dash for anything but a finite number."""
    return f"{100 * fraction:.2f}%" if is_finite(fraction) else DASH


def _timing_rows(timings: dict[str, Any]) -> list[TimingRow]:
    """The seconds of each stage, with its part of the total."""
    total = timings.get("total")
    rows = []
    for stage, seconds in timings.items():
        known = is_finite(seconds) and is_finite(total) and total > 0
        percent = min(100 * seconds / total, 100) if known else 0.0
        rows.append(TimingRow(stage, f"{number(seconds)} s", None if stage == "total" else percent))
    return rows


def _tables(record: dict[str, Any]) -> list[Table]:
    """The tables of the record's other entries; an empty entry has none."""
    others = {key: value for key, value in record.items() if key not in SHOWN_ELSEWHERE}
    entries = [(title, record.get(key)) for title, key in TABLES] + [("Other entries of the record", others)]
    return [Table(title, [(key, lines(value)) for key, value in entry.items()]) for title, entry in entries if entry]
