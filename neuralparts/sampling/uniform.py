"""Labelled points uniform over the cube [-1, 1]^3: all of them (Uniform), or a fraction (Importance, Surface)."""

from collections.abc import Callable

import numpy as np

from neuralparts.distance import DistanceOracle
from neuralparts.sampling.collector import CHUNK, SampleCollector
from neuralparts.sampling.cube import uniform_points


def uniform_samples(
    oracle: DistanceOracle,
    count: int,
    generator: np.random.Generator,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """count labelled points uniform over the cube; arguments and result as for `draw_samples`."""
    samples = SampleCollector(count, progress)
    add_uniform(samples, count, oracle, generator)
    return samples.points[:count], samples.sdf[:count]


def add_uniform(
    samples: SampleCollector, count: int, oracle: DistanceOracle, generator: np.random.Generator, chunk: int = CHUNK
) -> None:
    """Add count labelled points uniform over the cube, chunk at a time."""
    for start in range(0, count, chunk):
        points = uniform_points(min(count - start, chunk), generator)
        samples.add(points, oracle.signed_distance(points))


def draw_uniform_count(count: int, uniform_ratio: float, generator: np.random.Generator) -> int:
    """How many of count independent points are uniform over the cube, each with the probability uniform_ratio.

    Raises ValueError unless that lies between 0 and 1.
    """
    if not 0 <= uniform_ratio <= 1:
        raise ValueError(f"uniform_ratio must lie between 0 and 1, got {uniform_ratio}")
    return generator.binomial(count, uniform_ratio)
