"""What is refused: a resolution that makes no grid, values of a wrong shape, NaN."""

import numpy as np
import pytest

from neuralparts.marching import march
from tests.marching.surfaces import sphere


@pytest.mark.parametrize("values", [lambda points: points, lambda points: np.full(len(points), np.nan)])
def test_values_that_make_no_grid(values):
    with pytest.raises(ValueError, match=r"shape \(|not finite"):
        march(values, 16)


@pytest.mark.parametrize("resolution", [1, 0, -4, 2.5])
def test_resolution_that_makes_no_grid(resolution):
    with pytest.raises(ValueError, match="at least 2 nodes"):
        march(sphere(0.5), resolution)
