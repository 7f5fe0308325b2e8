"""Vertices at one place are merged, cracks of a rounding are closed, fine features and rims stay."""

import numpy as np
import pytest

from neuralparts.mesh import coordinate_step
from tests.meshes import box, loaded, separate_triangles, sphere, together


def test_crack_of_one_rounding_is_closed(tmp_path):
    vertices, faces = sphere(2, 10.0, (100, 50, 20))
    corners = vertices[faces].astype(np.float32)
    steps = np.random.default_rng(0).integers(-1, 2, corners.shape)
    cracked = np.where(steps > 0, np.nextafter(corners, np.float32(np.inf)), corners)
    mesh = loaded(tmp_path, *separate_triangles(cracked), suffix=".stl")
    assert mesh.closed and len(mesh.faces) == len(faces) and len(mesh.vertices) == len(vertices)
    assert any("rounding" in change for change in mesh.diagnosis["changes"])


def test_zeros_of_both_signs_are_one_place(tmp_path):
    vertices, faces = box((0.5, 0.5, 0.5))
    corners = vertices[faces]
    corners[::2] = np.where(corners[::2] == 0, -0.0, corners[::2])
    mesh = loaded(tmp_path, *separate_triangles(corners), suffix=".stl")
    assert mesh.closed and mesh.diagnosis["changes"] == ["Merged 36 vertices into 8 places."]


def test_tiny_feature_of_a_closed_mesh_survives(tmp_path):
    # A ball 10^-6 of the size of the box beside it: some of its vertices are a float32 step apart.
    mesh = loaded(tmp_path, *together(box(size=2), sphere(3, 1e-6, (1.5, 0, 0))), suffix=".ply")
    assert mesh.closed and len(mesh.faces) == 12 + 1280
    feature = loaded(tmp_path, *together(box(size=2), sphere(2, 1e-6, (1.5, 0, 0))), suffix=".stl")
    assert feature.closed and feature.diagnosis["bodies"] == 2


def test_no_crack_is_seen_in_a_closed_stl_far_from_the_origin(tmp_path):
    mesh = loaded(tmp_path, *sphere(2, 0.5, (100, 100, 100)), suffix=".stl")
    assert mesh.closed and len(mesh.faces) == 320
    assert abs(np.linalg.norm(mesh.vertices, axis=1).max() - 0.9) < 1e-9


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
def test_open_rim_as_fine_as_its_coordinates_stays(tmp_path, spacing):
    """A terrain in metres, far along y: its coordinates come in steps of 0.5."""
    x, y = np.meshgrid(np.arange(60) * spacing, np.arange(60) * spacing, indexing="ij")
    vertices = np.stack([450_000 + x, 5_400_000 + y, 30 * np.sin(x / 9) * np.cos(y / 7)], axis=2).reshape(-1, 3)
    corner = (np.arange(59)[:, None] * 60 + np.arange(59)).ravel()[:, None]
    faces = np.concatenate([np.add(corner, [0, 60, 61]), np.add(corner, [0, 61, 1])])
    mesh = loaded(tmp_path, vertices, faces, suffix=".stl")
    assert not mesh.closed and len(mesh.faces) == len(faces) and len(mesh.vertices) == len(vertices)


def test_crack_with_a_tiny_edge_at_one_side_is_closed(tmp_path):
    """One side of the seam has a corner once, the other twice, a rounding apart."""
    vertices, faces = box(size=20, center=(30, 30, 30))
    twin = np.nextafter(vertices[7].astype(np.float32), np.float32(np.inf)).astype(float)
    split = faces.copy()
    users = np.flatnonzero((split == 7).any(axis=1))
    split[users[0]] = np.where(split[users[0]] == 7, 8, split[users[0]])
    other = split[users[0]]
    at = list(other).index(8)
    split = np.vstack([split, [[7, 8, other[(at + 1) % 3]]]])
    mesh = loaded(tmp_path, np.vstack([vertices, twin]), split, suffix=".stl")
    assert mesh.closed and len(mesh.faces) == 12


def test_open_ball_of_fine_triangles_far_away_keeps_them(tmp_path):
    vertices, faces = sphere(4, 10.0, (2e6, 0, 0))
    bowl = faces[vertices[faces][:, :, 2].max(axis=1) < 5]
    rounded = vertices.astype(np.float32)
    mesh = loaded(tmp_path, vertices, bowl, suffix=".stl")
    three = (rounded[bowl] != rounded[bowl[:, [1, 2, 0]]]).any(axis=2).all(axis=1)
    assert len(mesh.faces) == three.sum() and not mesh.closed


def test_triangles_with_two_corners_in_one_place_are_dropped_and_counted(tmp_path):
    vertices, faces = box()
    mesh = loaded(tmp_path, vertices, np.concatenate([faces, [[0, 0, 1], [3, 3, 3]]]))
    assert mesh.closed and len(mesh.faces) == 12 and mesh.diagnosis["degenerate_triangles"] == 2
    assert any("Dropped 2 triangles" in change for change in mesh.diagnosis["changes"])


def test_coordinate_step_of_float32_and_of_other_numbers():
    single = np.array([[0.0, 1, 2], [1, 1, 1000]])
    assert coordinate_step(single) == np.spacing(np.float32(1000))
    double = single + 1e-12
    assert coordinate_step(double) == pytest.approx(999 * 2.0**-23, rel=0.01)
