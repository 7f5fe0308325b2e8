"""The compiled loops of `hash_grid_refit.py`: derivatives of a network, and sums over the equations made of them.

In: its `Layers` and `Equations`, and tables. Out: arrays that are written or added to. Every sum has one fixed order.

Names: N points, whole tiles of LANES; L levels, Lf of which are fitted; F features a node; K inputs of the hidden layer
and its width W, both rounded up to whole UNITS.
"""

from typing import NamedTuple

import numpy as np

from neuralparts.network.hash_grid_kernels import compiled, inlined, strides
from neuralparts.network.hash_grid_refit_vectors import (
    add_changes,
    blend_corners,
    corner_factors,
    corner_products,
    find_cells,
    spread_corners,
    unit_slopes,
)
from neuralparts.network.vector_kernels import LANES, UNITS, output_tile, products, together

# The jobs of `sweep`: the number of tables that it adds to.
IMAGE, DESCEND = 1, 2
# Arguments of `vector_kernels.products` and of the intrinsics here: a tuple that is not empty says yes.
YES, NO = (0,), ()
ZERO, ONE = np.float32(0), np.float32(1)


class Tile(NamedTuple):
    """Space for the numbers of a tile, flat, float32 unless stated."""

    # Of all levels, see `hash_grid_refit_vectors`: (L, 8, LANES) uint32 and (L, 3, LANES).
    rows: np.ndarray
    parts: np.ndarray
    # Of one level: a number for each corner (8, LANES), and derivatives by its features (LANES, F).
    corners: np.ndarray
    slopes: np.ndarray
    # A number for each equation of a point: of the value, and of the slopes if there are any, (4, LANES).
    values: np.ndarray


@inlined
def new_tile(levels, lanes):
    """Space for the tiles of a loop."""
    count = len(levels[0])
    return Tile(
        np.empty(count * 8 * LANES, np.uint32),
        np.empty(count * 3 * LANES, np.float32),
        np.empty(8 * LANES, np.float32),
        np.empty(LANES * len(lanes), np.float32),
        np.empty(4 * LANES, np.float32),
    )


@inlined
def find_corners(tile, points, place, levels, lanes):
    """Fill the tile's rows and parts with those of points (3, N) from `place` on, in all levels."""
    resolutions, _, dense, masks = levels
    for level in range(len(resolutions)):
        stride_y, stride_z = strides(resolutions[level], dense[level])
        sizes = resolutions[level], stride_y, stride_z, dense[level], masks[level]
        rows_at, parts_at = level * 8 * LANES, level * 3 * LANES
        find_cells(points, place, points.shape[1], sizes, tile.rows, rows_at, tile.parts, parts_at, lanes)


@inlined
def add_level(tile, table, levels, level, jacobian, place, has_slopes, lanes):
    """Add to the tile's values what one level of a table (rows, F), or of a change of it, adds to them.

    jacobian: flat from `place` on, the derivatives (LANES, F) of the network's values by the level's features.
    """
    cells = np.float32(0.5) * np.float32(levels[0][level])
    corner_products(
        table, levels[1][level], tile.rows, level * 8 * LANES, jacobian, place, tile.corners, 0, lanes
    )  # fmt: skip
    if has_slopes:
        add_changes(tile.corners, 0, tile.parts, level * 3 * LANES, cells, tile.values, 0, YES)
    else:
        add_changes(tile.corners, 0, tile.parts, level * 3 * LANES, cells, tile.values, 0, NO)


@compiled
def linearise(points, table, levels, layers, values, gradients, jacobian, start, stop, lanes):
    """Write values (1, N) at points (3, N), and jacobian (Lf, N, F): derivatives by the finest levels' features.

    gradients: (3, N), of the values by points in the cube; (0, N) for none. start, stop: which of the points, whole
    tiles. lanes: a tuple of length F.
    """
    inner, outer, bias, output, output_bias, zeros = layers
    count, features, depth, width = len(levels[0]), len(lanes), len(zeros), len(bias)
    first = count - len(jacobian)
    # The first input whose derivative is asked for, in whole UNITS.
    lowest = 0 if len(gradients) else first * features // UNITS * UNITS
    # Of a tile: inputs (K, LANES), the derivatives by them (K, LANES), and hidden values or slopes (W, LANES).
    tile = new_tile(levels, lanes)
    inputs, derivatives = np.zeros(depth * LANES, np.float32), np.empty(depth * LANES, np.float32)
    hidden = np.empty(width * LANES, np.float32)
    for place in range(start, stop, LANES):
        find_corners(tile, points, place, levels, lanes)
        for level in range(count):
            blend_corners(
                table, levels[1][level], tile.rows, level * 8 * LANES, tile.parts, level * 3 * LANES,
                inputs, level * features * LANES, lanes,
            )  # fmt: skip
        for unit in range(0, width, UNITS):
            products(inner, unit, width, bias, unit, depth, inputs, 0, hidden, unit * LANES, YES)
        output_tile(output, output_bias[0], width, hidden, 0, values, place)
        for unit in range(width):
            unit_slopes(output[unit], hidden, unit * LANES)
        for unit in range(lowest, depth, UNITS):
            products(outer, unit, depth, zeros, unit, width, hidden, 0, derivatives, unit * LANES, NO)
        for level in range(first, count):
            at = ((level - first) * points.shape[1] + place) * features
            together(derivatives, level * features * LANES, jacobian, at, lanes)
        if len(gradients):
            # The gradient is the slopes of all levels' blends times their derivatives.
            tile.values[:] = ZERO
            for level in range(count):
                together(derivatives, level * features * LANES, tile.slopes, 0, lanes)
                add_level(tile, table, levels, level, tile.slopes, 0, True, lanes)
            for axis in range(3):
                for lane in range(LANES):
                    gradients[axis, place + lane] = tile.values[(axis + 1) * LANES + lane]


@inlined
def changes_of_values(tile, equations, place, levels, change, lanes):
    """Fill the tile's values with what a change (rows, F) of the table does to the equations from `place` on."""
    jacobian, residuals = equations.jacobian, equations.residuals
    tile.values[:] = ZERO
    for level in range(len(jacobian)):
        at = (level * jacobian.shape[1] + place) * len(lanes)
        add_level(tile, change, levels, level, jacobian, at, len(residuals) > 1, lanes)


@inlined
def weigh(tile, equations, place):
    """Multiply the tile's values, one for each equation, by the weights."""
    for equation in range(len(equations.residuals)):
        for lane in range(LANES):
            tile.values[equation * LANES + lane] *= equations.weights[min(equation, 1), place + lane]


@inlined
def weigh_lengths(tile, light, place):
    """Multiply the tile's values of slopes by the matrices I - v v^T of vectors `light` (3, N), if there are any."""
    x, y, z = LANES, 2 * LANES, 3 * LANES  # the values of the slopes along each axis
    if len(light):
        for lane in range(LANES):
            a, b, c = light[0, place + lane], light[1, place + lane], light[2, place + lane]
            along = a * tile.values[x + lane] + b * tile.values[y + lane] + c * tile.values[z + lane]
            tile.values[x + lane] -= along * a
            tile.values[y + lane] -= along * b
            tile.values[z + lane] -= along * c


@inlined
def add_to_table(tile, equations, place, levels, table, lanes, squared):
    """Add to a table (rows, F) the tile's values, one for each equation, times their derivatives by the table; or times
    the squares of these, with `squared`, a tuple that is not empty."""
    jacobian, residuals = equations.jacobian, equations.residuals
    for level in range(len(jacobian)):
        at = (level * jacobian.shape[1] + place) * len(lanes)
        cells = np.float32(0.5) * np.float32(levels[0][level])
        if len(residuals) > 1:
            corner_factors(tile.parts, level * 3 * LANES, cells, tile.values, 0, tile.corners, 0, YES, squared)
        else:
            corner_factors(tile.parts, level * 3 * LANES, cells, tile.values, 0, tile.corners, 0, NO, squared)
        spread_corners(
            table, levels[1][level], tile.rows, level * 8 * LANES, tile.corners, 0, jacobian, at, lanes, squared
        )  # fmt: skip


@compiled
def sweep(job, equations, levels, change, sums, lanes):
    """One pass over the equations A of a change (rows, F) of the table, with weights W and residuals r (N, K).

    IMAGE: sums[0] += A^T W A change. DESCEND: sums[0] += A^T W r, the gradient of half of the weighted squares, and
    sums[1] += the diagonal of A^T W A, where W weighs lengths in full. sums: (job, rows, F). levels: the fitted ones.
    lanes: a tuple of length F.
    """
    points, residuals = equations.points, equations.residuals
    tile = new_tile(levels, lanes)
    for place in range(0, points.shape[1], LANES):
        find_corners(tile, points, place, levels, lanes)
        if job == DESCEND:
            tile.values[:] = ONE
            weigh(tile, equations, place)
            add_to_table(tile, equations, place, levels, sums[1], lanes, YES)
            for equation in range(len(residuals)):
                for lane in range(LANES):
                    tile.values[equation * LANES + lane] = residuals[equation, place + lane]
        else:
            changes_of_values(tile, equations, place, levels, change, lanes)
        weigh(tile, equations, place)
        weigh_lengths(tile, equations.light, place)
        add_to_table(tile, equations, place, levels, sums[0], lanes, NO)
