"""The hash grid's compiled loops for the CPU, which `hash_grid.HashGrid` runs on float32 tensors.

In: contiguous tensors of points, table and gradients, and the level sizes. Out: features or gradients as tensors.
Every sum has one fixed order: one task computes a sample's features, and one task a level's gradient. So the bits are
the same with any number of threads. Numba compiles at the first call, and the machine code is kept.

Names in the kernels: N samples, L levels, F features a node (lanes of a vector register). A row is a place in the
table: of shape (rows, F) for all levels together, and counted from 0 in each level.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from neuralparts.compiled import cached_njit
from neuralparts.network.hash_levels import PRIMES, LevelArrays

compiled = cached_njit(nogil=True, error_model="numpy")
inlined = njit(inline="always")
# Factors of the spatial hash; that of x is 1.
PRIME_Y, PRIME_Z = np.uint32(PRIMES[1]), np.uint32(PRIMES[2])
ONE = np.uint32(1)
X, Y, Z = np.uint64(0), np.uint64(1), np.uint64(2)
# Samples that are encoded at once, level after level: their features (96 KB at 24 features) stay in the L2 cache.
BLOCK = 1024


def vector_at(context, builder, array_type, array, index, lanes):
    """(pointer to `lanes` numbers from flat `index` on, their vector type, their alignment in bytes)."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(context.get_data_type(array_type.dtype), lanes)
    return (
        builder.bitcast(builder.gep(data, [index]), vector.as_pointer()),
        vector,
        array_type.dtype.bitwidth // 8,
    )


def splat(builder, vector, value):
    """A vector with `value` in every lane."""
    index, undefined = ir.IntType(32), ir.Constant(vector, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(index, 0))
    mask = ir.Constant(ir.VectorType(index, vector.count), [0] * vector.count)
    return builder.shuffle_vector(single, undefined, mask)


def row_at(context, builder, signature, args, corner):
    """(pointer to the corner's row of the table, its weight as a vector, alignment) inside `blend` and `spread`."""
    lanes = len(signature.args[-1])
    row = builder.mul(builder.extract_value(args[1], corner), ir.Constant(ir.IntType(64), lanes))
    pointer, vector, alignment = vector_at(context, builder, signature.args[0], args[0], row, lanes)
    return pointer, splat(builder, vector, builder.extract_value(args[2], corner)), alignment


# `blend` and `spread` are written in LLVM's vector instructions, because Numba leaves the short loop over a row's
# features scalar: the kernels then take half as long again.
@intrinsic
def blend(typing_context, table, rows, weights, features, position, lanes):
    """features[position : position + lanes] = sum of weights[c] * table[rows[c]]; lanes: a tuple of that length."""

    def generate(context, builder, signature, args):
        total = None
        for corner in range(len(rows)):
            pointer, weight, alignment = row_at(context, builder, signature, args, corner)
            term = builder.fmul(weight, builder.load(pointer, align=alignment))
            total = term if total is None else builder.fadd(total, term)
        target, _, alignment = vector_at(context, builder, features, args[3], args[4], len(lanes))
        builder.store(total, target, align=alignment)
        return context.get_dummy_value()

    return types.void(table, rows, weights, features, position, lanes), generate


@intrinsic
def spread(typing_context, table, rows, weights, features, position, lanes):
    """table[rows[c]] += weights[c] * features[position : position + lanes], one corner after the other."""

    def generate(context, builder, signature, args):
        source, _, alignment = vector_at(context, builder, features, args[3], args[4], len(lanes))
        values = builder.load(source, align=alignment)
        for corner in range(len(rows)):
            pointer, weight, alignment = row_at(context, builder, signature, args, corner)
            total = builder.fadd(builder.load(pointer, align=alignment), builder.fmul(weight, values))
            builder.store(total, pointer, align=alignment)
        return context.get_dummy_value()

    return types.void(table, rows, weights, features, position, lanes), generate


@inlined
def locate(coordinate, resolution):
    """(cell uint32, position in the cell in [0, 1]) along one axis; the border outside [-1, 1]; (0, NaN) for NaN."""
    unit = type(coordinate)(1)
    inside = -unit if coordinate < -unit else (unit if coordinate > unit else coordinate)
    position = (inside + unit) * (type(coordinate)(0.5) * type(coordinate)(resolution))
    cell = min(np.int32(position), np.int32(resolution - 1)) if position > 0 else np.int32(0)
    return np.uint32(cell), position - type(coordinate)(cell)


@inlined
def strides(resolution, dense):
    """(factor of y, factor of z) in a row number, uint32: of a dense grid with x fastest, or of the hash."""
    if dense:
        return np.uint32(resolution + 1), np.uint32((resolution + 1) * (resolution + 1))
    return PRIME_Y, PRIME_Z


@inlined
def corner_rows(x, y, z, stride_y, stride_z, dense, mask):
    """Rows of a cell's eight corners in its level, uint64: x fastest, then y, then z. x, y, z: the cell, uint32."""
    # The parts of the row number that come from y and z, near and far; the factor of x is 1.
    near_y, near_z, far_x = y * stride_y, z * stride_z, x + ONE
    far_y, far_z = near_y + stride_y, near_z + stride_z
    if dense:
        a, b, c, d = near_y + near_z, far_y + near_z, near_y + far_z, far_y + far_z
        rows = (x + a, far_x + a, x + b, far_x + b, x + c, far_x + c, x + d, far_x + d)
    else:
        a, b, c, d = near_y ^ near_z, far_y ^ near_z, near_y ^ far_z, far_y ^ far_z
        rows = (x ^ a, far_x ^ a, x ^ b, far_x ^ b, x ^ c, far_x ^ c, x ^ d, far_x ^ d)
    r0, r1, r2, r3, r4, r5, r6, r7 = rows
    return (
        np.uint64(r0 & mask), np.uint64(r1 & mask), np.uint64(r2 & mask), np.uint64(r3 & mask),
        np.uint64(r4 & mask), np.uint64(r5 & mask), np.uint64(r6 & mask), np.uint64(r7 & mask),
    )  # fmt: skip


@inlined
def corner_weights(x, y, z):
    """Trilinear weights of the eight corners in the order of `corner_rows`, at position (x, y, z) in the cell."""
    unit = type(x)(1)
    # Weights of the four edges along x, then of their two ends.
    a, b, c, d = (unit - y) * (unit - z), y * (unit - z), (unit - y) * z, y * z
    near = unit - x
    return near * a, x * a, near * b, x * b, near * c, x * c, near * d, x * d


@compiled
def encode(points, table, resolutions, offsets, dense, mask, features, start, stop, lanes):
    """Write features[start:stop], (N, L * F), from points (N, 3) and table (rows, F).

    resolutions, dense, mask: (L,); offsets: (L + 1,); see `hash_grid.LevelArrays`. lanes: a tuple of length F.
    """
    levels, width = len(resolutions), np.uint64(len(resolutions) * len(lanes))
    for first in range(start, stop, BLOCK):
        for level in range(levels):
            # The level's rows (rows, F), and the column of its first feature.
            rows = table[offsets[level] : offsets[level + 1]]
            resolution, is_dense, level_mask = resolutions[level], dense[level], mask[level]
            stride_y, stride_z = strides(resolution, is_dense)
            column = np.uint64(level * len(lanes))
            for sample in range(np.uint64(first), np.uint64(min(first + BLOCK, stop))):
                # The cell, the position in it along each axis, then the weighted sum of its corners' rows.
                x, part_x = locate(points[sample, X], resolution)
                y, part_y = locate(points[sample, Y], resolution)
                z, part_z = locate(points[sample, Z], resolution)
                corners = corner_rows(x, y, z, stride_y, stride_z, is_dense, level_mask)
                weights = corner_weights(part_x, part_y, part_z)
                blend(rows, corners, weights, features, sample * width + column, lanes)


@compiled
def table_gradient(points, feature_gradient, resolution, is_dense, level_mask, column, gradient, lanes):
    """Overwrite one level's gradient (rows, F) from points (N, 3) and feature_gradient (N, L * F), sample by sample.

    resolution, is_dense, level_mask: of the level. column: of its first feature. lanes: a tuple of length F.
    """
    width = np.uint64(feature_gradient.shape[1])
    stride_y, stride_z = strides(resolution, is_dense)
    gradient[:] = 0
    for sample in range(np.uint64(points.shape[0])):
        # The sample's cell as in `encode`; its gradient goes to the corners' rows by the same weights.
        x, part_x = locate(points[sample, X], resolution)
        y, part_y = locate(points[sample, Y], resolution)
        z, part_z = locate(points[sample, Z], resolution)
        corners = corner_rows(x, y, z, stride_y, stride_z, is_dense, level_mask)
        weights = corner_weights(part_x, part_y, part_z)
        spread(gradient, corners, weights, feature_gradient, sample * width + np.uint64(column), lanes)


@inlined
def row_product(table, row, feature_gradient, sample, column, lanes):
    """Scalar product of table[row], (F,), and of one level's part, (F,), of a sample's feature gradient."""
    total = type(table[0, 0])(0)
    for feature in range(np.uint64(len(lanes))):
        total += table[row, feature] * feature_gradient[sample, column + feature]
    return total


@inlined
def row_products(table, rows, feature_gradient, sample, column, lanes):
    """As `row_product`, for the eight corners of a cell."""
    return (
        row_product(table, rows[0], feature_gradient, sample, column, lanes),
        row_product(table, rows[1], feature_gradient, sample, column, lanes),
        row_product(table, rows[2], feature_gradient, sample, column, lanes),
        row_product(table, rows[3], feature_gradient, sample, column, lanes),
        row_product(table, rows[4], feature_gradient, sample, column, lanes),
        row_product(table, rows[5], feature_gradient, sample, column, lanes),
        row_product(table, rows[6], feature_gradient, sample, column, lanes),
        row_product(table, rows[7], feature_gradient, sample, column, lanes),
    )


@inlined
def slope(u, v, d00, d10, d01, d11):
    """Bilinear blend of the differences along an axis at its four edges; u, v: positions along the other two axes."""
    unit = type(u)(1)
    return (unit - v) * ((unit - u) * d00 + u * d10) + v * ((unit - u) * d01 + u * d11)


@inlined
def chain(coordinate, resolution):
    """Derivative of the position in cells by the coordinate: cells per unit length, 0 outside, where it is clamped."""
    inside = -1 <= coordinate <= 1
    return type(coordinate)(0.5) * type(coordinate)(resolution) if inside else type(coordinate)(0)


@compiled
def point_gradient(points, table, feature_gradient, resolutions, offsets, dense, mask, gradient, start, stop, lanes):
    """Write gradient[start:stop], (N, 3), of the points from feature_gradient (N, L * F). The others: see `encode`."""
    for sample in range(np.uint64(start), np.uint64(stop)):
        # The sum over all levels, each the slope of the trilinear blend times the cells per unit length.
        px, py, pz = points[sample, X], points[sample, Y], points[sample, Z]
        gradient[sample] = 0
        for level in range(len(resolutions)):
            rows, resolution = table[offsets[level] : offsets[level + 1]], resolutions[level]
            x, u = locate(px, resolution)
            y, v = locate(py, resolution)
            z, w = locate(pz, resolution)
            stride_y, stride_z = strides(resolution, dense[level])
            corners = corner_rows(x, y, z, stride_y, stride_z, dense[level], mask[level])
            # Products of the eight corners' features with the gradient; their differences are the slopes.
            column = np.uint64(level * len(lanes))
            p0, p1, p2, p3, p4, p5, p6, p7 = row_products(rows, corners, feature_gradient, sample, column, lanes)
            gradient[sample, X] += chain(px, resolution) * slope(v, w, p1 - p0, p3 - p2, p5 - p4, p7 - p6)
            gradient[sample, Y] += chain(py, resolution) * slope(u, w, p2 - p0, p3 - p1, p6 - p4, p7 - p5)
            gradient[sample, Z] += chain(pz, resolution) * slope(u, v, p4 - p0, p5 - p1, p6 - p2, p7 - p3)


@cache
def workers(threads: int, process: int) -> ThreadPoolExecutor:
    """The pool of `threads` threads of this process. `process` is its id: a fork does not inherit the parent's pool."""
    return ThreadPoolExecutor(threads, thread_name_prefix="hashgrid")


def run(kernel: Callable[..., None], tasks: list[tuple]) -> None:
    """Call kernel(*task) for every task, on as many threads as torch uses; the order changes no result."""
    threads = min(torch.get_num_threads(), len(tasks))
    if threads <= 1:
        for task in tasks:
            kernel(*task)
        return
    # Numba's own thread layers abort the process after a fork (OpenMP) or when two threads launch at once (workqueue).
    for done in [workers(threads, os.getpid()).submit(kernel, *task) for task in tasks]:
        done.result()


def ranges(count: int) -> list[tuple[int, int]]:
    """(start, stop) of about equal parts of `count` samples, one for each thread, cut between blocks."""
    blocks = -(-count // BLOCK)
    parts = max(1, min(torch.get_num_threads(), blocks))
    edges = [min(count, BLOCK * (blocks * part // parts)) for part in range(parts + 1)]
    return list(pairwise(edges))


def encode_points(points: torch.Tensor, table: torch.Tensor, levels: LevelArrays) -> torch.Tensor:
    """Features (N, L * F) of points (N, 3) from table (rows, F), contiguous tensors of one floating dtype."""
    points, table = points.numpy(), table.numpy()
    features = np.empty((len(points), len(levels.dense) * table.shape[1]), table.dtype)
    common, lanes = (points, table, *levels, features), (0,) * table.shape[1]
    if len(points) <= BLOCK:  # a single point must not wait for what divides the work
        encode(*common, 0, len(points), lanes)
    else:
        run(encode, [(*common, start, stop, lanes) for start, stop in ranges(len(points))])
    return torch.from_numpy(features)


def table_gradients(
    points: torch.Tensor, table: torch.Tensor, levels: LevelArrays, feature_gradient: torch.Tensor
) -> torch.Tensor:
    """Gradient (rows, F) of the table from the gradient (N, L * F) of the features at points (N, 3)."""
    gradient = torch.empty_like(table)
    arrays, lanes = (points.numpy(), feature_gradient.numpy()), (0,) * table.shape[1]
    # One task a level: its rows of the gradient (rows, F), and the column of its first feature.
    parts = [gradient.numpy()[first:last] for first, last in pairwise(levels.offsets)]
    columns = range(0, feature_gradient.shape[1], table.shape[1])
    sizes = zip(levels.resolutions, levels.dense, levels.masks, columns, parts, strict=True)
    run(table_gradient, [(*arrays, *level, lanes) for level in sizes])
    return gradient


def point_gradients(
    points: torch.Tensor, table: torch.Tensor, levels: LevelArrays, feature_gradient: torch.Tensor
) -> torch.Tensor:
    """Gradient (N, 3) of the points from the gradient (N, L * F) of the features."""
    gradient = torch.empty_like(points)
    common = (points.numpy(), table.numpy(), feature_gradient.numpy(), *levels, gradient.numpy())
    lanes = (0,) * table.shape[1]
    run(point_gradient, [(*common, start, stop, lanes) for start, stop in ranges(len(points))])
    return gradient
