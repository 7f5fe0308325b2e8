"""Corners of the kernels: the order of the points, the tree of boxes."""

import numpy as np
import pytest

from neuralparts.distance.common_kernels import near_order
from neuralparts.distance.search_kernels import build_tree, triangle_boxes, triangle_frames
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


def apart(triangles):
    """Triangles (F, 3, 3) as vertices (3 F, 3) and faces (F, 3)."""
    return triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3)


def frames_slowly(triangles):
    """The slow twin of `triangle_frames` for triangles with an area: (F, 15) from (F, 3, 3)."""
    frames = []
    for triangle in triangles:
        longest = np.argmax([np.sum((triangle[(k + 1) % 3] - triangle[k]) ** 2) for k in range(3)])
        origin, end, third = (triangle[(longest + k) % 3] for k in range(3))
        length = np.linalg.norm(end - origin)
        along = (end - origin) / length
        across = (third - origin) - (third - origin) @ along * along
        height = np.linalg.norm(across)
        across /= height
        frames.append([*origin, *along, *across, *np.cross(along, across), length, (third - origin) @ along, height])
    return np.array(frames)


def test_frames_agree_with_their_slow_twin_in_any_order(generator):
    triangles = generator.normal(size=(300, 3, 3))
    order = generator.permutation(300)
    assert triangle_frames(*apart(triangles), order) == pytest.approx(frames_slowly(triangles[order]), abs=1e-9)


@pytest.mark.parametrize("kind", ["point", "line", "needle"])
def test_frame_of_a_triangle_without_area_is_its_longest_side(kind, generator):
    triangles = generator.normal(size=(200, 3, 3))
    fraction = generator.uniform(size=(200, 1))
    triangles[:, 2] = triangles[:, 0] + fraction * (triangles[:, 1] - triangles[:, 0])
    if kind == "point":
        triangles[:] = triangles[:, :1]
    elif kind == "needle":
        triangles[:, 2] += 1e-17 * generator.normal(size=(200, 3))
    frames = triangle_frames(*apart(triangles), np.arange(200))
    axes = frames[:, 3:12].reshape(-1, 3, 3)
    assert np.abs(axes @ axes.transpose(0, 2, 1) - np.eye(3)).max() < 1e-14  # at right angles, of length 1
    lengths = np.linalg.norm(triangles[:, 1] - triangles[:, 0], axis=1)
    assert frames[:, 12] == pytest.approx(lengths, abs=1e-15) and np.abs(frames[:, 14]).max() < 1e-14


def test_boxes_of_triangles_are_their_extremes(generator):
    triangles = generator.normal(size=(100, 3, 3))
    low, high = triangle_boxes(*apart(triangles))
    assert (low == triangles.min(axis=1)).all() and (high == triangles.max(axis=1)).all()
