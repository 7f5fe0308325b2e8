"""The smallest sphere about points, and the map that takes it to the domain."""

from itertools import combinations

import numpy as np

from neuralparts.domain import DOMAIN_RADIUS, Transform

# A point counts as inside a sphere if its squared distance exceeds the squared radius by less than this fraction: a
# few roundings.
SPHERE_TOLERANCE = 1e-12


def bounding_transform(vertices: np.ndarray) -> Transform:
    """The Transform that takes the smallest sphere about (V, 3) vertices to the origin and to radius DOMAIN_RADIUS."""
    center, radius = bounding_sphere(vertices)
    return Transform(center, DOMAIN_RADIUS / radius)


def bounding_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Smallest sphere about (N, 3) float64 points: center (3,) float64 and radius, in the points' units.

    The farthest point outside the present sphere joins the points that span it, until no point is outside: the pivoting
    of Gaertner, "Fast and robust smallest enclosing balls" (1999). Points are scaled to a unit box first, so they may
    be tiny, huge or far from the origin.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    middle, extent = low + (high - low) / 2, float((high - low).max()) or 1.0
    local = (points - middle) / extent  # (N, 3) in the unit box
    center, squared = np.zeros(3), -1.0
    support = local[:0]  # (up to 4, 3) points that span the sphere
    while True:  # about ten rounds; the sphere grows in each, so the loop ends
        distances = ((local - center) ** 2).sum(axis=1)
        farthest = int(distances.argmax())
        if distances[farthest] <= squared * (1 + SPHERE_TOLERANCE):
            break
        support, center, grown = _smallest_sphere(np.vstack([support, local[farthest]]))
        if grown <= squared:
            break
        squared = grown
    center = center * extent + middle
    # Divided by the extent before squaring, so that squares of tiny and huge lengths stay finite.
    return center, float(np.sqrt((((points - center) / extent) ** 2).sum(axis=1).max()) * extent)


def _smallest_sphere(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Smallest sphere about up to five points, by trying all subsets: (points that span it, center, squared radius)."""
    best = None
    for size in range(1, min(len(points), 4) + 1):
        for subset in map(list, combinations(range(len(points)), size)):
            center = _circumcenter(points[subset])
            # The radius that holds all points, not only the subset. The smallest such radius belongs to the right
            # subset, and no tolerance is needed to find it.
            squared = ((points - center) ** 2).sum(axis=1).max()
            if best is None or squared < best[2]:
                best = points[subset], center, squared
    return best


def _circumcenter(points: np.ndarray) -> np.ndarray:
    """(3,) the point at equal distance from 1 to 4 points (N, 3) that lies in their affine hull."""
    edges = points[1:] - points[0]  # (N - 1, 3)
    if len(edges) == 0:
        return points[0]
    # center = points[0] + weights @ edges, with 2 edge . (center - points[0]) = |edge|^2 for each edge.
    weights = np.linalg.lstsq(2 * edges @ edges.T, (edges**2).sum(axis=1), rcond=None)[0]
    return points[0] + weights @ edges
