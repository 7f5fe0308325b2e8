"""How far a fitted distance can be trusted off the surface: its error, its overestimates and its gradient, by distance.

In: a function of the domain and its gradient, the oracle of the mesh, a generator. Out: one dictionary as JSON can hold
it, lengths in domain units. Nothing here was seen in training.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from neuralparts.distance import DistanceOracle
from neuralparts.metric_names import ABSOLUTE_TOLERANCE, LONGEST_GRADIENT, RELATIVE_TOLERANCE, SHORTEST_GRADIENT
from neuralparts.metrics.domain_function import DomainFunction
from neuralparts.sampling import importance_samples

# (N, 3) float32 points of the domain -> (N, 3) gradients of the signed distance there.
DomainGradient = Callable[[np.ndarray], np.ndarray]

# Edges of the bands of |d|, domain units.
BAND_EDGES = (0.0, 0.003, 0.01, 0.03, 0.1, np.inf)
# Bands that end here or nearer have too few points of the uniform cube. Theirs are importance samples of this weight,
# whose density falls by a factor of 4 over the second band.
NEAR, NEAR_WEIGHT = 0.01, 200.0


def off_surface_errors(
    domain_function: DomainFunction,
    domain_gradient: DomainGradient,
    oracle: DistanceOracle,
    count: int,
    generator: np.random.Generator,
) -> dict:
    """Errors of a function by distance from the surface, on `count` points uniform in the cube and `count` near it.

    bands: a list, nearest first, of `from` and `to` (bounds of |d|, `to` None for the last), `points`, `mean_error`
    (mean |f - d|), `overestimated` and `gradient_within` (fractions of the points; see `metric_names.py`); the last
    three are None without points.
    overestimated, gradient_within, gradient_p1, gradient_p99: fractions, and percentiles of the gradient's length, over
    the uniform points. A distance has a gradient of length 1 but at the medial axis.
    """
    cube = generator.uniform(-1.0, 1.0, (count, 3)).astype(np.float32)
    near, near_distances = importance_samples(oracle, count, generator, NEAR_WEIGHT, uniform_ratio=0.0)
    # Columns (count,) of |d|, |f - d|, overestimated, gradient within; and the lengths of the gradients (count,).
    *near_columns, _ = _columns(domain_function, domain_gradient, near, near_distances)
    *cube_columns, lengths = _columns(domain_function, domain_gradient, cube, oracle.signed_distance(cube))
    _, _, over, within = cube_columns
    low, high = np.percentile(lengths, [1, 99])
    columns_of = [near_columns if stop <= NEAR else cube_columns for stop in BAND_EDGES[1:]]
    bands = zip(pairwise(BAND_EDGES), columns_of, strict=True)
    return {
        "bands": [_band(start, stop, *columns) for (start, stop), columns in bands],
        "overestimated": float(over.mean()),
        "gradient_within": float(within.mean()),
        "gradient_p1": float(low),
        "gradient_p99": float(high),
    }


def _columns(
    domain_function: DomainFunction, domain_gradient: DomainGradient, points: np.ndarray, distances: np.ndarray
) -> tuple[np.ndarray, ...]:
    """|d|, |f - d|, overestimated, length within bounds, gradient's length, (N,) each, of points (N, 3), d (N,)."""
    values, far = domain_function(points), np.abs(distances)
    over = np.abs(values) > (1 + RELATIVE_TOLERANCE) * far + ABSOLUTE_TOLERANCE
    lengths = np.linalg.norm(domain_gradient(points), axis=1)
    within = (lengths >= SHORTEST_GRADIENT) & (lengths <= LONGEST_GRADIENT)
    return far, np.abs(values - distances), over, within, lengths


def _band(
    start: float, stop: float, far: np.ndarray, errors: np.ndarray, over: np.ndarray, within: np.ndarray
) -> dict[str, float | int | None]:
    """The line of the points with start <= far < stop; all arrays (N,)."""
    chosen = (far >= start) & (far < stop)
    means = {"mean_error": errors, "overestimated": over, "gradient_within": within}
    found = bool(chosen.any())
    return {
        "from": start,
        "to": stop if np.isfinite(stop) else None,
        "points": int(chosen.sum()),
        **{name: float(values[chosen].mean()) if found else None for name, values in means.items()},
    }
