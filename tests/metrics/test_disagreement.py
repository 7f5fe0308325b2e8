"""Errors that contradict each other are named in one line; those of an honest fit are not."""

import pytest

from neuralparts import metrics

HONEST = {"surface_error": 1.7e-4, "surface_distance": 1.8e-4, "chamfer": 3.6e-4, "missed_surface": 0.0}


def test_an_honest_fit():
    assert metrics.explain_disagreement(HONEST) == ""
    assert metrics.explain_disagreement({"surface_error": 1e-4, "surface_distance": 1.2e-4}) == ""


def test_a_function_that_is_flat_at_the_surface():
    flat = HONEST | {"surface_error": 2e-5}
    line = metrics.explain_disagreement(flat)
    assert "surface_error 2e-05" in line and "0.00018" in line and "Chamfer distance 0.00036" in line
    del flat["chamfer"]
    assert "Chamfer" not in metrics.explain_disagreement(flat)


def test_a_reconstruction_that_is_not_where_the_function_says():
    assert "0.01 away" in metrics.explain_disagreement(HONEST | {"chamfer": 0.01})


def test_a_missed_part_has_a_line_of_its_own():
    assert metrics.explain_disagreement(HONEST | {"chamfer": 0.01, "missed_surface": 0.2}) == ""


@pytest.mark.parametrize("name", ["surface_error", "surface_distance", "chamfer"])
def test_errors_that_are_no_numbers_contradict_nothing(name):
    assert metrics.explain_disagreement(HONEST | {name: float("nan")}) == ""
