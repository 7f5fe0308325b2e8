"""Compiled loops of marching: which nodes of a brick are known, followed and crossed, and the triangles between them.

Comes in: `Bricks`, the arrays of `marching_grid.NodeStore`. Goes out: nodes to evaluate, vertices, triangles. A brick
has 8^3 nodes; a set of them is 8 words, one for each x, in which node (y, z) is bit 8 y + z, so that a step of these
loops treats a line of nodes at once. Numba compiles each at its first call (a quarter of a minute in all) and keeps the
machine code in `__pycache__`.
"""

from typing import NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

compiled = numba.njit(nogil=True, cache=True, error_model="numpy")

ZERO, ONE, BYTE, ALL = np.uint64(0), np.uint64(1), np.uint64(0xFF), np.uint64(2**64 - 1)
# The nodes of a word with y = 0, and those with z = 0.
FIRST_ROW, FIRST_COLUMN = BYTE, np.uint64(0x0101010101010101)
# Squared cells up to which a value speaks for the nodes around it: the half diagonal of a block of 4^3 cells.
FARTHEST = 12
# Values from this on stand for what lies beyond the domain.
BEYOND = np.float32(1e30)


class Bricks(NamedTuple):
    """n stored bricks, and the grid of all bricks, with one layer more at the upper end for what lies beyond."""

    values: np.ndarray  # (n, 512) float32, where evaluated
    evaluated: np.ndarray  # (n, 8) uint64
    outside: np.ndarray  # (n, 8) uint64: evaluated or assumed outside; both this and inside: contradicted
    inside: np.ndarray  # (n, 8) uint64
    coords: np.ndarray  # (n, 3) int32: index of the brick
    slots: np.ndarray  # (s, s, s) int32: where a brick is stored, -1 for nowhere
    signs: np.ndarray  # (s, s, s) int8: the assumed sign of a brick that is not stored


class Edges(NamedTuple):
    """The vertices of n bricks: one on each edge that the surface crosses, numbered by brick, axis, x, y, z."""

    crossed: np.ndarray  # (n, 3, 8) uint64: by axis, the nodes from which a crossed edge leads upwards
    before: np.ndarray  # (n, 3, 8) int32: vertices of the brick before those of this word
    first: np.ndarray  # (n,) int64: vertices of the bricks before


@intrinsic
def count_bits(typing_context, word):
    """How many bits of a uint64 are set, as int64."""
    return types.int64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


@intrinsic
def lowest_bit(typing_context, word):
    """The index of the lowest bit set in a uint64 that is not 0, as int64."""
    defined = ir.Constant(ir.IntType(1), 1)
    return types.int64(types.uint64), lambda context, builder, signature, args: builder.cttz(args[0], defined)


# --- what is known of the nodes ----------------------------------------------------------------------------------


@compiled
def unknown_nodes(bricks, lattice, axis, start, stop):
    """Nodes of bricks [start, stop), of those in lattice (8,), of which nothing is known, or both signs: (places (m,)
    int64, 512 slot + index in the brick; points (m, 3) float32). axis: coordinates of the nodes from 1 on."""
    count = 0
    for slot in range(start, stop):
        for x in range(8):
            count += count_bits(unknown(bricks, slot, x) & lattice[x])
    places, points = np.empty(count, np.int64), np.empty((count, 3), np.float32)
    found = 0
    for slot in range(start, stop):
        first, second, third = bricks.coords[slot]
        for x in range(8):
            word = unknown(bricks, slot, x) & lattice[x]
            while word != ZERO:
                bit = lowest_bit(word)
                word &= word - ONE
                places[found] = slot * 512 + x * 64 + bit
                points[found, 0] = axis[first * 8 + x - 1]
                points[found, 1] = axis[second * 8 + (bit >> 3) - 1]
                points[found, 2] = axis[third * 8 + (bit & 7) - 1]
                found += 1
    return places, points


@numba.njit(inline="always")
def unknown(bricks, slot, x):
    """The nodes of a word that have to be evaluated."""
    return ~bricks.evaluated[slot, x] & ~(bricks.outside[slot, x] ^ bricks.inside[slot, x])


@compiled
def keep(bricks, places, values):
    """Keeps values (m,) at places (m,)."""
    for index in range(len(places)):
        place, value = places[index], values[index]
        slot, x, bit = place >> 9, (place >> 6) & 7, ONE << np.uint64(place & 63)
        bricks.values[slot, place & 511] = value
        bricks.evaluated[slot, x] |= bit
        bricks.outside[slot, x] &= ~bit
        bricks.inside[slot, x] &= ~bit
        if value > 0:
            bricks.outside[slot, x] |= bit
        else:
            bricks.inside[slot, x] |= bit


@compiled
def carve(bricks, lattice, bounds, regions, widths, start, stop):
    """Assumes the sign of each evaluated node of bricks [start, stop), of those in lattice, in a ball around it.

    bounds (regions, FARTHEST + 1) float32: by how much the function may fall over a distance, by its square in cells.
    regions (n,): of each brick. widths: see `ball_widths`.
    """
    around = np.empty((3, 3, 3), np.int32)
    for slot in range(start, stop):
        bound = bounds[regions[slot]]
        found = False
        for x in range(8):
            word = bricks.evaluated[slot, x] & lattice[x]
            while word != ZERO:
                bit = lowest_bit(word)
                word &= word - ONE
                value = bricks.values[slot, x * 64 + bit]
                if bound[1] < abs(value) < BEYOND:
                    if not found:
                        neighbours(bricks, slot, around)
                        found = True
                    square = 1
                    while square < FARTHEST and abs(value) > bound[square + 1]:
                        square += 1
                    marks = bricks.outside if value > 0 else bricks.inside
                    mark_ball(marks, bricks.evaluated, around, x, bit >> 3, bit & 7, widths[square])


@numba.njit(inline="always")
def neighbours(bricks, slot, around):
    """Slots of the 3^3 bricks around a brick."""
    first, second, third = bricks.coords[slot]
    for x in range(3):
        for y in range(3):
            for z in range(3):
                around[x, y, z] = bricks.slots[first + x - 1, second + y - 1, third + z - 1]


@numba.njit(inline="always")
def mark_ball(marks, evaluated, around, x, y, z, widths):
    """Sets the bits of the nodes in a ball around node (x, y, z) of the middle brick, but for the evaluated ones."""
    for step_x in range(-3, 4):
        if widths[step_x + 3, 3] < 0:
            continue
        plane, brick_x = (x + step_x) & 7, ((x + step_x) >> 3) + 1
        for step_y in range(-3, 4):
            width = widths[step_x + 3, step_y + 3]
            if width < 0:
                continue
            row, brick_y = np.uint64(8 * ((y + step_y) & 7)), ((y + step_y) >> 3) + 1
            # Bits 8 to 15 are the row of the middle brick.
            line = ((ONE << np.uint64(2 * width + 1)) - ONE) << np.uint64(8 + z - width)
            for brick_z in range(1 if z >= width else 0, 2 if z + width < 8 else 3):
                target = around[brick_x, brick_y, brick_z]
                if target >= 0:
                    part = (line >> np.uint64(8 * brick_z)) & BYTE
                    marks[target, plane] |= (part << row) & ~evaluated[target, plane]


def ball_widths():
    """(FARTHEST + 1, 7, 7) int64: how far a ball reaches along z, by its squared radius, x and y; -1 for not at all."""
    squares = np.arange(-3, 4) ** 2
    rest = np.arange(FARTHEST + 1)[:, None, None] - squares[:, None] - squares
    return np.where(rest >= 0, np.sqrt(np.maximum(rest, 0)), -1).astype(np.int64)


@compiled
def take_signs(bricks, start, stop):
    """Nodes of bricks [start, stop) that lie on the faces of skipped ones take their sign."""
    for slot in range(start, stop):
        for corner in range(1, 8):
            place, sign = lower_neighbour(bricks, slot, corner)
            if place < 0:
                marks = bricks.outside if sign > 0 else bricks.inside
                for x in range(1 if corner & 4 else 8):
                    marks[slot, x] |= face(corner) & ~bricks.evaluated[slot, x]


@compiled
def contradicted(bricks, count):
    """(count, 8) bool: whether the brick at minus that corner is not stored and a node on the face that a stored one
    shares with it has not its sign."""
    found = np.zeros((count, 8), np.bool_)
    for slot in range(count):
        for corner in range(1, 8):
            place, sign = lower_neighbour(bricks, slot, corner)
            if place < 0:
                assumed = ALL if sign > 0 else ZERO
                for x in range(1 if corner & 4 else 8):
                    found[slot, corner] |= ((bricks.outside[slot, x] ^ assumed) & face(corner)) != ZERO
    return found


@numba.njit(inline="always")
def lower_neighbour(bricks, slot, corner):
    """(slot, assumed sign) of the brick at minus a corner 4 x + 2 y + z."""
    first, second, third = bricks.coords[slot]
    first, second, third = first - (corner >> 2), second - ((corner >> 1) & 1), third - (corner & 1)
    return bricks.slots[first, second, third], bricks.signs[first, second, third]


@numba.njit(inline="always")
def face(corner):
    """Nodes of a word that a brick shares with the one at minus a corner."""
    return (FIRST_ROW if corner & 2 else ALL) & (FIRST_COLUMN if corner & 1 else ALL)


# --- cells -------------------------------------------------------------------------------------------------------


@compiled
def gather_rows(bricks, words, slot, beyond, rows):
    """Fills rows (9, 9) uint64 with the bits z = 0 to 8 of a set of nodes of a brick and its upper neighbours.
    beyond: take the assumed sign where no brick is stored, not 0."""
    first, second, third = bricks.coords[slot]
    for corner in range(8):
        place = first + (corner >> 2), second + ((corner >> 1) & 1), third + (corner & 1)
        source = bricks.slots[place]
        empty = ALL if beyond and bricks.signs[place] > 0 else ZERO
        for x in range(8, 9) if corner & 4 else range(8):
            word = words[source, x & 7] if source >= 0 else empty
            for y in range(8, 9) if corner & 2 else range(8):
                row = (word >> np.uint64(8 * (y & 7))) & BYTE
                if corner & 1:
                    rows[x, y] |= (row & ONE) << np.uint64(8)
                else:
                    rows[x, y] = row


@numba.njit(inline="always")
def crossed_cells(rows, x, y):
    """Bits z of the cells of a line that have corners of both signs."""
    some = rows[x, y] | rows[x, y + 1] | rows[x + 1, y] | rows[x + 1, y + 1]
    every = rows[x, y] & rows[x, y + 1] & rows[x + 1, y] & rows[x + 1, y + 1]
    return (some | (some >> ONE)) & ~(every & (every >> ONE)) & BYTE


@numba.njit(inline="always")
def corner_signs(rows, x, y, z):
    """The signs of a cell's corners: bit 4 x + 2 y + z is set outside."""
    shift, pair = np.uint64(z), np.uint64(3)
    near = ((rows[x, y] >> shift) & pair) | (((rows[x, y + 1] >> shift) & pair) << np.uint64(2))
    far = ((rows[x + 1, y] >> shift) & pair) | (((rows[x + 1, y + 1] >> shift) & pair) << np.uint64(2))
    return np.int64(near | (far << np.uint64(4)))


@compiled
def needed_nodes(bricks, needed, slots):
    """Nodes (m, 3) int32, not evaluated, of which the crossed cells of bricks need the value; a node may come twice.
    needed (256,) uint8: the corners a cell needs, by its signs."""
    found, nodes = 0, np.empty((1024, 3), np.int32)
    rows, done, wanted = np.empty((9, 9), np.uint64), np.empty((9, 9), np.uint64), np.empty((9, 9), np.uint64)
    for slot in slots:
        gather_rows(bricks, bricks.outside, slot, True, rows)
        gather_rows(bricks, bricks.evaluated, slot, False, done)
        want_corners(rows, needed, wanted)
        if found + 729 > len(nodes):
            nodes = np.concatenate((nodes, np.empty_like(nodes)))
        for x in range(9):
            for y in range(9):
                word = wanted[x, y] & ~done[x, y]
                while word != ZERO:
                    nodes[found, 0] = bricks.coords[slot, 0] * 8 + x
                    nodes[found, 1] = bricks.coords[slot, 1] * 8 + y
                    nodes[found, 2] = bricks.coords[slot, 2] * 8 + lowest_bit(word)
                    word &= word - ONE
                    found += 1
    return nodes[:found]


@numba.njit(inline="always")
def want_corners(rows, needed, wanted):
    """Fills wanted (9, 9), as `gather_rows`, with the nodes that crossed cells need."""
    wanted[:] = ZERO
    for x in range(8):
        for y in range(8):
            word = crossed_cells(rows, x, y)
            while word != ZERO:
                z = lowest_bit(word)
                word &= word - ONE
                corners = np.uint64(needed[corner_signs(rows, x, y, z)])
                for pair in range(4):
                    bits = (corners >> np.uint64(2 * pair)) & np.uint64(3)
                    wanted[x + (pair >> 1), y + (pair & 1)] |= bits << np.uint64(z)


# --- the mesh ----------------------------------------------------------------------------------------------------


@compiled
def cross_edges(bricks, triangles, ambiguous, edges, counts):
    """Fills edges.crossed and edges.before, and counts (n, 4): vertices, triangles of the table, ambiguous cells, and
    all crossed cells. triangles (256,), ambiguous (256,): by the signs of a cell's corners."""
    rows = np.empty((9, 9), np.uint64)
    for slot in range(len(counts)):
        gather_rows(bricks, bricks.outside, slot, True, rows)
        counts[slot] = 0
        for axis in range(3):
            for x in range(8):
                word = crossed_word(rows, axis, x)
                edges.crossed[slot, axis, x] = word
                edges.before[slot, axis, x] = counts[slot, 0]
                counts[slot, 0] += count_bits(word)
        for x in range(8):
            for y in range(8):
                word = crossed_cells(rows, x, y)
                while word != ZERO:
                    signs = corner_signs(rows, x, y, lowest_bit(word))
                    word &= word - ONE
                    counts[slot, 1] += triangles[signs]
                    counts[slot, 2] += ambiguous[signs]
                    counts[slot, 3] += 1


@numba.njit(inline="always")
def crossed_word(rows, axis, x):
    """The nodes of a word from which an edge along an axis leads to a node of the other sign."""
    word = ZERO
    for y in range(8):
        row = rows[x, y]
        other = rows[x + 1, y] if axis == 0 else (rows[x, y + 1] if axis == 1 else row >> ONE)
        word |= ((row ^ other) & BYTE) << np.uint64(8 * y)
    return word


@compiled
def ambiguous_cells(bricks, ambiguous, slots, count):
    """The count ambiguous cells of bricks: (places (count,) int64, values of their corners (count, 8) float32)."""
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
                            values[found, corner] = value_at(bricks, slot, x + step_x, y + step_y, z + step_z)
                        found += 1
    return places, values


@numba.njit(inline="always")
def owner(bricks, slot, x, y, z):
    """(slot, index in the brick) of the node that is (x, y, z), 0 to 8, from the first of a brick."""
    if (x | y | z) & 8:
        first, second, third = bricks.coords[slot]
        slot = bricks.slots[first + (x >> 3), second + (y >> 3), third + (z >> 3)]
    return np.int64(slot), (x & 7) * 64 + (y & 7) * 8 + (z & 7)


@numba.njit(inline="always")
def value_at(bricks, slot, x, y, z):
    """The value of such a node."""
    place, index = owner(bricks, slot, x, y, z)
    return bricks.values[place, index]


@compiled
def vertex_numbers(bricks, edges, places, codes):
    """(m,) int64: the vertices on edges codes (m,), 8 axis + lower corner, of cells places (m,)."""
    numbers = np.empty(len(places), np.int64)
    for index in range(len(places)):
        place, code = places[index], codes[index]
        x, y, z = (place >> 6) & 7, (place >> 3) & 7, place & 7
        slot, node = owner(bricks, place >> 9, x + ((code >> 2) & 1), y + ((code >> 1) & 1), z + (code & 1))
        word = edges.crossed[slot, code >> 3, node >> 6] & ((ONE << np.uint64(node & 63)) - ONE)
        numbers[index] = edges.first[slot] + edges.before[slot, code >> 3, node >> 6] + count_bits(word)
    return numbers


@compiled
def place_vertices(bricks, edges, cell, snap, vertices):
    """Fills vertices (V, 3) float64, in the domain: where the function is 0 between the ends of an edge, but no nearer
    to one of them than a share of snap. cell: its size."""
    for slot in range(len(edges.first)):
        number = edges.first[slot]
        for axis in range(3):
            for x in range(8):
                word = edges.crossed[slot, axis, x]
                while word != ZERO:
                    bit = lowest_bit(word)
                    word &= word - ONE
                    y, z = bit >> 3, bit & 7
                    low = np.float64(bricks.values[slot, x * 64 + bit])
                    high = value_at(bricks, slot, x + (axis == 0), y + (axis == 1), z + (axis == 2))
                    share = min(max(low / (low - high), snap), 1.0 - snap)
                    vertices[number, 0] = (bricks.coords[slot, 0] * 8 + x - 1.0) * cell - 1.0
                    vertices[number, 1] = (bricks.coords[slot, 1] * 8 + y - 1.0) * cell - 1.0
                    vertices[number, 2] = (bricks.coords[slot, 2] * 8 + z - 1.0) * cell - 1.0
                    vertices[number, axis] += share * cell
                    number += 1


@compiled
def place_triangles(bricks, edges, triangles, table, faces):
    """Fills faces (F, 3) int64 with the triangles of the cells that are not ambiguous; table (256, 15) int64: their
    edges, by the signs of a cell's corners, as steps from the cell's first node in `number_around`."""
    rows, numbers, filled = np.empty((9, 9), np.uint64), np.empty(3 * 9**3, np.int64), 0
    for slot in range(len(edges.first)):
        gather_rows(bricks, bricks.outside, slot, True, rows)
        number_around(bricks, edges, slot, numbers)
        for x in range(8):
            for y in range(8):
                word = crossed_cells(rows, x, y)
                while word != ZERO:
                    z = lowest_bit(word)
                    word &= word - ONE
                    signs, node = corner_signs(rows, x, y, z), x * 81 + y * 9 + z
                    for triangle in range(triangles[signs]):
                        for corner in range(3):
                            faces[filled, corner] = numbers[node + table[signs, 3 * triangle + corner]]
                        filled += 1


@compiled
def number_around(bricks, edges, slot, numbers):
    """Fills numbers (3 * 9^3,) with those of the vertices on the edges, by axis and node, of a brick's cells."""
    first, second, third = bricks.coords[slot]
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
                    node = (x + 8 * step_x) * 81 + ((bit >> 3) + 8 * step_y) * 9 + (bit & 7) + 8 * step_z
                    numbers[axis * 729 + node] = before + count_bits(crossed & ((ONE << np.uint64(bit)) - ONE))
                    word &= word - ONE
