"""Thumbnails and still pictures: a small software renderer, because folders are fitted on machines without OpenGL.

A mesh is projected, drawn by scan lines into a depth buffer, shaded, and its edges are drawn darker. Pictures are
rendered larger and averaged down.
"""

import io
import math

import numpy as np

from neuralparts.triangles import check_mesh_arrays, doubled_normals, unit_normals

# Direction from the part to the eye, as a part is usually drawn: front, right, above; z up.
EYE = np.array([0.52, -0.72, 0.46])
# Direction to the lamp, as the eye sees it: right, up, towards the eye.
LIGHT = np.array([-0.45, 0.66, 0.60])
AMBIENT, DIFFUSE = 0.30, 0.78
COLOUR = np.array([176.0, 199.0, 224.0])  # red, green, blue, 0 to 255
EDGE_BRIGHTNESS = 0.55
MARGIN = 0.96  # fraction of the picture's width that a part spans
OVERSAMPLING = 2  # rendered so many times larger and averaged down, which smooths the edges
PALETTE_SIZE = 32  # of the PNG: shades of one colour, so more do not show
# Neighbouring pixels have an edge between them if their normals differ by more than 30 degrees, or their depths by more
# than 0.04 in the units of the view, in which the part spans about 2.
CREASE_COSINE = math.cos(math.radians(30))
DEPTH_STEP = 0.04
WEBP_QUALITY = 70  # edges look clean above 60


def thumbnail_png(vertices: np.ndarray, faces: np.ndarray, size: int = 144) -> bytes:
    """A small shaded picture of a mesh, as the bytes of a PNG (white ground, a palette of few colours: 2 to 5 KB).

    vertices (V, 3) float64 in any unit, faces (F, 3) integer, either orientation of a triangle; size: pixels of a side.
    Raises ValueError for arrays of another shape.
    """
    from PIL import Image

    pixels, _ = _rendered(vertices, faces, size * OVERSAMPLING, COLOUR)
    # Squares of pixels (size, OVERSAMPLING, size, OVERSAMPLING, 3) to their means (size, size, 3).
    small = pixels.reshape(size, OVERSAMPLING, size, OVERSAMPLING, 3).mean(axis=(1, 3))
    picture = io.BytesIO()
    image = Image.fromarray(np.round(small).astype(np.uint8))
    image.quantize(PALETTE_SIZE, dither=Image.Dither.NONE).save(picture, "PNG", optimize=True)
    return picture.getvalue()


def still_picture(vertices: np.ndarray, faces: np.ndarray, size: int, colours: np.ndarray | None = None) -> bytes:
    """A shaded picture of a mesh as the bytes of a WebP, its ground clear: for any page, light or dark.

    As `thumbnail_png`, without its smoothing, which takes four times as long. colours: (F, 3) red, green, blue, 0 to
    255, of the triangles; None for one colour.
    """
    from PIL import Image

    pixels, covered = _rendered(vertices, faces, size, COLOUR if colours is None else colours)
    clear = np.concatenate([pixels.astype(np.uint8), np.where(covered, 255, 0)[..., None].astype(np.uint8)], axis=-1)
    picture = io.BytesIO()
    Image.fromarray(clear).save(picture, "WEBP", quality=WEBP_QUALITY, method=2)
    return picture.getvalue()


def _rendered(vertices: np.ndarray, faces: np.ndarray, side: int, colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mesh in a picture of side^2 pixels: (side, side, 3) float64, 0 to 255, on white; and which it covers, bool.

    colour: (3,) of the mesh or (F, 3) of its triangles. Raises ValueError for arrays of another shape.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    check_mesh_arrays(vertices, faces)
    corners = _projected(vertices, faces)[faces]  # (F, 3, 3)
    normals = unit_normals(corners)
    corners[:, :, :2] = (corners[:, :, :2] * 0.5 + 0.5) * side  # from [-1, 1] to pixels
    face, depth = rasterise(corners, side)
    return _shaded(face, depth, normals, colour if colour.ndim == 1 else colour[face]), face >= 0


def rasterise(corners: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Which triangle each pixel of a square picture sees, by scan lines and a depth buffer.

    corners (F, 3, 3) float64: for each corner x and y in pixels from the lower left, and depth towards the eye. Returns
    (face (side, side) int64, -1 where there is none; depth (side, side) float64, -inf there); row 0 is the top.
    """
    face = np.full(side * side, -1, np.int64)
    depth = np.full(side * side, -np.inf)
    # Each triangle's scan lines: (L,) triangle and row, and the interval that the triangle covers on that line.
    triangle, row = _covered_pixels(corners[:, :, 1].min(axis=1), corners[:, :, 1].max(axis=1), side)
    left, right = _crossings(corners[triangle, :, :2], row + 0.5)
    # Each line's pixels: (K,) triangle, row and column.
    line, column = _covered_pixels(left, right, side)
    triangle, row = triangle[line], row[line]
    nearness = _depth_at(corners, triangle, column + 0.5, row + 0.5)
    # The nearest triangle of each pixel keeps it.
    pixel = (side - 1 - row) * side + column
    np.maximum.at(depth, pixel, nearness)
    front = nearness == depth[pixel]
    face[pixel[front]] = triangle[front]
    return face.reshape(side, side), depth.reshape(side, side)


def _projected(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertices (V, 3) as the eye sees them: right, up, towards the eye; right and up in [-MARGIN, MARGIN]."""
    forward = EYE / np.linalg.norm(EYE)
    right = np.cross([0.0, 0.0, 1.0], forward)
    right /= np.linalg.norm(right)
    seen = vertices @ np.stack([right, np.cross(forward, right), forward], axis=1)
    # The box of the vertices that faces use, and half of its larger side in the picture.
    used = seen[np.unique(faces)] if len(faces) else np.zeros((1, 3))
    low, high = used.min(axis=0), used.max(axis=0)
    half = max((high - low)[:2].max() / 2, np.finfo(float).tiny)
    return (seen - (low + high) / 2) / half * MARGIN


def _covered_pixels(low: np.ndarray, high: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels whose centres lie in intervals low to high (N,): (interval (K,), pixel (K,)), both int64."""
    # First, last and number of each interval's pixels: (N,).
    first = np.clip(np.ceil(low - 0.5), 0, side).astype(np.int64)
    last = np.clip(np.floor(high - 0.5), -1, side - 1).astype(np.int64)
    count = np.maximum(last - first + 1, 0)
    # The intervals one after another, and each pixel's number within its own: (K,).
    interval = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(interval)) - np.repeat(np.cumsum(count) - count, count)
    return interval, first[interval] + within


def _crossings(corners: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the line at height y (L,) enters and leaves each triangle (L, 3, 2): (left (L,), right (L,))."""
    left, right = np.full(len(y), np.inf), np.full(len(y), -np.inf)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        # Ends of one side of each triangle, (L,) each; a level side is met through the other two.
        ax, ay, bx, by = corners[:, a, 0], corners[:, a, 1], corners[:, b, 0], corners[:, b, 1]
        height = by - ay
        crossed = (np.minimum(ay, by) <= y) & (y <= np.maximum(ay, by)) & (height != 0)
        x = ax + np.divide(y - ay, height, out=np.zeros_like(y), where=crossed) * (bx - ax)
        left = np.where(crossed, np.minimum(left, x), left)
        right = np.where(crossed, np.maximum(right, x), right)
    return left, right


def _depth_at(corners: np.ndarray, triangle: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Depth (K,) of the planes of triangles (K,) at x, y (K,), clipped to the depths of the triangle's corners.

    The clip is for triangles seen edge-on, whose planes are steep.
    """
    # Depth over x and y of each plane: its slopes (F, 2) and its value at x = y = 0 (F,).
    normal = doubled_normals(corners)
    slope = np.divide(-normal[:, :2], normal[:, 2:], out=np.zeros((len(normal), 2)), where=normal[:, 2:] != 0)
    first = corners[:, 0]
    base = first[:, 2] - (slope * first[:, :2]).sum(axis=1)
    depth = base[triangle] + slope[triangle, 0] * x + slope[triangle, 1] * y  # (K,)
    low, high = corners[:, :, 2].min(axis=1), corners[:, :, 2].max(axis=1)
    return np.clip(depth, low[triangle], high[triangle])


def _shaded(face: np.ndarray, depth: np.ndarray, normals: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Pixels (side, side, 3) float64, 0 to 255, of face and depth (side, side) and normals (F, 3), on white ground.

    colour: (3,) of the mesh, or (side, side, 3) of each pixel.
    """
    covered = face >= 0
    # The normal of each pixel, towards the eye: (side, side, 3). Face -1, nothing, takes the last row, which is zero.
    normal = np.concatenate([normals, np.zeros((1, 3))])[face]
    normal = np.where(normal[..., 2:] < 0, -normal, normal)
    light = LIGHT / np.linalg.norm(LIGHT)
    brightness = AMBIENT + DIFFUSE * np.clip(normal @ light, 0, 1)  # (side, side)
    brightness = brightness * np.where(_edges(covered, depth, normal), EDGE_BRIGHTNESS, 1.0)
    lit = np.clip(brightness[..., None] * colour, 0, 255)
    return np.where(covered[..., None], lit, 255.0)


def _edges(covered: np.ndarray, depth: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Pixels (side, side) bool at an outline or a crease, from covered and depth (side, side), normal (side, side, 3).

    At a crease the upper or left pixel is the edge; at a step in depth it is the nearer pixel.
    """
    near = np.where(covered, depth, -1e3)
    edges = np.zeros(covered.shape, bool)
    for axis in (0, 1):
        # Every pixel but the last along the axis, and its neighbour.
        here, there = [slice(None)] * 2, [slice(None)] * 2
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        here, there = tuple(here), tuple(there)
        crease = (normal[here] * normal[there]).sum(axis=-1) < CREASE_COSINE
        step = near[here] - near[there]
        both = covered[here] & covered[there]
        edges[here] |= (both & crease) | (step > DEPTH_STEP)
        edges[there] |= -step > DEPTH_STEP
    return edges & covered
