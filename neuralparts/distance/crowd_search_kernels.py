"""Compiled loops of the search for closest points in crowded meshes, where a point lies in the boxes of thousands of
triangles.

Comes in: the tree and the frames (F, 15) float64 of `search_kernels`, and points (N, 3) float64. Goes out: the position
of the nearest triangle of each point.

Large triangles that overlap everywhere defeat a tree of boxes: each point lies in the boxes of many. So the box of a
triangle in its own plane is tested before the triangle: as long as its longest side, as wide as its height over that
side, and flat. A search tests those of all triangles of a large leaf in one loop without branches, in float32, which
the compiler vectorises. Few pass, since such a box is not much larger than its triangle.
"""

import numpy as np

from neuralparts.distance.common_kernels import compiled, near_order, vectorised
from neuralparts.distance.search_kernels import STACK, box_distance2, triangle_distance2

# Triangles in a leaf of the search, at most; smaller leaves of the tree are taken together. On five crowded meshes 128
# was faster than 32 on all, and than 64 on all but one, where it was as fast.
LEAF_SIZE = 128
# Rows of a frame that the boxes need, as `search_kernels.FRAME_COLUMNS` lists them: all but the third corner's place
# along the longest side.
BOX_COLUMNS = [*range(13), 14]
# Bound on the rounding of a distance in float32, as a fraction of the coordinates, domain units.
ROUNDING = 1e-6


def flat_boxes(frames: np.ndarray) -> np.ndarray:
    """(F, 15) float64 frames -> (14, F) float32 boxes of the triangles in their planes, see BOX_COLUMNS."""
    return np.ascontiguousarray(frames[:, BOX_COLUMNS].T.astype(np.float32))


@compiled
def node_ranges(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(M, 2) int32: the first triangle of each node of a tree, and the one after its last.

    first, count: of `build_tree`.
    """
    ranges = np.empty((len(first), 2), dtype=np.int32)
    for node in range(len(first) - 1, -1, -1):  # children have larger numbers than their parents
        if count[node] > 0:
            ranges[node, 0], ranges[node, 1] = first[node], first[node] + count[node]
        else:
            ranges[node, 0], ranges[node, 1] = ranges[first[node], 0], ranges[first[node] + 1, 1]
    return ranges


@compiled
def triangles_around(points: np.ndarray, boxes: np.ndarray, first: np.ndarray, count: np.ndarray) -> float:
    """Triangles in the leaves whose boxes hold a point, on average over points (N, 3) float64.

    boxes, first, count: of `build_tree`.
    """
    stack, total = np.empty(STACK, dtype=np.int32), 0
    for i in range(len(points)):
        waiting = 1
        stack[0] = 0
        while waiting > 0:
            waiting -= 1
            node = stack[waiting]
            if box_distance2(points[i, 0], points[i, 1], points[i, 2], boxes, node) == 0:
                total += count[node]
                if count[node] == 0:
                    stack[waiting], stack[waiting + 1] = first[node], first[node] + 1
                    waiting += 2
    return total / max(len(points), 1)


@vectorised
def _fill_bounds(px, py, pz, rounding, flat, start, end, bounds):
    """Fill the first bounds with squared distances to the flat boxes of triangles from start up to end, or less."""
    zero = np.float32(0)
    from_x, from_y, from_z = flat[0][start:end], flat[1][start:end], flat[2][start:end]
    along_x, along_y, along_z = flat[3][start:end], flat[4][start:end], flat[5][start:end]
    across_x, across_y, across_z = flat[6][start:end], flat[7][start:end], flat[8][start:end]
    normal_x, normal_y, normal_z = flat[9][start:end], flat[10][start:end], flat[11][start:end]
    length, top = flat[12][start:end], flat[13][start:end]
    for j in range(end - start):
        x, y, z = px - from_x[j], py - from_y[j], pz - from_z[j]
        along = x * along_x[j] + y * along_y[j] + z * along_z[j]
        across = x * across_x[j] + y * across_y[j] + z * across_z[j]
        height = abs(x * normal_x[j] + y * normal_y[j] + z * normal_z[j]) - rounding
        beside = max(-along, along - length[j]) - rounding
        beyond = max(-across, across - top[j]) - rounding
        height, beside, beyond = max(height, zero), max(beside, zero), max(beyond, zero)
        bounds[j] = height * height + beside * beside + beyond * beyond


@compiled
def _search(px, py, pz, nearest, boxes, first, ranges, frames, flat, stack, stack2, bounds):
    """The position of the triangle nearest to a point; as `search_kernels.search_tree`, with larger leaves."""
    best2 = triangle_distance2(px, py, pz, frames[nearest], np.inf)
    rounding = np.float32(ROUNDING * (1 + abs(px) + abs(py) + abs(pz)))
    waiting = 1
    stack[0], stack2[0] = 0, box_distance2(px, py, pz, boxes, 0)
    while waiting > 0:
        waiting -= 1
        node, distance2 = stack[waiting], stack2[waiting]
        while distance2 < best2 and ranges[node, 1] - ranges[node, 0] > LEAF_SIZE:
            left, right = first[node], first[node] + 1
            left2 = box_distance2(px, py, pz, boxes, left)
            right2 = box_distance2(px, py, pz, boxes, right)
            if right2 < left2:
                left, right, left2, right2 = right, left, right2, left2
            if right2 < best2:
                stack[waiting], stack2[waiting] = right, right2
                waiting += 1
            node, distance2 = left, left2
        if distance2 < best2:
            start, end = ranges[node, 0], ranges[node, 1]
            _fill_bounds(np.float32(px), np.float32(py), np.float32(pz), rounding, flat, start, end, bounds)
            for j in range(end - start):
                if bounds[j] < best2:
                    candidate2 = triangle_distance2(px, py, pz, frames[start + j], best2)
                    if candidate2 < best2:
                        best2, nearest = candidate2, start + j
    return nearest


@compiled
def nearest_in_crowd(
    points: np.ndarray,
    boxes: np.ndarray,
    first: np.ndarray,
    ranges: np.ndarray,
    frames: np.ndarray,
    flat: np.ndarray,
) -> np.ndarray:
    """(N,) int32 positions of the triangles nearest to points (N, 3) float64.

    boxes, first: of `build_tree`; ranges: of `node_ranges`; frames (F, 15) of the tree's triangles; flat: of
    `flat_boxes`.
    """
    stack, stack2, bounds = np.empty(STACK, dtype=np.int32), np.empty(STACK), np.empty(LEAF_SIZE, dtype=np.float32)
    nearest, position = np.empty(len(points), dtype=np.int32), 0
    for i in near_order(points):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        position = _search(px, py, pz, position, boxes, first, ranges, frames, flat, stack, stack2, bounds)
        nearest[i] = position
    return nearest
