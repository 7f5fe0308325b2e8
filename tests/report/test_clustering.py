"""Meshes with fewer vertices for drawing: what stays, what is united, and the numbers of equal keys."""

import numpy as np
import pytest

from neuralparts.report.clustering import TOLERATED, clustered
from neuralparts.report.clustering_kernels import cube_keys, facing, means, numbered_keys, with_three_corners
from neuralparts.triangles import triangle_areas
from tests.report.shown import sphere


def plate(thickness, side=60):
    """Two parallel squares, the upper facing up and the lower facing down: vertices (V, 3), faces (F, 3)."""
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    up = np.stack([corner, corner + side, corner + 1, corner + side, corner + side + 1, corner + 1], 1).reshape(-1, 3)
    layer = np.stack([x.ravel(), y.ravel(), np.zeros(side**2)], axis=1)
    return np.concatenate([layer, layer + np.array([0, 0, thickness])]), np.concatenate([up[:, ::-1], up + side**2])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_vertices_are_those_of_the_mesh_and_triangles_are_fewer(scale):
    vertices, faces = sphere(radius=3.0)
    vertices = scale * vertices + 100 * scale
    fewer, kept = clustered(vertices, faces, 1000)
    assert 300 < len(kept) <= TOLERATED * 1000 and kept.max() < len(fewer)
    own = {tuple(vertex) for vertex in vertices}
    assert all(tuple(vertex) in own for vertex in fewer)
    assert (kept != np.roll(kept, 1, axis=1)).all()
    assert triangle_areas(fewer[kept]).sum() == pytest.approx(triangle_areas(vertices[faces]).sum(), rel=0.05)


def test_a_small_mesh_stays_as_it_is():
    vertices, faces = sphere()
    same, also = clustered(vertices, faces, len(faces))
    assert same is vertices and also is faces


def test_both_sides_of_a_thin_wall_stay():
    vertices, faces = plate(thickness=1e-4)
    fewer, kept = clustered(vertices, faces, 800)
    assert len(kept) <= TOLERATED * 800
    heights = fewer[kept][:, :, 2]
    assert (np.ptp(heights, axis=1) == 0).all()  # no triangle joins the sides
    assert 0.4 < (heights[:, 0] > 0).mean() < 0.6


def test_a_mesh_of_one_place_ends():
    fewer, kept = clustered(np.zeros((300, 3)), np.arange(300).reshape(-1, 3), 10)
    assert len(kept) == 0 and len(fewer) <= 6


def test_equal_keys_have_equal_numbers_in_order_of_appearance():
    keys = np.random.default_rng(1).integers(-40, 40, 1000) * 2**54
    numbers, total = numbered_keys(keys)
    first = {}
    for key in keys:
        first.setdefault(key, len(first))
    assert total == len(first) and numbers.tolist() == [first[key] for key in keys]


def test_compiled_loops_have_the_bits_of_numpy():
    generator = np.random.default_rng(2)
    vertices, faces = generator.normal(size=(300, 3)), generator.integers(0, 300, (1000, 3))
    along, low, edge = generator.normal(size=(300, 3)), vertices.min(axis=0), 0.7
    axis = np.abs(along).argmax(axis=1)
    way = facing(along)
    assert np.array_equal(way, 2 * axis + (along[np.arange(300), axis] > 0))
    x, y, z = ((vertices - low) / edge).astype(np.int64).T
    keys = cube_keys(vertices, low, edge, 1000, way)
    assert np.array_equal(keys, ((x * 1000 + y) * 1000 + z) * 6 + way)
    number, total = numbered_keys(keys)
    assert 10 < total < 300  # some are united
    sums = np.stack([np.bincount(number, vertices[:, k], total) for k in range(3)], axis=1)
    assert np.array_equal(means(vertices, number, total), sums / np.bincount(number)[:, None])
    corners = number[faces]
    whole = (corners != np.roll(corners, 1, axis=1)).all(axis=1)
    assert np.array_equal(with_three_corners(faces, number), corners[whole]) and 0 < whole.sum() < len(faces)
