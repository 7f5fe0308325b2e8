"""Arithmetic on whole vector registers inside compiled loops, written as LLVM's vector instructions.

Numba leaves loops over the lanes of a register scalar, or guards them with tests that cost more than the loop. These
intrinsics take flat positions in contiguous float32 arrays, of which LANES numbers at a time are a vector: the same
number of LANES samples. LLVM cuts a vector to the registers that the CPU has.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Numbers in a vector.
LANES = 16
# Vectors that `products` sums at once, and the sides of the block that `scalar_products` does: they fit the registers.
UNITS, SIDE = 8, 4

FLOAT, INT = ir.FloatType(), ir.IntType(32)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)
Values = list[ir.Value]


def pointer_at(context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value, index: ir.Value) -> ir.Value:
    """A pointer to the number at flat `index` of an array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def load(builder: ir.IRBuilder, pointer: ir.Value, offset: int | ir.Value = 0, kind: ir.Type = FLOATS) -> ir.Value:
    """The vector of this kind that begins `offset` numbers behind a pointer."""
    place = builder.gep(pointer, [offset if isinstance(offset, ir.Value) else whole(offset)])
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=4)


def store(builder: ir.IRBuilder, vector: ir.Value, pointer: ir.Value, offset: int = 0) -> None:
    """Write a vector `offset` numbers behind a pointer."""
    place = builder.gep(pointer, [whole(offset)])
    builder.store(vector, builder.bitcast(place, vector.type.as_pointer()), align=4)


def whole(number: int) -> ir.Constant:
    """A constant position."""
    return ir.Constant(ir.IntType(64), number)


def in_all_lanes(builder: ir.IRBuilder, value: ir.Value, lanes: int = LANES) -> ir.Value:
    """A vector with `value` in every lane."""
    vector = ir.VectorType(value.type, lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(INT, 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(INT, lanes), [0] * lanes))


def add_product(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c, rounded once where the CPU can."""
    kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    return builder.call(function, [a, b, c])


def sum_of_lanes(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """The sum of a vector's lanes: halves are added until one number is left."""
    undefined, half = ir.Constant(FLOATS, ir.Undefined), LANES // 2
    while half:
        mask = [(lane + half) % LANES for lane in range(LANES)]
        vector = builder.fadd(vector, builder.shuffle_vector(vector, undefined, constants(INT, mask)))
        half //= 2
    return builder.extract_element(vector, ir.Constant(INT, 0))


def sums_of_lanes(builder: ir.IRBuilder, vectors: Values) -> ir.Value:
    """A vector whose lane l is the sum of all lanes of the l-th of LANES vectors: neighbours are added."""
    even, odd = ([2 * lane + first for lane in range(LANES)] for first in (0, 1))
    while len(vectors) > 1:
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [
            builder.fadd(*(builder.shuffle_vector(a, b, constants(INT, mask)) for mask in (even, odd)))
            for a, b in pairs
        ]
    return vectors[0]


def constants(kind: ir.Type, numbers: list[int]) -> ir.Constant:
    """A constant vector."""
    return ir.Constant(ir.VectorType(kind, len(numbers)), numbers)


def void(generate: Callable[[Any, ir.IRBuilder, Any, Values], None], *arguments: types.Type) -> tuple:
    """(signature, generator) of an intrinsic that returns nothing."""

    def all_of_it(context, builder, signature, args):
        generate(context, builder, signature, args)
        return context.get_dummy_value()

    return types.void(*arguments), all_of_it


@intrinsic
def products(typing_context, weights, start, stride, biases, first, count, values, place, results, target, rectify):
    """UNITS vectors: results[target + u LANES :] = biases[first + u] + sum over k < count of
    weights[start + k stride + u] * values[place + k LANES :]; rectify: a tuple, empty unless negative ones become 0."""

    def generate(context, builder, signature, args):
        weight_at = pointer_at(context, builder, weights, args[0], args[1])
        bias_at = pointer_at(context, builder, biases, args[3], args[4])
        value_at = pointer_at(context, builder, values, args[6], args[7])
        result_at = pointer_at(context, builder, results, args[8], args[9])
        sums = []
        for unit in range(UNITS):
            bias = in_all_lanes(builder, builder.load(builder.gep(bias_at, [whole(unit)])))
            sums.append(cgutils.alloca_once_value(builder, bias))
        with cgutils.for_range(builder, args[5], intp=ir.IntType(64)) as loop:
            vector = load(builder, value_at, builder.mul(loop.index, whole(LANES)))
            row = builder.gep(weight_at, [builder.mul(loop.index, args[2])])
            for unit, total in enumerate(sums):
                weight = in_all_lanes(builder, builder.load(builder.gep(row, [whole(unit)])))
                builder.store(add_product(builder, weight, vector, builder.load(total)), total)
        zeros = ir.Constant(FLOATS, None)
        for unit, total in enumerate(sums):
            result = builder.load(total)
            if len(rectify):  # NaN stays NaN
                result = builder.select(builder.fcmp_ordered("<=", result, zeros), zeros, result)
            store(builder, result, result_at, unit * LANES)

    arguments = (weights, start, stride, biases, first, count, values, place, results, target, rectify)
    return void(generate, *arguments)


@intrinsic
def output_tile(typing_context, weights, bias, count, values, place, results, target):
    """One vector: results[target:] = bias + sum over k < count of weights[k] * values[place + k LANES :].

    Four sums run side by side, so that none waits for the one before; count is a multiple of 4.
    """

    def generate(context, builder, signature, args):
        weight_at = pointer_at(context, builder, weights, args[0], whole(0))
        value_at = pointer_at(context, builder, values, args[3], args[4])
        result_at = pointer_at(context, builder, results, args[5], args[6])
        zeros = ir.Constant(FLOATS, None)
        sums = [cgutils.alloca_once_value(builder, zeros) for _ in range(SIDE)]
        with cgutils.for_range_slice(builder, whole(0), args[2], whole(SIDE), intp=ir.IntType(64)) as (index, _):
            for part, total in enumerate(sums):
                row = builder.add(index, whole(part))
                vector = load(builder, value_at, builder.mul(row, whole(LANES)))
                weight = in_all_lanes(builder, builder.load(builder.gep(weight_at, [row])))
                builder.store(add_product(builder, weight, vector, builder.load(total)), total)
        a, b, c, d = (builder.load(total) for total in sums)
        total = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        store(builder, builder.fadd(total, in_all_lanes(builder, args[1])), result_at)

    return void(generate, weights, bias, count, values, place, results, target)


def signed_as(builder: ir.IRBuilder, size: ir.Value, sign: ir.Value) -> ir.Value:
    """`size` with the sign of `sign`, 0 where that is 0 or NaN."""
    zeros = ir.Constant(FLOATS, None)
    below = builder.select(builder.fcmp_ordered("<", sign, zeros), builder.fneg(size), zeros)
    return builder.select(builder.fcmp_ordered(">", sign, zeros), size, below)


def absolute(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    """The absolute values of a vector."""
    kind = ir.FunctionType(FLOATS, [FLOATS])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fabs.v{LANES}f32"), [vector])


@intrinsic
def loss_tile(typing_context, values, value_place, targets, weights, slope_weights, place, sums, sum_place):
    """The loss of LANES samples, and its gradient by their values.

    The loss is weight * |error|, and for the two of a pair, lanes beside each other, half of slope weight * |difference
    of their errors| each. targets, weights, slope_weights: from `place` on. values from value_place on, (2, LANES): the
    second half becomes the gradient. sums from sum_place on, (2, LANES): the losses are added to the first half, the
    gradient to the second.
    """

    def generate(context, builder, signature, args):
        value_at = pointer_at(context, builder, values, args[0], args[1])
        sum_at = pointer_at(context, builder, sums, args[6], args[7])
        kinds = zip((targets, weights, slope_weights), args[2:5], strict=True)
        target, weight, slope_weight = (
            load(builder, pointer_at(context, builder, kind, array, args[5])) for kind, array in kinds
        )
        error = builder.fsub(load(builder, value_at), target)
        mask = constants(INT, [lane ^ 1 for lane in range(LANES)])
        difference = builder.fsub(error, builder.shuffle_vector(error, ir.Constant(FLOATS, ir.Undefined), mask))
        gradient = builder.fadd(signed_as(builder, weight, error), signed_as(builder, slope_weight, difference))
        half = builder.fmul(
            ir.Constant(FLOATS, [0.5] * LANES), builder.fmul(slope_weight, absolute(builder, difference))
        )
        loss = add_product(builder, weight, absolute(builder, error), half)
        store(builder, gradient, value_at, LANES)
        store(builder, builder.fadd(load(builder, sum_at), loss), sum_at)
        store(builder, builder.fadd(load(builder, sum_at, LANES), gradient), sum_at, LANES)

    return void(generate, values, value_place, targets, weights, slope_weights, place, sums, sum_place)


@intrinsic
def fetch_ahead(typing_context, array, place):
    """Ask for array[place] to be in the cache soon."""

    def generate(context, builder, signature, args):
        place = pointer_at(context, builder, array, args[0], args[1])
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, INT, INT, INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, often, data = (ir.Constant(INT, number) for number in (0, 3, 1))
        builder.call(function, [builder.bitcast(place, byte), read, often, data])

    return void(generate, array, place)


@intrinsic
def hidden_gradient(typing_context, weight, slopes, slope_place, values, place, bias_sums, weight_sums, sum_place):
    """Back through one hidden unit: its values, a vector, are overwritten by the gradient slopes * weight where they
    are not 0. The gradient is added to bias_sums[sum_place:], and slopes * values to weight_sums[sum_place:]."""

    def generate(context, builder, signature, args):
        slope = load(builder, pointer_at(context, builder, slopes, args[1], args[2]))
        value_at = pointer_at(context, builder, values, args[3], args[4])
        bias_at = pointer_at(context, builder, bias_sums, args[5], args[7])
        weight_at = pointer_at(context, builder, weight_sums, args[6], args[7])
        value, zeros = load(builder, value_at), ir.Constant(FLOATS, None)
        gradient = builder.fmul(slope, in_all_lanes(builder, args[0]))
        gradient = builder.select(builder.fcmp_unordered("!=", value, zeros), gradient, zeros)
        store(builder, gradient, value_at)
        store(builder, builder.fadd(load(builder, bias_at), gradient), bias_at)
        store(builder, add_product(builder, slope, value, load(builder, weight_at)), weight_at)

    return void(generate, weight, slopes, slope_place, values, place, bias_sums, weight_sums, sum_place)


@intrinsic
def scalar_products(typing_context, a, start_a, step_a, b, start_b, step_b, count, results, target, stride):
    """A block of SIDE x SIDE numbers: results[target + i stride + j] = sum over t < count and all lanes of
    a[start_a + t step_a + i LANES :] * b[start_b + t step_b + j LANES :]."""

    def generate(context, builder, signature, args):
        a_at = pointer_at(context, builder, a, args[0], args[1])
        b_at = pointer_at(context, builder, b, args[3], args[4])
        result_at = pointer_at(context, builder, results, args[7], args[8])
        zeros = ir.Constant(FLOATS, None)
        sums = [[cgutils.alloca_once_value(builder, zeros) for _ in range(SIDE)] for _ in range(SIDE)]
        with cgutils.for_range(builder, args[6], intp=ir.IntType(64)) as loop:
            tile_a = builder.gep(a_at, [builder.mul(loop.index, args[2])])
            tile_b = builder.gep(b_at, [builder.mul(loop.index, args[5])])
            ours = [load(builder, tile_a, i * LANES) for i in range(SIDE)]
            theirs = [load(builder, tile_b, j * LANES) for j in range(SIDE)]
            for i in range(SIDE):
                for j in range(SIDE):
                    total = add_product(builder, ours[i], theirs[j], builder.load(sums[i][j]))
                    builder.store(total, sums[i][j])
        # The lanes of each, added up: a vector of all SIDE x SIDE sums, row after row.
        vector = sums_of_lanes(builder, [builder.load(total) for row in sums for total in row])
        for i in range(SIDE):
            mask = constants(INT, [i * SIDE + j for j in range(SIDE)])
            row = builder.shuffle_vector(vector, ir.Constant(FLOATS, ir.Undefined), mask)
            store(builder, row, builder.gep(result_at, [builder.mul(whole(i), args[9])]))

    return void(generate, a, start_a, step_a, b, start_b, step_b, count, results, target, stride)


@intrinsic
def lane_sum(typing_context, values, place):
    """The sum of the LANES numbers values[place:]."""

    def generate(context, builder, signature, args):
        return sum_of_lanes(builder, load(builder, pointer_at(context, builder, values, args[0], args[1])))

    return types.float32(values, place), generate


@intrinsic
def apart(typing_context, features, place, vectors, target, lanes):
    """From LANES samples with F features each, side by side, to F vectors: vectors[target + f LANES + s] =
    features[place + s F + f]. lanes: a tuple of length F."""

    def generate(context, builder, signature, args):
        count = len(lanes)
        wide = ir.VectorType(FLOAT, LANES * count)
        source = load(builder, pointer_at(context, builder, features, args[0], args[1]), kind=wide)
        target_at = pointer_at(context, builder, vectors, args[2], args[3])
        for feature in range(count):
            mask = constants(INT, [sample * count + feature for sample in range(LANES)])
            part = builder.shuffle_vector(source, ir.Constant(wide, ir.Undefined), mask)
            store(builder, part, target_at, feature * LANES)

    return void(generate, features, place, vectors, target, lanes)


@intrinsic
def together(typing_context, vectors, place, features, target, lanes):
    """The inverse of `apart`: features[target + s F + f] = vectors[place + f LANES + s]."""

    def generate(context, builder, signature, args):
        count = len(lanes)
        wide = ir.VectorType(FLOAT, LANES * count)
        source = load(builder, pointer_at(context, builder, vectors, args[0], args[1]), kind=wide)
        mask = constants(INT, [feature * LANES + sample for sample in range(LANES) for feature in range(count)])
        part = builder.shuffle_vector(source, ir.Constant(wide, ir.Undefined), mask)
        store(builder, part, pointer_at(context, builder, features, args[2], args[3]))

    return void(generate, vectors, place, features, target, lanes)


def cell_and_part(builder: ir.IRBuilder, coordinate: ir.Value, resolution: ir.Value) -> tuple[ir.Value, ir.Value]:
    """(cells, positions in them), vectors, of coordinates along an axis: `hash_grid_kernels.locate` in all lanes.

    resolution: int32.
    """
    minus, one, half, zeros = (ir.Constant(FLOATS, [number] * LANES) for number in (-1.0, 1.0, 0.5, 0.0))
    inside = builder.select(builder.fcmp_ordered("<", coordinate, minus), minus, coordinate)
    inside = builder.select(builder.fcmp_ordered(">", coordinate, one), one, inside)
    scale = builder.fmul(half, in_all_lanes(builder, builder.sitofp(resolution, FLOAT)))
    position = builder.fmul(builder.fadd(inside, one), scale)
    last = in_all_lanes(builder, builder.sub(resolution, ir.Constant(INT, 1)))
    cell = builder.fptosi(position, INTS)
    cell = builder.select(builder.icmp_signed("<", cell, last), cell, last)
    cell = builder.select(builder.fcmp_ordered(">", position, zeros), cell, ir.Constant(INTS, [0] * LANES))
    return cell, builder.fsub(position, builder.sitofp(cell, FLOATS))


def corner_numbers(builder: ir.IRBuilder, cells: Values, strides: Values, dense: ir.Value) -> Values:
    """Rows of the eight corners in their level, vectors, as `hash_grid_kernels.corner_rows` orders them."""
    x, y, z = cells
    stride_y, stride_z = (in_all_lanes(builder, stride) for stride in strides)
    near_y, near_z = builder.mul(y, stride_y), builder.mul(z, stride_z)
    along_x = (x, builder.add(x, ir.Constant(INTS, [1] * LANES)))
    along_y, along_z = (near_y, builder.add(near_y, stride_y)), (near_z, builder.add(near_z, stride_z))

    def joined(a, b):
        return builder.select(dense, builder.add(a, b), builder.xor(a, b))

    edges = [joined(b, c) for c in along_z for b in along_y]
    return [joined(a, edge) for edge in edges for a in along_x]


def corner_fractions(builder: ir.IRBuilder, parts: Values) -> Values:
    """Trilinear weights of the eight corners, vectors, as `hash_grid_kernels.corner_weights` has them."""
    one = ir.Constant(FLOATS, [1.0] * LANES)
    along_x, along_y, along_z = ((builder.fsub(one, part), part) for part in parts)
    edges = [builder.fmul(b, c) for c in along_z for b in along_y]
    return [builder.fmul(a, edge) for edge in edges for a in along_x]


@intrinsic
def corners(typing_context, points, place, gap, resolution, stride_y, stride_z, dense, mask, rows, weights, target):
    """Rows and weights of the corners of LANES points in a level, for corner c at target + c LANES.

    points: x at place, y and z `gap` and 2 gap behind. resolution int32, strides and mask uint32, dense bool: of the
    level.
    """

    def generate(context, builder, signature, args):
        point_at = pointer_at(context, builder, points, args[0], args[1])
        row_at = pointer_at(context, builder, rows, args[8], args[10])
        weight_at = pointer_at(context, builder, weights, args[9], args[10])
        offsets = whole(0), args[2], builder.mul(args[2], whole(2))
        coordinates = [load(builder, point_at, offset) for offset in offsets]
        cells, parts = zip(*(cell_and_part(builder, axis, args[3]) for axis in coordinates), strict=True)
        dense_flag = builder.trunc(args[6], ir.IntType(1)) if args[6].type != ir.IntType(1) else args[6]
        kept = in_all_lanes(builder, args[7])
        for corner, row in enumerate(corner_numbers(builder, list(cells), [args[4], args[5]], dense_flag)):
            store(builder, builder.and_(row, kept), row_at, corner * LANES)
        for corner, weight in enumerate(corner_fractions(builder, list(parts))):
            store(builder, weight, weight_at, corner * LANES)

    arguments = (points, place, gap, resolution, stride_y, stride_z, dense, mask, rows, weights, target)
    return void(generate, *arguments)
