"""The winding number against a closed form and against libigl."""

import numpy as np
import pytest

from neuralparts.mesh import solid_angle_winding_number
from neuralparts.mesh.winding import winding_number
from tests.meshes import box, sphere, together


def test_winding_number_of_a_square_against_its_formula():
    # A unit square seen from height h over its middle fills 4 atan(1 / (2 h sqrt(4 h^2 + 2))) steradians.
    square = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    triangles = square[[[0, 1, 2], [0, 2, 3]]]
    heights = np.array([0.01, 0.3, 1.0, 7.0])
    expected = 4 * np.arctan(1 / (2 * heights * np.sqrt(4 * heights**2 + 2))) / (4 * np.pi)
    below = np.stack([0 * heights, 0 * heights, -heights], axis=1)
    assert np.allclose(solid_angle_winding_number(below, triangles), expected, atol=1e-14)
    assert np.allclose(solid_angle_winding_number(-below, triangles), -expected, atol=1e-14)


def test_winding_number_against_libigl_and_across_chunks():
    import igl

    vertices, faces = together(sphere(2), sphere(2, 0.8, (0.5, 0, 0)), box((0, 3, 0), inside_out=True))
    faces = faces[:-40]
    points = np.random.default_rng(0).uniform(-2, 4, (300, 3))
    exact = solid_angle_winding_number(points, vertices[faces])
    assert np.allclose(exact, igl.winding_number(vertices, faces.astype(np.int64), points), atol=1e-9)
    assert np.allclose(solid_angle_winding_number(points, vertices[faces], chunk=100), exact, atol=1e-12)
    assert np.array_equal(winding_number(points, vertices[faces]), exact)
    assert np.abs(winding_number(points, vertices[faces], most_exact_pairs=0) - exact).max() < 0.02


def test_winding_number_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        solid_angle_winding_number(np.zeros((4, 2)), np.zeros((1, 3, 3)))
    with pytest.raises(ValueError, match=r"\(5, 3\)"):
        solid_angle_winding_number(np.zeros((4, 3)), np.zeros((5, 3)))
