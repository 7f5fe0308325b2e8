"""The hash grid as ONNX operations: points (N, 3) of the cube -> features (N, levels * features).

It follows `network.interpolate_hash_grid`, with the hash in 32 bits where that is exact: only the lowest bits of a
product with one of the hash's factors count, so the factor's lowest bits are enough, (i p) & m = (i (p & m)) & m.

Shapes in comments: N points, L levels, F features. Axes that are named z, y, x have two places: the near and the far
corner of the cell.
"""

import numpy as np

from neuralparts.export.network_arrays import GridArrays
from neuralparts.export.onnx_builder import GraphBuilder
from neuralparts.network import HASH_PRIMES

# Axes in front of which a value (N, L, 2) along x, y or z gets new ones, so that it becomes (N, L, z, y, x).
_NEW_AXES = ((2, 3), (2, 4), (3, 4))


def add_hash_grid(graph: GraphBuilder, grid: GridArrays, points: str) -> str:
    """Add the encoding to the graph; returns the name of the features."""
    cells, parts = _add_cells(graph, grid, points)
    rows = _add_rows(graph, grid, cells)
    # Corners' weights (N, L, z, y, x, 1) and values (N, L, z, y, x, F).
    near = graph.add("Sub", graph.constant(1.0), parts)
    sides = graph.add("Concat", near, parts, axis=3)
    along = [_spread(graph, _along(graph, sides, axis), axis) for axis in range(3)]
    weights = graph.add("Mul", along[0], graph.add("Mul", along[1], along[2]))
    table = graph.constant(grid.table)
    values = graph.add("Gather", table, rows, axis=0)
    weighted = graph.add("Mul", values, graph.add("Unsqueeze", weights, graph.axes(5)))
    # Sums over the corners (N, L, F), then (N, L * F).
    sums = graph.add("ReduceSum", weighted, graph.axes(2, 3, 4), keepdims=0)
    return graph.add("Flatten", sums, axis=1)


def _add_cells(graph: GraphBuilder, grid: GridArrays, points: str) -> tuple[str, str]:
    """(cells (N, 3, L), places in them (N, 3, L, 1) of 0 to 1), both float32; the last cell holds the far border."""
    resolutions = grid.resolutions.astype(np.float32)
    shifted = graph.add("Unsqueeze", graph.add("Add", points, graph.constant(1.0)), graph.axes(2))
    positions = graph.add("Mul", shifted, graph.constant(0.5 * resolutions))
    cells = graph.add("Min", graph.add("Floor", positions), graph.constant(resolutions - 1))
    return cells, graph.add("Unsqueeze", graph.add("Sub", positions, cells), graph.axes(3))


def _add_rows(graph: GraphBuilder, grid: GridArrays, cells: str) -> str:
    """Rows (N, L, z, y, x) in the whole table of the corners of cells (N, 3, L)."""
    dtype = index_dtype(grid)
    # Nodes of both corners along each axis: three of (N, L, 2).
    near = graph.add("Unsqueeze", graph.cast(cells, dtype), graph.axes(3))
    corners = graph.add("Add", near, graph.constant([0, 1], dtype))
    nodes = [_along(graph, corners, axis) for axis in range(3)]
    # The coarse levels come first, and only fine ones are hashed.
    dense = int(grid.dense.sum())
    groups = []
    if dense:
        groups.append(_add_dense_rows(graph, grid, [_levels(graph, axis, 0, dense) for axis in nodes]))
    if dense < len(grid.dense):
        groups.append(_add_hashed_rows(graph, grid, [_levels(graph, axis, dense, len(grid.dense)) for axis in nodes]))
    return graph.add("Concat", *groups, axis=1) if len(groups) > 1 else groups[0]


def index_dtype(grid: GridArrays) -> type:
    """np.int32 if neither the products of the hash nor the rows of the table leave its range, else np.int64."""
    largest_product = int(grid.resolutions.max()) * grid.table_size
    return np.int32 if max(largest_product, len(grid.table)) < 2**31 else np.int64


def _add_dense_rows(graph: GraphBuilder, grid: GridArrays, nodes: list[str]) -> str:
    """Rows (N, l, z, y, x) of nodes, three of (N, l, 2), in the first l levels: their places in the grid, x fastest."""
    dtype, count = index_dtype(grid), int(grid.dense.sum())
    along_axis = grid.resolutions[:count, None].astype(np.int64) + 1
    x, y, z = (
        _spread(graph, graph.add("Mul", node, graph.constant(along_axis**axis, dtype)), axis)
        for axis, node in enumerate(nodes)
    )
    return _add_starts(graph, grid, graph.add("Add", x, graph.add("Add", y, z)), slice(0, count))


def _add_hashed_rows(graph: GraphBuilder, grid: GridArrays, nodes: list[str]) -> str:
    """Rows (N, l, z, y, x) of nodes, three of (N, l, 2), in the last l levels: their hashes."""
    dtype, mask = index_dtype(grid), grid.table_size - 1
    bits = []
    for axis, node in enumerate(nodes):
        product = graph.add("Mul", node, graph.constant(HASH_PRIMES[axis] & mask, dtype))
        bits.append(_spread(graph, graph.add("BitwiseAnd", product, graph.constant(mask, dtype)), axis))
    x, y, z = bits
    hashes = graph.add("BitwiseXor", x, graph.add("BitwiseXor", y, z))
    return _add_starts(graph, grid, hashes, slice(int(grid.dense.sum()), len(grid.dense)))


def _add_starts(graph: GraphBuilder, grid: GridArrays, rows: str, levels: slice) -> str:
    """Rows in the whole table, from rows (N, l, z, y, x) in each of these levels."""
    starts = grid.starts[levels].reshape(-1, 1, 1, 1)
    return graph.add("Add", rows, graph.constant(starts, index_dtype(grid)))


def _along(graph: GraphBuilder, values: str, axis: int) -> str:
    """Values (N, L, 2) along one axis, from those of all axes (N, 3, L, 2)."""
    return graph.add("Gather", values, graph.constant(axis, np.int64), axis=1)


def _spread(graph: GraphBuilder, values: str, axis: int) -> str:
    """Values (N, L, 2) along one axis, with axes of length 1 for the others: they broadcast to (N, L, z, y, x)."""
    return graph.add("Unsqueeze", values, graph.axes(*_NEW_AXES[axis]))


def _levels(graph: GraphBuilder, values: str, start: int, end: int) -> str:
    """Levels start to end of values (N, L, 2)."""
    return graph.add("Slice", values, graph.axes(start), graph.axes(end), graph.axes(1))
