"""Thousands of shells: the compiled loops against NumPy's, and the orientation of bodies within each other."""

import numpy as np

from neuralparts.mesh import solid_angle_winding_number
from neuralparts.mesh.containment_kernels import boxes_within, solid_angle_winding_numbers
from neuralparts.mesh.orientation import MANY_SHELLS, orient
from tests.hostile_meshes import TETRAHEDRON, TETRAHEDRON_FACES, copies


def test_winding_numbers_are_summed_solid_angles():
    generator = np.random.default_rng(0)
    points, triangles = generator.normal(size=(200, 3)), generator.normal(size=(50, 3, 3))
    expected = solid_angle_winding_number(points, triangles)
    assert np.abs(solid_angle_winding_numbers(points, triangles) - expected).max() < 1e-12


def test_boxes_within_a_box():
    generator = np.random.default_rng(0)
    low = generator.integers(0, 8, (300, 3)).astype(float)
    high, added = low + generator.integers(0, 5, (300, 3)), generator.random(300) < 0.7
    for box in range(0, 300, 7):
        inside = added & (low >= low[box]).all(axis=1) & (high <= high[box]).all(axis=1)
        assert (boxes_within(low, high, added, box, 20, 250) == 20 + np.flatnonzero(inside[20:250])).all()


def test_bodies_within_each_other_are_solid_and_void_by_turns():
    """More shells than NumPy compares, each within the next one; all but the two outermost are right already."""
    count = MANY_SHELLS + 50
    flipped = np.arange(count) % 2 == count % 2  # the outermost is outward, the next one a void, and so on
    vertices, faces = copies(
        (TETRAHEDRON, TETRAHEDRON_FACES), np.zeros((count, 3)), np.linspace(0.1, 1, count), flipped
    )
    kept, shells, found, _ = orient(vertices, faces)
    assert (kept == faces).all() and found["inside_out_bodies"] == 0
    assert (shells.orientation == np.where(flipped, -1, 1)).all()
    # The outermost alone inside out: by the rule for a body within a flipped one, the next becomes its void.
    faces[-4:] = faces[-4:, ::-1]
    kept, shells, found, _ = orient(vertices, faces)
    assert found["inside_out_bodies"] == 1 and shells.orientation[-2:].tolist() == [-1, 1]
