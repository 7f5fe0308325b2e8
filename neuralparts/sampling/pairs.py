"""Pairs of labelled points that lie close together: their difference shows which way the distance grows, and how fast.

A fit that matches only values leaves the field between the samples rough. With a pair it matches the slope too.
"""

import numpy as np

from neuralparts.choices import PAIR_LENGTH
from neuralparts.distance import DistanceOracle
from neuralparts.sampling.cube import uniform_points
from neuralparts.sampling.importance import importance_samples

# Half of the pairs are uniform over the cube. The others have this importance weight, per domain unit: most of them lie
# where ordinary samples are rare and the field is not simple yet, up to a tenth from the surface.
PAIR_IMPORTANCE_WEIGHT = 15.0


def pair_samples(oracle: DistanceOracle, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """count pairs of labelled points in random order: points (count, 2, 3) float32, domain, and sdf (count, 2) float32.

    The direction from the first point of a pair to the second is uniform over the sphere, but for pairs that would
    leave the cube: a coordinate that does is reflected at the first point.
    """
    near = count // 2
    first = uniform_points(count, generator)
    if near:
        drawn = importance_samples(oracle, near, generator, PAIR_IMPORTANCE_WEIGHT, uniform_ratio=0.0)
        first[:near] = drawn[0]
    generator.shuffle(first)
    # (count, 3) steps of one length.
    step = generator.standard_normal((count, 3), dtype=np.float32)
    step *= PAIR_LENGTH / np.linalg.norm(step, axis=1, keepdims=True)
    step[np.abs(first + step) > 1] *= -1
    points = np.stack([first, first + step], axis=1)
    return points, oracle.signed_distance(points.reshape(-1, 3)).reshape(count, 2)
