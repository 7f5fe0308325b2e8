"""The map between file units and the domain."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralparts.domain import Transform, grid_cell


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_transform_round_trip(center, scale, seed):
    transform = Transform(np.array(center), scale)
    domain = np.random.default_rng(seed).uniform(-1, 1, (20, 3))
    file_points = transform.to_file(domain)
    assert file_points.dtype == np.float64
    rounding = 4e-16 * (np.abs(center).max() + 1 / scale) * scale
    assert np.abs(transform.to_domain(file_points) - domain).max() <= 4 * rounding + 1e-15
    assert transform.length_to_file(transform.scale) == pytest.approx(1)


def test_transform_takes_arrays_and_tensors_there_and_back():
    transform = Transform(np.array([1e6, -3.0, 2.0]), 0.25)
    points = np.random.default_rng(0).normal(size=(50, 3)) + transform.center
    there = transform.to_domain(points)
    assert there.dtype == np.float64
    np.testing.assert_allclose(transform.to_file(there), points, rtol=0, atol=1e-9)
    as_tensor = transform.to_domain(torch.tensor(points, requires_grad=True))
    assert as_tensor.requires_grad and as_tensor.dtype == torch.float64
    np.testing.assert_array_equal(as_tensor.detach().numpy(), there)
    assert transform.length_to_file(0.5) == 2.0


@pytest.mark.parametrize(
    ("center", "scale"), [([0, 0], 1.0), ([0, 0, np.nan], 1.0), ([0, 0, 0], 0.0), ([0, 0, 0], np.inf)]
)
def test_transform_that_leads_nowhere_is_refused(center, scale):
    with pytest.raises(ValueError, match="finite center"):
        Transform(center, scale)


def test_cell_of_a_grid():
    assert grid_cell(2) == 2.0 and grid_cell(5) == 0.5
