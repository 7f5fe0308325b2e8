"""The errors against analytic values: spheres of known offset, tilted planes, missing bodies."""

import re
from pathlib import Path

import numpy as np
import pytest
import trimesh

from neuralparts.distance import DistanceOracle
from neuralparts.domain import Transform
from neuralparts.marching import march
from neuralparts.mesh import Mesh
from neuralparts.metrics import errors as metrics

RADIUS, OFFSET = 0.6, 0.02
# An icosphere of 20480 faces lies at most this far inside its sphere.
SAGITTA = 4e-4
COUNT = 40_000
CELL = 2.0 / 127


def as_domain_mesh(shape):
    transform = Transform(np.zeros(3), 1.0)
    vertices, faces = np.asarray(shape.vertices, float), np.asarray(shape.faces, np.int64)
    return Mesh(vertices, faces, transform, closed=True, diagnosis={}, path=Path("shape.stl"))


def ball(radius, center=(0, 0, 0)):
    shape = trimesh.creation.icosphere(5, radius)
    shape.apply_translation(center)
    return shape


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def oracle():
    return DistanceOracle(as_domain_mesh(ball(RADIUS)))


def sphere_function(radius):
    return lambda points: (np.linalg.norm(points, axis=1) - radius).astype(np.float32)


def test_point_errors_of_a_perfect_fit(oracle):
    errors = metrics.point_errors(sphere_function(RADIUS), oracle, COUNT, generator())
    for name in ("surface_error", "surface_error_p99", "importance_error", "grid_error"):
        assert errors[name] < SAGITTA, name
    assert errors["iou"] > 0.997 and errors["sign_error"] < 0.02
    assert all(isinstance(value, float) for value in errors.values())


@pytest.mark.parametrize("offset", [-OFFSET, OFFSET])
def test_point_errors_of_an_offset_sphere(oracle, offset):
    errors = metrics.point_errors(sphere_function(RADIUS + offset), oracle, COUNT, generator())
    for name in ("surface_error", "surface_error_p99", "importance_error", "grid_error"):
        assert errors[name] == pytest.approx(OFFSET, abs=SAGITTA), name


def test_iou_is_the_ratio_of_the_volumes(oracle):
    smaller = RADIUS - 0.1
    errors = metrics.point_errors(sphere_function(smaller), oracle, COUNT, generator())
    assert errors["iou"] == pytest.approx((smaller / RADIUS) ** 3, abs=0.015)


def test_iou_counts_what_is_too_much_and_what_is_missing(oracle):
    shifted = lambda points: np.linalg.norm(points - np.float32([RADIUS, 0, 0]), axis=1) - RADIUS  # noqa: E731
    iou = metrics.intersection_over_union(shifted, oracle, COUNT, generator())
    lens = np.pi / 12 * (4 * RADIUS + RADIUS) * (2 * RADIUS - RADIUS) ** 2
    halfball_and_slab = half_of_shifted_ball_in_the_box()
    whole = 4 / 3 * np.pi * RADIUS**3
    assert iou == pytest.approx(lens / (whole + halfball_and_slab - lens), abs=0.015)


def half_of_shifted_ball_in_the_box():
    """The box of the mesh ends at x = RADIUS, the centre of the shifted ball: it holds half of that ball."""
    return 2 / 3 * np.pi * RADIUS**3


def test_iou_of_nothing_inside(oracle):
    assert metrics.intersection_over_union(lambda points: np.ones(len(points)), oracle, 1000, generator()) == 0.0


def test_iou_where_neither_is_inside():
    plate = trimesh.Trimesh([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]], [[0, 1, 2]], process=False)
    oracle = DistanceOracle(as_domain_mesh(plate), engine="libigl")
    oracle.inside = lambda points: np.zeros(len(points), bool)
    assert metrics.intersection_over_union(lambda points: np.ones(len(points)), oracle, 100, generator()) == 1.0


def test_p99_is_the_tail(oracle):
    # A fiftieth of the sphere's area, a cap, is 0.1 wrong: the mean hardly sees it, the 99th percentile does.
    cap = lambda points: np.where(points[:, 2] > RADIUS * (1 - 0.04), 0.1, 0.0).astype(np.float32)  # noqa: E731
    errors = metrics.point_errors(cap, oracle, COUNT, generator())
    assert errors["surface_error"] == pytest.approx(0.1 * 0.02, rel=0.15)
    assert errors["surface_error_p99"] == pytest.approx(0.1, rel=1e-6)


def test_importance_samples_of_a_greater_weight_lie_nearer(oracle):
    wrong_far_away = lambda points: 2 * (np.linalg.norm(points, axis=1) - RADIUS)  # noqa: E731
    near, far = (
        metrics.point_errors(wrong_far_away, oracle, COUNT, generator(), importance_weight=weight)["importance_error"]
        for weight in (200.0, 20.0)
    )
    assert near < 0.5 * far


def test_same_generator_same_errors(oracle):
    one, two = (metrics.point_errors(sphere_function(0.5), oracle, 1000, generator(3)) for _ in range(2))
    assert one == two


def test_sample_errors():
    points = np.zeros((4, 3), np.float32)
    errors = metrics.sample_errors(lambda _: np.float32([1, -1, 1, -1]), points, np.float32([1, 1, 1.5, -1.5]))
    assert errors == {"importance_error": 0.75, "sign_error": 0.25}


def test_grid_points():
    points = metrics.grid_points(3)
    assert points.shape == (27, 3) and points.dtype == np.float32
    assert np.array_equal(np.unique(points), [-1, 0, 1]) and len(np.unique(points, axis=0)) == 27
    with pytest.raises(ValueError, match="at least 2 nodes"):
        metrics.grid_points(1)


def test_validation_grid():
    points = metrics.grid_points(9)
    distances = np.linalg.norm(points, axis=1) - 0.5
    assert metrics.validation_grid(sphere_function(0.6), points, distances) == pytest.approx(0.1, abs=1e-6)


def mesh_errors(reconstruction, shape, count=COUNT):
    mesh = as_domain_mesh(shape)
    return metrics.mesh_errors(
        reconstruction.vertices, reconstruction.faces, mesh, DistanceOracle(mesh), count, generator(), CELL
    )


@pytest.mark.parametrize("offset", [-OFFSET, OFFSET])
def test_mesh_errors_of_an_offset_sphere(offset):
    errors = mesh_errors(ball(RADIUS + offset), ball(RADIUS))
    assert errors["chamfer"] == pytest.approx(OFFSET, abs=SAGITTA)
    assert errors["hausdorff"] == pytest.approx(OFFSET, abs=2 * SAGITTA)
    assert errors["normal_consistency"] > 0.999


def test_mesh_errors_of_the_same_mesh():
    errors = mesh_errors(ball(RADIUS), ball(RADIUS))
    assert errors["chamfer"] < 1e-6 and errors["hausdorff"] < 1e-5 and errors["normal_consistency"] > 0.999


@pytest.mark.parametrize("missing_in", ["reconstruction", "input"])
def test_hausdorff_and_chamfer_see_a_missing_body_on_either_side(missing_in):
    near, far = ball(0.2, (-0.6, 0, 0)), ball(0.1, (0.7, 0, 0))
    both = trimesh.util.concatenate([near, far])
    errors = mesh_errors(near, both) if missing_in == "reconstruction" else mesh_errors(both, near)
    # The farthest point of the small ball is 1.4 from the other centre.
    assert errors["hausdorff"] == pytest.approx(1.4 - 0.2, abs=0.01)
    share = 0.1**2 / (0.1**2 + 0.2**2)
    mean_distance = 1.3 + 0.1**2 / (3 * 1.3) - 0.2  # of a ball's surface to a point 1.3 from its centre
    assert errors["chamfer"] == pytest.approx(share * mean_distance / 2, rel=0.03)
    assert errors["missed_surface"] == pytest.approx(share if missing_in == "reconstruction" else 0.0, rel=0.03)


def explain_missed(function, reconstruction, shape):
    oracle = DistanceOracle(as_domain_mesh(shape))
    return metrics.explain_missed(function, reconstruction.vertices, reconstruction.faces, oracle, generator(), CELL)


PLATE = trimesh.creation.box((0.8, 0.8, 0.004), transform=trimesh.transformations.translation_matrix((0, 0, 0.6)))


def test_a_plate_thinner_than_a_cell_that_the_function_has():
    both = trimesh.util.concatenate([ball(0.3), PLATE])
    truth = DistanceOracle(as_domain_mesh(both)).signed_distance
    line = explain_missed(truth, ball(0.3), both)
    assert "lacks 53" in line and "which the network has" in line
    wanted = int(re.search(r"--reconstructionRes ([\d,]+)", line)[1].replace(",", ""))
    assert wanted == pytest.approx(2 / 0.004, rel=0.15)
    assert explain_missed(truth, march(truth, wanted), both) == ""


@pytest.mark.parametrize(("wall", "gap"), [(0.004, 0.004), (0.004, 0.008), (0.008, 0.004)])
def test_fins_behind_one_another_count_one_by_one(wall, gap):
    fins = [trimesh.creation.box((0.8, 0.8, wall)).apply_translation((0, 0, k * (wall + gap))) for k in range(8)]
    truth = DistanceOracle(as_domain_mesh(trimesh.util.concatenate(fins))).signed_distance
    line = explain_missed(truth, ball(0.3, (0.5, 0.5, -0.6)), trimesh.util.concatenate(fins))
    wanted = int(re.search(r"--reconstructionRes ([\d,]+)", line)[1].replace(",", ""))
    assert wanted == pytest.approx(2 / min(wall, gap), rel=0.15)


def test_a_plate_that_the_function_has_not():
    both = trimesh.util.concatenate([ball(0.3), PLATE])
    assert "not learnt" in explain_missed(sphere_function(0.3), ball(0.3), both)


def test_faces_within_a_union_of_bodies_bound_nothing():
    both = trimesh.util.concatenate([ball(0.5), ball(0.3)])
    truth = DistanceOracle(as_domain_mesh(both)).signed_distance
    assert "bounds no inside" in explain_missed(truth, ball(0.5), both)


def test_nothing_is_missed():
    assert explain_missed(sphere_function(0.5), ball(0.5), ball(0.5)) == ""


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
    steps = np.linspace(0, 1, 60)
    first, second = (part.ravel() for part in np.meshgrid(steps, steps))
    weights = np.stack([first, second, 1 - first - second], axis=1)[first + second <= 1]
    lattice = np.einsum("wc,tcx->twx", weights, triangles).reshape(-1, 3)
    from scipy.spatial import cKDTree

    return cKDTree(lattice).query(points)[0]


def test_triangles_without_area_do_not_spoil_the_normals():
    shape = ball(RADIUS)
    faces = np.vstack([shape.faces, [[0, 0, 1], [5, 5, 5]]])
    mesh = as_domain_mesh(shape)
    errors = metrics.mesh_errors(shape.vertices, faces, mesh, DistanceOracle(mesh), 5000, generator(), CELL)
    assert errors["normal_consistency"] > 0.99 and np.isfinite(list(errors.values())).all()


def test_shapes_that_are_no_mesh():
    mesh = as_domain_mesh(ball(RADIUS))
    with pytest.raises(ValueError, match=r"expected vertices \(V, 3\)"):
        metrics.mesh_errors(mesh.vertices[:, :2], mesh.faces, mesh, DistanceOracle(mesh), 10, generator(), CELL)


@pytest.fixture
def fitted(tmp_path):
    """A model that is an octahedron exactly, in file units, and its mesh: paths."""
    import torch

    from neuralparts.network import NeuralSDF

    model = NeuralSDF(widths=(6,), center=(10.0, 20.0, 30.0), scale=0.18)
    with torch.no_grad():
        hidden, last = (layer for layer in model.layers if isinstance(layer, torch.nn.Linear))
        hidden.weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)]))
        hidden.bias.zero_()
        last.weight.fill_(3**-0.5)
        last.bias.fill_(-0.9 * 3**-0.5)
    model.save(tmp_path / "part.safetensors")
    corners = np.vstack([np.eye(3), -np.eye(3)]) * 5 + [10, 20, 30]
    trimesh.convex.convex_hull(corners).export(tmp_path / "part.stl")
    return tmp_path / "part.safetensors", tmp_path / "part.stl"


def test_command_prints_the_table(fitted, capsys):
    assert metrics.main([*map(str, fitted), "--num_points", "5000", "--reconstructionRes", "64"]) == 0
    table = dict(row.split() for row in capsys.readouterr().out.strip().splitlines())
    assert float(table["surface_error"]) < 1e-5 and float(table["iou"]) > 0.999
    assert float(table["chamfer"]) < 1e-3 and float(table["normal_consistency"]) > 0.98


def test_command_without_a_reconstruction(fitted, capsys):
    assert metrics.main([*map(str, fitted), "--num_points", "1000", "--reconstructionRes", "0"]) == 0
    assert "chamfer" not in capsys.readouterr().out


def test_command_without_a_surface_keeps_the_other_errors(fitted, capsys):
    import torch

    from neuralparts.network import NeuralSDF

    model = NeuralSDF.load(fitted[0])
    with torch.no_grad():
        model.layers[-1].bias.fill_(1.0)
    model.save(fitted[0])
    assert metrics.main([*map(str, fitted), "--num_points", "1000", "--reconstructionRes", "16"]) == 1
    said = capsys.readouterr()
    assert "surface_error" in said.out and "no surface" in said.err and said.err.count("\n") == 1


def test_command_with_another_mesh(fitted, tmp_path, capsys):
    trimesh.creation.box((2, 2, 2)).export(tmp_path / "other.stl")
    assert metrics.main([str(fitted[0]), str(tmp_path / "other.stl")]) == 1
    assert "not the mesh that was fitted" in capsys.readouterr().err


def test_command_without_a_mesh(fitted, tmp_path, capsys):
    assert metrics.main([str(fitted[0]), str(tmp_path / "none.stl")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
