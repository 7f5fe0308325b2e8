"""torch callables as functions of arrays: the same bits whatever is asked together, and the gradient."""

import numpy as np

from neuralparts.marching import as_function, as_gradient
from neuralparts.marching.refine import central_differences
from tests.marching.surfaces import random_network


def test_a_point_gets_the_same_bits_with_any_other_points():
    function = as_function(random_network(3, (61, 32)), batch=256)
    points = np.random.default_rng(0).uniform(-1, 1, (1000, 3)).astype(np.float32)
    together = function(points)
    assert together.shape == (1000,) and together.dtype == np.float32
    order = np.random.default_rng(1).permutation(1000)[:613]
    assert np.array_equal(function(points[order]), together[order])
    assert np.array_equal(function(points[:1]), together[:1])


def test_gradient_is_that_of_central_differences():
    network = random_network(5, (16, 16))
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    by_differences = central_differences(as_function(network), 1e-3)(points)
    assert np.median(np.abs(as_gradient(network)(points) - by_differences)) < 1e-3
