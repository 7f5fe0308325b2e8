"""Cutting polygons into triangles."""

import mapbox_earcut
import numpy as np

from neuralparts.triangles import cross, doubled_normals, triangle_areas
from neuralparts.wording import counted

# Corners from which a fan is tried over a polygon that is not convex, before it is cut by ears, which is slower.
FANS_TRIED = 8
# A polygon is bent if its corners lie apart, along its normal, by more than this fraction of its size. Coordinates that
# are rounded to four digits stay below it.
BENT = 1e-3
# A fan takes this fraction less area than the other of a bent quad before it is preferred: the rest is rounding.
LESS_AREA = 1e-9
# Steps of cutting by ears, n^2 for n corners at worst, that a file may take: some seconds.
MOST_EAR_STEPS = 401_000_000


def triangulate(vertices: np.ndarray, corners: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Cut P polygons into triangles, in their order and with their winding -> (F, 3) int64 vertex indices, notes.

    vertices: (V, 3) float64. corners: (C,) int64, the vertex indices of one polygon after the other. counts: (P,)
    int64, the corners of each polygon; they add up to C. A polygon becomes a fan about its first corner. If that fan
    folds over, because the polygon is not convex, it is cut from another corner or by ears. A bent quad is cut along
    the diagonal that gives the smaller area. A polygon of fewer than three corners gives no triangle. Indices outside 0
    to V - 1 are handed on as they are. Raises ValueError for polygons whose ears would take too long.
    """
    starts = np.cumsum(counts) - counts  # (P,) where a polygon begins in corners
    pieces = np.maximum(counts - 2, 0)  # (P,) triangles of a polygon
    ends = np.cumsum(pieces)  # (P,) where a polygon's triangles end in faces
    polygon = np.repeat(np.arange(len(counts)), pieces)  # (F,) the polygon of a triangle
    step = np.arange(pieces.sum()) - np.repeat(ends - pieces, pieces)  # (F,) its place in the fan: 0, 1, 2, ...
    first = starts[polygon]  # (F,)
    # (F, 3) the fans: corner 0 of the polygon, and two that follow each other.
    faces = corners[np.stack([first, first + step + 1, first + step + 2], axis=1)]
    short = int(np.count_nonzero(counts < 3))
    notes = [f"Ignored {counted(short, 'polygon')} of fewer than three corners."] * bool(short)
    if (counts > 3).any() and len(vertices) and faces.min() >= 0 and faces.max() < len(vertices):
        # Coordinates that are not finite are refused later, with a message about them: no warning here.
        with np.errstate(all="ignore"):
            bent = _bent_polygons(vertices, corners, counts, starts)  # (P,)
            bent_quad = bent & (counts == 4)
            _cut_bent_quads(vertices, faces, np.flatnonzero(bent_quad), corners, starts, ends)
            looked_at = ((counts > 3) & ~bent_quad)[polygon]  # (F,)
            folded = _folded_polygons(vertices, faces[looked_at], polygon[looked_at], len(counts))
            _cut_concave(vertices, faces, folded, corners, starts, counts, ends)
        if bent.any():
            notes.append(_bent_note(bent, counts))
    return faces, notes


def _bent_note(bent: np.ndarray, counts: np.ndarray) -> str:
    """The sentence about bent polygons. bent: (P,) bool. counts: (P,)."""
    share = f"{counted(int(bent.sum()), 'polygon')} of {len(counts):,}"
    quads = int((bent & (counts == 4)).sum())
    cut = f"; {counted(quads, 'quad')} of them cut along the diagonal that gives the smaller area" * bool(quads)
    return f"Bent, with corners that lie in no plane: {share}{cut}."


def _bent_polygons(vertices: np.ndarray, corners: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(P,) bool: the polygons of four and more corners whose corners lie in no plane. All indices are in range."""
    bent = np.zeros(len(counts), bool)
    for count in np.unique(counts[counts > 3]):
        found = np.flatnonzero(counts == count)  # (G,)
        # (n, G, 3) the corners, seen from the first.
        points = vertices[corners[starts[found] + np.arange(count)[:, None]]]
        points = points[1:] - points[0]  # (n - 1, G, 3)
        # (G, 3) the sum of the normals of the triangles that the first corner makes with the edges.
        normal = cross(points[:-1].reshape(-1, 3), points[1:].reshape(-1, 3)).reshape(count - 2, -1, 3).sum(axis=0)
        heights = np.einsum("ngk,gk->ng", points, normal)
        # (G,) times the length of the normal; the first corner has the height 0.
        apart = np.maximum(heights.max(axis=0), 0) - np.minimum(heights.min(axis=0), 0)
        size = np.sqrt(np.einsum("ngk,ngk->ng", points, points).max(axis=0))  # (G,)
        length = np.linalg.norm(normal, axis=1)
        bent[found] = apart > BENT * size * length
    return bent


def _cut_bent_quads(
    vertices: np.ndarray,
    faces: np.ndarray,
    quads: np.ndarray,
    corners: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
) -> None:
    """Change the faces of those bent quads that the other diagonal gives less area. quads: (Q,) their indices."""
    ring = corners[starts[quads, None] + np.arange(4)]  # (Q, 4)
    fans = ring[:, [[0, 1, 2], [0, 2, 3]]], ring[:, [[1, 2, 3], [1, 3, 0]]]  # (Q, 2, 3) for each diagonal
    area, other = (triangle_areas(vertices[fan.reshape(-1, 3)]).reshape(-1, 2).sum(axis=1) for fan in fans)  # (Q,)
    better = other < area * (1 - LESS_AREA)
    faces[ends[quads[better], None] + [-2, -1]] = fans[1][better]


def _folded_polygons(vertices: np.ndarray, faces: np.ndarray, polygon: np.ndarray, count: int) -> np.ndarray:
    """Indices of the polygons that have a triangle which faces away from the polygon's own normal.

    faces: (F, 3). polygon: (F,) the polygon of each triangle, below count.
    """
    normals = doubled_normals(vertices[faces])  # (F, 3)
    # (count, 3) the normal of a polygon, the sum over its triangles.
    total = np.stack([np.bincount(polygon, weights=normals[:, k], minlength=count) for k in range(3)], axis=1)
    folded = np.einsum("ij,ij->i", normals, total[polygon]) < 0  # (F,)
    return np.unique(polygon[folded])


def _cut_concave(
    vertices: np.ndarray,
    faces: np.ndarray,
    folded: np.ndarray,
    corners: np.ndarray,
    starts: np.ndarray,
    counts: np.ndarray,
    ends: np.ndarray,
) -> None:
    """Cut the polygons anew that are not convex: by the first fan that does not fold over, else by ears.

    faces: changed. folded: (Q,) their indices. Raises ValueError if the ears would take too long.
    """
    steps = 0.0
    for count in np.unique(counts[folded]):
        found = folded[counts[folded] == count]  # (G,) polygons of as many corners
        rings = corners[starts[found, None] + np.arange(count)]  # (G, n)
        cut, left = _first_fans(vertices, rings)
        steps += float(count) ** 2 * len(left)
        if steps > MOST_EAR_STEPS:
            raise ValueError(
                f"{counted(len(left), 'polygon')} with {count:,} corners, not convex: too many to be cut here; cut "
                "them into triangles"
            )
        for index, ears in zip(left, _ears(vertices[rings[left]]), strict=True):
            # A polygon that crosses itself leaves fewer ears: every cut is wrong somewhere, and the fan is as good.
            if len(ears) == count - 2:
                cut[index] = rings[index][ears]
        faces[ends[found, None] - (count - 2) + np.arange(count - 2)] = cut


def _first_fans(vertices: np.ndarray, rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rings (G, n) -> triangles (G, n - 2, 3) of each by the first fan that does not fold over, and the indices of the
    rings without such a fan, which have the fan about corner 0."""
    count = rings.shape[1]
    # (n - 2, 3) places in the ring: a fan about corner 0.
    fan = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], axis=1)
    cut, left = rings[:, fan], np.arange(len(rings))
    for start in range(min(count, FANS_TRIED)):
        if not len(left):
            break
        faces = np.roll(rings[left], -start, axis=1)[:, fan]  # (L, n - 2, 3)
        polygon = np.repeat(np.arange(len(left)), count - 2)
        folds = np.zeros(len(left), bool)
        folds[_folded_polygons(vertices, faces.reshape(-1, 3), polygon, len(left))] = True
        cut[left[~folds]] = faces[~folds]
        left = left[folds]
    return cut, left


def _ears(points: np.ndarray) -> list[np.ndarray]:
    """Ear clipping of the corners (G, n, 3) of polygons, seen along their normals -> for each its triangles as places
    in it, (n - 2, 3), at times fewer."""
    points = points - points.mean(axis=1, keepdims=True)
    after = np.roll(points, -1, axis=1)
    normals = cross(points.reshape(-1, 3), after.reshape(-1, 3)).reshape(points.shape).sum(axis=1)  # (G, 3)
    cut = []
    for corners, normal in zip(points, normals, strict=True):
        if not np.isfinite(normal).all():
            cut.append(np.zeros((0, 3), np.int64))
            continue
        axes = np.linalg.svd(normal[None])[2][1:]  # (2, 3) two directions in the polygon's plane
        if np.linalg.det(np.vstack([axes, normal])) < 0:  # keep the winding
            axes = axes[::-1]
        flat = corners @ axes.T  # (n, 2)
        cut.append(mapbox_earcut.triangulate_float64(flat, np.array([len(corners)], dtype=np.uint32)).reshape(-1, 3))
    return cut
