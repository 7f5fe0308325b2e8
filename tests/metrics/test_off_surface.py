"""Errors by distance from the surface, of functions whose errors are known in closed form about a sphere."""

import numpy as np
import pytest

from neuralparts.distance import DistanceOracle
from neuralparts.metrics import off_surface_errors
from tests.metrics.domain_meshes import COUNT, RADIUS, SAGITTA, as_domain_mesh, ball, generator, sphere_function

EDGES = [0.0, 0.003, 0.01, 0.03, 0.1, None]


@pytest.fixture(scope="module")
def oracle():
    return DistanceOracle(as_domain_mesh(ball(RADIUS)))


def outward(points):
    """The gradient of a sphere's distance, which has length 1."""
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def errors_of(oracle, function, gradient=outward, count=COUNT):
    return off_surface_errors(function, gradient, oracle, count, generator())


def test_a_distance_has_no_errors_and_a_gradient_of_length_one(oracle):
    errors = errors_of(oracle, sphere_function(RADIUS))
    assert [band["from"] for band in errors["bands"]] == EDGES[:-1]
    assert [band["to"] for band in errors["bands"]] == EDGES[1:]
    for band in errors["bands"]:
        assert band["points"] > 500 and band["mean_error"] < SAGITTA
        assert band["overestimated"] == 0 and band["gradient_within"] == 1
    assert errors["overestimated"] == 0 and errors["gradient_within"] == 1
    assert errors["gradient_p1"] == pytest.approx(1) and errors["gradient_p99"] == pytest.approx(1)


def test_a_distance_a_fifth_too_long_overestimates_where_a_tenth_exceeds_the_tolerance(oracle):
    errors = errors_of(oracle, lambda points: 1.2 * sphere_function(RADIUS)(points), lambda p: 1.2 * outward(p))
    # Beyond 0.005 from the surface a tenth of |d| is more than the 0.0005 that is allowed besides.
    over = [band["overestimated"] for band in errors["bands"]]
    assert over[0] == 0 and 0.3 < over[1] < 0.9 and over[2:] == [1, 1, 1]
    for band in errors["bands"][2:]:
        lowest, highest = 0.2 * band["from"], 0.2 * (band["to"] or np.sqrt(3))
        assert lowest < band["mean_error"] < highest
    assert errors["gradient_within"] == 0 and errors["gradient_p1"] == pytest.approx(1.2)


def test_an_underestimate_is_an_error_but_no_overestimate(oracle):
    errors = errors_of(oracle, lambda points: 0.5 * sphere_function(RADIUS)(points), lambda p: 0.5 * outward(p))
    assert errors["overestimated"] == 0 and errors["bands"][3]["mean_error"] > 0.5 * 0.03
    assert errors["gradient_p99"] == pytest.approx(0.5)


def test_a_large_value_on_the_wrong_side_is_an_overestimate(oracle):
    errors = errors_of(oracle, lambda points: -1.2 * sphere_function(RADIUS)(points))
    assert errors["bands"][-1]["overestimated"] == 1


def test_a_wrong_gradient_in_one_octant_shows_in_its_fraction(oracle):
    long = lambda points: np.where((points > 0).all(axis=1)[:, None], 1.5, 1.0) * outward(points)  # noqa: E731
    errors = errors_of(oracle, sphere_function(RADIUS), long)
    assert errors["gradient_within"] == pytest.approx(7 / 8, abs=0.01)
    assert errors["gradient_p1"] == pytest.approx(1) and errors["gradient_p99"] == pytest.approx(1.5)


def test_a_band_without_points_has_no_numbers(oracle):
    bands = errors_of(oracle, sphere_function(RADIUS), count=1)["bands"]
    empty = [band for band in bands if not band["points"]]
    assert len(empty) >= 3 and all(band["mean_error"] is None for band in empty)
