"""Sums of solid angles in float32: within their bounds, and the same sides as without them."""

import numpy as np
import pytest

from neuralparts.distance import DistanceOracle
from neuralparts.distance.angle_kernels import TRIANGLES, triangle_blocks, winding_numbers_with_bounds
from tests.distance.brute import CLOSED, OPEN, as_mesh, brute_distance, brute_winding, points_around
from tests.distance.test_bin_kernels import in_domain
from tests.hostile_meshes import SHAPES


def sums(mesh, points):
    winding, error = np.empty(len(points)), np.empty(len(points))
    order, blocks = np.arange(len(points)), triangle_blocks(mesh.vertices[mesh.faces])
    winding_numbers_with_bounds(points.astype(np.float64), order, blocks, winding, error)
    return winding, error


@pytest.mark.parametrize("name", [*CLOSED, *OPEN])
def test_sums_lie_within_their_bounds(name, generator):
    mesh = {**CLOSED, **OPEN}[name](generator)
    points = points_around(mesh, 150, generator)
    winding, error = sums(mesh, points)
    assert (np.abs(winding - brute_winding(points, mesh)) <= error + 1e-9).all()
    clear = brute_distance(points, mesh) > 1e-3
    assert np.median(error[clear]) < 0.01


@pytest.mark.parametrize("name", ["soup", "sheets", "fan_at_edge", "bodies_nested_alternating"])
def test_bounds_of_crowded_meshes_leave_few_sides_open(name, generator):
    mesh = in_domain(SHAPES[name](3 * TRIANGLES + 7))
    points = points_around(mesh, 150, generator)
    winding, error = sums(mesh, points)
    true = brute_winding(points, mesh)
    is_settled = np.abs(winding - 0.5) > error
    assert (np.abs(winding - true) <= error + 1e-9).all()
    assert ((winding > 0.5) == (true > 0.5))[is_settled].all()
    assert is_settled[brute_distance(points, mesh) > 1e-3].mean() > 0.9


def test_a_point_on_a_corner_or_a_face_is_left_open():
    mesh = in_domain(SHAPES["bodies_side_by_side"](64))
    corners = mesh.vertices[mesh.faces]
    for points in (mesh.vertices, corners.mean(axis=1)):
        winding, error = sums(mesh, points)
        assert (np.abs(winding - 0.5) <= error).all()


def test_a_point_nearer_to_a_corner_than_float32_resolves_is_within_its_bound(generator):
    """A corner in the origin, since elsewhere float64 coordinates differ by more, or not at all."""
    corners = generator.uniform(-0.6, 0.6, (200, 3, 3))
    corners[:, 0] = 0
    mesh = as_mesh(corners.reshape(-1, 3), np.arange(600).reshape(-1, 3))
    points = 10.0 ** generator.uniform(-30, -12, (300, 1)) * generator.standard_normal((300, 3))
    winding, error = sums(mesh, points)
    assert (np.abs(winding - brute_winding(points, mesh)) <= error + 1e-9).all()


def test_signs_of_a_crowded_open_mesh(generator):
    """What the oracle says, where sums serve it; the points that they leave open are found by other ways."""
    mesh = in_domain(SHAPES["sheets"](2400))
    oracle, points = DistanceOracle(mesh), points_around(mesh, 200, generator)
    assert oracle.crowd * 12 > len(mesh.faces)
    true = brute_winding(points, mesh)
    clear = (brute_distance(points, mesh) > 1e-6) & (np.abs(true - 0.5) > 1e-3)
    assert (oracle.inside(points) == (true > 0.5))[clear].all() and clear.mean() > 0.4
