"""Cutting polygons into triangles."""

import mapbox_earcut
import numpy as np

from neuralparts.triangles import cross, doubled_normals

# Corners from which a fan is tried over a polygon that is not convex, before it is cut by ears, which is slower.
FANS_TRIED = 8


def triangulate(vertices: np.ndarray, corners: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Cut P polygons into triangles, in their order and with their winding -> (F, 3) int64 vertex indices.

    vertices: (V, 3) float64. corners: (C,) int64, the vertex indices of one polygon after the other. counts: (P,)
    int64, the corners of each polygon; they add up to C. A polygon becomes a fan about its first corner. If that fan
    folds over, because the polygon is not convex, it is cut from another corner or by ears. A polygon of fewer than
    three corners gives no triangle. Indices outside 0 to V - 1 are handed on as they are.
    """
    starts = np.cumsum(counts) - counts  # (P,) where a polygon begins in corners
    pieces = np.maximum(counts - 2, 0)  # (P,) triangles of a polygon
    ends = np.cumsum(pieces)  # (P,) where a polygon's triangles end in faces
    polygon = np.repeat(np.arange(len(counts)), pieces)  # (F,) the polygon of a triangle
    step = np.arange(pieces.sum()) - np.repeat(ends - pieces, pieces)  # (F,) its place in the fan: 0, 1, 2, ...
    first = starts[polygon]  # (F,)
    # (F, 3) the fans: corner 0 of the polygon, and two that follow each other.
    faces = corners[np.stack([first, first + step + 1, first + step + 2], axis=1)]
    if (counts > 3).any() and len(vertices) and faces.min() >= 0 and faces.max() < len(vertices):
        for index in _folded_polygons(vertices, faces, polygon, len(counts)):
            ring = corners[starts[index] : starts[index] + counts[index]]
            faces[ends[index] - pieces[index] : ends[index]] = _cut_concave(vertices, ring)
    return faces


def _folded_polygons(vertices: np.ndarray, faces: np.ndarray, polygon: np.ndarray, count: int) -> np.ndarray:
    """Indices of the polygons that have a triangle which faces away from the polygon's own normal.

    faces: (F, 3). polygon: (F,) the polygon of each triangle, below count.
    """
    # Coordinates that are not finite are refused later, with a message about them: no warning here.
    with np.errstate(invalid="ignore", over="ignore"):
        normals = doubled_normals(vertices[faces])  # (F, 3)
        # (count, 3) the normal of a polygon, the sum over its triangles.
        total = np.stack([np.bincount(polygon, weights=normals[:, k], minlength=count) for k in range(3)], axis=1)
        folded = np.einsum("ij,ij->i", normals, total[polygon]) < 0  # (F,)
    return np.unique(polygon[folded])


def _cut_concave(vertices: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Triangles (n - 2, 3) of a polygon that is not convex: the first fan that does not fold over, else ears.

    ring: (n,) vertex indices.
    """
    count = len(ring)
    # (n - 2, 3) places in the ring: a fan about corner 0.
    fan = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], axis=1)
    for start in range(min(count, FANS_TRIED)):
        faces = np.roll(ring, -start)[fan]
        if not len(_folded_polygons(vertices, faces, np.zeros(count - 2, int), 1)):
            return faces
    ears = _ears(vertices[ring])
    # A polygon that crosses itself leaves fewer ears: every cut is wrong somewhere, and the fan is as good as any.
    return ring[ears] if len(ears) == count - 2 else ring[fan]


def _ears(points: np.ndarray) -> np.ndarray:
    """Ear clipping of a polygon's corners (n, 3), seen along its normal -> (n - 2, 3) places in it, at times fewer."""
    points = points - points.mean(axis=0)
    normal = cross(points, np.roll(points, -1, axis=0)).sum(axis=0)  # (3,)
    axes = np.linalg.svd(normal[None])[2][1:]  # (2, 3) two directions in the polygon's plane
    if np.linalg.det(np.vstack([axes, normal])) < 0:  # keep the winding
        axes = axes[::-1]
    flat = points @ axes.T  # (n, 2)
    return mapbox_earcut.triangulate_float64(flat, np.array([len(points)], dtype=np.uint32)).reshape(-1, 3)
