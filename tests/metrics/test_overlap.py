"""IoU and its interval: against analytic shapes, a dense count of nodes, over many seeds."""

import numpy as np
import pytest
import trimesh

from neuralparts import metrics
from neuralparts.distance import DistanceOracle
from tests.metrics.domain_meshes import RADIUS, as_domain_mesh, ball, generator, sphere_function

BALL_VOLUME = 4 / 3 * np.pi * RADIUS**3
# Runs over which the coverage is counted, and the points that each asks for.
SEEDS, COUNT = 100, 2000


class BallOracle:
    """The oracle of an exact ball, whose bounding box is that of the icosphere."""

    mesh = as_domain_mesh(ball(RADIUS))

    def distance(self, points):
        return np.abs(np.linalg.norm(points, axis=1) - RADIUS)

    def inside(self, points):
        return np.linalg.norm(points, axis=1) < RADIUS


def shifted_ball(shift):
    """The function of a ball shifted along x, and its IoU with the ball within the ball's bounding box."""
    lens = np.pi / 12 * (4 * RADIUS + shift) * (2 * RADIUS - shift) ** 2
    beyond = np.pi * shift**2 * (3 * RADIUS - shift) / 3  # a cap outside the box
    function = lambda points: np.linalg.norm(points - np.float32([shift, 0, 0]), axis=1) - RADIUS  # noqa: E731
    return function, lens / (2 * BALL_VOLUME - lens - beyond)


def ball_with_a_crumb(radius, crumb):
    """The function of a smaller ball and of a small ball in a corner of the box, and its IoU with the ball."""
    corner = np.full(3, 0.5, dtype=np.float32)
    function = lambda points: np.minimum(  # noqa: E731
        np.linalg.norm(points, axis=1) - radius, np.linalg.norm(points - corner, axis=1) - crumb
    )
    return function, (radius / RADIUS) ** 3 / (1 + (crumb / RADIUS) ** 3)


CASES = {
    "far apart": shifted_ball(0.4),
    "a thin layer": shifted_ball(0.001),
    "a hardly visible layer": (sphere_function(RADIUS - 1e-4), ((RADIUS - 1e-4) / RADIUS) ** 3),
    "a crumb far from the surface": ball_with_a_crumb(RADIUS - 5e-4, 0.05),
}


@pytest.mark.parametrize("case", CASES)
def test_the_interval_holds_the_truth_and_the_estimate_has_no_bias(case):
    function, truth = CASES[case]
    found = [metrics.volume_overlap(function, BallOracle(), COUNT, generator(seed)) for seed in range(SEEDS)]
    iou = np.array([overlap.iou for overlap in found])
    # Of 100 intervals of 95%, fewer than 88 hold the truth in one run of 1,000.
    assert sum(overlap.low <= truth <= overlap.high for overlap in found) >= 0.88 * SEEDS
    assert abs(iou.mean() - truth) < 4 * iou.std() / SEEDS**0.5
    assert all(0 <= overlap.low <= overlap.iou <= overlap.high <= 1 for overlap in found)


def test_the_interval_tells_good_fits_apart():
    """Of 50,000 uniform points, some 39 and 13 would lie between these balls and the true one."""
    one, other = (
        metrics.volume_overlap(sphere_function(RADIUS * fraction ** (1 / 3)), BallOracle(), 50_000, generator())
        for fraction in (0.9985, 0.9995)
    )
    assert one.low < 0.9985 < one.high < other.low < 0.9995 < other.high
    assert (one.high - one.low) / 2 <= 0.1 * (1 - one.iou) and one.points < 250_000


def test_a_poor_fit_needs_few_points():
    overlap = metrics.volume_overlap(*shifted_ball(0.4)[:1], BallOracle(), 50_000, generator())
    assert overlap.points < 40_000 and overlap.high - overlap.low < 0.1


@pytest.mark.parametrize("radius", [0.15, 0.195])
def test_a_torus_against_a_dense_count_of_nodes(radius):
    mesh = as_domain_mesh(trimesh.creation.torus(0.55, 0.2, major_sections=60, minor_sections=30))
    oracle = DistanceOracle(mesh)
    function = lambda points: np.hypot(np.hypot(points[:, 0], points[:, 1]) - 0.55, points[:, 2]) - radius  # noqa: E731
    overlap = metrics.volume_overlap(function, oracle, 10_000, generator())
    # Midpoints of 120 x 120 x 40 cells of the bounding box.
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    axes = [(np.arange(count) + 0.5) / count for count in (120, 120, 40)]
    nodes = low + np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) * (high - low)
    fitted, true = function(nodes) < 0, oracle.inside(nodes)
    dense = (fitted & true).sum() / (fitted | true).sum()
    assert overlap.low - 1e-3 < dense < overlap.high + 1e-3 and abs(overlap.iou - dense) < 0.2 * (1 - dense)


def test_strata_divide_the_box():
    mesh = as_domain_mesh(trimesh.creation.box((1.0, 0.5, 0.02)))
    strata = metrics.distance_strata(DistanceOracle(mesh), 20_000)
    assert sum(stratum.volume for stratum in strata) == pytest.approx(1, abs=1e-12)
    volume = sum(len(stratum.low) * stratum.edges.prod() for stratum in strata)
    assert volume == pytest.approx(0.01, abs=1e-12)


def test_no_inside_at_all():
    nothing = lambda points: np.ones(len(points))  # noqa: E731
    assert metrics.volume_overlap(nothing, BallOracle(), 1000, generator())[:3] == (0.0, 0.0, 0.0)
    # A triangle alone, and an oracle that finds no inside.
    plate = trimesh.Trimesh([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]], [[0, 1, 2]], process=False)
    oracle = DistanceOracle(as_domain_mesh(plate))
    oracle.inside = lambda points: np.zeros(len(points), bool)
    assert metrics.volume_overlap(nothing, oracle, 100, generator())[:3] == (1.0, 0.0, 1.0)
