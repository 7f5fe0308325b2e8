"""Points of open meshes in cells where the sign changes, with a triangle there or without."""

import numpy as np
import pytest

from neuralparts.distance import DistanceOracle
from neuralparts.sampling import draw_samples, importance_samples
from neuralparts.sampling.cube import CORNERS
from neuralparts.sampling.open_meshes import (
    GRIDS,
    MOST_WORK,
    OVERHEAD,
    SIGN_CHANGE_FRACTION,
    sign_change_cells,
)
from tests.distance.brute import box, torus, without
from tests.sampling.densities import BETA, assert_same_histogram, part, weighed_fractions

SIDE, LID = 0.505, 0.51  # no multiples of a cell's side


def box_without_lid():
    """A box that is open at z = LID. Its winding number is one half at the lid, so the sign changes there too."""
    return without(box((-SIDE,) * 3, (SIDE, SIDE, LID)), [10, 11])


def in_box(points):
    """Whether points (..., 3) lie in that box."""
    return (np.abs(points[..., :2]).max(axis=-1) < SIDE) & (points[..., 2] > -SIDE) & (points[..., 2] < LID)


def in_sign_change_cells(points):
    """Whether points (N, 3) lie in cells with corners on both sides of that box."""
    side = 2 / GRIDS[-1]
    corners = (np.floor(np.asarray(points, dtype=np.float64) / side)[:, None] + CORNERS) * side
    return in_box(corners).any(axis=1) & ~in_box(corners).all(axis=1)


def test_sign_change_cells_are_those_of_the_walls_and_the_lid():
    centre, half = sign_change_cells(DistanceOracle(box_without_lid(), "numba"))
    assert half == 1 / 256 and centre.dtype == np.float32
    assert in_sign_change_cells(centre).all() and len(np.unique(centre, axis=0)) == len(centre)
    assert len(centre) == 130 * 130 * 131 - 128 * 128 * 129


def test_sign_change_cells_of_a_part_smaller_than_a_coarse_cell_are_found():
    """All corners of the coarsest grid lie outside of it; its triangles lead to it."""
    mesh = without(box((0.502, 0.502, 0.502), (0.525, 0.525, 0.525)), [10, 11])
    oracle = DistanceOracle(mesh, "numba")
    nodes = np.linspace(-1, 1, GRIDS[0] + 1)
    corners = np.stack(np.meshgrid(nodes, nodes, nodes), axis=-1).reshape(-1, 3)
    assert not oracle.inside(corners).any()
    assert len(sign_change_cells(oracle)[0]) > 20


@pytest.mark.parametrize("crowd, finest", [(0, 256), (20_000, 32), (10**9, 8)])
def test_the_grid_is_coarser_where_a_query_of_the_side_takes_long(crowd, finest):
    asked = []

    class Crowded(DistanceOracle):
        crowd = property(lambda self: crowd)

        def inside(self, points):
            asked.append(len(points))
            return super().inside(points)

    centre, half = sign_change_cells(Crowded(box_without_lid()))
    assert half == np.float32(1 / finest) and len(centre) > 0
    assert sum(asked) * (OVERHEAD + crowd) < 1.5 * MOST_WORK or finest == 8
    # Each cell has corners inside and outside, as those of the finest grid have.
    corners = centre[:, None].astype(np.float64) + (2 * CORNERS - 1) * half
    assert (in_box(corners).any(axis=1) & ~in_box(corners).all(axis=1)).all()


def test_samples_of_an_open_mesh_have_the_density_of_surface_and_sign_change():
    mesh, ratio, count = box_without_lid(), 0.1, 100_000
    oracle, bins = DistanceOracle(mesh, "numba"), np.linspace(LID - 0.1, LID + 0.1, 60)
    points = np.random.default_rng(99).uniform(-1, 1, (800_000, 3))
    importance, change = np.exp(-BETA * oracle.distance(points)), in_sign_change_cells(points)
    importance, change = importance / importance.sum(), change / change.sum()
    weight = (1 - ratio) * ((1 - SIGN_CHANGE_FRACTION) * importance + SIGN_CHANGE_FRACTION * change)
    weight += ratio / len(points)
    fractions, variances = weighed_fractions(weight, np.digitize(points[:, 2], bins), 61)
    drawn, sdf = draw_samples("Importance", oracle, count, np.random.default_rng(6), BETA, ratio)
    counts = np.bincount(np.digitize(drawn[:, 2], bins), minlength=61)
    assert_same_histogram(counts, fractions, variances)
    clear = (np.abs(sdf) > 1e-5) & (np.abs(drawn[:, 2] - LID) > 1e-5)
    assert ((sdf < 0) == in_box(drawn))[clear].all()


def test_all_points_can_lie_where_the_sign_changes(generator):
    oracle = DistanceOracle(box_without_lid(), "numba")
    points, _ = importance_samples(oracle, 5000, generator, uniform_ratio=0.0, sign_change_fraction=1.0)
    assert in_sign_change_cells(points).all() and len(np.unique(points, axis=0)) == 5000


@pytest.mark.parametrize("shape", [torus, part])
def test_a_closed_mesh_has_no_such_points(shape):
    oracle = DistanceOracle(shape(), "numba")
    drawn = draw_samples("Importance", oracle, 5000, np.random.default_rng(1))
    plain = importance_samples(oracle, 5000, np.random.default_rng(1))
    assert np.array_equal(drawn[0], plain[0]) and np.array_equal(drawn[1], plain[1])


def test_an_impossible_fraction_is_an_error(oracle, generator):
    with pytest.raises(ValueError, match="sign_change_fraction must lie between 0 and 1"):
        importance_samples(oracle, 10, generator, sign_change_fraction=1.5)
