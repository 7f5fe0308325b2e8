"""Compiled loops over the cells of stored bricks: the vertices on crossed edges, and the triangles between them.

In: `Bricks` (see `bricks.py`). Out: `Edges`, vertices, triangles. Each vertex belongs to one edge of the grid, and each
edge to the brick of its lower node, so a vertex has one number whichever cell asks for it.
"""

from typing import NamedTuple

import numpy as np

from neuralparts.marching.bit_kernels import (
    BYTE,
    ONE,
    ZERO,
    compiled,
    corner_signs,
    count_bits,
    crossed_cells,
    face,
    gather_rows,
    inlined,
    lowest_bit,
)
from neuralparts.marching.bricks import Bricks


class Edges(NamedTuple):
    """The vertices of n bricks, one on each edge that the surface crosses, numbered by brick, axis, x, y, z."""

    crossed: np.ndarray  # (n, 3, 8) uint64: by axis and x, the nodes from which a crossed edge leads upwards
    before: np.ndarray  # (n, 3, 8) int32: vertices of the same brick before those of this word
    first: np.ndarray  # (n,) int64: vertices of all bricks before this one


# --- what is crossed ---------------------------------------------------------------------------------------------


@compiled
def cross_edges(bricks: Bricks, triangles: np.ndarray, ambiguous: np.ndarray, edges: Edges, counts: np.ndarray) -> None:
    """Fill edges.crossed and edges.before, and counts (n, 4) int64 with the sizes of each brick's part of the mesh.

    triangles (256,) int64, ambiguous (256,) bool: of a cell, by the signs of its corners. Columns of counts: vertices,
    triangles that the signs alone decide, ambiguous cells, all crossed cells.
    """
    rows = np.empty((9, 9), np.uint64)
    for slot in range(len(counts)):
        gather_rows(bricks, bricks.outside, slot, True, rows)
        counts[slot] = 0
        # Vertices: the crossed edges of each axis.
        for axis in range(3):
            for x in range(8):
                word = _crossed_word(rows, axis, x)
                edges.crossed[slot, axis, x] = word
                edges.before[slot, axis, x] = counts[slot, 0]
                counts[slot, 0] += count_bits(word)
        # Triangles: what the signs of each crossed cell say.
        for x in range(8):
            for y in range(8):
                word = crossed_cells(rows, x, y)
                while word != ZERO:
                    signs = corner_signs(rows, x, y, lowest_bit(word))
                    word &= word - ONE
                    counts[slot, 1] += triangles[signs]
                    counts[slot, 2] += ambiguous[signs]
                    counts[slot, 3] += 1


@inlined
def _crossed_word(rows, axis, x):
    """The nodes of a word from which an edge along an axis leads upwards to a node of the other sign."""
    word = ZERO
    for y in range(8):
        row = rows[x, y]
        # The next node along the axis is in the next row, or, along z, the next bit of the same row.
        other = rows[x + 1, y] if axis == 0 else (rows[x, y + 1] if axis == 1 else row >> ONE)
        word |= ((row ^ other) & BYTE) << np.uint64(8 * y)
    return word


@compiled
def ambiguous_cells(
    bricks: Bricks, ambiguous: np.ndarray, slots: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` ambiguous cells of the bricks slots (k,): places (count,) int64, corner values (count, 8) float32.

    ambiguous (256,) bool: by the signs of a cell's corners. Column 4 x + 2 y + z of the values is corner (x, y, z).
    """
    places, values, found = np.empty(count, np.int64), np.empty((count, 8), np.float32), 0
    rows = np.empty((9, 9), np.uint64)
    for slot in slots:
        gather_rows(bricks, bricks.outside, slot, True, rows)
        for x in range(8):
            for y in range(8):
                word = crossed_cells(rows, x, y)
                while word != ZERO:
                    z = lowest_bit(word)
                    word &= word - ONE
                    if ambiguous[corner_signs(rows, x, y, z)]:
                        places[found] = slot * 512 + x * 64 + y * 8 + z
                        for corner in range(8):
                            step_x, step_y, step_z = corner >> 2, (corner >> 1) & 1, corner & 1
                            values[found, corner] = _value_at(bricks, slot, x + step_x, y + step_y, z + step_z)
                        found += 1
    return places, values


@inlined
def _owner(bricks, slot, x, y, z):
    """(slot, index in the brick) of the node at (x, y, z), each 0 to 8, from the first node of the brick `slot`."""
    # An 8 along an axis is node 0 of the next brick.
    if (x | y | z) & 8:
        first, second, third = bricks.coords[slot]
        slot = bricks.slots[first + (x >> 3), second + (y >> 3), third + (z >> 3)]
    return np.int64(slot), (x & 7) * 64 + (y & 7) * 8 + (z & 7)


@inlined
def _value_at(bricks, slot, x, y, z):
    """The value of the node at (x, y, z), each 0 to 8, from the first node of the brick `slot`."""
    place, index = _owner(bricks, slot, x, y, z)
    return bricks.values[place, index]


# --- vertices ----------------------------------------------------------------------------------------------------


@compiled
def vertex_numbers(bricks: Bricks, edges: Edges, places: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(m,) int64: the vertices on the edges codes (m,), 8 axis + lower corner, of the cells at places (m,)."""
    numbers = np.empty(len(places), np.int64)
    for index in range(len(places)):
        place, code = places[index], codes[index]
        x, y, z = (place >> 6) & 7, (place >> 3) & 7, place & 7
        # The node at the lower end of the edge, in the brick to which the edge belongs.
        slot, node = _owner(bricks, place >> 9, x + ((code >> 2) & 1), y + ((code >> 1) & 1), z + (code & 1))
        # Vertices before this one: of earlier bricks, of earlier words of the brick, of lower bits of the word.
        word = edges.crossed[slot, code >> 3, node >> 6] & ((ONE << np.uint64(node & 63)) - ONE)
        numbers[index] = edges.first[slot] + edges.before[slot, code >> 3, node >> 6] + count_bits(word)
    return numbers


@compiled
def place_vertices(bricks: Bricks, edges: Edges, cell: float, snap: float, vertices: np.ndarray) -> None:
    """Fill vertices (V, 3) float64, in the domain: one on each crossed edge, where the linear interpolation is 0.

    cell: edge of a cell, in domain units. snap: no vertex lies nearer to a node than this fraction of a cell.
    """
    for slot in range(len(edges.first)):
        number = edges.first[slot]
        for axis in range(3):
            for x in range(8):
                word = edges.crossed[slot, axis, x]
                while word != ZERO:
                    bit = lowest_bit(word)
                    word &= word - ONE
                    y, z = bit >> 3, bit & 7
                    # The values at both ends, of opposite sign, and how far up the edge the level lies between them.
                    low = np.float64(bricks.values[slot, x * 64 + bit])
                    high = _value_at(bricks, slot, x + (axis == 0), y + (axis == 1), z + (axis == 2))
                    fraction = min(max(low / (low - high), snap), 1.0 - snap)
                    # The lower end (node 1 lies at -1), then the way along the edge.
                    vertices[number, 0] = (bricks.coords[slot, 0] * 8 + x - 1.0) * cell - 1.0
                    vertices[number, 1] = (bricks.coords[slot, 1] * 8 + y - 1.0) * cell - 1.0
                    vertices[number, 2] = (bricks.coords[slot, 2] * 8 + z - 1.0) * cell - 1.0
                    vertices[number, axis] += fraction * cell
                    number += 1


# --- triangles ---------------------------------------------------------------------------------------------------


@compiled
def place_triangles(bricks: Bricks, edges: Edges, triangles: np.ndarray, steps: np.ndarray, faces: np.ndarray) -> None:
    """Fill faces (F, 3) int64 with the triangles of the crossed cells that are not ambiguous.

    triangles (256,) int64: how many, by the signs of a cell's corners. steps (256, 15) int64: their edges, as steps
    from the cell's first node within the numbers of `_number_around`.
    """
    rows, numbers, filled = np.empty((9, 9), np.uint64), np.empty(3 * 9**3, np.int64), 0
    for slot in range(len(edges.first)):
        gather_rows(bricks, bricks.outside, slot, True, rows)
        _number_around(bricks, edges, slot, numbers)
        for x in range(8):
            for y in range(8):
                word = crossed_cells(rows, x, y)
                while word != ZERO:
                    z = lowest_bit(word)
                    word &= word - ONE
                    signs, node = corner_signs(rows, x, y, z), x * 81 + y * 9 + z
                    for triangle in range(triangles[signs]):
                        for corner in range(3):
                            faces[filled, corner] = numbers[node + steps[signs, 3 * triangle + corner]]
                        filled += 1


@compiled
def _number_around(bricks, edges, slot, numbers):
    """Fill numbers (3 * 9^3,) with the vertices on the edges of a brick's cells, at 729 axis + 81 x + 9 y + z.

    Only crossed edges are filled; the others keep what they had, and no triangle asks for them.
    """
    first, second, third = bricks.coords[slot]
    # Corner 0 is the brick itself; the others are the upper neighbours, of which the face towards it counts.
    for corner in range(8):
        step_x, step_y, step_z = corner >> 2, (corner >> 1) & 1, corner & 1
        source = bricks.slots[first + step_x, second + step_y, third + step_z]
        if source < 0:
            continue
        for axis in range(3):
            for x in range(1 if step_x else 8):
                crossed = edges.crossed[source, axis, x]
                before = edges.first[source] + edges.before[source, axis, x]
                word = crossed & face(corner)
                while word != ZERO:
                    bit = lowest_bit(word)
                    # The lower node of the edge, 0 to 8 along each axis, as seen from the brick `slot`.
                    node = (x + 8 * step_x) * 81 + ((bit >> 3) + 8 * step_y) * 9 + (bit & 7) + 8 * step_z
                    numbers[axis * 729 + node] = before + count_bits(crossed & ((ONE << np.uint64(bit)) - ONE))
                    word &= word - ONE
