"""The sides of all nodes of a grid, kept sparsely, against those of every node evaluated."""

import numpy as np
import pytest

from neuralparts.marching import count_sides, march
from neuralparts.metrics import grid_points
from tests.marching.surfaces import SHAPES, box, sphere, torus, union


def sides_of(function, resolution, **options):
    return march(function, resolution, keep_signs=True, **options).signs


def counted(first, second, resolution):
    """The four counts, from every node of the grid."""
    points = grid_points(resolution)
    one, two = first(points) > 0, second(points) > 0
    return tuple(int(both.sum()) for both in (~one & ~two, ~one & two, one & ~two, one & two))


@pytest.mark.parametrize("name", ["sphere", "two bodies", "cut by the border", "thin walls", "gyroid"])
@pytest.mark.parametrize("dense", [False, True])
def test_counts_are_those_of_all_nodes(name, dense):
    shape, resolution = SHAPES[name]
    other = sphere(0.6, (0.1, 0.0, 0.05))
    counts = count_sides(sides_of(shape, resolution, dense=dense), sides_of(other, resolution))
    assert counts == counted(shape, other, resolution)
    assert sum(counts) == resolution**3


def test_a_known_slope_gives_the_same_sides_by_fewer_nodes():
    shape = union(sphere(0.3, (-0.5, 0, 0)), box((0.2, 0.1, 0.3), (0.4, 0, 0)), torus(0.8, 0.05))
    measured = march(shape, 96, keep_signs=True)
    known = march(shape, 96, keep_signs=True, lipschitz=1.001)
    counts = count_sides(measured.signs, known.signs)
    assert counts.outside_first == counts.outside_second == 0 and counts == counted(shape, shape, 96)
    assert known.stats["evaluated"] < measured.stats["evaluated"] and known.stats["audited"] == 0
    assert np.array_equal(known.faces, measured.faces)


def test_grids_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="32 and 33"):
        count_sides(sides_of(sphere(0.5), 32), sides_of(sphere(0.5), 33))
