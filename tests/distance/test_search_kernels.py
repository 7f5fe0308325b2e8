"""Corners of the kernels: the order of the points, the tree of boxes."""

import numpy as np
import pytest

from neuralparts.distance.common_kernels import near_order
from neuralparts.distance.search_kernels import build_tree
from tests.distance.brute import soup


@pytest.mark.parametrize("shape", ["one place", "a line", "spread"])
def test_near_order_is_a_permutation(shape, generator):
    points = generator.uniform(-1, 1, (1000, 3)) * {"one place": 0, "a line": [1, 0, 0], "spread": 1}[shape]
    assert (np.sort(near_order(points)) == np.arange(1000)).all()


def test_near_order_puts_neighbours_together(generator):
    points = generator.uniform(-1, 1, (20000, 3))
    step = lambda order: np.linalg.norm(np.diff(points[order], axis=0), axis=1).mean()  # noqa: E731
    assert step(near_order(points)) < 0.1 * step(np.arange(20000))


def test_tree_holds_each_triangle_once_within_its_boxes(generator):
    triangles = soup(generator, 500).vertices.reshape(-1, 3, 3)
    triangles[100:200] = triangles[100]  # boxes that no split can part
    low, high = triangles.min(axis=1), triangles.max(axis=1)
    order, boxes, first, count = build_tree(low, high)
    held = np.concatenate([order[a : a + n] for a, n in zip(first, count, strict=True) if n])
    assert (np.sort(held) == np.arange(500)).all()
    for node in range(len(boxes)):
        inside = order[first[node] : first[node] + count[node]] if count[node] else None
        lows = low[inside] if count[node] else boxes[first[node] : first[node] + 2, :3]
        highs = high[inside] if count[node] else boxes[first[node] : first[node] + 2, 3:]
        assert (boxes[node, :3] == lows.min(axis=0)).all() and (boxes[node, 3:] == highs.max(axis=0)).all()
