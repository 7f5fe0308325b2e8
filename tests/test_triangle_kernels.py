"""The compiled arithmetic on triangles against that of numpy: the same bits."""

import numpy as np
import pytest

from neuralparts.triangle_kernels import face_areas, face_normals
from neuralparts.triangles import doubled_normals, lengths, triangle_areas, unit_normals


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_areas_and_normals_have_the_bits_of_numpy(scale):
    generator = np.random.default_rng(1)
    vertices, faces = scale * generator.normal(size=(500, 3)), generator.integers(0, 500, (2000, 3))
    faces[::7, 2] = faces[::7, 1]  # without area
    corners = vertices[faces]
    assert np.array_equal(face_areas(vertices, faces), triangle_areas(corners))
    assert np.array_equal(face_normals(vertices, faces), unit_normals(corners))
    assert not face_normals(vertices, faces)[::7].any()
    assert np.array_equal(lengths(corners[:, 0]), np.linalg.norm(corners[:, 0], axis=1))
    assert np.array_equal(face_areas(vertices, faces), np.linalg.norm(doubled_normals(corners), axis=1) / 2)
