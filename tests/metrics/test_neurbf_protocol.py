"""The protocol of NeuRBF: its frame, its counts against every node evaluated, both definitions of the normal error."""

import dataclasses

import numpy as np
import pytest
import trimesh

from neuralparts.distance import DistanceOracle
from neuralparts.marching import SideCounts
from neuralparts.metrics import (
    PROTOCOL_NAMES,
    function_in_frame,
    grid_points,
    in_frame,
    iou_errors,
    protocol_errors,
    protocol_frame,
)
from tests.metrics.domain_meshes import RADIUS, as_domain_mesh, ball, generator, sphere_function

RESOLUTION = 48


def wedge():
    """A closed mesh whose box is not centred at 0, and a function that is its distance with a wave added."""
    shape = trimesh.creation.box((0.9, 0.6, 0.4))
    shape.vertices[shape.vertices[:, 0] > 0, 2] *= 0.4
    shape.apply_translation((0.1, -0.05, 0.02))
    mesh = as_domain_mesh(shape)
    oracle = DistanceOracle(mesh)
    return mesh, lambda points: oracle.signed_distance(points) + 0.02 * np.sin(9.0 * points).sum(axis=1)


def test_in_the_frame_the_box_is_centred_and_the_farthest_vertex_is_099_away():
    mesh, _ = wedge()
    framed = in_frame(mesh, protocol_frame(mesh))
    assert framed.vertices.min(axis=0) == pytest.approx(-framed.vertices.max(axis=0))
    assert np.linalg.norm(framed.vertices, axis=1).max() == pytest.approx(0.99)
    assert framed.transform.to_file(framed.vertices) == pytest.approx(mesh.transform.to_file(mesh.vertices))


def loose_triangles():
    """An open mesh with sheets all over, where the winding number passes one half."""
    corners = np.random.default_rng(0).normal(size=(60, 3, 3)).reshape(-1, 3)
    shape = trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), process=False)
    return dataclasses.replace(as_domain_mesh(shape), closed=False)


@pytest.mark.parametrize("kind", ["closed", "a hole", "loose triangles"])
def test_the_overlap_is_that_of_every_node_evaluated(kind):
    mesh, function = wedge()
    if kind == "a hole":  # the winding number closes it by a sheet
        mesh = dataclasses.replace(mesh, faces=mesh.faces[2:], closed=False)
    elif kind == "loose triangles":
        mesh = loose_triangles()
    errors = protocol_errors(function, mesh, generator(), RESOLUTION, 500)
    frame = protocol_frame(mesh)
    points = grid_points(RESOLUTION)
    one = function_in_frame(function, frame)(points) > 0
    two = ~DistanceOracle(in_frame(mesh, frame)).inside(points)
    inside = (~one & ~two).sum() / (~one | ~two).sum()
    outside = (one & two).sum() / (one | two).sum()
    assert errors["iou_inside"] == pytest.approx(inside, abs=1e-12) and inside < 0.95
    assert errors["iou_outside"] == pytest.approx(outside, abs=1e-12)
    assert errors.keys() == PROTOCOL_NAMES.keys()


def test_what_the_overlap_lacks_is_exact_where_almost_nothing_differs():
    errors = iou_errors(SideCounts(inside=10**8, outside_second=1, outside_first=2, outside=10**9))
    assert errors["iou_loss_inside"] == 3 / (10**8 + 3) and errors["iou_loss_outside"] == 3 / (10**9 + 3)
    assert iou_errors(SideCounts(5, 0, 0, 5))["iou_inside"] == 1.0


def test_the_normal_error_of_a_shifted_ball_is_the_angle_between_the_two_normals():
    shift, smaller, mesh = 0.05, 0.5, as_domain_mesh(ball(RADIUS))
    within = sphere_function(smaller)
    errors = protocol_errors(lambda points: within(points - np.float32([shift, 0, 0])), mesh, generator(), 64, 50_000)
    # At an angle a from the shift the normals at nearest points differ by shift / radius * sin(a), with the radius of
    # the ball that the point lies on; over a sphere sin(a) is pi / 4 on average.
    there, back = (np.degrees(shift / radius) * np.pi / 4 for radius in (smaller, RADIUS))
    for name in ("normal_error", "mesh_normal_error"):
        assert errors[name] == pytest.approx((there + back) / 2, rel=0.04)
        # The released code: half of the angle, from the mesh to the function, and half of its cosine.
        assert errors[f"{name}_code"] == pytest.approx((back + np.cos(np.radians(back))) / 2, rel=0.04)
