"""NAME.png: the part over the curves of its fit, on one sheet, drawn without a GPU.

Above: the input, the reconstruction coloured by its deviation, and a section through the network. Below: the curves.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neuralparts.metric_names import METRIC_NAMES
from neuralparts.record_values import is_finite
from neuralparts.report.curves import drawable_curves
from neuralparts.report.deviation import colour_of
from neuralparts.report.formatting import DOT, number
from neuralparts.report.part_picture import Camera, MeshArrays, camera_for, part_pixels
from neuralparts.report.plotly_figures import FAINT
from neuralparts.report.section_picture import Section, draw_section
from neuralparts.report.views import first_tolerance
from neuralparts.verdict import verdict

if TYPE_CHECKING:
    from neuralparts.report.canvas import Canvas

# Pixels: the sheet, its border, a panel, and between panels.
WIDTH, HEIGHT, BORDER, PANEL, GAP = 1088, 868, 24, 336, 16
PANEL_TOP, CURVES_TOP = 92, 496
# Metrics under the title; the others are on the page.
CAPTION_METRICS = ("surface_error", "iou", "chamfer")
SCALE_WIDTH, SCALE_HEIGHT = 60, 10


class Sheet(NamedTuple):
    """A sheet that lacks its figures yet."""

    canvas: "Canvas"


def draw_sheet(
    name: str,
    history: Mapping[str, np.ndarray],
    missing: str = "none was made",
    input_mesh: MeshArrays | None = None,
    reconstruction: MeshArrays | None = None,
    deviation: np.ndarray | None = None,
    section: Section | None = None,
    marched: int | None = None,
) -> Sheet:
    """The sheet without its figures, which `sheet_png` adds: it can be drawn before they are known.

    name: title, left out if it has letters beyond ASCII. history: as in `curves`. missing: why there is no
    reconstruction. input_mesh, reconstruction: vertices (V, 3) float64 in file units and faces (F, 3), or None.
    deviation (V,): signed distances of the reconstruction's vertices to the input, file units, or None. section:
    through the network, file units, or None. marched: triangles of the reconstruction, if fewer are drawn.
    """
    from neuralparts.report.canvas import Canvas
    from neuralparts.report.curves_picture import draw_curves

    canvas = Canvas(WIDTH, HEIGHT)
    if name.isascii():  # Pillow's own font has no other letters; the file has the name all the same
        canvas.text((BORDER, 16), name, 20, room=WIDTH - 2 * BORDER)
    camera = camera_for([mesh for mesh in (input_mesh, reconstruction) if mesh is not None])
    tolerance = 1.0 if deviation is None else first_tolerance(input_mesh or reconstruction)
    none = f"no reconstruction: {missing}"
    _draw_mesh(canvas, 0, "input", input_mesh, camera, "no mesh to draw: the fit started from labelled samples")
    _draw_mesh(canvas, 1, "reconstruction", reconstruction, camera, none, deviation, tolerance, marched)
    _draw_section(canvas, 2, section, "input" if input_mesh is not None else "reconstruction")
    draw_curves(canvas, (BORDER, CURVES_TOP, WIDTH - BORDER, HEIGHT - 12), drawable_curves(history))
    return Sheet(canvas)


def sheet_png(sheet: Sheet, record: dict[str, Any]) -> bytes:
    """A sheet with the figures of the record (the dict of NAME.json): the bytes of a PNG."""
    sheet.canvas.text((BORDER, 44), _caption(record), 14, FAINT)
    return sheet.canvas.png()


def _place(index: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a panel, from 0 to 2."""
    left = BORDER + index * (PANEL + GAP)
    return left, PANEL_TOP, left + PANEL, PANEL_TOP + PANEL


def _draw_mesh(
    canvas: "Canvas",
    index: int,
    title: str,
    mesh: MeshArrays | None,
    camera: Camera,
    missing: str,
    deviation: np.ndarray | None = None,
    tolerance: float = 1.0,
    count: int | None = None,
) -> None:
    """A mesh in a panel with its title above, and the scale of the deviation below; `missing` where there is none.

    count: of its triangles for the title, if it is drawn with fewer.
    """
    box = _place(index)
    if mesh is None or not len(mesh[1]):
        canvas.lines_of_text((box[0] + 40, box[1], box[2] - 40, box[3]), missing)
        return
    canvas.text((box[0], box[1] - 20), f"{title}: {count or len(mesh[1]):,} triangles")
    canvas.paste(part_pixels(*mesh, PANEL, deviation, tolerance, camera), box[:2])
    if deviation is not None:
        _draw_scale(canvas, box[0], box[3] + 10, tolerance)


def _draw_scale(canvas: "Canvas", left: int, top: int, tolerance: float) -> None:
    """The colours of the deviation, and what their ends stand for."""
    colours = colour_of(np.linspace(-1, 1, SCALE_WIDTH)).astype(np.uint8)
    canvas.paste(np.broadcast_to(colours, (SCALE_HEIGHT, SCALE_WIDTH, 3)), (left, top + 3))
    ends = f"{tolerance:g} inside to {tolerance:g} outside (file units)"
    canvas.text((left + SCALE_WIDTH + 8, top), ends, colour=FAINT, room=PANEL - SCALE_WIDTH - 8)


def _draw_section(canvas: "Canvas", index: int, section: Section | None, outlined: str) -> None:
    """A section in a panel, nothing where there is none. outlined: the mesh whose outline it has."""
    if section is None:
        return
    box = _place(index)
    canvas.text((box[0], box[1] - 20), f"network at {'xyz'[section.axis]} = {number(section.at)}")
    draw_section(canvas, box[:2], section, PANEL)
    line = f"lines every {number(section.step)} (file units)" + f"; orange: the {outlined}" * bool(len(section.outline))
    canvas.text((box[0], box[3] + 10), line, colour=FAINT)


def _caption(record: dict[str, Any]) -> str:
    """The grade and the main metrics that are known, on a line."""
    metrics = record.get("metrics") or {}
    labels = {
        key: METRIC_NAMES[key].label if key == "iou" else METRIC_NAMES[key].label.lower() for key in CAPTION_METRICS
    }
    known = [f"{label} {number(metrics[key])}" for key, label in labels.items() if is_finite(metrics.get(key))]
    grade = verdict(record).grade
    return DOT.join([*([grade] if grade else []), *known]) + (" (domain units)" if known else "")
