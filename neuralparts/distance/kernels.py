"""Compiled inner loops of distance.py: closest points on triangles and winding numbers, exact in float64.

Owns: a tree of boxes over triangles with its search, and a grid of columns with its count of signed ray crossings.
Comes in: float64 arrays. Goes out: positions of triangles, closest points, distances, winding numbers. Every function
releases the interpreter lock, so that distance.py can run blocks of points in threads.
Numba compiles each at its first call (about ten seconds in all) and keeps the machine code in `__pycache__`; later
processes load it in half a second.
"""

import math

import numba
import numpy as np

compiled = numba.njit(nogil=True, cache=True)
# Without a check for division by zero, which would keep the compiler from doing several numbers at a time.
quick = numba.njit(nogil=True, cache=True, error_model="numpy")

# Boxes compared along an axis when a node of the tree is split; more gives no faster search.
SPLIT_BINS = 16
# Triangles in a leaf: 4 was as fast as 2 and faster than 8, and needs half the nodes of 2.
LEAF_SIZE = 4
# Depth from which a node is halved by count, so that the stack of the search can have a fixed size.
DEEP = 48
STACK = DEEP + 40

# --------------------------------------------------------------------------------------------------- triangle frames

# Columns of a frame: origin at one end of the longest side, unit vector along it, unit vector across it in the plane of
# the triangle, unit normal; then the length of the longest side, and where along and across the third corner lies.
FRAME_COLUMNS = 15
# Triangles framed at a time, to bound the temporary arrays (30 MiB).
FRAME_CHUNK = 65536


def triangle_frames(triangles):
    """(F, 3, 3) corners -> (F, 15) frames, see FRAME_COLUMNS.

    In such a frame a needle is as harmless as any other triangle: nothing is divided by its area. A triangle without
    area gets any direction across and acts as its longest side.
    """
    frames = np.empty((len(triangles), FRAME_COLUMNS))
    for start in range(0, len(triangles), FRAME_CHUNK):
        _fill_frames(triangles[start : start + FRAME_CHUNK], frames[start : start + FRAME_CHUNK])
    return frames


def _fill_frames(triangles, frames):
    """Fill (F, 15) frames of (F, 3, 3) triangles."""
    rows = np.arange(len(triangles))
    longest = ((np.roll(triangles, -1, axis=1) - triangles) ** 2).sum(axis=2).argmax(axis=1)
    origin = triangles[rows, longest]
    side, third = triangles[rows, longest - 2] - origin, triangles[rows, longest - 1] - origin
    length = np.linalg.norm(side, axis=1)
    along = np.where(length[:, None] > 0, side, [1.0, 0.0, 0.0])
    along /= np.linalg.norm(along, axis=1)[:, None]
    position = (third * along).sum(axis=1)
    across = _across(along, third - position[:, None] * along)
    frames[:, 0:3], frames[:, 3:6], frames[:, 6:9] = origin, along, across
    frames[:, 9:12] = np.cross(along, across)
    frames[:, 12], frames[:, 13] = length, np.clip(position, 0.0, length)
    frames[:, 14] = np.maximum((third * across).sum(axis=1), 0.0)


def _across(along, direction):
    """Unit vectors at right angles to `along`, nearest to `direction`, or any where that has no length.

    `direction` (N, 3) is at right angles already but for rounding; where more of it lies along `along` it is nothing
    but rounding, and would leave a vector that points along `along`.
    """
    scale = np.abs(direction).max(axis=1)[:, None]
    direction = direction / np.where(scale > 0, scale, 1.0)
    left = np.linalg.norm(direction - (direction * along).sum(axis=1)[:, None] * along, axis=1)
    anything = np.eye(3)[np.abs(along).argmin(axis=1)]
    direction = np.where((left < 0.5)[:, None], anything, direction)
    for _ in range(2):  # the second round removes what the rounding of the first one left
        direction = direction - (direction * along).sum(axis=1)[:, None] * along
        direction /= np.linalg.norm(direction, axis=1)[:, None]
    return direction


@compiled
def _clamp(value, low, high):
    return min(max(value, low), high)


@compiled
def _side_foot(x, y, from_x, from_y, to_x, to_y):
    """The point nearest to (x, y) on a side."""
    step_x, step_y = to_x - from_x, to_y - from_y
    length2 = step_x * step_x + step_y * step_y
    share = 0.0
    if length2 > 0:
        share = _clamp(((x - from_x) * step_x + (y - from_y) * step_y) / length2, 0.0, 1.0)
    return from_x + share * step_x, from_y + share * step_y


@compiled
def _plane_foot(x, y, length, top_x, top_y):
    """The point nearest to (x, y) in the triangle (0, 0), (length, 0), (top_x, top_y) of the plane.

    The first side is the longest, so the angles at it are acute: under it, only its own points are nearest.
    """
    foot_x, foot_y = x, y
    if y <= 0:
        foot_x, foot_y = _clamp(x, 0.0, length), 0.0
    else:
        outside_left = top_x * y > top_y * x
        outside_right = (length - top_x) * y > top_y * (length - x)
        if outside_left:
            foot_x, foot_y = _side_foot(x, y, 0.0, 0.0, top_x, top_y)
        if outside_right:
            right_x, right_y = _side_foot(x, y, length, 0.0, top_x, top_y)
            left = (foot_x - x) ** 2 + (foot_y - y) ** 2
            if not outside_left or (right_x - x) ** 2 + (right_y - y) ** 2 < left:
                foot_x, foot_y = right_x, right_y
    return foot_x, foot_y


@compiled
def _coordinates(px, py, pz, frame):
    """A point in the frame of a triangle: along, across, height."""
    x, y, z = px - frame[0], py - frame[1], pz - frame[2]
    return (
        x * frame[3] + y * frame[4] + z * frame[5],
        x * frame[6] + y * frame[7] + z * frame[8],
        x * frame[9] + y * frame[10] + z * frame[11],
    )


@compiled
def _triangle_distance2(px, py, pz, frame, reach2):
    """The squared distance to a triangle, or anything over reach2 where it is over reach2."""
    x, y, height = _coordinates(px, py, pz, frame)
    distance2 = height * height
    if distance2 < reach2:
        foot_x, foot_y = _plane_foot(x, y, frame[12], frame[13], frame[14])
        distance2 += (x - foot_x) ** 2 + (y - foot_y) ** 2
    return distance2


# ------------------------------------------------------------------------------------------------------ tree of boxes


def build_tree(low, high):
    """A tree of boxes over boxes by the surface area heuristic (Wald 2007), binned along the longest axis.

    low, high: (F, 3) boxes. Returns order (F,) int64, the boxes as the leaves hold them; boxes (M, 6), low and high of
    each node; first (M,) and count (M,) int32: a leaf holds order[first : first + count], an inner node has count 0
    and the children first and first + 1.
    """
    size = len(low)
    order, boxes = np.arange(size), np.empty((2 * size + 1, 6))
    first, count = np.zeros(2 * size + 1, dtype=np.int32), np.zeros(2 * size + 1, dtype=np.int32)
    pending, bins = np.zeros((STACK, 4), dtype=np.int64), np.empty((SPLIT_BINS, 7))
    nodes = _grow_tree(order, low, high, 0.5 * (low + high), boxes, first, count, pending, bins)
    return order, boxes[:nodes].copy(), first[:nodes].copy(), count[:nodes].copy()


@compiled
def _grow_tree(order, low, high, centre, boxes, first, count, pending, bins):
    """Fill the arrays of build_tree; the number of nodes. pending: nodes to split: node, start, end, depth."""
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
    """Fill the box of a node; the axis along which its centres lie widest apart, -1 where they are all one."""
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
    """Reorder order[start:end] into two groups; the start of the second one."""
    first_centre, last_centre = np.inf, -np.inf
    for i in range(start, end):
        value = centre[order[i], axis]
        first_centre, last_centre = min(first_centre, value), max(last_centre, value)
    scale = SPLIT_BINS / (last_centre - first_centre)
    if not np.isfinite(scale):
        return (start + end) // 2
    _fill_bins(order, low, high, centre, axis, start, end, first_centre, scale, bins)
    last_left = _cheapest_cut(bins)
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
    """bins (SPLIT_BINS, 7): low, high and count of the boxes whose centre falls in each."""
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
    """The last bin of the left group for the least sum of count times box surface. Both groups hold something."""
    right_cost = np.zeros(SPLIT_BINS)
    group = np.empty(7)
    _empty(group)
    for b in range(SPLIT_BINS - 1, 0, -1):
        right_cost[b] = _grow(group, bins[b])
    _empty(group)
    cheapest, cut = np.inf, 0
    for b in range(SPLIT_BINS - 1):
        cost = _grow(group, bins[b]) + right_cost[b + 1]
        if cost < cheapest:  # a bin beside an empty one costs the same: the first one wins, and no group is empty
            cheapest, cut = cost, b
    return cut


@compiled
def _empty(group):
    for k in range(3):
        group[k], group[k + 3] = np.inf, -np.inf
    group[6] = 0


@compiled
def _grow(group, added):
    """Take a bin into the group; count times half the surface of its box."""
    if added[6] > 0:
        group[6] += added[6]
        for k in range(3):
            group[k] = min(group[k], added[k])
            group[k + 3] = max(group[k + 3], added[k + 3])
    if group[6] == 0:
        return 0.0
    x, y, z = group[3] - group[0], group[4] - group[1], group[5] - group[2]
    return group[6] * (x * y + y * z + z * x)


@compiled
def _box_distance2(px, py, pz, boxes, node):
    x = max(boxes[node, 0] - px, px - boxes[node, 3], 0.0)
    y = max(boxes[node, 1] - py, py - boxes[node, 4], 0.0)
    z = max(boxes[node, 2] - pz, pz - boxes[node, 5], 0.0)
    return x * x + y * y + z * z


@compiled
def _search(px, py, pz, nearest, boxes, first, count, frames, stack, stack2):
    """The position of the triangle nearest to a point. nearest: the position of any triangle, the nearer the faster."""
    best2 = _triangle_distance2(px, py, pz, frames[nearest], np.inf)
    waiting = 1
    stack[0], stack2[0] = 0, _box_distance2(px, py, pz, boxes, 0)
    while waiting > 0:
        waiting -= 1
        node, distance2 = stack[waiting], stack2[waiting]
        while distance2 < best2 and count[node] == 0:
            left, right = first[node], first[node] + 1
            left2 = _box_distance2(px, py, pz, boxes, left)
            right2 = _box_distance2(px, py, pz, boxes, right)
            if right2 < left2:
                left, right, left2, right2 = right, left, right2, left2
            if right2 < best2:
                stack[waiting], stack2[waiting] = right, right2
                waiting += 1
            node, distance2 = left, left2
        if distance2 < best2:
            for j in range(first[node], first[node] + count[node]):
                candidate2 = _triangle_distance2(px, py, pz, frames[j], best2)
                if candidate2 < best2:
                    best2, nearest = candidate2, j
    return nearest


@compiled
def search_block(points, guess, tree, frames, nearest, closest, distance):
    """Closest points for a block of points.

    points (N, 3) float64; guess (N,) int32 positions of triangles that may be nearest, or (0,) to start each search
    from the answer for the neighbour; tree: (boxes, first, count) over the first of the frames (F, 15).
    Fills nearest (N,) int32, closest (N, 3) or (0, 3) float32 and distance (N,) float32.
    """
    boxes, first, count = tree
    stack, stack2 = np.empty(STACK, dtype=np.int32), np.empty(STACK)
    position = 0
    for i in near_order(points):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        if len(guess) > 0:
            position = guess[i]
        position = _search(px, py, pz, position, boxes, first, count, frames, stack, stack2)
        nearest[i] = position
        frame = frames[position]
        x, y, height = _coordinates(px, py, pz, frame)
        foot_x, foot_y = _plane_foot(x, y, frame[12], frame[13], frame[14])
        distance[i] = math.sqrt(height * height + (x - foot_x) ** 2 + (y - foot_y) ** 2)
        if len(closest) > 0:
            for k in range(3):
                closest[i, k] = frame[k] + foot_x * frame[3 + k] + foot_y * frame[6 + k]


# ------------------------------------------------------------------------------------------------- order of the points

# Bits an axis of the Morton code that a block is sorted by: 2^18 cells, and one pass of counting sort.
ORDER_BITS = 6


@compiled
def _spread(value):
    """abcdef -> a00b00c00d00e00f."""
    value = (value | (value << 8)) & 0x00F00F
    value = (value | (value << 4)) & 0x0C30C3
    return (value | (value << 2)) & 0x249249


@compiled
def near_order(points):
    """An order of (N, 3) points in which neighbours follow each other: Morton's, over the box of the points."""
    order = np.empty(len(points), dtype=np.int64)
    code = np.zeros(len(points), dtype=np.int32)
    start = np.zeros(2 ** (3 * ORDER_BITS) + 1, dtype=np.int32)
    for k in range(3):
        low, high = np.inf, -np.inf
        for i in range(len(points)):
            low, high = min(low, points[i, k]), max(high, points[i, k])
        scale = (2**ORDER_BITS - 0.001) / max(high - low, 1e-30)
        for i in range(len(points)):
            code[i] |= _spread(int((points[i, k] - low) * scale)) << k
    for i in range(len(points)):
        start[code[i] + 1] += 1
    for c in range(1, len(start)):
        start[c] += start[c - 1]
    for i in range(len(points)):
        order[start[code[i]]] = i
        start[code[i]] += 1
    return order


# ---------------------------------------------------------------------------------------------------- ray crossings

# Columns of a triangle over the plane that the rays are at right angles to, corners in the order of v:
# v of the three, u of the three, height of the three, top, sign of that order.
COLUMN_FIELDS = 11


@compiled
def column_records(triangles, axis):
    """(F, 3, 3) corners -> (F, 11) records for rays along +axis, see COLUMN_FIELDS; u, v, axis are right-handed."""
    records = np.empty((len(triangles), COLUMN_FIELDS))
    u, v = (axis + 1) % 3, (axis + 2) % 3
    for i in range(len(triangles)):
        a, b, c, sign = 0, 1, 2, 1.0
        t = triangles[i]
        if t[b, v] < t[a, v]:
            a, b, sign = b, a, -sign
        if t[c, v] < t[b, v]:
            b, c, sign = c, b, -sign
            if t[b, v] < t[a, v]:
                a, b, sign = b, a, -sign
        for k, corner in enumerate((a, b, c)):
            records[i, k] = t[corner, v]
            records[i, 3 + k] = t[corner, u]
            records[i, 6 + k] = t[corner, axis]
        records[i, 9] = max(t[0, axis], t[1, axis], t[2, axis])
        records[i, 10] = sign
    return records


@compiled
def _bin(value, low, scale, resolution):
    return int(_clamp((value - low) * scale, 0.0, resolution - 1.0))


@compiled
def _row_span(record, low_v, high_v):
    """The range of u that a triangle covers between two values of v, a little generously."""
    left, right = np.inf, -np.inf
    for k in range(3):
        a, b = (0, 1) if k == 0 else ((1, 2) if k == 1 else (0, 2))
        v0, v1, u0, u1 = record[a], record[b], record[3 + a], record[3 + b]
        if v1 < low_v or v0 > high_v:
            continue
        start = u0 if v0 >= low_v else u0 + (low_v - v0) / (v1 - v0) * (u1 - u0)
        end = u1 if v1 <= high_v else u0 + (high_v - v0) / (v1 - v0) * (u1 - u0)
        left, right = min(left, start, end), max(right, start, end)
    return left, right


def fill_columns(records, low_u, low_v, scale_u, scale_v, resolution, limit):
    """Lists of triangles for each bin of a grid over u and v.

    records (F, 11), from the highest top down. Returns start (resolution^2 + 1,) int64 and entries (E,) int32 in the
    order of the records, bin v * resolution + u; entries is empty where there would be more than limit.
    """
    cursor = np.zeros(resolution * resolution, dtype=np.int64)
    entries = np.empty(0, dtype=np.int32)
    place = (low_u, low_v, scale_u, scale_v, resolution)
    total = _visit_bins(records, place, cursor, entries, limit)
    start = np.concatenate([[0], np.cumsum(cursor)])
    if total <= limit:
        cursor[:] = start[:-1]
        entries = np.empty(total, dtype=np.int32)
        _visit_bins(records, place, cursor, entries, limit)
    return start, entries


@compiled
def _visit_bins(records, place, cursor, entries, limit):
    """Move the cursor of each bin by the triangles over it; where there are entries, write them at the cursor."""
    low_u, low_v, scale_u, scale_v, resolution = place
    margin_u, margin_v = BIN_MARGIN / scale_u, BIN_MARGIN / scale_v
    total = 0
    for i in range(len(records)):
        record = records[i]
        first_row = _bin(record[0] - margin_v, low_v, scale_v, resolution)
        last_row = _bin(record[2] + margin_v, low_v, scale_v, resolution)
        for row in range(first_row, last_row + 1):
            row_v = low_v + row / scale_v
            left, right = _row_span(record, row_v - margin_v, row_v + 1 / scale_v + margin_v)
            if left > right or total > limit:
                continue
            first_bin = row * resolution + _bin(left - margin_u, low_u, scale_u, resolution)
            last_bin = row * resolution + _bin(right + margin_u, low_u, scale_u, resolution)
            total += last_bin - first_bin + 1
            for b in range(first_bin, last_bin + 1):
                if len(entries) > 0:
                    entries[cursor[b]] = i
                cursor[b] += 1
    return total


# Share of a bin by which a triangle's range is widened: far over the rounding of the range, far under a bin.
BIN_MARGIN = 1e-6


@compiled
def _turn(u, v, from_u, from_v, to_u, to_v):
    """Twice the signed area of (from, to, point): positive where the point lies left of an edge that goes up in v."""
    return (to_u - from_u) * (v - from_v) - (to_v - from_v) * (u - from_u)


@compiled
def _is_left(u, v, from_u, from_v, to_u, to_v):
    """The point lies at a smaller u than the edge, which goes up in v.

    Both triangles at an edge ask this with the same numbers in the same order, so they always agree, and
    a closed mesh has no cracks.
    """
    left = u < min(from_u, to_u)
    if not left and u < max(from_u, to_u):
        left = _turn(u, v, from_u, from_v, to_u, to_v) > 0
    return left


@compiled
def _lerp(share, start, end):
    return start + share * (end - start)


@compiled
def _height_on(record, u, v, corner, next_corner):
    """Where a triangle lies over (u, v): between its long edge and the edge from corner to next_corner."""
    share = (v - record[0]) / (record[2] - record[0])
    long_u, long_w = _lerp(share, record[3], record[5]), _lerp(share, record[6], record[8])
    share = (v - record[corner]) / (record[next_corner] - record[corner])
    short_u, short_w = (
        _lerp(share, record[3 + corner], record[3 + next_corner]),
        _lerp(share, record[6 + corner], record[6 + next_corner]),
    )
    share = 0.5
    if short_u != long_u:
        share = _clamp((u - long_u) / (short_u - long_u), 0.0, 1.0)
    return _lerp(share, long_w, short_w)


@compiled
def _crossing(record, u, v, w):
    """+1, -1 or 0: how the ray from (u, v, w) up crosses a triangle; +1 where it leaves the solid."""
    if v < record[0] or v >= record[2]:
        return 0.0
    corner = 0 if v < record[1] else 1
    next_corner = corner + 1
    left_of_long = _is_left(u, v, record[3], record[0], record[5], record[2])
    left_of_short = _is_left(u, v, record[3 + corner], record[corner], record[3 + next_corner], record[next_corner])
    if left_of_long == left_of_short or _height_on(record, u, v, corner, next_corner) <= w:
        return 0.0
    return -record[10] if left_of_long else record[10]


@compiled
def _count_crossings(u, v, w, records, start, entries, low_u, low_v, scale_u, scale_v, resolution):
    column, row = (u - low_u) * scale_u, (v - low_v) * scale_v
    total = 0.0
    if column >= 0 and row >= 0 and column <= resolution and row <= resolution:
        b = min(int(row), resolution - 1) * resolution + min(int(column), resolution - 1)
        for e in range(start[b], start[b + 1]):
            record = records[entries[e]]
            if record[9] <= w:
                break
            total += _crossing(record, u, v, w)
    return total


@quick
def _strip_tangents(u, v, w, edges, sine, cosine):
    """Fill sine and cosine (B,) of half the solid angle of the strip that each edge sweeps downwards without end.

    As (u, v, w) sees it: the formula of Van Oosterom and Strackee (1983) for a triangle with its third corner at
    infinity. The sign comes from the comparison that decides the crossings (`_is_left`, here without branches, so that
    the processor does several edges at a time), so that both jump at the same point.
    """
    for e in range(edges.shape[1]):
        from_v, from_u, to_v, to_u = edges[0, e], edges[1, e], edges[3, e], edges[4, e]
        turn = (to_u - from_u) * (v - from_v) - (to_v - from_v) * (u - from_u)
        left_of_both, left_of_one = (u < from_u) & (u < to_u), (u < from_u) | (u < to_u)
        is_left = left_of_both | (left_of_one & (turn > 0))
        size = abs(turn)
        turn = (size if is_left else -size) if (from_v <= v) & (v < to_v) else turn
        au, av, bu, bv = from_u - u, from_v - v, to_u - u, to_v - v
        tangent_sine = -turn * edges[6, e]
        tangent_cosine = (
            au * bu + av * bv + _less_height(au, av, edges[2, e] - w) * _less_height(bu, bv, edges[5, e] - w)
        )
        scale = 1.0 / math.sqrt(tangent_sine * tangent_sine + tangent_cosine * tangent_cosine + 1e-300)
        sine[e], cosine[e] = tangent_sine * scale, tangent_cosine * scale


@quick
def _less_height(u, v, w):
    """The length of (u, v, w) less w, without the cancellation that would leave nothing of it under a boundary."""
    flat2 = u * u + v * v
    length = math.sqrt(flat2 + w * w)
    return length - w if w <= 0 else flat2 / (length + w)


@quick
def _sum_of_angles(sine, cosine, turns):
    """The sum of (B,) angles over half a turn each, in units of a turn; overwrites all three arrays.

    The second half of the angles is added to the first as a product of complex numbers until one is left, with one
    arctangent at the end; a sum that passes half a turn is noticed by the signs of the sines and counted in turns.
    """
    turns[:] = 0
    count = len(sine)
    while count > 1:
        half = (count + 1) // 2
        other_sine, other_cosine, other_turns = sine[half:count], cosine[half:count], turns[half:count]
        for e in range(count - half):
            new_sine = sine[e] * other_cosine[e] + cosine[e] * other_sine[e]
            # Else the sum is under a half turn, and its sign may be rounding.
            wide = (cosine[e] < 0) | (other_cosine[e] < 0)
            past = wide & (sine[e] >= 0) & (other_sine[e] >= 0) & (new_sine < 0)
            back = wide & (sine[e] < 0) & (other_sine[e] < 0) & (new_sine >= 0)
            turns[e] += other_turns[e] + (1.0 if past else 0.0) - (1.0 if back else 0.0)
            cosine[e] = cosine[e] * other_cosine[e] - sine[e] * other_sine[e]
            sine[e] = new_sine
        count = half
    return math.atan2(sine[0], cosine[0]) / (2 * math.pi) + turns[0]


@compiled
def winding_block(points, axis, shift, records, columns, edges, winding):
    """Winding numbers for a block of points: exact ray crossings, and for an open mesh the strips under its boundary.

    points (N, 3) float64; axis of the rays; shift (2,) added to u and v; records (F, 11); columns: start, entries and
    place of the grid; edges (7, B): v, u, height of both ends of each boundary edge, going up in v, and 1 where the
    mesh's boundary runs along it in that sense, -1 where against it. Fills winding (N,) float64.

    The mesh and the strips together are closed up to infinity, so the crossings of a ray that goes up, away from the
    strips, are the winding number of both; the strips' own part of it is a sum over the boundary edges only.
    """
    start, entries, low_u, low_v, scale_u, scale_v, resolution = columns
    sine, cosine, turns = np.empty(edges.shape[1]), np.empty(edges.shape[1]), np.empty(edges.shape[1])
    for i in near_order(points):
        u, v, w = points[i, (axis + 1) % 3] + shift[0], points[i, (axis + 2) % 3] + shift[1], points[i, axis]
        total = _count_crossings(u, v, w, records, start, entries, low_u, low_v, scale_u, scale_v, resolution)
        if edges.shape[1] > 0:
            _strip_tangents(u, v, w, edges, sine, cosine)
            total += _sum_of_angles(sine, cosine, turns)
        winding[i] = total
