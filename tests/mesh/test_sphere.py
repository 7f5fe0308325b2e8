"""The bounding sphere is the smallest, and normalising loses no digits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralparts.mesh import bounding_sphere
from tests.meshes import loaded, sphere


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(-6, 6), st.integers(-6, 6), st.integers(1, 3))
def test_bounding_sphere_is_the_smallest(seed, count, size, offset, dimensions):
    generator = np.random.default_rng(seed)
    points = np.zeros((count, 3))
    points[:, :dimensions] = generator.normal(size=(count, dimensions)).round(int(generator.integers(1, 8)))
    points = (points + generator.normal(size=3) * 10.0**offset) * 10.0**size
    center, radius = bounding_sphere(points)
    distances = np.linalg.norm(points - center, axis=1)
    assert distances.max() <= radius * (1 + 1e-12)
    # It is the smallest if the center lies in the convex hull of the points on it: no direction leads away from all.
    touching = points[distances > radius * (1 - 1e-6) - 1e-9 * 10.0 ** (size + offset)] - center
    away = generator.normal(size=(500, 3))
    assert ((touching @ away.T).max(axis=0) >= -1e-5 * (radius + 1e-9 * 10.0 ** (size + offset))).all()


@pytest.mark.parametrize("size", [1e-200, 1e-6, 1.0, 1e6, 1e200])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_small_large_and_far_parts_lose_nothing(tmp_path, size, offset):
    base, faces = sphere(2)
    reference = loaded(tmp_path, base, faces)
    mesh = loaded(tmp_path, (base + np.array([offset, -offset, offset])) * size, faces)
    assert mesh.closed and np.linalg.norm(mesh.vertices, axis=1).max() <= 0.9 + 1e-9
    # 10^6 sizes away float64 itself has steps of 10^-10 of the size.
    assert np.abs(mesh.vertices - reference.vertices).max() < (1e-9 if offset else 1e-13)
    assert np.array_equal(mesh.faces, reference.faces)
    assert mesh.diagnosis["thinnest_feature"] == pytest.approx(reference.diagnosis["thinnest_feature"] * size, rel=1e-3)
