"""All methods: labels against brute force, seeds, counts, progress, wrong arguments."""

import numpy as np
import pytest

from neuralparts.choices import SAMPLING_METHODS
from neuralparts.distance import DistanceOracle
from neuralparts.sampling import draw_samples
from tests.distance.brute import brute_distance, brute_winding, torus
from tests.sampling.densities import assert_same_histogram, open_box, part


@pytest.mark.parametrize("method", SAMPLING_METHODS)
@pytest.mark.parametrize("shape", [part, torus, open_box])
def test_labels_are_those_of_brute_force(method, shape, generator):
    mesh = shape()
    points, sdf = draw_samples(method, DistanceOracle(mesh, "numba"), 2000, generator)
    assert points.shape == (2000, 3) and sdf.shape == (2000,) and points.dtype == sdf.dtype == np.float32
    assert points.flags.c_contiguous and sdf.flags.c_contiguous
    assert np.abs(points).max() <= 1
    assert np.abs(np.abs(sdf) - brute_distance(points, mesh)).max() < 1e-6
    winding = brute_winding(points, mesh)
    clear = (np.abs(sdf) > 1e-5) & (np.abs(winding - 0.5) > 1e-5)
    assert ((sdf < 0) == (winding > 0.5))[clear].all() and clear.mean() > 0.4


def test_uniform_samples_are_uniform(oracle, generator):
    points, _ = draw_samples("Uniform", oracle, 50_000, generator)
    cell = ((points + 1) * 2).astype(int) @ [16, 4, 1]
    assert_same_histogram(np.bincount(cell, minlength=64), np.full(64, 1 / 64))


def test_the_generator_decides_everything(oracle):
    for method in SAMPLING_METHODS:
        first, second, other = (draw_samples(method, oracle, 5000, np.random.default_rng(s)) for s in (1, 1, 2))
        assert (first[0] == second[0]).all() and (first[1] == second[1]).all()
        assert (first[0] != other[0]).any()


@pytest.mark.parametrize("method", SAMPLING_METHODS)
@pytest.mark.parametrize("count", [0, 1, 7, 3000])
def test_counts_and_progress_are_exact(method, count, oracle, generator):
    finished = []
    points, sdf = draw_samples(method, oracle, count, generator, progress=finished.append)
    assert len(points) == len(sdf) == count == sum(finished)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"method": "Gaussian"}, "unknown sampling method 'Gaussian'"),
        ({"importance_weight": 0.0}, "importance_weight must be above 0"),
        ({"importance_weight": 20_000.0}, "importance_weight must be above 0"),
        ({"importance_weight": float("nan")}, "importance_weight must be above 0"),
        ({"uniform_ratio": 1.5}, "uniform_ratio must lie between 0 and 1"),
        ({"method": "Surface", "importance_weight": 60.0}, "Surface sampling has no importance_weight"),
        ({"method": "Uniform", "uniform_ratio": 0.5}, "Uniform sampling has no uniform_ratio"),
    ],
)
def test_impossible_arguments_are_errors(arguments, message, oracle, generator):
    with pytest.raises(ValueError, match=message):
        draw_samples(**{"method": "Importance", "oracle": oracle, "count": 10, "generator": generator} | arguments)
