"""Closest points of crowded meshes: those of brute force, and which meshes are crowded."""

import numpy as np
import pytest

from neuralparts.distance import search
from neuralparts.distance.search import TriangleSearch
from tests.distance.brute import CLOSED, OPEN, as_mesh, brute_distance, points_around
from tests.distance.test_bin_kernels import in_domain
from tests.hostile_meshes import SHAPES


def assert_closest(mesh, points, is_crowded=True):
    """The distances are the true ones; the closest points lie at that distance, on the faces that are named."""
    found = TriangleSearch(mesh.vertices, mesh.faces)
    assert found.is_crowded == is_crowded
    closest, face, distance = found.nearest(points)
    assert np.abs(distance - brute_distance(points, mesh)).max() < 1e-6
    assert np.abs(np.linalg.norm(closest - points, axis=1) - distance).max() < 1e-6
    normal = np.cross(*(mesh.vertices[mesh.faces[face, k]] - mesh.vertices[mesh.faces[face, 0]] for k in (1, 2)))
    size = np.linalg.norm(normal, axis=1)
    height = ((closest - mesh.vertices[mesh.faces[face, 0]]) * normal).sum(axis=1)
    assert (np.abs(height)[size > 1e-6] < 1e-6 * size[size > 1e-6]).all()


@pytest.mark.parametrize("name", [*CLOSED, *OPEN])
def test_all_kinds_of_meshes(name, generator, monkeypatch):
    monkeypatch.setattr(search, "CROWDED", -1)
    mesh = {**CLOSED, **OPEN}[name](generator)
    assert_closest(mesh, points_around(mesh, 80, generator))


@pytest.mark.parametrize(
    "name", ["soup", "moebius", "fan_at_edge", "fan_at_point", "pencil", "bodies_nested", "bodies_overlapping_mixed"]
)
@pytest.mark.parametrize("triangles", [1200, pytest.param(20_000, marks=pytest.mark.long)])
def test_crowded_meshes(name, triangles, generator, monkeypatch):
    monkeypatch.setattr(search, "CROWDED", 10)
    mesh = in_domain(SHAPES[name](triangles))
    assert_closest(mesh, points_around(mesh, 60, generator))


def test_points_far_outside_of_the_domain(generator):
    mesh = in_domain(SHAPES["soup"](1500))
    points = generator.uniform(-50, 50, (50, 3))
    distance = TriangleSearch(mesh.vertices, mesh.faces).nearest(points, with_points=False)[2]
    assert np.allclose(distance, brute_distance(points, mesh), rtol=1e-6)


def test_only_meshes_of_large_triangles_everywhere_are_crowded():
    for name, is_crowded in (("fine_ball", False), ("crumbs", False), ("soup", True), ("bodies_nested", True)):
        mesh = in_domain(SHAPES[name](6000))
        assert TriangleSearch(mesh.vertices, mesh.faces).is_crowded == is_crowded


@pytest.mark.parametrize("crowded", [-1, search.CROWDED])
def test_a_triangle_that_is_one_point_is_as_far_as_that_point(crowded, generator, monkeypatch):
    monkeypatch.setattr(search, "CROWDED", crowded)
    vertices = np.concatenate([np.full((3, 3), 0.25), generator.uniform(0.8, 0.9, (3, 3))])
    mesh = as_mesh(vertices, [[0, 1, 2], [3, 4, 5]])
    assert_closest(mesh, 0.25 + generator.normal(0, 0.1, (100, 3)), is_crowded=crowded < 0)
