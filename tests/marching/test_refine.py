"""Newton steps bring vertices onto the level, and not far from where they were."""

import numpy as np
import pytest

from neuralparts.marching import march
from tests.marching.surfaces import sphere


@pytest.mark.parametrize("gradient", [None, lambda points: points / np.linalg.norm(points, axis=1, keepdims=True)])
def test_refine_moves_vertices_onto_the_level(gradient):
    plain, refined = march(sphere(0.6), 24), march(sphere(0.6), 24, refine=2, gradient=gradient)
    error = lambda result: np.abs(np.linalg.norm(result.vertices, axis=1) - 0.6).max()  # noqa: E731
    assert error(refined) < 1e-5 < 1e-3 < error(plain)
    assert np.linalg.norm(refined.vertices - plain.vertices, axis=1).max() <= 0.5 * 2 / 23
    assert np.array_equal(refined.faces, plain.faces)
