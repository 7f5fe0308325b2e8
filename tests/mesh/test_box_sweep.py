import numpy as np
import pytest

from neuralparts.mesh.box_sweep import BoxSweep


@pytest.mark.parametrize("axis", range(3))
def test_boxes_within_a_box_are_those_of_all_pairs(axis):
    generator = np.random.default_rng(axis)
    # Coordinates on a coarse lattice, so that sides often coincide; the axes are of different lengths.
    low = generator.integers(0, 8, (200, 3)) * np.roll([1, 3, 9], axis)
    high = low + generator.integers(0, 5, (200, 3)) * np.roll([1, 3, 9], axis)
    sweep = BoxSweep(low.astype(float), high.astype(float))
    added = np.flatnonzero(generator.random(200) < 0.7)
    sweep.add(added)
    for box in range(200):
        expected = [k for k in added if (low[k] >= low[box]).all() and (high[k] <= high[box]).all()]
        assert sorted(sweep.within(box)) == expected
