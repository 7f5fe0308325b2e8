"""Errors that contradict each other are named in one line; those of an honest fit are not."""

import pytest

from neuralparts.metrics import explain_disagreement

HONEST = {"surface_error": 1.7e-4, "surface_distance": 1.8e-4, "chamfer": 3.6e-4, "missed_surface": 0.0}


def test_an_honest_fit():
    assert explain_disagreement(HONEST, closed=True) == ""
    assert explain_disagreement({"surface_error": 1e-4, "surface_distance": 1.2e-4}, closed=True) == ""


def test_a_function_that_is_flat_at_the_surface():
    flat = HONEST | {"surface_error": 2e-5}
    line = explain_disagreement(flat, closed=True)
    assert "surface_error 2e-05" in line and "0.00018" in line and "Chamfer distance 0.00036" in line
    del flat["chamfer"]
    assert "Chamfer" not in explain_disagreement(flat, closed=True)


def test_single_points_of_tiny_gradient_are_not_a_flat_function():
    spiked = {"surface_error": 6.7e-5, "surface_distance": 3.9e-4, "chamfer": 7e-5, "missed_surface": 0.0}
    assert explain_disagreement(spiked, closed=True) == ""
    assert "flat" in explain_disagreement(spiked | {"chamfer": 3e-4}, closed=True)


def test_a_reconstruction_with_surface_where_the_mesh_has_none():
    stray = HONEST | {"chamfer": 0.01}
    assert "surface where the mesh has none; Chamfer distance 0.01" in explain_disagreement(stray, closed=True)
    assert explain_disagreement(stray, closed=False) == ""  # the sheets that close an open mesh


def test_what_a_coarse_grid_adds_to_the_chamfer_distance_is_no_contradiction():
    coarse = HONEST | {"chamfer": 0.003}
    assert explain_disagreement(coarse, closed=True, cell=2 / 63) == "" != explain_disagreement(coarse, closed=True)


def test_a_missed_part_has_a_line_of_its_own():
    assert explain_disagreement(HONEST | {"chamfer": 0.01, "missed_surface": 0.2}, closed=True) == ""


@pytest.mark.parametrize("name", ["surface_error", "surface_distance", "chamfer"])
def test_errors_that_are_no_numbers_contradict_nothing(name):
    assert explain_disagreement(HONEST | {name: float("nan")}, closed=True) == ""
