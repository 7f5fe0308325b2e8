"""The search with leaves of flat boxes beside the plain one: the same bits, within limits and in padded leaves."""

import numpy as np
import pytest

from neuralparts.distance import flat_search_kernels, search_kernels
from neuralparts.distance.search import NO_GUESS, NO_LIMIT, TriangleSearch


def needles(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Long thin triangles at all angles to the axes: vertices (3 count, 3) and faces (count, 3)."""
    generator = np.random.default_rng(seed)
    start, end = generator.uniform(-0.9, 0.9, (2, count, 3))
    corners = np.stack([start, end, end + generator.normal(0, 0.01, (count, 3))], axis=1)
    return corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


def plain(search: TriangleSearch, points: np.ndarray, limit: np.ndarray = NO_LIMIT) -> np.ndarray:
    """The distances (N,) by the search with leaves of four triangles."""
    nearest, distance = np.empty(len(points), dtype=np.int32), np.empty(len(points), dtype=np.float32)
    outputs = nearest, np.empty((0, 3), dtype=np.float32), distance
    search_kernels.search_block(points, NO_GUESS, limit, search.tree, search.frames, *outputs)
    return distance


@pytest.mark.parametrize("count", [1, 3, 17, 300])
def test_distances_are_those_of_the_plain_search_to_the_bit(count):
    search, points = TriangleSearch(*needles(count)), np.random.default_rng(1).uniform(-1, 1, (5000, 3))
    leaves = flat_search_kernels.flat_leaves(search.frames, *search.tree[1:])
    nearest, distance = np.empty(len(points), dtype=np.int32), np.empty(len(points), dtype=np.float32)
    flat_search_kernels.search_flat(points, NO_LIMIT, search.tree, leaves, search.frames, nearest, distance)
    assert np.array_equal(distance, plain(search, points))


def test_a_mesh_of_needles_takes_the_flat_leaves_and_keeps_its_limits():
    search, generator = TriangleSearch(*needles(300)), np.random.default_rng(2)
    points, limit = generator.uniform(-1, 1, (5000, 3)), generator.uniform(0, 0.2, 5000).astype(np.float32)
    assert search.is_aslant and not search.is_crowded
    exact = plain(search, points)
    _, face, found = search.nearest(points, with_points=False, limit=limit)
    near = exact < limit
    assert near.any() and not near.all()
    assert np.array_equal(found[near], exact[near]) and (found[~near] >= limit[~near]).all()
    assert face.min() >= 0 and face.max() < 300


def test_every_triangle_has_one_place_in_a_leaf():
    search = TriangleSearch(*needles(300))
    leaf, start, boxes = flat_search_kernels.flat_leaves(search.frames, *search.tree[1:])
    taken = boxes[:, 0] != np.float32(flat_search_kernels.NOWHERE)
    places = np.sort((start[:, None] + np.arange(taken.shape[1]))[taken])
    assert np.array_equal(places, np.arange(300)) and leaf.max() == len(start) - 1
