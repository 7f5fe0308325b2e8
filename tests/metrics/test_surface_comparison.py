"""Errors of a mesh against analytic values and brute force: offset spheres, tilted squares, missing bodies."""

import numpy as np
import pytest
import trimesh

from neuralparts import metrics
from neuralparts.distance import DistanceOracle
from neuralparts.metrics.surface_comparison import NEAR
from tests.metrics.domain_meshes import CELL, COUNT, OFFSET, RADIUS, SAGITTA, as_domain_mesh, ball, generator


def mesh_errors(reconstruction, shape, count=COUNT):
    mesh = as_domain_mesh(shape)
    return metrics.mesh_errors(
        reconstruction.vertices, reconstruction.faces, mesh, DistanceOracle(mesh), count, generator(), CELL
    )


@pytest.mark.parametrize("offset", [-OFFSET, OFFSET])
def test_an_offset_sphere(offset):
    errors = mesh_errors(ball(RADIUS + offset), ball(RADIUS))
    assert errors["chamfer"] == pytest.approx(OFFSET, abs=SAGITTA)
    assert errors["hausdorff"] == pytest.approx(OFFSET, abs=2 * SAGITTA)
    assert errors["surface_within_99"] == pytest.approx(OFFSET, abs=2 * SAGITTA)
    assert errors["reconstruction_within_99"] == pytest.approx(OFFSET, abs=2 * SAGITTA)
    assert errors["normal_consistency"] > 0.999


def test_the_same_mesh():
    errors = mesh_errors(ball(RADIUS), ball(RADIUS))
    assert errors["chamfer"] < 1e-6 and errors["hausdorff"] < 1e-5 and errors["normal_consistency"] > 0.999


@pytest.mark.parametrize("missing_in", ["reconstruction", "input"])
def test_a_body_missing_on_either_side(missing_in):
    near, far = ball(0.2, (-0.6, 0, 0)), ball(0.1, (0.7, 0, 0))
    both = trimesh.util.concatenate([near, far])
    errors = mesh_errors(near, both) if missing_in == "reconstruction" else mesh_errors(both, near)
    # The farthest point of the small ball is 1.4 from the other centre.
    assert errors["hausdorff"] == pytest.approx(1.4 - 0.2, abs=0.01)
    fraction = 0.1**2 / (0.1**2 + 0.2**2)
    mean_distance = 1.3 + 0.1**2 / (3 * 1.3) - 0.2  # of a ball's surface to a point 1.3 from its centre
    assert errors["chamfer"] == pytest.approx(fraction * mean_distance / 2, rel=0.03)
    assert errors["missed_surface"] == pytest.approx(fraction if missing_in == "reconstruction" else 0.0, rel=0.03)
    # A fifth of the one surface is far from the other, and none of the other from the one.
    far, near = "surface_within_99", "reconstruction_within_99"
    far, near = (far, near) if missing_in == "reconstruction" else (near, far)
    assert 1.1 < errors[far] < errors["hausdorff"] and errors[near] < 1e-6


def test_faces_within_a_union_of_bodies_are_not_missed_at_99_percent():
    """Two boxes that share their middle third: of the faces there, all but a rim is far from the union's surface."""
    one, two = (trimesh.creation.box((0.6, 0.5, 0.5)).apply_translation((x, 0, 0)) for x in (-0.2, 0.2))
    union = trimesh.creation.box((1.0, 0.5, 0.5))
    errors = mesh_errors(union, trimesh.util.concatenate([one, two]))
    assert errors["missed_surface"] > 0.1 and errors["hausdorff"] > 0.1
    assert errors["surface_within_99"] <= NEAR and errors["reconstruction_within_99"] < 1e-6


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("flip", [False, True])
def test_normal_consistency_is_the_cosine(angle, flip):
    square = trimesh.Trimesh([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    square.apply_scale(0.5)
    tilted = square.copy()
    tilted.apply_transform(trimesh.transformations.rotation_matrix(angle, [1, 0, 0]))
    if flip:
        tilted.invert()
    errors = mesh_errors(tilted, square, 2000)
    assert errors["normal_consistency"] == pytest.approx(np.cos(angle), abs=1e-6)


def test_mesh_errors_against_brute_force():
    rng = generator(5)
    one = trimesh.creation.box((0.9, 0.5, 0.3))
    two = trimesh.creation.cone(0.4, 0.6, sections=9)
    errors = mesh_errors(one, two, 3000)
    sides = []
    for start, end in ((one, two), (two, one)):
        points, _ = trimesh.sample.sample_surface(start, 3000, seed=int(rng.integers(1000)))
        sides.append(brute_force_distances(np.asarray(points), end.triangles))
    assert errors["chamfer"] == pytest.approx(np.mean([side.mean() for side in sides]), rel=0.03)
    assert errors["hausdorff"] == pytest.approx(max(side.max() for side in sides), rel=0.05)


def brute_force_distances(points, triangles):
    """The least distance over a fine lattice of points on every triangle."""
    from scipy.spatial import cKDTree

    steps = np.linspace(0, 1, 60)
    first, second = (part.ravel() for part in np.meshgrid(steps, steps))
    weights = np.stack([first, second, 1 - first - second], axis=1)[first + second <= 1]
    lattice = np.einsum("wc,tcx->twx", weights, triangles).reshape(-1, 3)
    return cKDTree(lattice).query(points)[0]


def test_triangles_without_area_do_not_spoil_the_normals():
    shape = ball(RADIUS)
    faces = np.vstack([shape.faces, [[0, 0, 1], [5, 5, 5]]])
    mesh = as_domain_mesh(shape)
    errors = metrics.mesh_errors(shape.vertices, faces, mesh, DistanceOracle(mesh), 5000, generator(), CELL)
    assert errors["normal_consistency"] > 0.99 and np.isfinite(list(errors.values())).all()


def test_shapes_that_make_no_mesh():
    mesh = as_domain_mesh(ball(RADIUS))
    with pytest.raises(ValueError, match=r"expected vertices \(V, 3\)"):
        metrics.mesh_errors(mesh.vertices[:, :2], mesh.faces, mesh, DistanceOracle(mesh), 10, generator(), CELL)
