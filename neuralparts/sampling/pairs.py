"""Pairs of labelled points that lie close together: their difference shows which way the distance grows, and how fast.

A fit that matches only values leaves the field between the samples rough. With a pair it matches the slope too.
"""

import numpy as np

from neuralparts.choices import PAIR_LENGTH
from neuralparts.distance import DistanceOracle, in_blocks
from neuralparts.sampling.cube import ROUNDING, random_key, uniform_points
from neuralparts.sampling.draw_kernels import step_block
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
    # The first points (count, 3) and their labels (count,).
    first, sdf = np.empty((count, 3), dtype=np.float32), np.empty((count, 2), dtype=np.float32)
    first[near:] = uniform_points(count - near, generator)
    sdf[near:, 0] = oracle.signed_distance(first[near:])
    if near:
        first[:near], sdf[:near, 0] = importance_samples(oracle, near, generator, PAIR_IMPORTANCE_WEIGHT, 0.0)
    second, key = np.empty_like(first), random_key(generator)
    in_blocks(lambda block: step_block(block.start, key, PAIR_LENGTH, first[block], second[block]), count)
    sdf[:, 1] = _labels_of_second(oracle, second, sdf[:, 0])
    order = generator.permutation(count)
    # (count, 2, 3) and (count, 2)
    return np.stack([first.take(order, axis=0), second.take(order, axis=0)], axis=1), sdf.take(order, axis=0)


def _labels_of_second(oracle: DistanceOracle, second: np.ndarray, first_sdf: np.ndarray) -> np.ndarray:
    """(N,) float32 signed distances of the second points (N, 3) of pairs. first_sdf: (N,) those of the first points."""
    # A second point is at most PAIR_LENGTH farther from the surface than the first one.
    first_distance, reach = np.abs(first_sdf), np.float32(PAIR_LENGTH + ROUNDING)
    distance = oracle.distance(second, first_distance + reach)
    inside = first_sdf < 0
    # In a closed mesh the sign changes at the surface only. In an open one it may change elsewhere too.
    queried = first_distance < reach if oracle.mesh.closed else np.ones(len(second), dtype=bool)
    inside[queried] = oracle.inside(second[queried])
    return np.where(inside, -distance, distance)
