"""Pictures of a mesh: a small software renderer, because parts are fitted on machines without OpenGL.

A mesh is projected, drawn into a depth buffer, shaded, and its edges are drawn darker. Pictures are rendered larger and
averaged down. The eye stands where that of the page stands at first, infinitely far away.
"""

import io
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from neuralparts.report.deviation import colour_of
from neuralparts.triangles import check_mesh_arrays

# vertices (V, 3) float64, faces (F, 3) integer.
MeshArrays = tuple[np.ndarray, np.ndarray]

# Direction from the part to the eye, as a part is usually drawn: front, right, above; z up.
EYE = np.array([0.52, -0.72, 0.46])
# Direction to the lamp, as the eye sees it: right, up, towards the eye.
LIGHT = np.array([-0.45, 0.66, 0.60])
AMBIENT, DIFFUSE = 0.30, 0.78
# Of a mesh coloured by its deviation: less contrast, because a colour stands for a number.
EVEN_AMBIENT, EVEN_DIFFUSE = 0.58, 0.55
COLOUR = np.array([176.0, 199.0, 224.0], np.float32)  # red, green, blue, 0 to 255
EDGE_BRIGHTNESS = 0.55
MARGIN = 0.96  # fraction of the picture's width that a part spans
OVERSAMPLING = 2  # rendered so many times larger and averaged down, which smooths the edges
COLOURS = 256  # steps of the deviation's scale
WEBP_QUALITY = 70  # edges look clean above 60
PALETTE_SIZE = 32  # of a thumbnail: shades of one colour, so more do not show
# Neighbouring pixels have an edge between them if their normals differ by more than 30 degrees, or their depths by more
# than 0.04 halves of the picture's side.
CREASE_COSINE = math.cos(math.radians(30))
DEPTH_STEP = 0.04


class Camera(NamedTuple):
    """How points are seen. axes (3, 3): its columns point right, up and towards the eye. middle (3,): the point, along
    these axes, at the picture's centre. half: length from the centre to the border that a part spans."""

    axes: np.ndarray
    middle: np.ndarray
    half: float


def camera_for(meshes: Iterable[MeshArrays]) -> Camera:
    """The camera that sees meshes, vertices (V, 3) and faces (F, 3), whole. Vertices that no face uses do not count."""
    forward = EYE / np.linalg.norm(EYE)
    right = np.cross([0.0, 0.0, 1.0], forward)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    seen = [vertices[used(len(vertices), faces)] @ axes for vertices, faces in meshes if len(faces)]
    # The box of all of them along the axes of the camera, and half of its larger side in the picture.
    boxes = np.array([[each.min(axis=0), each.max(axis=0)] for each in seen]) if seen else np.zeros((1, 2, 3))
    low, high = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
    half = max((high - low)[:2].max() / 2, np.finfo(float).tiny)
    return Camera(axes, (low + high) / 2, half)


def part_pixels(
    vertices: np.ndarray,
    faces: np.ndarray,
    size: int,
    deviation: np.ndarray | None = None,
    tolerance: float = 1.0,
    camera: Camera | None = None,
) -> np.ndarray:
    """A shaded picture of a mesh on white ground: (size, size, 3) uint8.

    vertices (V, 3) in any unit, faces (F, 3) integer, either orientation of a triangle. deviation (V,): signed, colours
    the mesh as the page does, the ends of the scale at -tolerance and tolerance. camera: by default the one that sees
    the mesh whole. Raises ValueError for arrays of another shape.
    """
    pixels, _ = _rendered(vertices, faces, size * OVERSAMPLING, deviation, tolerance, camera)
    return _averaged(pixels)


def thumbnail_png(vertices: np.ndarray, faces: np.ndarray, size: int = 144) -> bytes:
    """A small picture of a mesh, as the bytes of a PNG with a palette of few colours (2 to 5 KB).

    Arguments as in `part_pixels`; raises as it does.
    """
    from PIL import Image

    picture = io.BytesIO()
    image = Image.fromarray(part_pixels(vertices, faces, size))
    image.quantize(PALETTE_SIZE, dither=Image.Dither.NONE).save(picture, "PNG", optimize=True)
    return picture.getvalue()


def still_picture(
    vertices: np.ndarray, faces: np.ndarray, size: int, deviation: np.ndarray | None = None, tolerance: float = 1.0
) -> bytes:
    """A picture of a mesh as the bytes of a WebP, its ground clear: for any page, light or dark.

    Arguments as in `part_pixels`, without its smoothing, which takes four times as long.
    """
    # Pillow imports all of its formats unless the one that is asked for is known.
    from PIL import Image, WebPImagePlugin  # noqa: F401

    pixels, covered = _rendered(vertices, faces, size, deviation, tolerance)
    clear = np.dstack([np.round(pixels).astype(np.uint8), np.where(covered, 255, 0).astype(np.uint8)])
    picture = io.BytesIO()
    Image.fromarray(clear).save(picture, "WEBP", quality=WEBP_QUALITY, method=2)
    return picture.getvalue()


def _rendered(
    vertices: np.ndarray,
    faces: np.ndarray,
    side: int,
    deviation: np.ndarray | None,
    tolerance: float,
    camera: Camera | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A mesh without smoothing: pixels (side, side, 3) float32, 0 to 255, on white; which of them it covers, bool."""
    from neuralparts.report.part_picture_kernels import rasterise, shade

    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    check_mesh_arrays(vertices, faces)
    if deviation is not None and np.shape(deviation) != (len(vertices),):
        raise ValueError(f"deviation: expected ({len(vertices)},) numbers, got {np.shape(deviation)}")
    camera = camera or camera_for([(vertices, faces)])
    # The vertices as the camera sees them, (V, 3): right, up and towards the eye, in pixels.
    seen = ((vertices @ camera.axes - camera.middle) * (MARGIN / camera.half) * 0.5 + 0.5) * side
    values = np.zeros(len(vertices)) if deviation is None else np.asarray(deviation, np.float64) / tolerance
    depth, normal, value = np.empty((side, side)), np.zeros((side, side, 3), np.float32), np.zeros((side, side))
    rasterise(seen, faces, values, depth, normal, value)
    # The colours from -1 to 1 times the tolerance, (C, 3); (ambient, diffuse) of the lamp.
    if deviation is None:
        colours, lamp = COLOUR[None], (AMBIENT, DIFFUSE)
    else:
        colours, lamp = colour_of(np.linspace(-1, 1, COLOURS)).astype(np.float32), (EVEN_AMBIENT, EVEN_DIFFUSE)
    lit = normal @ (LIGHT / np.linalg.norm(LIGHT)).astype(np.float32)  # (side, side)
    lamp, step = (*lamp, EDGE_BRIGHTNESS), DEPTH_STEP / 2 * side
    return shade(depth, normal, value, lit, colours, lamp, CREASE_COSINE, step), depth > -np.inf


def used(count: int, faces: np.ndarray) -> np.ndarray:
    """Which of `count` vertices faces (F, 3) use: (count,) bool."""
    used = np.zeros(count, bool)
    used[faces] = True
    return used


def _averaged(pixels: np.ndarray) -> np.ndarray:
    """Pixels (side, side, 3), 0 to 255 -> means of squares of OVERSAMPLING by OVERSAMPLING, (size, size, 3) uint8."""
    total = sum(pixels[i::OVERSAMPLING, j::OVERSAMPLING] for i in range(OVERSAMPLING) for j in range(OVERSAMPLING))
    return np.round(total / OVERSAMPLING**2).astype(np.uint8)
