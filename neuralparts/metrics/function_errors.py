"""How wrong a fitted function is, on points that training never saw.

In: a DomainFunction, the oracle of the mesh, a generator. Out: dictionaries of floats, lengths in domain units, by the
names of `metric_names.py`.

surface_error, importance_error and grid_error are those of Davies, Nowrouzezahrai, Jacobson, On the Effectiveness of
Weight-Encoded Neural Implicit 3D Shapes (2020). surface_distance is that of Taubin, Estimation of Planar Curves,
Surfaces, and Nonplanar Space Curves Defined by Implicit Equations (1991).
"""

import numpy as np

from neuralparts.choices import IMPORTANCE_WEIGHT
from neuralparts.distance import DistanceOracle
from neuralparts.metrics.domain_function import DomainFunction
from neuralparts.metrics.overlap import volume_overlap
from neuralparts.sampling import importance_samples, points_on_surface

# One in so many surface points serves the surface distance: a gradient costs some three values.
POINTS_PER_GRADIENT = 5


def point_errors(
    domain_function: DomainFunction,
    level_distance: DomainFunction,
    oracle: DistanceOracle,
    count: int,
    generator: np.random.Generator,
    importance_weight: float = IMPORTANCE_WEIGHT,
    overlap_points: int | None = None,
) -> dict[str, float]:
    """Errors of a function against an oracle, each on `count` fresh points unless it says otherwise.

    level_distance: (N, 3) float32 points of the domain -> (N,) distances to the function's zero level, as
    `NeuralSDF.level_distance` gives them.

    surface_error and surface_error_p99: mean and 99th percentile of |f| over points uniform by area on the surface.
    surface_distance: mean of level_distance over a fifth of these points. importance_error: mean |f - d| over
    importance samples of that weight. sign_error: fraction of them on the wrong side. grid_error: mean |f - d|
    uniformly over the cube. iou: volume that is inside both over volume inside either, in the mesh's bounding box; 1.0
    if nothing is inside either. iou_low, iou_high: its 95% confidence interval, by as many points as `volume_overlap`
    needs; its `count` is overlap_points, by default as for the others.
    """
    surface = points_on_surface(oracle.mesh, count, generator)[0]
    on_surface = np.abs(domain_function(surface))  # (count,)
    points, distances = importance_samples(oracle, count, generator, importance_weight=importance_weight)
    values = domain_function(points)
    cube = generator.uniform(-1.0, 1.0, (count, 3)).astype(np.float32)
    grid_error = mean_absolute_error(domain_function, cube, oracle.signed_distance(cube))
    overlap = volume_overlap(domain_function, oracle, overlap_points or count, generator)
    return {
        "surface_error": float(on_surface.mean()),
        "surface_error_p99": float(np.percentile(on_surface, 99)),
        "surface_distance": float(level_distance(surface[::POINTS_PER_GRADIENT]).mean()),
        "importance_error": _mean_difference(values, distances),
        "sign_error": _sign_error(values, distances),
        "grid_error": grid_error,
        "iou": overlap.iou,
        "iou_low": overlap.low,
        "iou_high": overlap.high,
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
