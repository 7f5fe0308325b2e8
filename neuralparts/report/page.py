"""The page of a part: a verdict, its meshes in 3-D, how far they deviate, its curves, and its record as tables.

It works offline, from file://, with everything inside; in a browser of 2023 or later. Here the record becomes texts in
the order of the page; templates/page.html makes the HTML.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from neuralparts import metric_names
from neuralparts.record_values import file_length
from neuralparts.report.curves import curves_figure, thinned_note
from neuralparts.report.deviation import (
    HEIGHT,
    SCALE,
    WIDTH,
    Histogram,
    absolute_quantiles,
    fraction_within,
    histogram,
    signed,
)
from neuralparts.report.fit_command import fit_command
from neuralparts.report.formatting import DOT, duration, number, one_line, relative_address
from neuralparts.report.record_tables import band_rows, metric_rows, tables, timing_rows
from neuralparts.report.templating import Card, compressed_json, compressed_plotly, render
from neuralparts.report.views import MeshArrays, ShownMeshes, SignedDistance, View, shown_meshes
from neuralparts.report.without_folders import without_folders
from neuralparts.verdict import verdict


class Panel(NamedTuple):
    """Half of the top of the page: a view with its caption, or why there is none.

    view: id of the view, '' without one. title, text: the caption. still: address of a picture of it.
    """

    view: str
    title: str
    text: str
    still: str = ""


class DeviationSection(NamedTuple):
    """The signed deviation as the page shows it; lengths are numbers in file units, or texts of them.

    colours: CSS colours from -tolerance to +tolerance. within: text of the fraction within the tolerance at first.
    quantiles: of |deviation|, by which the page computes that fraction for any other tolerance. low, high: the ends of
    the histogram.
    """

    tolerance: str
    within: str
    quantiles: str
    colours: list[tuple[float, str]]
    histogram: Histogram
    low: str
    high: str


class FileLink(NamedTuple):
    """A file beside the page. name: relative to the page's folder; says: its job in some words."""

    name: str
    says: str


class PageDrawing(NamedTuple):
    """What takes time in a page, and can be drawn before the record is known.

    shown: the meshes. figures, library: the figures and plotly.js, compressed; '' without figures. has_curves, thinned:
    whether there are curves, and the note below them.
    """

    shown: ShownMeshes
    figures: str
    library: str
    has_curves: bool
    thinned: str


def draw_page(
    history: Mapping[str, np.ndarray],
    input_mesh: MeshArrays | None,
    reconstruction: MeshArrays | None,
    signed_distance: SignedDistance | None = None,
) -> PageDrawing:
    """The drawings of the page of one part.

    history: dict of arrays as in `curves`. input_mesh, reconstruction: (vertices (V, 3) float64 in file units, faces
    (F, 3) integer), or None without one (a samples file; nothing crossed zero). signed_distance: (N, 3) points -> (N,)
    signed distances to the input, file units, to colour the reconstruction by; None without colours. Raises ValueError
    for arrays of another shape.
    """
    meshes = {"input": input_mesh, "reconstruction": reconstruction}
    shown = shown_meshes({key: mesh for key, mesh in meshes.items() if mesh is not None}, signed_distance)
    curves = curves_figure(history)
    figures = {key: view.figure for key, view in shown.views.items()} | ({"curves": curves} if curves else {})
    return PageDrawing(
        shown,
        compressed_json(figures) if figures else "",
        compressed_plotly() if figures else "",
        curves is not None,
        thinned_note(history),
    )


def page_html(
    name: str,
    record: dict[str, Any],
    drawing: PageDrawing,
    network_view: dict[str, Any] | None = None,
    files: Sequence[FileLink] = (),
) -> str:
    """The text of the page of one part.

    name: title, any text. record: the dict of NAME.json (`input flags diagnosis parameters timings metrics`, perhaps
    `fit`, `transform`, `failure`, `notes`); a number that is missing, None or NaN shows as a dash, and an absolute path
    as the file's name. network_view: what templates/network_view.js draws the network from, as JSON has it. files:
    those beside the page.
    """
    record, shown = without_folders(record), drawing.shown
    frame = shown.frame
    return render(
        "page.html",
        title=name,
        input=one_line(record.get("input")),
        ended_by=(record.get("fit") or {}).get("ended_by"),
        verdict=verdict(record),
        notes=record.get("notes") or [],
        cards=_cards(record),
        panels=_panels(shown.views, record),
        network_view=network_view,
        origin=one_line(frame.origin.tolist()) if frame and frame.origin.any() else "",
        frame=json.dumps({"center": frame.center.tolist(), "radius": frame.radius}) if frame else "null",
        deviation=_deviation_section(shown),
        drawing={"width": WIDTH, "height": HEIGHT},
        has_curves=drawing.has_curves,
        thinned=drawing.thinned,
        files=[(relative_address(file.name), *file) for file in files],
        command=fit_command(record["input"], record.get("flags") or {}),
        metrics=metric_rows(record),
        bands=band_rows(record.get("off_surface") or {}),
        limits=metric_names,
        timings=timing_rows(record.get("timings") or {}),
        tables=tables(record),
        figures=drawing.figures,
        library=drawing.library,
    )


def _panels(views: Mapping[str, View], record: dict[str, Any]) -> list[Panel]:
    """The panels of the input and the reconstruction."""
    missing = {"input": Panel("", "No input mesh to draw.", " The fit started from labelled samples.")}
    if (record.get("flags") or {}).get("reconstructionRes") == 0:
        missing["reconstruction"] = Panel("", "No reconstruction", " was asked for (--reconstructionRes 0).")
    else:
        missing["reconstruction"] = Panel("", "No reconstruction:", f" {record.get('failure') or 'none was made'}.")
    titles = {"input": "Input", "reconstruction": "Marched mesh"}
    return [
        Panel(key, titles[key], DOT + views[key].caption, views[key].still) if key in views else panel
        for key, panel in missing.items()
    ]


def _deviation_section(shown: ShownMeshes) -> DeviationSection | None:
    """The section on the signed deviation; None where it was not measured."""
    if shown.deviation is None:
        return None
    drawn = histogram(shown.deviation, shown.tolerance)
    return DeviationSection(
        tolerance=f"{shown.tolerance:g}",
        within=f"{100 * fraction_within(shown.deviation, shown.tolerance):.2f}%",
        quantiles=" ".join(f"{value:.4g}" for value in absolute_quantiles(shown.deviation)),
        colours=SCALE,
        histogram=drawn,
        low=signed(-drawn.end),
        high=signed(drawn.end),
    )


def _cards(record: dict[str, Any]) -> list[Card]:
    """The numbers that a person looks for first, lengths in file units where these are known."""
    metrics, timings = record.get("metrics") or {}, record.get("timings") or {}

    def length_card(label: str, key: str) -> Card:
        in_domain, in_file = number(metrics.get(key)), file_length(record, metrics.get(key))
        if in_file is None:
            return Card(label, in_domain, "domain units")
        return Card(label, number(in_file), f"file units{DOT}{in_domain} domain units")

    ends = [number(metrics.get(key)) for key in ("iou_low", "iou_high")]
    interval = f"95% interval {' to '.join(ends)}" if "iou_low" in metrics else "of the insides"
    return [
        length_card("Surface error", "surface_error"),
        Card("IoU", number(metrics.get("iou")), interval),
        length_card("Chamfer", "chamfer"),
        Card("Parameters", number(record.get("parameters")), "numbers in the network"),
        Card("Time to this page", duration(timings.get("total")), f"fit {duration(timings.get('fit'))}"),
    ]
