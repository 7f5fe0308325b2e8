"""The search for packets of points: the bits of the search for single points, limits, crowded meshes."""

import numpy as np
import pytest

from neuralparts.distance import search, search_kernels
from neuralparts.distance.lanes import LANES
from neuralparts.distance.search import NO_GUESS, NO_LIMIT, TriangleSearch
from neuralparts.mesh import Mesh
from tests.distance.brute import CLOSED, OPEN, as_mesh, brute_distance, points_around
from tests.distance.test_bin_kernels import in_domain
from tests.hostile_meshes import SHAPES


def needles(count: int, seed: int = 0) -> Mesh:
    """Long thin triangles at all angles to the axes."""
    generator = np.random.default_rng(seed)
    start, end = generator.uniform(-0.9, 0.9, (2, count, 3))
    corners = np.stack([start, end, end + generator.normal(0, 0.01, (count, 3))], axis=1)
    return as_mesh(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))


def of_single_points(found: TriangleSearch, points: np.ndarray) -> np.ndarray:
    """The distances (N,) float32 by `search_block`, the slow twin."""
    nearest, distance = np.empty(len(points), dtype=np.int32), np.empty(len(points), dtype=np.float32)
    outputs = nearest, np.empty((0, 3), dtype=np.float32), distance
    search_kernels.search_block(points, NO_GUESS, NO_LIMIT, found.tree, found.frames, *outputs)
    return distance


def assert_same_bits(mesh: Mesh, points: np.ndarray):
    found = TriangleSearch(mesh.vertices, mesh.faces)
    _, face, distance = found.nearest(points, with_points=False)
    assert np.array_equal(distance, of_single_points(found, points))
    # The faces are nearest ones: each alone lies at the distance found.
    for i in range(0, len(points), 10):
        alone = as_mesh(mesh.vertices[mesh.faces[face[i]]], [[0, 1, 2]])
        assert brute_distance(points[i : i + 1], alone) == pytest.approx(distance[i], abs=1e-6)


@pytest.mark.parametrize("name", [*CLOSED, *OPEN])
def test_distances_are_those_of_single_points_to_the_bit(name, generator):
    mesh = {**CLOSED, **OPEN}[name](generator)
    assert_same_bits(mesh, points_around(mesh, 80, generator))


@pytest.mark.parametrize("triangles", [1, 3, 300])
@pytest.mark.parametrize("count", [1, LANES, LANES + 1, 1000])
def test_packets_that_are_not_full(triangles, count, generator):
    assert_same_bits(needles(triangles), generator.uniform(-1, 1, (count, 3)))


def test_triangles_without_area_and_points_on_corners(generator):
    point, line = np.full((3, 3), 0.25), np.array([[-0.5, 0, 0], [0.5, 0, 0], [0.1, 0, 0]])
    mesh = as_mesh(np.concatenate([point, line, generator.uniform(-1, 1, (30, 3))]), np.arange(36).reshape(-1, 3))
    assert_same_bits(mesh, np.concatenate([mesh.vertices, generator.uniform(-1, 1, (200, 3))]))


def test_a_point_beyond_its_limit_has_a_distance_from_the_limit_on(generator):
    mesh = needles(300)
    found = TriangleSearch(mesh.vertices, mesh.faces)
    points, limit = generator.uniform(-1, 1, (5000, 3)), generator.uniform(0, 0.2, 5000).astype(np.float32)
    exact = of_single_points(found, points)
    _, face, distance = found.nearest(points, with_points=False, limit=limit)
    near = exact < limit
    assert near.any() and not near.all()
    assert np.array_equal(distance[near], exact[near]) and (distance[~near] >= limit[~near]).all()
    assert face.min() >= 0 and face.max() < 300


def test_limits_at_the_distance_just_above_it_and_near_zero(generator):
    mesh, points = needles(30), generator.uniform(-1, 1, (2000, 3))
    found = TriangleSearch(mesh.vertices, mesh.faces)
    exact = of_single_points(found, points)
    above = np.nextafter(exact, np.float32(np.inf))
    for limit in (exact, above):
        assert np.array_equal(found.nearest(points, with_points=False, limit=limit)[2], exact)
    assert np.array_equal(found.nearest(points, limit=above)[2], exact)
    tiny = np.full(len(points), 1e-30, dtype=np.float32)  # its square is no float32 number
    assert (found.nearest(points, with_points=False, limit=tiny)[2] >= tiny).all()


def test_points_far_outside_of_the_domain(generator):
    mesh = in_domain(SHAPES["soup"](1500))
    points = generator.uniform(-50, 50, (50, 3))
    distance = TriangleSearch(mesh.vertices, mesh.faces).nearest(points, with_points=False)[2]
    assert np.allclose(distance, brute_distance(points, mesh), rtol=1e-6)


# ------------------------------------------------------------------------------ closest points of crowded meshes


def assert_closest(mesh: Mesh, points: np.ndarray, is_crowded: bool = True):
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
def test_closest_points_of_all_kinds_of_meshes(name, generator, monkeypatch):
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
