"""Compiled loops of the search for distances: packets of neighbouring points go down the tree together.

Comes in: the tree and the frames (F, 15) float64 of `search_kernels`, and points (N, 3) float64. Goes out: positions of
triangles and distances.

Neighbours meet nearly the same boxes and triangles. So LANES of them are tested at once, by vector instructions; a node
is opened if it is near enough for one of them. The idea is that of ray packets (Wald et al. 2001). The arithmetic is
that of `search_kernels` in the same order, so distances have the same bits. Of triangles that are equally near, the
packet may find another one than `search_block` does.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neuralparts.distance.common_kernels import compiled, near_order
from neuralparts.distance.lanes import INTEGERS, LANES, NUMBERS, Lanes, Row, in_all_lanes, larger, smaller
from neuralparts.distance.search_kernels import FRAME_COLUMNS, STACK, box_distance2

# Numbers of a packet, LANES of each: coordinates x, y, z, and the squared distance to the nearest triangle so far.
PACKET_ROWS = 4


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


# ----------------------------------------------------------------------------------------- instructions for a packet


def _numbers_of(context, builder, kind, packet) -> tuple[Row, list[Lanes], Lanes]:
    """The packet (PACKET_ROWS * LANES,); its coordinates x, y, z; its squared distances so far."""
    row = Row(context, builder, kind, packet)
    x, y, z, best2 = (row.lanes(k * LANES) for k in range(PACKET_ROWS))
    return row, [x, y, z], best2


def _box_distance2(point: list[Lanes], box: Row, zero: Lanes) -> Lanes:
    """As `search_kernels.box_distance2`."""
    outside = [larger(larger(box.number(k) - point[k], point[k] - box.number(k + 3)), zero) for k in range(3)]
    return outside[0] * outside[0] + outside[1] * outside[1] + outside[2] * outside[2]


@intrinsic
def _is_near(typing_context, packet, boxes, node):
    """Whether the box of a node is near enough for one point of a packet."""

    def generate(context, builder, signature, args):
        zero = Lanes(builder, ir.Constant(NUMBERS, None))
        _, point, best2 = _numbers_of(context, builder, packet, args[0])
        box = Row(context, builder, boxes, args[1], 6, args[2])
        return (_box_distance2(point, box, zero) < best2).any()

    return types.boolean(packet, boxes, types.int64), generate


@intrinsic
def _are_near(typing_context, packet, boxes, left, right):
    """For two nodes: whether the left one is near enough, as `_is_near`; whether the right one is; and whether the
    right one is the nearer one for most of the points that one of them is near enough for."""

    def generate(context, builder, signature, args):
        zero = Lanes(builder, ir.Constant(NUMBERS, None))
        _, point, best2 = _numbers_of(context, builder, packet, args[0])
        left2, right2 = (
            _box_distance2(point, Row(context, builder, boxes, args[1], 6, node), zero) for node in args[2:]
        )
        left_near, right_near = left2 < best2, right2 < best2
        either = left_near | right_near
        to_right = either & (right2 < left2)
        most = builder.icmp_unsigned(">", to_right.count(), (either & ~to_right).count())
        return context.make_tuple(builder, signature.return_type, [left_near.any(), right_near.any(), most])

    return types.UniTuple(types.boolean, 3)(packet, boxes, types.int64, types.int64), generate


@intrinsic
def _compare(typing_context, packet, nearest, frames, position):
    """Compare the triangle at a position with the nearest one of each point, and keep the nearer one.

    Writes the squared distances of the packet and nearest (LANES,) int32.
    """

    def generate(context, builder, signature, args):
        row, point, best2 = _numbers_of(context, builder, packet, args[0])
        frame = Row(context, builder, frames, args[2], FRAME_COLUMNS, args[3])
        apart = [point[k] - frame.number(k) for k in range(3)]

        def coordinate(axis):
            x, y, z = (apart[k] * frame.number(axis + k) for k in range(3))
            return x + y + z

        height = coordinate(9)
        height2 = height * height
        with builder.if_then((height2 < best2).any()):
            sizes = [frame.number(k) for k in range(12, 15)]
            along2, across2 = _plane_gaps2(builder, coordinate(3), coordinate(6), *sizes)
            distance2 = height2 + along2 + across2
            is_nearer = distance2 < best2
            with builder.if_then(is_nearer.any()):
                row.store(is_nearer.choose(distance2, best2), 3 * LANES)
                found = Row(context, builder, nearest, args[1])
                here = in_all_lanes(builder, builder.trunc(args[3], ir.IntType(32)))
                found.store(is_nearer.choose(here, found.lanes(kind=INTEGERS)))
        return context.get_dummy_value()

    return types.void(packet, nearest, frames, types.int64), generate


def _plane_gaps2(builder, x, y, length, top_x, top_y) -> tuple[Lanes, Lanes]:
    """The squares of the distances along x and along y from (x, y) to its nearest point in the triangle (0, 0),
    (length, 0), (top_x, top_y), as `search_kernels._plane_foot` finds it: all its cases are computed."""
    zero, one = Lanes(builder, ir.Constant(NUMBERS, None)), Lanes(builder, ir.Constant(NUMBERS, [1.0] * LANES))

    def to_side(from_x, to_x):
        step_x = to_x - from_x
        length2 = step_x * step_x + top_y * top_y
        fraction = smaller(larger(((x - from_x) * step_x + y * top_y) / length2, zero), one)
        fraction = (length2 > zero).choose(fraction, zero)
        gap_x, gap_y = from_x + fraction * step_x - x, fraction * top_y - y
        return gap_x * gap_x, gap_y * gap_y

    outside_left = top_x * y > top_y * x
    outside_right = (length - top_x) * y > top_y * (length - x)
    left, right = to_side(zero, top_x), to_side(length, top_x)
    takes_right = outside_right & (~outside_left | (right[0] + right[1] < left[0] + left[1]))
    # Below the longest side, the nearest point lies on it.
    foot_x, is_above = smaller(larger(x, zero), length) - x, y > zero
    below = foot_x * foot_x, y * y
    gaps = [
        is_above.choose(takes_right.choose(right[k], outside_left.choose(left[k], zero)), below[k]) for k in range(2)
    ]
    return gaps[0], gaps[1]


# ------------------------------------------------------------------------------------------------------- the search


@compiled
def _search(packet, nearest, boxes, first, count, frames, stack):
    """Find the nearest triangles of a packet, from those in `nearest` on; stack (STACK,): for nodes to visit."""
    waiting = 1
    stack[0] = 0
    while waiting > 0:
        waiting -= 1
        node = stack[waiting]
        is_near = _is_near(packet, boxes, node)
        # Go down to the child that is nearer for most points, and keep the other for later if it is near enough.
        while is_near and count[node] == 0:
            left = first[node]
            left_near, right_near, takes_right = _are_near(packet, boxes, left, left + 1)
            if left_near and right_near:
                stack[waiting] = left if takes_right else left + 1
                waiting += 1
            node, is_near = left + takes_right, left_near or right_near
        if is_near:
            for j in range(first[node], first[node] + count[node]):
                _compare(packet, nearest, frames, j)


@compiled
def search_packets(
    points: np.ndarray,
    limit: np.ndarray,
    tree: tuple[np.ndarray, np.ndarray, np.ndarray],
    frames: np.ndarray,
    nearest: np.ndarray,
    distance: np.ndarray,
) -> None:
    """Distances of a block of points (N, 3) float64: fills nearest (N,) int32 positions and distance (N,) float32.

    limit: (N,) float32, or (0,). A point that is not nearer gets its limit as distance, and any triangle. tree, frames:
    as for `search_kernels.search_block`.
    """
    boxes, first, count = tree
    order, stack = near_order(points), np.empty(STACK, dtype=np.int32)
    packet, found = np.empty(PACKET_ROWS * LANES), np.zeros(LANES, dtype=np.int32)
    for start in range(0, len(points), LANES):
        guess = found[LANES - 1]
        for lane in range(LANES):
            i = order[min(start + lane, len(points) - 1)]  # the last packet is filled up with the last point
            for k in range(3):
                packet[k * LANES + lane] = points[i, k]
            packet[3 * LANES + lane] = np.float64(limit[i]) ** 2 if len(limit) > 0 else np.inf
            found[lane] = guess
        _compare(packet, found, frames, guess)
        _search(packet, found, boxes, first, count, frames, stack)
        for lane in range(min(LANES, len(points) - start)):
            i = order[start + lane]
            nearest[i], distance[i] = found[lane], math.sqrt(packet[3 * LANES + lane])
