"""The memory bound: refused before the work, with the resolution that would fit."""

import pytest

from neuralparts.machine import resident_memory
from neuralparts.marching import MemoryBoundError, march
from tests.marching.surfaces import sphere


def test_a_surface_that_does_not_fit_is_refused_before_the_work():
    with pytest.raises(MemoryBoundError, match=r"resolution 400 needs about .* march at a resolution of at most"):
        march(sphere(0.9), 400, max_memory=resident_memory() + 70 * 2**20)


def test_a_bound_that_suffices():
    assert len(march(sphere(0.5), 64, max_memory=resident_memory() + 2**28).faces) > 0
