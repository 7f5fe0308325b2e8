"""Compiled loops of the search for closest points: triangle frames, a tree of boxes, the search; float64.

Comes in: corners (F, 3, 3) and points (N, 3), float64. Goes out: positions of triangles, closest points, distances.
"""

import math

import numpy as np

from neuralparts.distance.common_kernels import clamp, compiled, near_order

# Bins along an axis between which a node of the tree may be split; more bins do not make the search faster.
SPLIT_BINS = 16
# Triangles in a leaf: 4 was as fast as 2 and faster than 8, and needs half the nodes of 2.
LEAF_SIZE = 4
# From this depth on a node is halved by count, so that the stack of the search can have a fixed size.
DEEP = 48
STACK = DEEP + 40

# --------------------------------------------------------------------------------------------------- triangle frames

# Columns of a frame: the origin, at one end of the longest side (3); the unit vector along that side (3); the unit
# vector across it, in the plane of the triangle (3); the unit normal (3); the length of the longest side; the third
# corner's coordinates along and across.
FRAME_COLUMNS = 15
# The place of the third corner along the longest side if all corners are at one place: a length that is no length.
TINY = 1e-300


@compiled
def triangle_boxes(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """vertices (V, 3) float64, faces (F, 3) int64 -> the low and high corners of the faces' boxes, (F, 3) each."""
    low, high = np.empty((len(faces), 3)), np.empty((len(faces), 3))
    for t in range(len(faces)):
        for x in range(3):
            a, b, c = vertices[faces[t, 0], x], vertices[faces[t, 1], x], vertices[faces[t, 2], x]
            low[t, x], high[t, x] = min(a, b, c), max(a, b, c)
    return low, high


@compiled
def triangle_frames(vertices: np.ndarray, faces: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Frames (F, 15) of the faces (F, 3) int64 over vertices (V, 3) float64, in an order (F,); see FRAME_COLUMNS.

    In its frame a needle is as harmless as any other triangle, because nothing is divided by its area. A triangle
    without area gets any direction across and acts as its longest side.
    """
    frames = np.empty((len(order), FRAME_COLUMNS))
    triangle, side, third, direction = np.empty((3, 3)), np.empty(3), np.empty(3), np.empty(3)
    for i in range(len(order)):
        for k in range(3):
            triangle[k] = vertices[faces[order[i], k]]
        frame = frames[i]
        along, across = frame[3:6], frame[6:9]
        # The longest side: side k runs from corner k to corner k + 1. The frame begins where it begins.
        longest, length2 = 0, -1.0
        for k in range(3):
            side2 = 0.0
            for x in range(3):
                side2 += (triangle[(k + 1) % 3, x] - triangle[k, x]) ** 2
            if side2 > length2:
                longest, length2 = k, side2
        for x in range(3):
            frame[x] = triangle[longest, x]
            side[x] = triangle[(longest + 1) % 3, x] - frame[x]
            third[x] = triangle[(longest + 2) % 3, x] - frame[x]
        # The unit vector along it, or any if all corners are at one place.
        length = math.sqrt(_dot(side, side))
        if length == 0:
            side[0], side[1], side[2] = 1.0, 0.0, 0.0
        _divide(side, math.sqrt(_dot(side, side)), along)
        # The third corner's coordinate along it, and the unit vector towards that corner, at right angles to the side.
        position = _dot(third, along)
        for x in range(3):
            direction[x] = third[x] - position * along[x]
        _set_across(along, direction, across)
        frame[9], frame[10], frame[11] = (
            along[1] * across[2] - along[2] * across[1],
            along[2] * across[0] - along[0] * across[2],
            along[0] * across[1] - along[1] * across[0],
        )
        # Rounding may put the foot of the third corner outside of the longest side, or the corner below it: clamp both.
        frame[12], frame[13], frame[14] = length, clamp(position, 0.0, length), max(_dot(third, across), 0.0)
        if length == 0:
            frame[13] = TINY  # or `_plane_foot` would take a point above the frame's first axis for one inside
    return frames


@compiled
def _dot(a, b):
    """The scalar product of two vectors (3,)."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@compiled
def _divide(vector, number, result):
    """Fill result (3,) with a vector (3,) over a number."""
    for x in range(3):
        result[x] = vector[x] / number


@compiled
def _set_across(along, direction, across):
    """Fill across (3,): the unit vector at right angles to `along` nearest to `direction`, or any if that is zero.

    `direction` (3,) is at right angles to `along` except for rounding. If more of it lies along `along` than across, it
    is nothing but rounding, and is ignored.
    """
    # Scaled to a largest component of 1, so that no square underflows.
    scale = max(abs(direction[0]), abs(direction[1]), abs(direction[2]))
    _divide(direction, scale if scale > 0 else 1.0, across)
    # The length of the part across; if it is short, the axis that is farthest from `along` takes its place.
    _take_off(across, along, across)
    if math.sqrt(_dot(across, across)) < 0.5:
        farthest = 0
        for x in range(1, 3):
            if abs(along[x]) < abs(along[farthest]):
                farthest = x
        across[:] = 0
        across[farthest] = 1.0
    else:
        _divide(direction, scale, across)
    for _ in range(2):  # the second round removes the rounding of the first one
        _take_off(across, along, across)
        _divide(across, math.sqrt(_dot(across, across)), across)


@compiled
def _take_off(vector, along, result):
    """Fill result (3,) with a vector (3,) without its part along a unit vector (3,)."""
    part = _dot(vector, along)
    for x in range(3):
        result[x] = vector[x] - part * along[x]


@compiled
def _side_foot(x, y, from_x, from_y, to_x, to_y):
    """The point of a side that is nearest to (x, y)."""
    step_x, step_y = to_x - from_x, to_y - from_y
    length2 = step_x * step_x + step_y * step_y
    fraction = 0.0
    if length2 > 0:
        fraction = clamp(((x - from_x) * step_x + (y - from_y) * step_y) / length2, 0.0, 1.0)
    return from_x + fraction * step_x, from_y + fraction * step_y


@compiled
def _plane_foot(x, y, length, top_x, top_y):
    """The point nearest to (x, y) in the triangle (0, 0), (length, 0), (top_x, top_y) of the plane.

    The first side is the longest, so both angles at it are acute. For a point below that side, the nearest point lies
    on it.
    """
    foot_x, foot_y = x, y
    if y <= 0:
        foot_x, foot_y = clamp(x, 0.0, length), 0.0
    else:
        outside_left = top_x * y > top_y * x
        outside_right = (length - top_x) * y > top_y * (length - x)
        if outside_left:
            foot_x, foot_y = _side_foot(x, y, 0.0, 0.0, top_x, top_y)
        if outside_right:
            right_x, right_y = _side_foot(x, y, length, 0.0, top_x, top_y)
            left = (foot_x - x) ** 2 + (foot_y - y) ** 2
            # Outside of both sides, as over the top corner: the nearer of the two points.
            if not outside_left or (right_x - x) ** 2 + (right_y - y) ** 2 < left:
                foot_x, foot_y = right_x, right_y
    return foot_x, foot_y


@compiled
def _coordinates(px, py, pz, frame):
    """A point in the frame of a triangle: along, across, height over its plane."""
    x, y, z = px - frame[0], py - frame[1], pz - frame[2]
    return (
        x * frame[3] + y * frame[4] + z * frame[5],
        x * frame[6] + y * frame[7] + z * frame[8],
        x * frame[9] + y * frame[10] + z * frame[11],
    )


@compiled
def triangle_distance2(px, py, pz, frame, reach2):
    """The squared distance to a triangle; if it is over reach2, any number over reach2."""
    x, y, height = _coordinates(px, py, pz, frame)
    distance2 = height * height
    if distance2 < reach2:
        foot_x, foot_y = _plane_foot(x, y, frame[12], frame[13], frame[14])
        distance2 += (x - foot_x) ** 2 + (y - foot_y) ** 2
    return distance2


# ------------------------------------------------------------------------------------------------------ tree of boxes


def build_tree(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A tree over boxes by the surface area heuristic (Wald 2007), binned along the axis on which they spread widest.

    low, high: (F, 3) float64 corners of the boxes. Returns order (F,) int64, the boxes in the order of the leaves;
    boxes (M, 6) float64, low and high corner of each node; first (M,) and count (M,) int32. A leaf holds
    order[first : first + count]. An inner node has count 0 and the children first and first + 1.
    """
    size = len(low)
    order, boxes = np.arange(size), np.empty((2 * size + 1, 6))
    first, count = np.zeros(2 * size + 1, dtype=np.int32), np.zeros(2 * size + 1, dtype=np.int32)
    pending, bins = np.zeros((STACK, 4), dtype=np.int64), np.empty((SPLIT_BINS, 7))
    nodes = _grow_tree(order, low, high, 0.5 * (low + high), boxes, first, count, pending, bins)
    return order, boxes[:nodes].copy(), first[:nodes].copy(), count[:nodes].copy()


@compiled
def _grow_tree(order, low, high, centre, boxes, first, count, pending, bins):
    """Fill the arrays of build_tree; returns the number of nodes.

    pending (STACK, 4): the nodes still to split, as node, start, end, depth.
    """
    pending[0, 2] = len(order)
    waiting, nodes = 1, 1
    while waiting > 0:
        waiting -= 1
        node, start, end = pending[waiting, 0], pending[waiting, 1], pending[waiting, 2]
        depth = pending[waiting, 3] + 1
        axis = _enclose(boxes, node, order, low, high, centre, start, end)
        if end - start <= LEAF_SIZE:
            first[node], count[node] = start, end - start
            continue
        middle = (start + end) // 2
        if axis >= 0 and depth < DEEP:
            middle = _split(order, low, high, centre, axis, start, end, bins)
        first[node] = nodes
        for child, child_start, child_end in ((nodes, start, middle), (nodes + 1, middle, end)):
            pending[waiting, 0], pending[waiting, 1], pending[waiting, 2] = child, child_start, child_end
            pending[waiting, 3] = depth
            waiting += 1
        nodes += 2
    return nodes


@compiled
def _enclose(boxes, node, order, low, high, centre, start, end):
    """Fill the box of a node; returns the axis on which its centres spread widest, or -1 if all centres are equal."""
    widest, axis = 0.0, -1
    for k in range(3):
        lowest, highest, first_centre, last_centre = np.inf, -np.inf, np.inf, -np.inf
        for i in range(start, end):
            t = order[i]
            lowest, highest = min(lowest, low[t, k]), max(highest, high[t, k])
            first_centre, last_centre = min(first_centre, centre[t, k]), max(last_centre, centre[t, k])
        boxes[node, k], boxes[node, k + 3] = lowest, highest
        if last_centre - first_centre > widest:
            widest, axis = last_centre - first_centre, k
    return axis


@compiled
def _split(order, low, high, centre, axis, start, end, bins):
    """Reorder order[start:end] into two groups; returns the start of the second one."""
    first_centre, last_centre = np.inf, -np.inf
    for i in range(start, end):
        value = centre[order[i], axis]
        first_centre, last_centre = min(first_centre, value), max(last_centre, value)
    scale = SPLIT_BINS / (last_centre - first_centre)
    if not np.isfinite(scale):
        return (start + end) // 2
    _fill_bins(order, low, high, centre, axis, start, end, first_centre, scale, bins)
    last_left = _cheapest_cut(bins)
    # Partition in place: boxes of bins up to last_left go to the front.
    i, j = start, end - 1
    while i <= j:
        if min(int((centre[order[i], axis] - first_centre) * scale), SPLIT_BINS - 1) <= last_left:
            i += 1
        else:
            order[i], order[j] = order[j], order[i]
            j -= 1
    return i


@compiled
def _fill_bins(order, low, high, centre, axis, start, end, origin, scale, bins):
    """Fill bins (SPLIT_BINS, 7): low corner, high corner and count of the boxes whose centre falls in each."""
    for b in range(SPLIT_BINS):
        _empty(bins[b])
    for i in range(start, end):
        t = order[i]
        b = min(int((centre[t, axis] - origin) * scale), SPLIT_BINS - 1)
        bins[b, 6] += 1
        for k in range(3):
            bins[b, k] = min(bins[b, k], low[t, k])
            bins[b, k + 3] = max(bins[b, k + 3], high[t, k])


@compiled
def _cheapest_cut(bins):
    """The last bin of the left group, for the least sum of count times box surface. No group is empty."""
    # (SPLIT_BINS,) the cost of all bins from b on, gathered from the right.
    right_cost = np.zeros(SPLIT_BINS)
    group = np.empty(7)
    _empty(group)
    for b in range(SPLIT_BINS - 1, 0, -1):
        right_cost[b] = _grow(group, bins[b])
    # The cost of all bins up to b, gathered from the left.
    _empty(group)
    cheapest, cut = np.inf, 0
    for b in range(SPLIT_BINS - 1):
        cost = _grow(group, bins[b]) + right_cost[b + 1]
        if cost < cheapest:  # a cut beside an empty bin costs the same: the first one wins, so no group is empty
            cheapest, cut = cost, b
    return cut


@compiled
def _empty(group):
    """Make group (7,) an empty box with count 0."""
    for k in range(3):
        group[k], group[k + 3] = np.inf, -np.inf
    group[6] = 0


@compiled
def _grow(group, added):
    """Add a bin to the group; returns its count times half the surface of its box."""
    if added[6] > 0:
        group[6] += added[6]
        for k in range(3):
            group[k] = min(group[k], added[k])
            group[k + 3] = max(group[k + 3], added[k + 3])
    if group[6] == 0:
        return 0.0
    x, y, z = group[3] - group[0], group[4] - group[1], group[5] - group[2]
    return group[6] * (x * y + y * z + z * x)


# ------------------------------------------------------------------------------------------------------- the search


@compiled
def box_distance2(px, py, pz, boxes, node):
    """The squared distance to the box of a node; 0 inside it."""
    x = max(boxes[node, 0] - px, px - boxes[node, 3], 0.0)
    y = max(boxes[node, 1] - py, py - boxes[node, 4], 0.0)
    z = max(boxes[node, 2] - pz, pz - boxes[node, 5], 0.0)
    return x * x + y * y + z * z


@compiled
def search_tree(px, py, pz, nearest, limit2, boxes, first, count, frames, stack, stack2):
    """The position of the triangle nearest to a point; if its squared distance is not below limit2, any position.

    nearest: the position of any triangle; the nearer it is, the faster the search. stack, stack2 (STACK,): space for
    the nodes still to visit and the squared distances to their boxes.
    """
    best2 = min(triangle_distance2(px, py, pz, frames[nearest], np.inf), limit2)
    waiting = 1
    stack[0], stack2[0] = 0, box_distance2(px, py, pz, boxes, 0)
    while waiting > 0:
        waiting -= 1
        node, distance2 = stack[waiting], stack2[waiting]
        # Go down to the nearer child each time, and keep the other for later if it is near enough.
        while distance2 < best2 and count[node] == 0:
            left, right = first[node], first[node] + 1
            left2 = box_distance2(px, py, pz, boxes, left)
            right2 = box_distance2(px, py, pz, boxes, right)
            if right2 < left2:
                left, right, left2, right2 = right, left, right2, left2
            if right2 < best2:
                stack[waiting], stack2[waiting] = right, right2
                waiting += 1
            node, distance2 = left, left2
        # A leaf: compare its triangles.
        if distance2 < best2:
            for j in range(first[node], first[node] + count[node]):
                candidate2 = triangle_distance2(px, py, pz, frames[j], best2)
                if candidate2 < best2:
                    best2, nearest = candidate2, j
    return nearest


@compiled
def foot_and_distance(px, py, pz, frame):
    """The point of a triangle that is nearest to a point, along and across in its frame; and the distance to it."""
    x, y, height = _coordinates(px, py, pz, frame)
    foot_x, foot_y = _plane_foot(x, y, frame[12], frame[13], frame[14])
    return foot_x, foot_y, math.sqrt(height * height + (x - foot_x) ** 2 + (y - foot_y) ** 2)


@compiled
def place_of_foot(frame, foot_x, foot_y, place):
    """Fill place (3,): the point of a triangle that lies at (foot_x, foot_y) in its frame."""
    for k in range(3):
        place[k] = frame[k] + foot_x * frame[3 + k] + foot_y * frame[6 + k]


@compiled
def search_block(
    points: np.ndarray,
    guess: np.ndarray,
    limit: np.ndarray,
    tree: tuple[np.ndarray, np.ndarray, np.ndarray],
    frames: np.ndarray,
    nearest: np.ndarray,
    closest: np.ndarray,
    distance: np.ndarray,
) -> None:
    """Closest points for a block of points.

    points (N, 3) float64; guess (N,) int32 positions of triangles that may be nearest, or (0,) for the neighbour's
    answer; limit (N,) float32, or (0,): a point that is not nearer gets any triangle; tree: (boxes, first, count) of
    `build_tree` over the first of the frames (F, 15). Fills nearest (N,) int32 positions, closest (N, 3) or (0, 3)
    float32 and the unsigned distance (N,) float32.
    """
    boxes, first, count = tree
    position, stack, stack2 = 0, np.empty(STACK, dtype=np.int32), np.empty(STACK)
    for i in near_order(points):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        position = guess[i] if len(guess) > 0 else position
        limit2 = np.float64(limit[i]) ** 2 if len(limit) > 0 else np.inf
        position = search_tree(px, py, pz, position, limit2, boxes, first, count, frames, stack, stack2)
        nearest[i] = position
        foot_x, foot_y, distance[i] = foot_and_distance(px, py, pz, frames[position])
        if len(closest) > 0:
            place_of_foot(frames[position], foot_x, foot_y, closest[i])
