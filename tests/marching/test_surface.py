"""The sparse march against its dense twin, against scikit-image on the whole grid, and against analytic shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralparts.marching import as_function, march, march_dense
from tests.marching.surfaces import (
    SHAPES,
    areas,
    assert_same,
    assert_same_triangles,
    assert_watertight,
    random_network,
    sphere,
    torus,
    volume,
    whole_grid,
)


@pytest.fixture(params=SHAPES, scope="module")
def shape(request):
    """A function, the resolution to march it at, and its dense march."""
    function, resolution = SHAPES[request.param]
    return function, resolution, march_dense(function, resolution)


def test_sparse_is_dense(shape):
    function, resolution, dense = shape
    sparse = march(function, resolution)
    assert_same(sparse, dense, resolution)
    assert_watertight(sparse)
    assert volume(sparse) > 0
    assert sparse.vertices.dtype == np.float64 and sparse.faces.dtype == np.int64


def test_dense_is_scikit_image(shape):
    function, resolution, dense = shape
    vertices, faces = whole_grid(function, resolution)
    assert dense.vertices.shape == vertices.shape and dense.faces.shape == faces.shape
    assert_same_triangles(dense, vertices, faces)


@pytest.mark.parametrize("resolution", [32, 33])
def test_noise_with_every_kind_of_ambiguous_cell(resolution):
    weights = np.random.default_rng(1).normal(size=(3, 60)) * 20
    phases = np.random.default_rng(2).uniform(0, 6, 60)
    noise = lambda points: np.sin(points @ weights + phases).sum(axis=1)  # noqa: E731
    result = march(noise, resolution)
    assert_watertight(result)
    assert_same(result, march_dense(noise, resolution), resolution)
    vertices, faces = whole_grid(noise, resolution)
    assert len(result.faces) == len(faces)
    assert assert_same_triangles(result, vertices, faces) > 0.9


def test_volume_and_area_of_a_sphere():
    result = march(sphere(0.5), 128)
    assert volume(result) == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=1e-3)
    assert areas(result).sum() == pytest.approx(4 * np.pi * 0.5**2, rel=1e-3)
    assert np.abs(np.linalg.norm(result.vertices, axis=1) - 0.5).max() < 1e-3


def test_level():
    on, off = march(sphere(0.5), 48), march(sphere(0.4), 48, level=0.1)
    assert np.allclose(np.linalg.norm(off.vertices, axis=1), np.linalg.norm(on.vertices, axis=1).mean(), atol=2e-3)
    assert len(on.faces) == len(off.faces)


def test_evaluates_few_nodes_and_each_once():
    seen = []

    def function(points):
        seen.append(points.copy())
        return torus(0.6, 0.2)(points)

    result = march(function, 128)
    assert result.stats["evaluated"] < 128**3 / 20
    points = np.concatenate(seen)
    assert result.stats["evaluated"] == len(points)
    repeated = len(points) - len(np.unique(points, axis=0))
    assert repeated < 0.01 * len(points)  # values of the coarse blocks are not kept where no brick is stored
    assert result.stats["skipped"] + result.stats["evaluated"] == 128**3


def test_same_generator_same_mesh():
    function = SHAPES["two bodies"][0]
    one, two = (march(function, 64, generator=np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one.vertices, two.vertices) and np.array_equal(one.faces, two.faces)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20), resolution=st.integers(20, 72), width=st.sampled_from([8, 32, 61]))
def test_random_networks(seed, resolution, width):
    function = as_function(random_network(seed, (width,) * 3))
    samples = function(np.random.default_rng(seed).uniform(-1, 1, (2000, 3)).astype(np.float32))
    level = float(np.median(samples))
    sparse, dense = march(function, resolution, level), march_dense(function, resolution, level)
    assert_same(sparse, dense, resolution)
    assert_watertight(sparse)


@pytest.mark.parametrize("dense", [False, True])
def test_progress_goes_from_nothing_to_all(dense):
    fractions = []
    march(torus(0.6, 0.2), 64, progress=fractions.append, dense=dense)
    assert fractions == sorted(fractions) and fractions[0] > 0 and fractions[-1] == 1.0
    assert sum(fraction < 1.0 for fraction in fractions) > 3
