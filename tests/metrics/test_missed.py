"""Why a reconstruction lacks a part: thinner than a cell, not learnt, no boundary of an inside."""

import re

import numpy as np
import pytest
import trimesh

from neuralparts import metrics
from neuralparts.distance import DistanceOracle
from neuralparts.marching import march
from neuralparts.verdict import MISSED_NOTE, MISSED_REASONS
from tests.metrics.domain_meshes import CELL, as_domain_mesh, ball, generator, sphere_function

PLATE = trimesh.creation.box((0.8, 0.8, 0.004), transform=trimesh.transformations.translation_matrix((0, 0, 0.6)))
# A wing that is pointed at one end.
WEDGE = trimesh.convex.convex_hull([(x, y, z) for x, y in ((-0.5, -0.06), (-0.5, 0.06), (0.5, 0)) for z in (-0.4, 0.4)])


def distance_to(marched, points):
    """Distances of points to a marched mesh."""
    shape = trimesh.Trimesh(marched.vertices, marched.faces, process=False)
    return DistanceOracle(as_domain_mesh(shape)).distance(np.asarray(points))


def explain_missed(function, reconstruction, shape):
    oracle = DistanceOracle(as_domain_mesh(shape))
    return metrics.explain_missed(function, reconstruction.vertices, reconstruction.faces, oracle, generator(), CELL)


def proposed_resolution(line):
    return int(re.search(r"--reconstructionRes (\d+) on", line)[1])


def test_a_plate_thinner_than_a_cell_that_the_function_has():
    both = trimesh.util.concatenate([ball(0.3), PLATE])
    truth = DistanceOracle(as_domain_mesh(both)).signed_distance
    line = explain_missed(truth, ball(0.3), both)
    assert "lacks 53" in line and "the network has 100% of it" in line and "not learnt" not in line
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
    line = explain_missed(sphere_function(0.3), ball(0.3), both)
    assert "not learnt 100% of it" in line and "the network has 100%" not in line


def test_both_reasons_are_given_where_both_count():
    """Two plates of one size too thin for the grid: the function has one of them."""
    below = PLATE.copy().apply_translation((0, 0, -1.2))
    has = DistanceOracle(as_domain_mesh(trimesh.util.concatenate([ball(0.3), PLATE]))).signed_distance
    line = explain_missed(has, ball(0.3), trimesh.util.concatenate([ball(0.3), PLATE, below]))
    fractions = [int(number) for number in re.findall(r"(\d+)% of it", line)]
    assert "the network has" in line and "not learnt" in line and "bounds no inside" not in line
    assert fractions == [pytest.approx(50, abs=12)] * 2 and sum(fractions) == pytest.approx(100, abs=1)
    assert line.startswith(MISSED_NOTE)
    found = [short for said, short in MISSED_REASONS.items() if said in line]
    assert found == ["thinner than the grid", "not learnt"]


@pytest.mark.parametrize("resolution", [24, 32, 48])
def test_a_tapering_edge_that_is_a_little_off_is_not_blamed_on_learning(resolution):
    """A wing whose thin edge the function has, a thousandth beside the truth; the slow twin is a finer march."""
    oracle = DistanceOracle(as_domain_mesh(WEDGE))
    function = lambda points: oracle.signed_distance(points) + np.float32(0.001)  # noqa: E731
    cell = 2 / (resolution - 1)
    coarse = march(function, resolution)
    points, _ = trimesh.sample.sample_surface(WEDGE, 5000, seed=1)
    lacking = lambda made: distance_to(made, points) > cell  # noqa: E731
    missed = lacking(coarse)
    line = metrics.explain_missed(function, coarse.vertices, coarse.faces, oracle, generator(), cell)
    assert missed.mean() > 0.02 and "the network has" in line and "not learnt" not in line
    finer = lacking(march(function, proposed_resolution(line)))
    assert finer[missed].mean() < 0.25


def test_a_cell_below_the_error_of_the_fit_gives_no_line():
    """A rough sphere on a very fine grid: a fifth of it lies farther than a cell away, and nothing is missing."""
    shape = ball(0.5)
    shape.vertices *= 1 + 0.004 * generator().standard_normal(len(shape.vertices))[:, None]
    oracle = DistanceOracle(as_domain_mesh(ball(0.5)))
    arguments = sphere_function(0.5), shape.vertices, shape.faces, oracle, generator()
    assert (oracle.distance(np.asarray(shape.vertices)) > 2 / 1999).mean() > 0.2
    assert metrics.explain_missed(*arguments, 2 / 1999) == ""


def test_faces_within_a_union_of_bodies_bound_nothing():
    both = trimesh.util.concatenate([ball(0.5), ball(0.3)])
    truth = DistanceOracle(as_domain_mesh(both)).signed_distance
    assert "bounds no inside" in explain_missed(truth, ball(0.5), both)


def test_nothing_is_missed():
    assert explain_missed(sphere_function(0.5), ball(0.5), ball(0.5)) == ""
