"""Nearest faces by runs of triangles against all triangles one by one: marched, shuffled, degenerate and few."""

from types import SimpleNamespace

import numpy as np
import pytest
import trimesh

from neuralparts.distance import DistanceOracle, RunSearch
from neuralparts.marching import march
from tests.distance.brute import FLOAT32_TOLERANCE, brute_distance
from tests.metrics.domain_meshes import as_domain_mesh

POINTS = 120


def marched_ball():
    """A marched ball with needles where the grid's planes touch it."""
    made = march(lambda points: np.linalg.norm(points, axis=1) - np.float32(0.5), 16)
    return made.vertices, made.faces


def soup(seed=0):
    """Triangles of all sizes in no order, among them needles, doubled corners and a single point."""
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-1, 1, (300, 3))
    faces = rng.integers(0, 300, (200, 3))
    vertices[:30] = vertices[0] + 1e-9 * rng.standard_normal((30, 3))
    faces[:20] = rng.integers(0, 30, (20, 3))
    faces[20:25] = 7
    faces[25:40, 1] = faces[25:40, 0]
    return vertices, faces


def simplified():
    shape = trimesh.creation.cone(0.4, 0.6, sections=40)
    return np.array(shape.vertices), np.array(shape.faces, np.int64)


def shuffled():
    vertices, faces = marched_ball()
    return vertices, np.random.default_rng(1).permutation(faces)


def points_around(vertices, faces, seed=2):
    """Points on the faces, near them, at corners, in the cube and far away."""
    rng = np.random.default_rng(seed)
    corners = vertices[faces[rng.integers(0, len(faces), POINTS)]]
    on = np.einsum("nk,nkx->nx", rng.dirichlet((1, 1, 1), POINTS), corners)
    near = on + 1e-3 * rng.standard_normal(on.shape)
    return np.concatenate([on, near, corners[:, 0], rng.uniform(-1, 1, on.shape), rng.uniform(-50, 50, (20, 3))])


def brute(points, vertices, faces):
    return brute_distance(points, SimpleNamespace(vertices=vertices, faces=faces))


@pytest.mark.parametrize("make", [marched_ball, shuffled, soup, simplified])
@pytest.mark.parametrize("block", [65536, 100])
def test_distances_and_faces_are_those_of_all_triangles(make, block):
    vertices, faces = make()
    points = points_around(vertices, faces)
    face, distance = RunSearch(vertices, faces, block).nearest(points)
    exact = brute(points, vertices, faces)
    np.testing.assert_allclose(distance, exact, rtol=2e-7, atol=FLOAT32_TOLERANCE)
    # The face that is named is as near. Of faces that are equally near, any may be named.
    of_face = [brute(points[k : k + 1], vertices, faces[face[k : k + 1]])[0] for k in range(0, len(points), 7)]
    np.testing.assert_allclose(of_face, exact[::7], rtol=2e-7, atol=FLOAT32_TOLERANCE)


def test_distances_have_the_bits_of_the_search_that_serves_labels():
    """Needles too: a cone of forty faces, pressed flat."""
    vertices, faces = simplified()
    vertices = vertices * (1, 1e-4, 1)
    points = points_around(vertices, faces)
    mesh = as_domain_mesh(SimpleNamespace(vertices=vertices, faces=faces))
    np.testing.assert_array_equal(
        RunSearch(vertices, faces).nearest(points)[1], DistanceOracle(mesh).closest(points)[2]
    )


def test_many_faces_at_one_distance():
    """More faces than are chosen at a time touch one vertex, and the point is as far from all of them."""
    angles = np.linspace(0, 2 * np.pi, 401)
    rim = np.stack([np.cos(angles), np.sin(angles), np.full(401, 0.5)], axis=1)
    vertices = np.concatenate([np.zeros((1, 3)), rim])
    faces = np.stack([np.zeros(400, np.int64), np.arange(1, 401), np.arange(2, 402)], axis=1)
    face, distance = RunSearch(vertices, faces).nearest(np.array([[0.0, 0, -1], [0, 0, 0], [0, 0, 0.25]]))
    np.testing.assert_allclose(distance, brute(np.array([[0.0, 0, -1], [0, 0, 0], [0, 0, 0.25]]), vertices, faces))
    assert (face >= 0).all() and (face < 400).all()


@pytest.mark.parametrize(
    "corners", [[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0.5] * 3] * 3]
)
def test_a_single_face(corners):
    vertices, faces = np.array(corners, float), np.array([[0, 1, 2]])
    points = points_around(vertices, faces)
    face, distance = RunSearch(vertices, faces).nearest(points)
    assert (face == 0).all()
    np.testing.assert_allclose(distance, brute(points, vertices, faces), rtol=2e-7, atol=FLOAT32_TOLERANCE)


def test_no_points_and_no_faces():
    vertices, faces = marched_ball()
    assert [len(found) for found in RunSearch(vertices, faces).nearest(np.empty((0, 3)))] == [0, 0]
    with pytest.raises(ValueError, match="without faces"):
        RunSearch(vertices, faces[:0])
