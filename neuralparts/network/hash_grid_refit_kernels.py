"""The compiled loops of `hash_grid_refit.py`: a network made linear in the table of its finest levels, and sums over
the equations that this gives.

Names: N points, whole tiles of LANES; L levels, or those that are fitted; F features a node. K = L F inputs of the hidden
layer and W its width, both rounded up to a multiple of UNITS. Every sum has one fixed order, so the bits do not depend on
threads.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from neuralparts.network.hash_grid_kernels import compiled, strides
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

# Compiled into the loops that call it.
part_of_loop = njit(nogil=True, error_model="numpy")
# What `sweep` does.
CHANGE, DESCEND, IMAGE = 0, 1, 2
# Arguments of `vector_kernels.products` and of the intrinsics here: a tuple that is not empty says yes.
YES, NO = (0,), ()


class Layers(NamedTuple):
    """A network's layers, flat float32, rounded up with zeros: hidden weight (K, W) and (W, K), bias (W,), output weight
    (W,), output bias (1,), and zeros (K,)."""

    inner: np.ndarray
    outer: np.ndarray
    bias: np.ndarray
    output: np.ndarray
    output_bias: np.ndarray
    zeros: np.ndarray


class Equations(NamedTuple):
    """The equations of N points: of the values, or of the values and of the slopes along x, y and z."""

    points: np.ndarray  # (3, N)
    jacobian: np.ndarray  # (L, N, F), derivatives of the values by the fitted levels' features
    residuals: np.ndarray  # (1, N) of the values, or (4, N)
    weights: np.ndarray  # (1, N) of the values, or (2, N), of them and of all three slopes


@part_of_loop
def find_level(points, place, levels, level, rows, parts):
    """Corners and positions in the cells of a tile in a level, see `find_cells`; each level has its part of both."""
    resolutions, offsets, dense, masks = levels
    stride_y, stride_z = strides(resolutions[level], dense[level])
    find_cells(
        points, place, points.shape[1], resolutions[level], stride_y, stride_z, dense[level], masks[level],
        rows, parts, level * 8 * LANES, level * 3 * LANES,
    )  # fmt: skip


@part_of_loop
def cells_of(levels, level):
    """Cells per unit length."""
    return np.float32(0.5) * np.float32(levels[0][level])


@compiled
def linearise(points, table, levels, layers, values, gradients, jacobian, start, stop, lanes):
    """Write values[start:stop], (N,), of points (3, N) in the cube, and jacobian (Lf, N, F), by the finest Lf levels.

    gradients: (3, N) of the values by the points, or (0, N). start, stop: whole tiles. lanes: a tuple of length F.
    """
    inner, outer, bias, output, output_bias, zeros = layers
    count, features, depth, width = len(levels[0]), len(lanes), len(zeros), len(bias)
    first = count - len(jacobian)
    # Of a tile: corners of all levels, inputs (K, LANES) or their slopes, hidden values (W, LANES), one level's slopes.
    rows, parts = np.empty(count * 8 * LANES, np.uint32), np.empty(count * 3 * LANES, np.float32)
    inputs, hidden = np.zeros(depth * LANES, np.float32), np.empty(width * LANES, np.float32)
    slopes, dots, changes = np.empty(features * LANES, np.float32), np.empty(8 * LANES, np.float32), np.empty(4 * LANES, np.float32)
    lowest = 0 if len(gradients) else first * features // UNITS * UNITS
    for place in range(start, stop, LANES):
        for level in range(count):
            find_level(points, place, levels, level, rows, parts)
            blend_corners(
                table, levels[1][level], rows, level * 8 * LANES, parts, level * 3 * LANES, inputs, level * features * LANES, lanes
            )
        for unit in range(0, width, UNITS):
            products(inner, unit, width, bias, unit, depth, inputs, 0, hidden, unit * LANES, YES)
        output_tile(output, output_bias[0], width, hidden, 0, values, place)
        for unit in range(width):
            unit_slopes(output[unit], hidden, unit * LANES)
        for unit in range(lowest, depth, UNITS):
            products(outer, unit, depth, zeros, unit, width, hidden, 0, inputs, unit * LANES, NO)
        for level in range(first, count):
            at = ((level - first) * points.shape[1] + place) * features
            together(inputs, level * features * LANES, jacobian, at, lanes)
        if len(gradients):
            changes[:] = 0
            for level in range(count):
                together(inputs, level * features * LANES, slopes, 0, lanes)
                corner_products(table, levels[1][level], rows, level * 8 * LANES, slopes, 0, dots, 0, lanes)
                add_changes(dots, 0, parts, level * 3 * LANES, cells_of(levels, level), changes, 0, YES)
            for axis in range(3):
                for lane in range(LANES):
                    gradients[axis, place + lane] = changes[(axis + 1) * LANES + lane]
        for number in range(lowest, depth):  # the padding is zero again
            if number >= count * features:
                inputs[number * LANES : (number + 1) * LANES] = 0


@compiled
def sweep(job, equations, levels, change, result, diagonal, lanes):
    """CHANGE: add to the residuals what a change (rows, F) of the table does to them. DESCEND: add to `result` (rows, F)
    the gradient of half of the weighted squares, and to `diagonal` (rows, F) their second derivatives. IMAGE: add to
    `result` the second derivatives times a change.

    levels: the fitted ones. lanes: a tuple of length F.
    """
    points, jacobian, residuals, weights = equations
    count, places, features, size = len(levels[0]), points.shape[1], len(lanes), len(residuals)
    # Of a tile: corners of all levels, and for each corner the scalar products, then the factors.
    rows, parts = np.empty(count * 8 * LANES, np.uint32), np.empty(count * 3 * LANES, np.float32)
    corners, factors = np.empty(8 * LANES, np.float32), np.empty(4 * LANES, np.float32)
    for place in range(0, places, LANES):
        for level in range(count):
            find_level(points, place, levels, level, rows, parts)
        if job == DESCEND:
            for equation in range(size):
                for lane in range(LANES):
                    factors[equation * LANES + lane] = residuals[equation, place + lane]
        else:
            factors[:] = 0
            for level in range(count):
                at = (level * places + place) * features
                corner_products(change, levels[1][level], rows, level * 8 * LANES, jacobian, at, corners, 0, lanes)
                if size == 1:
                    add_changes(corners, 0, parts, level * 3 * LANES, cells_of(levels, level), factors, 0, NO)
                else:
                    add_changes(corners, 0, parts, level * 3 * LANES, cells_of(levels, level), factors, 0, YES)
        if job == CHANGE:
            for equation in range(size):
                for lane in range(LANES):
                    residuals[equation, place + lane] += factors[equation * LANES + lane]
            continue
        for equation in range(size):
            for lane in range(LANES):
                factors[equation * LANES + lane] *= weights[min(equation, 1), place + lane]
        for level in range(count):
            at, corners_at, parts_at, cells = (level * places + place) * features, level * 8 * LANES, level * 3 * LANES, cells_of(levels, level)
            if size == 1:
                corner_factors(parts, parts_at, cells, factors, 0, corners, 0, NO, NO)
            else:
                corner_factors(parts, parts_at, cells, factors, 0, corners, 0, YES, NO)
            spread_corners(result, levels[1][level], rows, corners_at, corners, 0, jacobian, at, lanes, NO)
        if job == DESCEND:
            for equation in range(size):
                for lane in range(LANES):
                    factors[equation * LANES + lane] = weights[min(equation, 1), place + lane]
            for level in range(count):
                at, corners_at, parts_at, cells = (level * places + place) * features, level * 8 * LANES, level * 3 * LANES, cells_of(levels, level)
                if size == 1:
                    corner_factors(parts, parts_at, cells, factors, 0, corners, 0, NO, YES)
                else:
                    corner_factors(parts, parts_at, cells, factors, 0, corners, 0, YES, YES)
                spread_corners(diagonal, levels[1][level], rows, corners_at, corners, 0, jacobian, at, lanes, YES)
