"""Closest points against brute force: needles, slivers, triangles without area, real files."""

import numpy as np
import pytest

from neuralparts.distance import DistanceOracle
from tests.distance.brute import (
    DISTANCE_TOLERANCE,
    ENGINES,
    FLOAT32_TOLERANCE,
    as_mesh,
    brute_distance,
    needles,
    oracle_of,
    points_around,
    real_mesh,
    soup,
    torus,
)

DISTANCE_MESHES = {"needles": needles, "soup": lambda g: soup(g, 300), "torus": lambda g: torus()} | {
    name: lambda g, name=name: real_mesh(name)
    for name in ("parts/featuretype.STL", "parts/idler_riser.STL", "wild/soup.stl", "wild/teapot.stl")
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", DISTANCE_MESHES)
def test_distance_is_that_of_brute_force(name, engine, generator):
    mesh = DISTANCE_MESHES[name](generator)
    oracle = oracle_of(mesh, engine)
    points = points_around(mesh, 150, generator)
    true = brute_distance(points, mesh)
    closest, face, found = oracle.closest(points)
    assert found.dtype == closest.dtype == np.float32 and face.dtype == np.int64
    assert np.abs(oracle.distance(points) - true).max() <= FLOAT32_TOLERANCE
    assert np.abs(found - true).max() <= FLOAT32_TOLERANCE
    assert np.abs(np.linalg.norm(points.astype(np.float64) - closest, axis=1) - true).max() <= DISTANCE_TOLERANCE
    for place in range(0, len(points), 20):
        alone = as_mesh(mesh.vertices, mesh.faces[face[place] : face[place] + 1])
        assert brute_distance(closest[place : place + 1], alone) <= FLOAT32_TOLERANCE


@pytest.mark.parametrize("direction", [(1, 0, 0), (1, 1, 0), (1, -1, 0), (1, 1, 1), (1, 2, 0), (3, 4, 5)])
def test_slivers_of_any_direction_act_as_their_longest_side(direction, generator):
    ends = generator.uniform(-0.3, 0.3, (50, 1, 3)) + np.multiply.outer([-0.3, 0.3], direction) / np.linalg.norm(
        direction
    )
    fraction = generator.uniform(0, 1, (50, 1))
    middle = ends[:, 0] * (1 - fraction) + ends[:, 1] * fraction
    corners = np.concatenate([ends, middle[:, None]], axis=1)
    points = generator.uniform(-0.9, 0.9, (200, 3))
    for sliver in corners:
        along = sliver[1] - sliver[0]
        foot = np.clip((points - sliver[0]) @ along / (along @ along), 0, 1)[:, None] * along + sliver[0]
        found = DistanceOracle(as_mesh(sliver, [[0, 1, 2]]), "numba").distance(points)
        assert np.abs(found - np.linalg.norm(points - foot, axis=1)).max() <= FLOAT32_TOLERANCE


def test_a_vertex_on_the_diagonal_of_a_cubes_face():
    """The sliver that closes it has no area; the height that rounding leaves is a vector along its longest side."""
    vertices = np.array([[x, y, z] for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)])  # 4 to 7: the top
    vertices = np.vstack([vertices, vertices[4] * 0.7 + vertices[7] * 0.3])
    quads = [(0, 2, 3, 1), (0, 1, 5, 4), (1, 3, 7, 5), (3, 2, 6, 7), (2, 0, 4, 6)]
    faces = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    faces += [(4, 5, 7), (4, 8, 6), (8, 7, 6), (4, 7, 8)]
    mesh = as_mesh(vertices, faces)
    assert mesh.closed
    points = np.random.default_rng(0).uniform(-0.9, 0.9, (5000, 3))
    depth = np.abs(points) - 0.5
    exact = np.linalg.norm(np.maximum(depth, 0), axis=1) + np.minimum(depth.max(axis=1), 0)
    assert np.abs(DistanceOracle(mesh, "numba").signed_distance(points) - exact).max() <= FLOAT32_TOLERANCE


@pytest.mark.parametrize("engine", ENGINES)
def test_degenerate_triangles_are_segments_and_points(engine):
    point, segment = [[0.5, 0.5, 0.5]] * 3, [[0, 0, 0], [0.5, 0, 0], [0.25, 0, 0]]
    mesh = as_mesh(np.array(segment + point), [[0, 1, 2], [3, 4, 5]])
    points = np.array([[0.25, 0.3, 0], [-0.3, 0, 0.4], [0.5, 0.5, 0.7]])
    assert oracle_of(mesh, engine).distance(points) == pytest.approx([0.3, 0.5, 0.2], abs=FLOAT32_TOLERANCE)


def test_a_deep_tree_does_not_overflow_the_stack():
    """Boxes that halve in size a thousand times make the surface area heuristic cut off one at a time."""
    size = 0.9 ** np.arange(2000)[:, None, None]
    triangles = size * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]]) + size * [[[1, 1, 1]]]
    mesh = as_mesh(triangles.reshape(-1, 3), np.arange(6000).reshape(-1, 3))
    points = np.random.default_rng(0).uniform(-1, 1, (100, 3))
    found = DistanceOracle(mesh, "numba").distance(points)
    assert np.abs(found - brute_distance(points, mesh)).max() <= FLOAT32_TOLERANCE


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["torus", "needles", "wild/soup.stl"])
def test_a_limit_changes_no_distance_below_it_and_leaves_the_others_at_it_or_beyond(name, engine, generator):
    mesh = DISTANCE_MESHES[name](generator)
    oracle, points = oracle_of(mesh, engine), points_around(mesh, 500, generator)
    distance = oracle.distance(points)
    # Limits from zero to twice the distance, and some that are the distance itself.
    limit = distance * generator.uniform(0, 2, len(points)).astype(np.float32)
    limit[::10], limit[5] = distance[::10], 0
    near = distance < limit
    found = oracle.distance(points, limit)
    assert 0.2 < near.mean() < 0.8
    np.testing.assert_allclose(found[near], distance[near], rtol=0, atol=1e-7)
    assert (found[~near] >= limit[~near]).all()
