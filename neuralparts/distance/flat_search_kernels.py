"""Compiled loops of the search for distances, with leaves of sixteen triangles that are tested at once.

Comes in: the tree and the frames (F, 15) float64 of `search_kernels`, and points (N, 3) float64. Goes out: positions of
triangles and distances, the same bits as those of `search_kernels.search_block`.

A long thin triangle that lies aslant fills little of its box, so a point meets many boxes in vain. Here the triangles
of a leaf are tested by their boxes in their own planes (`crowd_search_kernels`), by vector instructions.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neuralparts.distance.common_kernels import compiled, near_order
from neuralparts.distance.crowd_search_kernels import BOX_COLUMNS, ROUNDING, node_ranges
from neuralparts.distance.search_kernels import STACK, box_distance2, foot_and_distance, triangle_distance2

# Triangles in a leaf, at most. On a mesh of needles 8 was slower, on three others 32 was.
FLAT_LEAF = 16
# Where the places of a leaf without a triangle lie: farther than any point, and its square is a float32.
NOWHERE = 1e15


def flat_leaves(frames: np.ndarray, first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """leaf (M,) int32, the number of a node's leaf or -1, start (M,) int32, its first triangle; boxes (L, 14, 16).

    frames (F, 15) of the tree's triangles; first, count (M,): of `build_tree`. The boxes are float32, those of each
    leaf's triangles in their planes, their rows as BOX_COLUMNS.
    """
    leaf, start, size = _number_leaves(first, count, node_ranges(first, count))
    # (L, 16) the triangle at each place of a leaf, and whether there is one.
    places = start[:, None] + np.arange(FLAT_LEAF)
    is_taken = np.arange(FLAT_LEAF) < size[:, None]
    boxes = np.zeros((len(start), len(BOX_COLUMNS), FLAT_LEAF), dtype=np.float32)
    for row, column in enumerate(BOX_COLUMNS):
        boxes[:, row][is_taken] = frames[places[is_taken], column]
    boxes[:, 0][~is_taken] = NOWHERE
    # The first axis is the normal of an empty place, so that it is far.
    boxes[:, 9][~is_taken] = 1
    return leaf, start, boxes


@compiled
def _number_leaves(first, count, ranges):
    """leaf (M,) int32, number of the leaf that a node is, or -1; start, size (L,): first triangle, number of them."""
    leaf = np.full(len(first), -1, dtype=np.int32)
    start, size = np.empty(len(first), dtype=np.int32), np.empty(len(first), dtype=np.int32)
    pending, leaves = [0], 0
    while len(pending) > 0:
        node = pending.pop()
        if ranges[node, 1] - ranges[node, 0] > FLAT_LEAF:
            pending.append(first[node] + 1)
            pending.append(first[node])
            continue
        leaf[node], start[leaves], size[leaves] = leaves, ranges[node, 0], ranges[node, 1] - ranges[node, 0]
        leaves += 1
    return leaf, start[:leaves].copy(), size[:leaves].copy()


@intrinsic
def _fill_bounds(typing_context, point, rounding, flat, leaf, bounds):
    """Fill bounds (16,) with the squared distances to the boxes of a leaf's triangles, or less; returns the least.

    point: x, y, z, float32, as `rounding`. leaf: its number in flat (L, 14, 16). Written as LLVM's vector instructions,
    because Numba guards the loop with tests that take as long as the loop.
    """

    def generate(context, builder, signature, args):
        numbers = ir.VectorType(ir.FloatType(), FLAT_LEAF)
        index = ir.IntType(64)
        array = context.make_array(flat)(context, builder, args[2])
        size = ir.Constant(index, len(BOX_COLUMNS) * FLAT_LEAF)
        first = builder.gep(array.data, [builder.mul(builder.sext(args[3], index), size)])

        def row(number):
            at = builder.gep(first, [ir.Constant(index, number * FLAT_LEAF)])
            return builder.load(builder.bitcast(at, numbers.as_pointer()), align=4)

        def in_all(value):
            single = builder.insert_element(ir.Constant(numbers, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            mask = ir.Constant(ir.VectorType(ir.IntType(32), FLAT_LEAF), [0] * FLAT_LEAF)
            return builder.shuffle_vector(single, ir.Constant(numbers, ir.Undefined), mask)

        def larger(a, b):
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        def product(vector, rows):
            terms = [builder.fmul(part, row(number)) for part, number in zip(vector, rows, strict=True)]
            return builder.fadd(builder.fadd(terms[0], terms[1]), terms[2])

        zeros, margin = ir.Constant(numbers, None), in_all(args[1])
        apart = [builder.fsub(in_all(builder.extract_value(args[0], k)), row(k)) for k in range(3)]
        along, across, height = (product(apart, range(k, k + 3)) for k in (3, 6, 9))
        excesses = [
            larger(builder.fneg(along), builder.fsub(along, row(12))),
            larger(builder.fneg(across), builder.fsub(across, row(13))),
            larger(builder.fneg(height), height),
        ]
        squares = []
        for excess in excesses:
            outside = larger(builder.fsub(excess, margin), zeros)
            squares.append(builder.fmul(outside, outside))
        bound = builder.fadd(builder.fadd(squares[0], squares[1]), squares[2])
        target = context.make_array(bounds)(context, builder, args[4]).data
        builder.store(bound, builder.bitcast(target, numbers.as_pointer()), align=4)
        # The least of all lanes: halves are compared until one number is left.
        half = FLAT_LEAF // 2
        while half:
            mask = [(lane + half) % FLAT_LEAF for lane in range(FLAT_LEAF)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), FLAT_LEAF), mask)
            other = builder.shuffle_vector(bound, ir.Constant(numbers, ir.Undefined), mask)
            bound = builder.select(builder.fcmp_ordered("<", bound, other), bound, other)
            half //= 2
        return builder.extract_element(bound, ir.Constant(ir.IntType(32), 0))

    return types.float32(point, rounding, flat, leaf, bounds), generate


@compiled
def _search(px, py, pz, nearest, limit2, boxes, first, leaf, start, frames, flat, stack, stack2, bounds):
    """The position of the triangle nearest to a point; as `search_kernels.search_tree`, with larger leaves."""
    best2 = min(triangle_distance2(px, py, pz, frames[nearest], np.inf), limit2)
    point = np.float32(px), np.float32(py), np.float32(pz)
    rounding = np.float32(ROUNDING * (1 + abs(px) + abs(py) + abs(pz)))
    waiting = 1
    stack[0], stack2[0] = 0, box_distance2(px, py, pz, boxes, 0)
    while waiting > 0:
        waiting -= 1
        node, distance2 = stack[waiting], stack2[waiting]
        while distance2 < best2 and leaf[node] < 0:
            left, right = first[node], first[node] + 1
            left2 = box_distance2(px, py, pz, boxes, left)
            right2 = box_distance2(px, py, pz, boxes, right)
            if right2 < left2:
                left, right, left2, right2 = right, left, right2, left2
            if right2 < best2:
                stack[waiting], stack2[waiting] = right, right2
                waiting += 1
            node, distance2 = left, left2
        if distance2 < best2 and _fill_bounds(point, rounding, flat, leaf[node], bounds) < best2:
            for j in range(FLAT_LEAF):
                if bounds[j] < best2:
                    position = start[leaf[node]] + j
                    candidate2 = triangle_distance2(px, py, pz, frames[position], best2)
                    if candidate2 < best2:
                        best2, nearest = candidate2, position
    return nearest


@compiled
def search_flat(
    points: np.ndarray,
    limit: np.ndarray,
    tree: tuple[np.ndarray, np.ndarray, np.ndarray],
    leaves: tuple[np.ndarray, np.ndarray, np.ndarray],
    frames: np.ndarray,
    nearest: np.ndarray,
    distance: np.ndarray,
) -> None:
    """Distances of a block of points: as `search_kernels.search_block`. leaves: of `flat_leaves`."""
    (boxes, first, _), (leaf, start, flat) = tree, leaves
    position, stack, stack2 = 0, np.empty(STACK, dtype=np.int32), np.empty(STACK)
    bounds = np.empty(FLAT_LEAF, dtype=np.float32)
    for i in near_order(points):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        limit2 = float(limit[i]) ** 2 if len(limit) > 0 else np.inf
        position = _search(px, py, pz, position, limit2, boxes, first, leaf, start, frames, flat, stack, stack2, bounds)
        nearest[i], distance[i] = position, foot_and_distance(px, py, pz, frames[position])[2]
