"""Pairs of labelled points: where they lie, how far apart, in which directions, and their labels."""

import numpy as np

from neuralparts.choices import PAIR_LENGTH
from neuralparts.distance import DistanceOracle
from neuralparts.sampling import pair_samples
from neuralparts.sampling.pairs import PAIR_IMPORTANCE_WEIGHT
from tests.distance.brute import brute_distance
from tests.sampling.densities import part


def drawn(count, seed=0):
    return pair_samples(DistanceOracle(part(), "numba"), count, np.random.default_rng(seed))


def test_pairs_have_one_length_lie_in_the_cube_and_are_labelled_exactly():
    points, sdf = drawn(20_001)
    assert points.shape == (20_001, 2, 3) and sdf.shape == (20_001, 2)
    assert points.dtype == sdf.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(points[:, 1] - points[:, 0], axis=1), PAIR_LENGTH, rtol=1e-4)
    # Of so many pairs some hundred would have left the cube.
    assert np.abs(points).max() <= 1 and (np.abs(points[:, 0]) > 1 - PAIR_LENGTH).any(axis=1).sum() > 100
    np.testing.assert_allclose(
        np.abs(sdf[:500]).ravel(), brute_distance(points[:500].reshape(-1, 3), part()), atol=1e-6
    )
    assert (sdf < 0).any() and np.abs(sdf[:, 1] - sdf[:, 0]).max() <= PAIR_LENGTH + 1e-6


def test_directions_of_pairs_are_uniform():
    points, _ = drawn(20_000)
    step = (points[:, 1] - points[:, 0]) / PAIR_LENGTH
    # Of a uniform direction each component is uniform in [-1, 1]: mean 0, mean square 1/3.
    assert np.abs(step.mean(axis=0)).max() < 4 * np.sqrt(1 / 3 / 20_000)
    np.testing.assert_allclose((step**2).mean(axis=0), 1 / 3, atol=4 * np.sqrt(4 / 45 / 20_000))


def test_half_of_the_pairs_are_uniform_and_half_near_the_surface_in_random_order():
    _, sdf = drawn(20_000)
    far = np.abs(sdf[:, 0]) > 0.3
    uniform = np.random.default_rng(5).uniform(-1, 1, (20_000, 3)).astype(np.float32)
    distances = DistanceOracle(part(), "numba").distance(uniform)
    weights = np.exp(-PAIR_IMPORTANCE_WEIGHT * distances)
    expected = ((distances > 0.3).mean() + weights[distances > 0.3].sum() / weights.sum()) / 2
    assert abs(far.mean() - expected) < 0.015
    assert abs(far[:10_000].mean() - far[10_000:].mean()) < 0.03


def test_same_generator_same_pairs_and_one_pair():
    one, two = drawn(100, 3), drawn(100, 3)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    assert drawn(1)[0].shape == (1, 2, 3)
