"""The density of importance samples against densities known otherwise, and the cost of drawing them."""

import tracemalloc

import numpy as np
import pytest
import trimesh

from neuralparts.distance import DistanceOracle
from neuralparts.sampling import importance_samples
from neuralparts.sampling.collector import SampleCollector
from neuralparts.sampling.importance import ImportanceCells
from tests.distance.brute import as_mesh, torus
from tests.sampling.densities import BETA, Counting, assert_same_histogram, open_box, part, reference_fractions


@pytest.mark.parametrize("ratio", [0.0, 0.3])
@pytest.mark.parametrize("shape", [torus, part])
def test_distances_have_the_density_of_brute_force(shape, ratio):
    mesh = shape()
    bins = np.concatenate([np.linspace(0.001, 0.08, 40), np.linspace(0.1, 1, 10)])
    fractions, variances = reference_fractions(mesh, lambda points, distances: distances, bins, ratio)
    _, sdf = importance_samples(DistanceOracle(mesh, "numba"), 100_000, np.random.default_rng(3), uniform_ratio=ratio)
    assert_same_histogram(np.bincount(np.digitize(np.abs(sdf), bins), minlength=len(bins) + 1), fractions, variances)


def test_the_histogram_detects_a_wrong_density():
    """The same test fails for a beta that is 3% off, and for one that is right except for a twentieth of the points."""
    mesh, bins = torus(), np.linspace(0.001, 0.08, 40)
    fractions, variances = reference_fractions(mesh, lambda _, distances: distances, bins, 0.0)
    for weight, ratio in ((1.03 * BETA, 0.0), (BETA, 0.05)):
        generator = np.random.default_rng(3)
        _, sdf = importance_samples(DistanceOracle(mesh, "numba"), 100_000, generator, weight, ratio)
        with pytest.raises(AssertionError):
            assert_same_histogram(np.bincount(np.digitize(np.abs(sdf), bins), minlength=41), fractions, variances)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_places_have_the_density_of_brute_force(axis):
    """No cell of the octree gets more or fewer points than its density says."""
    mesh = part()
    bins = np.linspace(-0.99, 0.99, 100)
    fractions, variances = reference_fractions(mesh, lambda points, _: points[:, axis], bins, 0.0)
    points, _ = importance_samples(DistanceOracle(mesh, "numba"), 100_000, np.random.default_rng(4), uniform_ratio=0.0)
    assert_same_histogram(np.bincount(np.digitize(points[:, axis], bins), minlength=101), fractions, variances)


@pytest.mark.parametrize("count", [2_000, 200_000])
def test_density_around_a_sphere_is_the_analytic_one(count):
    radius = 0.6
    sphere = trimesh.creation.icosphere(5, radius)
    oracle = DistanceOracle(as_mesh(sphere.vertices, sphere.faces), "numba")
    points, _ = importance_samples(oracle, count, np.random.default_rng(5), uniform_ratio=0.0)
    distance = np.linalg.norm(points.astype(np.float64), axis=1) - radius
    bins = np.linspace(-0.1, 0.1, 41)
    fine = np.linspace(-radius, 1 - radius, 200_001)
    density = (radius + fine) ** 2 * np.exp(-BETA * np.abs(fine))
    fractions = np.bincount(np.digitize(fine, bins), density, 42) / density.sum()
    assert_same_histogram(np.bincount(np.digitize(distance, bins), minlength=42), fractions)


@pytest.mark.parametrize("weight", [0.5, 300.0])
def test_other_weights_have_their_density(weight, oracle, generator):
    """From almost uniform to a thin shell; the mean distance distinguishes them."""
    points = np.random.default_rng(99).uniform(-1, 1, (200_000, 3))
    distance = oracle.distance(points).astype(np.float64)
    density = np.exp(-weight * distance) / np.exp(-weight * distance).sum()
    mean = (density * distance).sum()
    error = np.sqrt((density**2 * (distance - mean) ** 2).sum() + (density * (distance - mean) ** 2).sum() / 20_000)
    _, sdf = importance_samples(oracle, 20_000, generator, importance_weight=weight, uniform_ratio=0.0)
    assert abs(np.abs(sdf).mean() - mean) < 4 * error


def test_a_uniform_ratio_of_1_is_uniform(oracle, generator):
    points, _ = importance_samples(oracle, 20_000, generator, uniform_ratio=1.0)
    cell = ((points + 1) * 2).astype(int) @ [16, 4, 1]
    assert_same_histogram(np.bincount(cell, minlength=64), np.full(64, 1 / 64))


def test_chunks_do_not_change_the_density(oracle, generator):
    samples = SampleCollector(20_000)
    ImportanceCells(oracle, 20_000, BETA).fill(samples, generator, chunk=1000)
    points, sdf = samples.shuffled(generator)
    assert np.abs(np.abs(sdf) - oracle.distance(points)).max() < 1e-6
    whole = importance_samples(oracle, 20_000, np.random.default_rng(12), uniform_ratio=0.0)[1]
    assert abs(np.abs(sdf).mean() - np.abs(whole).mean()) < 4 * np.abs(whole).std() * np.sqrt(2 / 20_000)


# ------------------------------------------------------------------------------------------------------ order and cost


def test_order_is_random(oracle, generator):
    """A part of the samples is a fair sample: batches need no second shuffle."""
    points, sdf = importance_samples(oracle, 40_000, generator)
    for values in (points[:, 0], points[:, 2], np.abs(sdf)):
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
        assert abs(np.corrcoef(values, np.arange(len(values)))[0, 1]) < 0.02


def test_no_duplicates(oracle, generator):
    points, _ = importance_samples(oracle, 300_000, generator)
    assert len(np.unique(points, axis=0)) == len(points)


@pytest.mark.parametrize("shape", [torus, part])
def test_more_than_half_of_the_queries_become_samples(shape, generator):
    counting = Counting(DistanceOracle(shape(), "numba"))
    importance_samples(counting, 300_000, generator, uniform_ratio=0.0)
    assert counting.distances < 2 * 300_000
    assert counting.signs < 300_000


def test_signs_of_an_open_mesh_are_queried_point_by_point(generator):
    counting = Counting(DistanceOracle(open_box(), "numba"))
    importance_samples(counting, 5000, generator, uniform_ratio=0.0)
    assert counting.signs >= 5000


def test_memory_grows_by_less_than_64_bytes_a_point(oracle):
    peaks = []
    for count in (1_000_000, 2_000_000):
        tracemalloc.start()
        importance_samples(oracle, count, np.random.default_rng(0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 1_000_000 < 64
    assert peaks[0] - 64 * 1_000_000 < 150 * 2**20
