"""Fixtures of the tests of sampling: random numbers, the oracle of a torus."""

import numpy as np
import pytest

from neuralparts.distance import DistanceOracle
from tests.distance.brute import torus


@pytest.fixture
def generator():
    return np.random.default_rng(11)


@pytest.fixture(scope="session")
def oracle():
    return DistanceOracle(torus(), "numba")
