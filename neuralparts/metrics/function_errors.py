"""How wrong a fitted function is, on points that training never saw.

In: a function of (N, 3) float32 points of the domain that returns (N,) signed distances, the oracle of the mesh, a
generator. Out: dictionaries of floats, lengths in domain units, by the names of `metric_names.py`, and sign_error,
which is kept in NAME.json but has no place on the pages.

surface_error, importance_error and grid_error are those of Davies, Nowrouzezahrai, Jacobson, On the Effectiveness of
Weight-Encoded Neural Implicit 3D Shapes (2020).
"""

from collections.abc import Callable

import numpy as np

from neuralparts.choices import IMPORTANCE_WEIGHT
from neuralparts.distance import DistanceOracle
from neuralparts.sampling import importance_samples, points_on_surface

# (N, 3) float32 points of the domain -> (N,) signed distances, domain units.
DomainFunction = Callable[[np.ndarray], np.ndarray]


def point_errors(
    domain_function: DomainFunction,
    oracle: DistanceOracle,
    count: int,
    generator: np.random.Generator,
    importance_weight: float = IMPORTANCE_WEIGHT,
) -> dict[str, float]:
    """Errors of a function against an oracle, each on `count` fresh points.

    surface_error and surface_error_p99: mean and 99th percentile of |f| over points uniform by area on the surface.
    importance_error: mean |f - d| over importance samples of that weight. sign_error: fraction of them on the wrong
    side. grid_error: mean |f - d| uniformly over the cube. iou: volume that is inside both over volume inside either,
    by points uniform in the mesh's bounding box; 1.0 if nothing is inside either.
    """
    on_surface = np.abs(domain_function(points_on_surface(oracle.mesh, count, generator)[0]))  # (count,)
    points, distances = importance_samples(oracle, count, generator, importance_weight=importance_weight)
    values = domain_function(points)
    cube = _uniform_points(np.full(3, -1.0), np.full(3, 1.0), count, generator)
    return {
        "surface_error": float(on_surface.mean()),
        "surface_error_p99": float(np.percentile(on_surface, 99)),
        "importance_error": _mean_difference(values, distances),
        "sign_error": _sign_error(values, distances),
        "grid_error": mean_absolute_error(domain_function, cube, oracle.signed_distance(cube)),
        "iou": _intersection_over_union(domain_function, oracle, count, generator),
    }


def sample_errors(domain_function: DomainFunction, points: np.ndarray, distances: np.ndarray) -> dict[str, float]:
    """importance_error and sign_error, as `point_errors` has them, if there are labelled samples but no mesh.

    points (N, 3) float32, domain, and distances (N,) float32: kept from training.
    """
    values = domain_function(points)
    return {"importance_error": _mean_difference(values, distances), "sign_error": _sign_error(values, distances)}


def grid_points(resolution: int) -> np.ndarray:
    """(resolution^3, 3) float32: the nodes of the grid that spans the domain. Raises ValueError if resolution < 2."""
    if resolution < 2:
        raise ValueError(f"a grid needs at least 2 nodes along an edge, got {resolution}")
    line = np.linspace(-1.0, 1.0, resolution, dtype=np.float32)
    return np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)


def mean_absolute_error(domain_function: DomainFunction, points: np.ndarray, distances: np.ndarray) -> float:
    """Mean |f - d| over points (N, 3) float32 with known distances (N,), such as `grid_points`; domain units."""
    return _mean_difference(domain_function(points), distances)


def _mean_difference(values: np.ndarray, distances: np.ndarray) -> float:
    """Mean |f - d| of values (N,) and distances (N,)."""
    return float(np.abs(values - distances).mean())


def _sign_error(values: np.ndarray, distances: np.ndarray) -> float:
    """Fraction of the values (N,) on the other side than the distances (N,) say."""
    return float(((values < 0) != (distances < 0)).mean())


def _uniform_points(low: np.ndarray, high: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """(count, 3) float32 points uniform in the box from low (3,) to high (3,)."""
    return generator.uniform(low, high, (count, 3)).astype(np.float32)


def _intersection_over_union(
    domain_function: DomainFunction, oracle: DistanceOracle, count: int, generator: np.random.Generator
) -> float:
    """Volume of the intersection over that of the union, by points uniform in the bounding box of the oracle's mesh."""
    vertices = oracle.mesh.vertices
    points = _uniform_points(vertices.min(axis=0), vertices.max(axis=0), count, generator)
    fitted, true = domain_function(points) < 0, oracle.inside(points)  # (count,) bool each
    union = (fitted | true).sum()
    return float((fitted & true).sum() / union) if union else 1.0
