"""A plane section of a signed-distance function: the distance with lines at equal steps, and a mesh's outline.

In: any function of points in file units, and perhaps a mesh. Out: the section's values, and pixels. Inside is blue,
outside yellowish; the zero level is black. Lengths in file units.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neuralparts.report.part_picture import MeshArrays
from neuralparts.report.ticks import round_step

if TYPE_CHECKING:
    from neuralparts.report.canvas import Canvas

# The picture is larger than the part by this factor, and has a line of equal distance about this many times across.
ROOM, LINES = 1.12, 14
# The plane lies slightly off the middle, where a face of the part often is.
OFF_MIDDLE = 0.003
# Colours of the distance near zero and at the largest, inside and outside.
INSIDE = np.array([[214, 228, 244], [96, 143, 196]], np.float32)
OUTSIDE = np.array([[253, 248, 238], [226, 205, 165]], np.float32)
LINE_WIDTH, LINE_BRIGHTNESS = 1.0, 0.80  # of the lines of equal distance; pixels
ZERO_WIDTH = 3.0
# The mesh's outline is narrower than the zero level, over which it is drawn.
OUTLINE_COLOUR, OUTLINE_WIDTH = "#ff8c2b", 1.2


class Section(NamedTuple):
    """Values of a function on a square in a plane.

    values (n, n) float32: signed distances at the centres of n by n pixels, row 0 at the top. axis: 0, 1 or 2, on which
    the plane stands upright, at the coordinate `at`. across, up: the axes that point right and up. corner: coordinates
    of the lower left corner along them. side: of the square. outline (K, 2, 2): lines along which the plane cuts the
    mesh, along `across` and `up`; K may be 0. step: distance between two lines of equal distance.
    """

    values: np.ndarray
    axis: int
    at: float
    across: int
    up: int
    corner: np.ndarray
    side: float
    outline: np.ndarray
    step: float


def cut_section(
    distance: Callable[[np.ndarray], np.ndarray], bounds: np.ndarray, mesh: MeshArrays | None, count: int
) -> Section:
    """The section of a function through the middle of its part, along the axis that shows most of the mesh.

    distance: points (N, 3) float64 -> signed distances (N,). bounds (2, 3): corners of the part's box. mesh: vertices
    (V, 3) and faces (F, 3), or None. count: values along a side. Of the three planes through the middle, that with the
    longest outline of the mesh is taken; without a mesh, the level one.
    """
    low, high = np.asarray(bounds, np.float64)
    planes = (low + high) / 2 + OFF_MIDDLE * (high - low)
    outlines = [np.zeros((0, 2, 3))] * 3 if mesh is None else [outline(*mesh, axis, planes[axis]) for axis in range(3)]
    lengths = [np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1).sum() for lines in outlines]
    axis = 2 - int(np.argmax(lengths[::-1]))  # of equal ones, the level plane
    across, up = ((1, 2), (0, 2), (0, 1))[axis]
    side = ROOM * max((high - low)[[across, up]].max(), np.finfo(np.float32).tiny)
    corner = ((low + high) / 2)[[across, up]] - side / 2
    # Centres of the pixels, (count, count, 3), from the upper left.
    offsets = (np.arange(count) + 0.5) * side / count
    points = np.full((count, count, 3), planes[axis])
    points[..., across] = corner[0] + offsets
    points[..., up] = corner[1] + offsets[::-1, None]
    values = np.asarray(distance(points.reshape(-1, 3)), np.float32).reshape(count, count)
    lines = outlines[axis][:, :, [across, up]]
    return Section(values, axis, float(planes[axis]), across, up, corner, side, lines, round_step(side / LINES))


def outline(vertices: np.ndarray, faces: np.ndarray, axis: int, at: float) -> np.ndarray:
    """The lines along which the plane `at` on an axis cuts the faces: (K, 2, 3) end points.

    vertices (V, 3), faces (F, 3). A vertex on the plane counts as below it, so the outline of a closed mesh is closed.
    """
    height = vertices[:, axis] - at  # (V,)
    above = (height > 0)[faces]  # (F, 3)
    number = above.sum(axis=1)
    crossed = (number == 1) | (number == 2)
    # The corner that lies alone on its side, and the other two: (K,).
    alone = np.argmax(above[crossed] == (number[crossed] == 1)[:, None], axis=1)
    rows, kept = np.arange(len(alone)), faces[crossed]
    first = kept[rows, alone]
    ends = []
    for other in (kept[rows, (alone + 1) % 3], kept[rows, (alone + 2) % 3]):
        fraction = height[first] / (height[first] - height[other])
        ends.append(vertices[first] + fraction[:, None] * (vertices[other] - vertices[first]))
    return np.stack(ends, axis=1)


def section_pixels(section: Section, size: int) -> np.ndarray:
    """A section as a picture, without the mesh's outline: (size, size, 3) uint8."""
    from PIL import Image

    # Values at the pixels' centres: (size, size). A value that is no number shows as the largest distance.
    finite = np.nan_to_num(section.values, nan=section.side, posinf=section.side, neginf=-section.side)
    values = np.asarray(Image.fromarray(finite).resize((size, size), Image.Resampling.BICUBIC))
    least = 1e-12 * section.side  # where all values have one sign
    inside = np.minimum(values / min(values.min(), -least), 1)[..., None]
    outside = np.minimum(values / max(values.max(), least), 1)[..., None]
    blended = [low + fraction * (high - low) for (low, high), fraction in ((INSIDE, inside), (OUTSIDE, outside))]
    colour = np.where(values[..., None] < 0, *blended)
    # Distances from the next line of equal distance and from the zero level, in pixels.
    slope = np.maximum(np.hypot(*np.gradient(values)), 1e-3 * section.side / size)
    to_line = np.abs(values - np.round(values / section.step) * section.step) / slope
    line = np.clip(LINE_WIDTH / 2 + 0.5 - to_line, 0, 1)
    zero = np.clip(ZERO_WIDTH / 2 + 0.5 - np.abs(values) / slope, 0, 1)
    colour *= ((1 - (1 - LINE_BRIGHTNESS) * line) * (1 - 0.9 * zero))[..., None]
    return np.round(np.clip(colour, 0, 255)).astype(np.uint8)


def draw_section(canvas: "Canvas", place: tuple[int, int], section: Section, size: int) -> None:
    """Draw a section and the mesh's outline on a canvas, with the upper left corner at a place."""
    canvas.paste(section_pixels(section, size), place)
    # The outline in pixels of the canvas: (K, 2, 2).
    ends = (section.outline - section.corner) * (size / section.side)
    ends[..., 1] = size - ends[..., 1]
    canvas.polylines((*place, place[0] + size, place[1] + size), ends + place, OUTLINE_COLOUR, OUTLINE_WIDTH)


def section_png(section: Section, size: int) -> bytes:
    """A section and the mesh's outline as the bytes of a PNG, size by size pixels."""
    from neuralparts.report.canvas import Canvas

    canvas = Canvas(size, size)
    draw_section(canvas, (0, 0), section, size)
    return canvas.png()
