"""The map between file units and the domain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralparts.domain import Transform


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
