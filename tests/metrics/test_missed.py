"""Why a reconstruction lacks a part: thinner than a cell, not learnt, no boundary of an inside."""

import re

import pytest
import trimesh

from neuralparts import metrics
from neuralparts.distance import DistanceOracle
from neuralparts.marching import march
from tests.metrics.domain_meshes import CELL, as_domain_mesh, ball, generator, sphere_function

PLATE = trimesh.creation.box((0.8, 0.8, 0.004), transform=trimesh.transformations.translation_matrix((0, 0, 0.6)))


def explain_missed(function, reconstruction, shape):
    oracle = DistanceOracle(as_domain_mesh(shape))
    return metrics.explain_missed(function, reconstruction.vertices, reconstruction.faces, oracle, generator(), CELL)


def proposed_resolution(line):
    return int(re.search(r"--reconstructionRes ([\d,]+)", line)[1].replace(",", ""))


def test_a_plate_thinner_than_a_cell_that_the_function_has():
    both = trimesh.util.concatenate([ball(0.3), PLATE])
    truth = DistanceOracle(as_domain_mesh(both)).signed_distance
    line = explain_missed(truth, ball(0.3), both)
    assert "lacks 53" in line and "which the network has" in line
    assert proposed_resolution(line) == pytest.approx(2 / 0.004, rel=0.15)
    assert explain_missed(truth, march(truth, proposed_resolution(line)), both) == ""


@pytest.mark.parametrize(("wall", "gap"), [(0.004, 0.004), (0.004, 0.008), (0.008, 0.004)])
def test_each_of_several_parallel_fins_counts(wall, gap):
    fins = [trimesh.creation.box((0.8, 0.8, wall)).apply_translation((0, 0, k * (wall + gap))) for k in range(8)]
    truth = DistanceOracle(as_domain_mesh(trimesh.util.concatenate(fins))).signed_distance
    line = explain_missed(truth, ball(0.3, (0.5, 0.5, -0.6)), trimesh.util.concatenate(fins))
    assert proposed_resolution(line) == pytest.approx(2 / min(wall, gap), rel=0.15)


def test_a_plate_that_the_function_lacks():
    both = trimesh.util.concatenate([ball(0.3), PLATE])
    assert "not learnt" in explain_missed(sphere_function(0.3), ball(0.3), both)


def test_faces_within_a_union_of_bodies_bound_nothing():
    both = trimesh.util.concatenate([ball(0.5), ball(0.3)])
    truth = DistanceOracle(as_domain_mesh(both)).signed_distance
    assert "bounds no inside" in explain_missed(truth, ball(0.5), both)


def test_nothing_is_missed():
    assert explain_missed(sphere_function(0.5), ball(0.5), ball(0.5)) == ""
