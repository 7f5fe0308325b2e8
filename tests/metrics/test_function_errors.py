"""Errors of a function against analytic values: spheres of another radius, a wrong cap, a shifted ball."""

import numpy as np
import pytest

from neuralparts import metrics
from neuralparts.distance import DistanceOracle
from tests.metrics.domain_meshes import OFFSET, RADIUS, SAGITTA, as_domain_mesh, ball, generator, sphere_function

COUNT = 15_000
LENGTHS = ("surface_error", "surface_error_p99", "surface_distance", "importance_error", "grid_error")


def point_errors(function, oracle, count, generator, level_distance=None, **options):
    """The errors of a function whose gradient has length 1, unless its level_distance is given."""
    level_distance = level_distance or (lambda points: np.abs(function(points)))
    return metrics.point_errors(function, level_distance, oracle, count, generator, **options)


@pytest.fixture(scope="module")
def oracle():
    return DistanceOracle(as_domain_mesh(ball(RADIUS)))


def test_a_perfect_fit(oracle):
    errors = point_errors(sphere_function(RADIUS), oracle, COUNT, generator())
    for name in LENGTHS:
        assert errors[name] < SAGITTA, name
    assert errors["iou"] > 0.997 and errors["sign_error"] < 0.02
    assert all(isinstance(value, float) for value in errors.values())


@pytest.mark.parametrize("offset", [-OFFSET, OFFSET])
def test_a_sphere_of_another_radius(oracle, offset):
    errors = point_errors(sphere_function(RADIUS + offset), oracle, COUNT, generator())
    for name in LENGTHS:
        assert errors[name] == pytest.approx(OFFSET, abs=SAGITTA), name


def test_iou_is_the_ratio_of_the_volumes(oracle):
    smaller = RADIUS - 0.1
    errors = point_errors(sphere_function(smaller), oracle, COUNT, generator())
    assert errors["iou"] == pytest.approx((smaller / RADIUS) ** 3, abs=0.015)
    assert errors["iou_low"] <= errors["iou"] <= errors["iou_high"]


def test_a_flat_function_has_a_small_surface_error_and_a_true_surface_distance(oracle):
    flat = lambda points: 0.01 * sphere_function(RADIUS + OFFSET)(points)  # noqa: E731
    errors = point_errors(flat, oracle, COUNT, generator(), level_distance=lambda points: 100 * np.abs(flat(points)))
    assert errors["surface_error"] == pytest.approx(0.01 * OFFSET, abs=SAGITTA)
    assert errors["surface_distance"] == pytest.approx(OFFSET, abs=SAGITTA)


def test_p99_shows_a_small_wrong_area(oracle):
    # A fiftieth of the sphere's area, a cap, is 0.1 wrong: the mean hardly shows it, the 99th percentile does.
    cap = lambda points: np.where(points[:, 2] > RADIUS * (1 - 0.04), 0.1, 0.0).astype(np.float32)  # noqa: E731
    errors = point_errors(cap, oracle, COUNT, generator())
    assert errors["surface_error"] == pytest.approx(0.1 * 0.02, rel=0.15)
    assert errors["surface_error_p99"] == pytest.approx(0.1, rel=1e-6)


def test_importance_samples_of_a_greater_weight_lie_nearer(oracle):
    wrong_far_away = lambda points: 2 * (np.linalg.norm(points, axis=1) - RADIUS)  # noqa: E731
    near, far = (
        point_errors(wrong_far_away, oracle, COUNT, generator(), importance_weight=weight)["importance_error"]
        for weight in (200.0, 20.0)
    )
    assert near < 0.5 * far


def test_same_generator_same_errors(oracle):
    one, two = (point_errors(sphere_function(0.5), oracle, 1000, generator(3)) for _ in range(2))
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
