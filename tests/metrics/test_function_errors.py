"""Errors of a function against analytic values: spheres of another radius, a wrong cap, a shifted ball."""

import numpy as np
import pytest
import trimesh

from neuralparts import metrics
from neuralparts.distance import DistanceOracle
from tests.metrics.domain_meshes import COUNT, OFFSET, RADIUS, SAGITTA, as_domain_mesh, ball, generator, sphere_function

LENGTHS = ("surface_error", "surface_error_p99", "importance_error", "grid_error")


@pytest.fixture(scope="module")
def oracle():
    return DistanceOracle(as_domain_mesh(ball(RADIUS)))


def test_a_perfect_fit(oracle):
    errors = metrics.point_errors(sphere_function(RADIUS), oracle, COUNT, generator())
    for name in LENGTHS:
        assert errors[name] < SAGITTA, name
    assert errors["iou"] > 0.997 and errors["sign_error"] < 0.02
    assert all(isinstance(value, float) for value in errors.values())


@pytest.mark.parametrize("offset", [-OFFSET, OFFSET])
def test_a_sphere_of_another_radius(oracle, offset):
    errors = metrics.point_errors(sphere_function(RADIUS + offset), oracle, COUNT, generator())
    for name in LENGTHS:
        assert errors[name] == pytest.approx(OFFSET, abs=SAGITTA), name


def test_iou_is_the_ratio_of_the_volumes(oracle):
    smaller = RADIUS - 0.1
    errors = metrics.point_errors(sphere_function(smaller), oracle, COUNT, generator())
    assert errors["iou"] == pytest.approx((smaller / RADIUS) ** 3, abs=0.015)


def test_iou_counts_additional_and_missing_volume(oracle):
    shifted = lambda points: np.linalg.norm(points - np.float32([RADIUS, 0, 0]), axis=1) - RADIUS  # noqa: E731
    iou = metrics.point_errors(shifted, oracle, COUNT, generator())["iou"]
    whole = 4 / 3 * np.pi * RADIUS**3
    lens = np.pi / 12 * (4 * RADIUS + RADIUS) * (2 * RADIUS - RADIUS) ** 2
    # The box of the mesh ends at x = RADIUS, the centre of the shifted ball: it holds half of that ball.
    assert iou == pytest.approx(lens / (whole + whole / 2 - lens), abs=0.015)


def test_iou_of_a_function_without_an_inside(oracle):
    assert metrics.point_errors(lambda points: np.ones(len(points)), oracle, 1000, generator())["iou"] == 0.0


def test_iou_of_nothing_and_nothing_is_one():
    # A triangle alone, and an oracle that finds no inside.
    plate = trimesh.Trimesh([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]], [[0, 1, 2]], process=False)
    oracle = DistanceOracle(as_domain_mesh(plate))
    oracle.inside = lambda points: np.zeros(len(points), bool)
    assert metrics.point_errors(lambda points: np.ones(len(points)), oracle, 100, generator())["iou"] == 1.0


def test_p99_shows_a_small_wrong_area(oracle):
    # A fiftieth of the sphere's area, a cap, is 0.1 wrong: the mean hardly shows it, the 99th percentile does.
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


def test_mean_absolute_error_on_a_grid():
    points = metrics.grid_points(9)
    distances = np.linalg.norm(points, axis=1) - 0.5
    assert metrics.mean_absolute_error(sphere_function(0.6), points, distances) == pytest.approx(0.1, abs=1e-6)
