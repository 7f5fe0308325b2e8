"""The compiled loops of `hash_grid_refit.py`: what small changes of a table do to values and slopes, and the reverse.

Names: N points, L levels, F features a node, K 1 or 4: a point's value, or its value and its slopes along x, y and z.
A network whose layers stay as they are is linear in its table, piece by piece. `jacobian` (N, L * F) has the derivative
of each point's value by its features. Every sum has one fixed order, so the bits do not depend on threads.
"""

import numpy as np

from neuralparts.network.hash_grid_kernels import (
    X,
    Y,
    Z,
    blend,
    compiled,
    corner_rows,
    corner_weights,
    inlined,
    locate,
    row_products,
    slope,
    spread,
    strides,
)


@compiled
def value_changes(points, table, jacobian, resolutions, offsets, dense, mask, changes, start, stop, lanes):
    """Write changes[start:stop], (N, 1): of the values, from a change of the table (rows, F)."""
    features = np.empty(len(lanes), np.float32)
    for sample in range(np.uint64(start), np.uint64(stop)):
        total = np.float32(0)
        for level in range(len(resolutions)):
            rows, resolution = table[offsets[level] : offsets[level + 1]], resolutions[level]
            x, u = locate(points[sample, X], resolution)
            y, v = locate(points[sample, Y], resolution)
            z, w = locate(points[sample, Z], resolution)
            stride_y, stride_z = strides(resolution, dense[level])
            corners = corner_rows(x, y, z, stride_y, stride_z, dense[level], mask[level])
            blend(rows, corners, corner_weights(u, v, w), features, np.uint64(0), lanes)
            for feature in range(len(lanes)):
                total += features[feature] * jacobian[sample, level * len(lanes) + feature]
        changes[sample, 0] = total


@compiled
def value_and_slope_changes(points, table, jacobian, resolutions, offsets, dense, mask, changes, start, stop, lanes):
    """Write changes[start:stop], (N, 4): of the values and the slopes, from a change of the table (rows, F)."""
    for sample in range(np.uint64(start), np.uint64(stop)):
        changes[sample] = 0
        for level in range(len(resolutions)):
            rows, resolution = table[offsets[level] : offsets[level + 1]], resolutions[level]
            x, u = locate(points[sample, X], resolution)
            y, v = locate(points[sample, Y], resolution)
            z, w = locate(points[sample, Z], resolution)
            stride_y, stride_z = strides(resolution, dense[level])
            corners = corner_rows(x, y, z, stride_y, stride_z, dense[level], mask[level])
            # Products of the eight corners' features with the derivative; their differences are the slopes.
            column, cells = np.uint64(level * len(lanes)), np.float32(0.5) * np.float32(resolution)
            p0, p1, p2, p3, p4, p5, p6, p7 = row_products(rows, corners, jacobian, sample, column, lanes)
            a, b, c, d, e, f, g, h = corner_weights(u, v, w)
            changes[sample, 0] += a * p0 + b * p1 + c * p2 + d * p3 + e * p4 + f * p5 + g * p6 + h * p7
            changes[sample, 1] += cells * slope(v, w, p1 - p0, p3 - p2, p5 - p4, p7 - p6)
            changes[sample, 2] += cells * slope(u, w, p2 - p0, p3 - p1, p6 - p4, p7 - p5)
            changes[sample, 3] += cells * slope(u, v, p4 - p0, p5 - p1, p6 - p2, p7 - p3)


@inlined
def edge_weights(u, v, cells):
    """Weights of the four edges along an axis in the slope along it; u, v: position along the other two axes."""
    unit = np.float32(1)
    return cells * (unit - u) * (unit - v), cells * u * (unit - v), cells * (unit - u) * v, cells * u * v


@inlined
def derivatives(u, v, w, cells, value, along_x, along_y, along_z, squared):
    """For each corner, in the order of `corner_rows`: the sum of the factors of the value and of the slopes times its
    weight in them, or times the square of that. u, v, w: position in the cell."""
    a, b, c, d, e, f, g, h = corner_weights(u, v, w)
    x0, x1, x2, x3 = edge_weights(v, w, cells)
    y0, y1, y2, y3 = edge_weights(u, w, cells)
    z0, z1, z2, z3 = edge_weights(u, v, cells)
    near = np.float32(-1)  # the sign of the nearer end of an edge
    if squared:
        near = np.float32(1)
        a, b, c, d, e, f, g, h = a * a, b * b, c * c, d * d, e * e, f * f, g * g, h * h
        x0, x1, x2, x3 = x0 * x0, x1 * x1, x2 * x2, x3 * x3
        y0, y1, y2, y3 = y0 * y0, y1 * y1, y2 * y2, y3 * y3
        z0, z1, z2, z3 = z0 * z0, z1 * z1, z2 * z2, z3 * z3
    near_x, near_y, near_z = near * along_x, near * along_y, near * along_z
    return (
        value * a + near_x * x0 + near_y * y0 + near_z * z0,
        value * b + along_x * x0 + near_y * y1 + near_z * z1,
        value * c + near_x * x1 + along_y * y0 + near_z * z2,
        value * d + along_x * x1 + along_y * y1 + near_z * z3,
        value * e + near_x * x2 + near_y * y2 + along_z * z0,
        value * f + along_x * x2 + near_y * y3 + along_z * z1,
        value * g + near_x * x3 + along_y * y2 + along_z * z2,
        value * h + along_x * x3 + along_y * y3 + along_z * z3,
    )


@compiled
def add_to_table(points, jacobian, factors, squared, column, resolution, is_dense, level_mask, gradient, lanes):
    """Add to one level's gradient (rows, F) the sum over points of factors (N, K) times the derivatives of the value
    and the slopes by the rows, or times their squares.

    jacobian: (N, L * F), of which `column` is the level's first; its squares for squares.
    """
    source = np.empty(len(lanes), np.float32)
    stride_y, stride_z = strides(resolution, is_dense)
    cells = np.float32(0.5) * np.float32(resolution)
    for sample in range(np.uint64(points.shape[0])):
        x, u = locate(points[sample, X], resolution)
        y, v = locate(points[sample, Y], resolution)
        z, w = locate(points[sample, Z], resolution)
        corners = corner_rows(x, y, z, stride_y, stride_z, is_dense, level_mask)
        value = factors[sample, 0]
        if factors.shape[1] == 1:
            for feature in range(len(lanes)):
                source[feature] = value * jacobian[sample, column + feature]
            a, b, c, d, e, f, g, h = corner_weights(u, v, w)
            if squared:
                a, b, c, d, e, f, g, h = a * a, b * b, c * c, d * d, e * e, f * f, g * g, h * h
            spread(gradient, corners, (a, b, c, d, e, f, g, h), source, np.uint64(0), lanes)
        else:
            for feature in range(len(lanes)):
                source[feature] = jacobian[sample, column + feature]
            along_x, along_y, along_z = factors[sample, 1], factors[sample, 2], factors[sample, 3]
            weights = derivatives(u, v, w, cells, value, along_x, along_y, along_z, squared)
            spread(gradient, corners, weights, source, np.uint64(0), lanes)
