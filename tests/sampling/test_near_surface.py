"""Labelled points very near to the surface: where they lie, and their labels."""

import numpy as np

from neuralparts.distance import DistanceOracle
from neuralparts.sampling import near_surface_samples
from neuralparts.sampling.near_surface import TIMES_STEEPER
from tests.distance.brute import as_mesh, brute_distance
from tests.sampling.densities import part


def test_near_samples_lie_on_both_sides_and_are_labelled_exactly(generator):
    oracle = DistanceOracle(part(), "numba")
    points, sdf = near_surface_samples(oracle, 2000, generator, 60.0)
    assert points.shape == (2000, 3) and sdf.shape == (2000,) and points.dtype == sdf.dtype == np.float32
    np.testing.assert_allclose(np.abs(sdf[:500]), brute_distance(points[:500], part()), atol=1e-6)
    np.testing.assert_array_equal(sdf < 0, oracle.signed_distance(points) < 0)
    assert 0.4 < (sdf < 0).mean() < 0.6


def test_distances_from_a_flat_surface_fall_off_with_the_weight(generator):
    square = as_mesh([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]], [[0, 1, 2], [0, 2, 3]])
    points, sdf = near_surface_samples(DistanceOracle(square, "numba"), 20_000, generator, 30.0)
    np.testing.assert_allclose(np.abs(sdf), np.abs(points[:, 2]), atol=1e-6)
    # An exponential distribution's mean, and its standard error.
    mean = 1 / (30 * TIMES_STEEPER)
    assert abs(np.abs(sdf).mean() - mean) < 5 * mean / np.sqrt(20_000)
    assert abs(points[:, 2].mean()) < 5 * 2**0.5 * mean / np.sqrt(20_000)


def test_near_samples_stay_in_the_cube_and_repeat_with_their_generator():
    oracle = DistanceOracle(part(), "numba")
    one, two = (near_surface_samples(oracle, 300, np.random.default_rng(4), 0.5) for _ in range(2))
    assert np.abs(one[0]).max() == 1
    np.testing.assert_allclose(np.abs(one[1]), brute_distance(one[0], part()), atol=1e-6)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
