"""The generalised winding number: how often triangles enclose a point. Outward triangles count 1 around the inside.

`solid_angle_winding_number` is the slow exact truth. `winding_number` switches to libigl's approximation if the sum
would take too long.
"""

import numpy as np

from neuralparts.triangles import unit_normals

# Pairs of a point and a triangle evaluated at a time: their temporaries (some 30 MB) stay in the CPU's caches.
CHUNK = 1 << 17
# Pairs of a point and a triangle up to which `winding_number` takes the exact sum: about a third of a second.
MOST_EXACT_PAIRS = 4_000_000
# Pairs of a point and a triangle less than two of its radii away, up to which the approximation takes some two seconds,
# and points from which their number is estimated.
MOST_NEAR_PAIRS, NEAR_SAMPLES = 15_000_000, 64
# Fraction of all triangles near a point above which the pairs may be so many times fewer. In fans, soups and bodies
# within each other it is 0.5 to 1; ordinary meshes with so many pairs stay far below (docs/log.md).
CROWDED_FRACTION, CROWDED_SAVING = 0.2, 4
# Distance from the surface at which a point counts as just beside it: larger than the rounding of float32, smaller than
# any wall that can be fitted. It is in the units of the vertices: the unit box for `orientation.py`, the domain for
# `thickness.py` and `diagnosis.py`. A part is 1 long in the unit box, and 1 to 1.8 in the domain.
JUST_BESIDE = 1e-5


def solid_angle_winding_number(points: np.ndarray, triangles: np.ndarray, chunk: int = CHUNK) -> np.ndarray:
    """Exact generalised winding number by summing solid angles, in float64.

    points: (N, 3); triangles: (F, 3, 3) corner positions in the same units; chunk: pairs of a point and a triangle
    evaluated at a time. Returns (N,) float64: the signed solid angle of all triangles seen from each point over 4 pi;
    1 within an outward closed body, 0 outside it. Time grows with N * F. Raises ValueError for other shapes. Source:
    van Oosterom and Strackee, "The solid angle of a plane triangle" (1983).
    """
    points = np.asarray(points, dtype=np.float64)
    triangles = np.asarray(triangles, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 3 or triangles.shape[1:] != (3, 3):
        raise ValueError(f"expected points (N, 3) and triangles (F, 3, 3), got {points.shape} and {triangles.shape}")
    total = np.zeros(len(points))
    face_step = min(max(len(triangles), 1), chunk)
    point_step = max(1, chunk // face_step)
    for i in range(0, len(points), point_step):
        for j in range(0, len(triangles), face_step):
            total[i : i + point_step] += _solid_angles(points[i : i + point_step], triangles[j : j + face_step])
    return total / (4 * np.pi)


def _solid_angles(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(N,) signed solid angles in steradians of all F triangles together, seen from each of N points."""
    # Corners a, b, c relative to the points, as x, y, z apart: nine arrays (N, F).
    seen = [[triangles[:, k, axis] - points[:, axis, None] for axis in range(3)] for k in range(3)]
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = seen
    # (N, F): distances of the corners.
    a, b, c = (np.sqrt(x * x + y * y + z * z) for x, y, z in seen)
    # tan(angle / 2) = a . (b x c) / (|a||b||c| + (a.b)|c| + (b.c)|a| + (c.a)|b|), each (N, F).
    triple = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    lower = a * b * c + (ax * bx + ay * by + az * bz) * c
    lower += (bx * cx + by * cy + bz * cz) * a + (cx * ax + cy * ay + cz * az) * b
    return 2 * np.arctan2(triple, lower).sum(axis=1)


def winding_number(points: np.ndarray, triangles: np.ndarray, most_exact_pairs: int = MOST_EXACT_PAIRS) -> np.ndarray:
    """As `solid_angle_winding_number`, but to about 0.01 if there are more than `most_exact_pairs` pairs of a point and
    a triangle (Barill et al., "Fast winding numbers for soups and clouds", 2018, from libigl)."""
    if len(points) * len(triangles) <= most_exact_pairs:
        return solid_angle_winding_number(points, triangles)
    import igl

    return igl.fast_winding_number(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3), points)


def affordable_step(points: np.ndarray, triangles: np.ndarray, most: int = MOST_NEAR_PAIRS) -> int:
    """The least step s for which `winding_number(points[::s], triangles)` takes some two seconds at most.

    points: (N, 3); triangles: (F, 3, 3); most: pairs of a point and a near triangle that take so long. It is 1 but for
    parts of long triangles or of bodies within each other, of which most triangles are near most points.
    """
    pairs = len(points) * len(triangles)
    if pairs <= most:
        return 1
    middle = triangles.mean(axis=1)
    reach = 4 * ((triangles - middle[:, None]) ** 2).sum(axis=2).max(axis=1)  # (F,) squares of twice the radius
    some = points[:: -(-len(points) // NEAR_SAMPLES)]
    near = np.mean([(((middle - point) ** 2).sum(axis=1) < reach).mean() for point in some])
    # Such a mesh is judged several times, and its labels take long too.
    most = most / CROWDED_SAVING if near > CROWDED_FRACTION else most
    return max(1, int(np.ceil(near * pairs / most)))


def points_beside(corners: np.ndarray, distance: float) -> np.ndarray:
    """(N, 3) points at a distance from the centroids of triangles (N, 3, 3) along their normals; behind if negative."""
    return corners.mean(axis=1) + distance * unit_normals(corners)
