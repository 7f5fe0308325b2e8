"""Labelled points by the name of a method: the way from `--samplingMethod` to the sampler."""

from collections.abc import Callable

import numpy as np

from neuralparts.choices import SAMPLING_METHODS
from neuralparts.distance import DistanceOracle
from neuralparts.sampling.importance import importance_samples
from neuralparts.sampling.open_meshes import SIGN_CHANGE_FRACTION
from neuralparts.sampling.surface import surface_samples
from neuralparts.sampling.uniform import uniform_samples


def draw_samples(
    method: str,
    oracle: DistanceOracle,
    count: int,
    generator: np.random.Generator,
    importance_weight: float | None = None,
    uniform_ratio: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Labelled points by one of SAMPLING_METHODS, in random order.

    count: number of points. importance_weight and uniform_ratio: see `importance_samples` and `surface_samples`; None
    for their default. progress: None, or called with the number of newly finished points.

    Returns points (count, 3) float32 in the domain [-1, 1]^3 and sdf (count,) float32, domain units, negative inside.
    Raises ValueError for an unknown method, a value out of range, or a value that the method does not use.
    """
    if method not in SAMPLING_METHODS:
        raise ValueError(f"unknown sampling method {method!r}; choose one of {', '.join(SAMPLING_METHODS)}")
    given = {"importance_weight": importance_weight, "uniform_ratio": uniform_ratio, "progress": progress}
    given = {name: value for name, value in given.items() if value is not None}
    draw = {"Importance": importance_samples, "Surface": surface_samples, "Uniform": uniform_samples}[method]
    unused = {"Surface": {"importance_weight"}, "Uniform": {"importance_weight", "uniform_ratio"}}.get(method, set())
    if unused & set(given):
        raise ValueError(f"{method} sampling has no {' and no '.join(sorted(unused & set(given)))}")
    if method == "Importance" and not oracle.mesh.closed:
        given["sign_change_fraction"] = SIGN_CHANGE_FRACTION
    return draw(oracle, count, generator, **given)
