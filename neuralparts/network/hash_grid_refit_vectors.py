"""What the loops of `hash_grid_refit_kernels.py` do with LANES points at a time, in LLVM's vector instructions.

All arrays are contiguous, and places in them are flat. A tile is LANES points, F the number of features of a node, and
`lanes` a tuple of length F. The order of sums is fixed. Of a tile in a level:

- `first` is the row of the table at which the level begins,
- `rows` (8, LANES) uint32 are F times the rows of the corners of each point's cell, counted from there, in the order of
  `hash_grid_kernels.corner_rows`,
- `parts` (3, LANES) are the positions in the cells, and `cells` the number of cells per unit length.
"""

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from neuralparts.network.vector_kernels import (
    FLOAT,
    FLOATS,
    INT,
    LANES,
    Values,
    add_product,
    cell_and_part,
    constants,
    corner_fractions,
    corner_numbers,
    in_all_lanes,
    load,
    pointer_at,
    store,
    void,
    whole,
)

# Corners along each axis of an edge in the order of `corner_rows`: (nearer end, farther end).
ALONG_X = (0, 1), (2, 3), (4, 5), (6, 7)
ALONG_Y = (0, 2), (1, 3), (4, 6), (5, 7)
ALONG_Z = (0, 4), (1, 5), (2, 6), (3, 7)


def vectors(builder: ir.IRBuilder, pointer: ir.Value, count: int) -> Values:
    """`count` vectors, one behind the other."""
    return [load(builder, pointer, number * LANES) for number in range(count)]


def multiply_add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c, rounded once where the CPU can."""
    kind = ir.FunctionType(a.type, [a.type] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{a.type.count}f32")
    return builder.call(function, [a, b, c])


def joined(builder: ir.IRBuilder, pieces: Values) -> ir.Value:
    """One long vector of a power of 2 of pieces of one length."""
    while len(pieces) > 1:
        mask = constants(INT, list(range(2 * pieces[0].type.count)))
        pieces = [builder.shuffle_vector(a, b, mask) for a, b in zip(pieces[::2], pieces[1::2], strict=True)]
    return pieces[0]


def row_at(builder: ir.IRBuilder, level_at: ir.Value, rows_at: ir.Value, place: ir.Value) -> ir.Value:
    """A pointer to the row of a level that a place in `rows` names."""
    return builder.gep(level_at, [builder.zext(builder.load(builder.gep(rows_at, [place])), ir.IntType(64))])


def edge_fractions(builder: ir.IRBuilder, parts: Values, axis: int, cells: ir.Value) -> Values:
    """The weights of the four edges along an axis in the slope along it, in the order of ALONG_X and the others."""
    one = ir.Constant(FLOATS, [1.0] * LANES)
    inner, outer = (parts[other] for other in range(3) if other != axis)
    near, far = (builder.fmul(cells, part) for part in (builder.fsub(one, outer), outer))
    return [builder.fmul(a, b) for b in (near, far) for a in (builder.fsub(one, inner), inner)]


@intrinsic
def find_cells(typing_context, points, place, gap, level, rows, row_place, parts, part_place, lanes):
    """Rows and positions in the cells, `rows` and `parts`, of LANES points in a level.

    points: x at place, y and z `gap` and 2 gap behind. level: its resolution int32, its strides uint32, dense bool, and
    its mask uint32.
    """

    def generate(context, builder, signature, args):
        point_at = pointer_at(context, builder, points, args[0], args[1])
        rows_at = pointer_at(context, builder, rows, args[4], args[5])
        parts_at = pointer_at(context, builder, parts, args[6], args[7])
        resolution, stride_y, stride_z, dense, mask = (builder.extract_value(args[3], field) for field in range(5))
        offsets = whole(0), args[2], builder.mul(args[2], whole(2))
        found = [cell_and_part(builder, load(builder, point_at, offset), resolution) for offset in offsets]
        is_dense = builder.icmp_unsigned("!=", dense, ir.Constant(dense.type, 0))
        kept, features = in_all_lanes(builder, mask), constants(INT, [len(lanes)] * LANES)
        numbers = corner_numbers(builder, [cell for cell, _ in found], [stride_y, stride_z], is_dense)
        for corner, row in enumerate(numbers):
            store(builder, builder.mul(builder.and_(row, kept), features), rows_at, corner * LANES)
        for axis, (_, part) in enumerate(found):
            store(builder, part, parts_at, axis * LANES)

    return void(generate, points, place, gap, level, rows, row_place, parts, part_place, lanes)


@intrinsic
def blend_corners(typing_context, table, first, rows, row_place, parts, part_place, features, place, lanes):
    """features[place:], (F, LANES): the trilinear blends of the corners' rows."""

    def generate(context, builder, signature, args):
        count = len(lanes)
        level_at = pointer_at(context, builder, table, args[0], builder.mul(args[1], whole(count)))
        rows_at = pointer_at(context, builder, rows, args[2], args[3])
        feature_at = pointer_at(context, builder, features, args[6], args[7])
        weights = corner_fractions(builder, vectors(builder, pointer_at(context, builder, parts, args[4], args[5]), 3))
        sums = None
        for corner, weight in enumerate(weights):
            columns = columns_of(builder, corner_values(builder, level_at, rows_at, corner, count), count)
            if sums is None:
                sums = [builder.fmul(weight, column) for column in columns]
            else:
                sums = [add_product(builder, weight, a, b) for a, b in zip(columns, sums, strict=True)]
        for feature, total in enumerate(sums):
            store(builder, total, feature_at, feature * LANES)

    return void(generate, table, first, rows, row_place, parts, part_place, features, place, lanes)


def corner_values(builder: ir.IRBuilder, level_at: ir.Value, rows_at: ir.Value, corner: int, features: int) -> ir.Value:
    """The rows of one corner of each point, side by side: a vector of LANES * F numbers."""
    kind = ir.VectorType(FLOAT, features)
    places = range(corner * LANES, (corner + 1) * LANES)
    return joined(
        builder, [load(builder, row_at(builder, level_at, rows_at, whole(place)), kind=kind) for place in places]
    )


def columns_of(builder: ir.IRBuilder, wide: ir.Value, features: int) -> Values:
    """F vectors, one of each feature, of the numbers (LANES, F) of a tile."""
    undefined = ir.Constant(wide.type, ir.Undefined)
    masks = [[point * features + feature for point in range(LANES)] for feature in range(features)]
    return [builder.shuffle_vector(wide, undefined, constants(INT, mask)) for mask in masks]


def sums_of_features(builder: ir.IRBuilder, wide: ir.Value, features: int) -> ir.Value:
    """The sum of the F features of each point: neighbours are added while they are even in number."""
    while features % 2 == 0:
        undefined, features = ir.Constant(wide.type, ir.Undefined), features // 2
        masks = ([2 * place + second for place in range(LANES * features)] for second in (0, 1))
        wide = builder.fadd(*(builder.shuffle_vector(wide, undefined, constants(INT, mask)) for mask in masks))
    total, *others = columns_of(builder, wide, features)
    for other in others:
        total = builder.fadd(total, other)
    return total


@intrinsic
def corner_products(typing_context, table, first, rows, row_place, jacobian, place, products, product_place, lanes):
    """products (8, LANES): of each point's F numbers of jacobian[place:], (LANES, F), with the rows of its corners."""

    def generate(context, builder, signature, args):
        count = len(lanes)
        level_at = pointer_at(context, builder, table, args[0], builder.mul(args[1], whole(count)))
        rows_at = pointer_at(context, builder, rows, args[2], args[3])
        product_at = pointer_at(context, builder, products, args[6], args[7])
        derivatives_at = pointer_at(context, builder, jacobian, args[4], args[5])
        derivatives = load(builder, derivatives_at, kind=ir.VectorType(FLOAT, LANES * count))
        for corner in range(8):
            values = corner_values(builder, level_at, rows_at, corner, count)
            total = sums_of_features(builder, builder.fmul(values, derivatives), count)
            store(builder, total, product_at, corner * LANES)

    return void(generate, table, first, rows, row_place, jacobian, place, products, product_place, lanes)


@intrinsic
def add_changes(typing_context, products, product_place, parts, part_place, cells, changes, place, slopes):
    """Add to changes[place:], (1, LANES), what a level with these `corner_products` adds to the values; with `slopes`,
    a tuple that is not empty, (4, LANES): also to the slopes along x, y, z."""

    def generate(context, builder, signature, args):
        products_of = vectors(builder, pointer_at(context, builder, products, args[0], args[1]), 8)
        parts_of = vectors(builder, pointer_at(context, builder, parts, args[2], args[3]), 3)
        change_at = pointer_at(context, builder, changes, args[5], args[6])
        weights = corner_fractions(builder, parts_of)
        add_terms(builder, weights, products_of, change_at)
        if not len(slopes):
            return
        per_unit = in_all_lanes(builder, args[4])
        for axis, edges in enumerate((ALONG_X, ALONG_Y, ALONG_Z)):
            differences = [builder.fsub(products_of[far], products_of[near]) for near, far in edges]
            along = edge_fractions(builder, parts_of, axis, per_unit)
            add_terms(builder, along, differences, builder.gep(change_at, [whole((axis + 1) * LANES)]))

    return void(generate, products, product_place, parts, part_place, cells, changes, place, slopes)


def add_terms(builder: ir.IRBuilder, a: Values, b: Values, pointer: ir.Value) -> None:
    """Add the sum of products of two lists of vectors to the vector at a pointer."""
    total = load(builder, pointer)
    for one, other in zip(a, b, strict=True):
        total = add_product(builder, one, other, total)
    store(builder, total, pointer)


@intrinsic
def corner_factors(typing_context, parts, part_place, cells, factors, place, results, target, slopes, squared):
    """results (8, LANES) at target: for each corner, the sum of the factors of the equations times their derivatives by
    the corner's blend; or times the squares of these, with `squared`, a tuple that is not empty.

    factors at place: of the value (1, LANES); with `slopes`, of the value and the slopes (4, LANES).
    """

    def generate(context, builder, signature, args):
        parts_of = vectors(builder, pointer_at(context, builder, parts, args[0], args[1]), 3)
        factors_of = vectors(builder, pointer_at(context, builder, factors, args[3], args[4]), 4 if len(slopes) else 1)
        result_at = pointer_at(context, builder, results, args[5], args[6])

        def power(vector):
            return builder.fmul(vector, vector) if len(squared) else vector

        totals = [builder.fmul(factors_of[0], power(weight)) for weight in corner_fractions(builder, parts_of)]
        per_unit = in_all_lanes(builder, args[2])
        for axis, edges in enumerate((ALONG_X, ALONG_Y, ALONG_Z)[: 3 if len(slopes) else 0]):
            along = edge_fractions(builder, parts_of, axis, per_unit)
            for (near, far), weight in zip(edges, along, strict=True):
                term = builder.fmul(factors_of[axis + 1], power(weight))
                totals[far] = builder.fadd(totals[far], term)
                totals[near] = (builder.fadd if len(squared) else builder.fsub)(totals[near], term)
        for corner, total in enumerate(totals):
            store(builder, total, result_at, corner * LANES)

    return void(generate, parts, part_place, cells, factors, place, results, target, slopes, squared)


@intrinsic
def spread_corners(
    typing_context, table, first, rows, row_place, factors, factor_place, jacobian, place, lanes, squared
):
    """Add to the rows of the corners, one point after the other, factors (8, LANES) times each point's F numbers of
    jacobian[place:], (LANES, F), or times their squares, with `squared`, a tuple that is not empty."""

    def generate(context, builder, signature, args):
        count = len(lanes)
        kind = ir.VectorType(FLOAT, count)
        level_at = pointer_at(context, builder, table, args[0], builder.mul(args[1], whole(count)))
        rows_at = pointer_at(context, builder, rows, args[2], args[3])
        factors_at = pointer_at(context, builder, factors, args[4], args[5])
        derivatives_at = pointer_at(context, builder, jacobian, args[6], args[7])
        with cgutils.for_range(builder, whole(LANES), intp=ir.IntType(64)) as loop:
            derivatives = load(builder, derivatives_at, builder.mul(loop.index, whole(count)), kind)
            if len(squared):
                derivatives = builder.fmul(derivatives, derivatives)
            for corner in range(8):
                place = builder.add(loop.index, whole(corner * LANES))
                pointer = row_at(builder, level_at, rows_at, place)
                factor = in_all_lanes(builder, builder.load(builder.gep(factors_at, [place])), count)
                total = multiply_add(builder, factor, derivatives, load(builder, pointer, kind=kind))
                store(builder, total, pointer)

    return void(generate, table, first, rows, row_place, factors, factor_place, jacobian, place, lanes, squared)


@intrinsic
def unit_slopes(typing_context, weight, hidden, place):
    """Overwrite the values of a hidden unit, a vector, by the slopes of the output by them: weight where above 0."""

    def generate(context, builder, signature, args):
        pointer = pointer_at(context, builder, hidden, args[1], args[2])
        zeros = ir.Constant(FLOATS, None)
        above = builder.fcmp_ordered(">", load(builder, pointer), zeros)
        store(builder, builder.select(above, in_all_lanes(builder, args[0]), zeros), pointer)

    return void(generate, weight, hidden, place)
