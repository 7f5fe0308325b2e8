"""Compiled loops over the nodes of stored bricks: which have to be evaluated, and the signs that values imply.

In: `Bricks` (see `bricks.py`), filled in place. Out: nodes to evaluate. Numba compiles each loop at its first call (a
quarter of a minute for all of the stage), and the machine code is kept.
"""

import numpy as np

from neuralparts.marching.bit_kernels import (
    ALL,
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
from neuralparts.marching.bricks import OUTSIDE, Bricks

# A value implies signs up to this squared distance in cells: that of the half diagonal of a block of 4^3 cells.
FARTHEST_SQUARE = 12


# --- values and unknown nodes ------------------------------------------------------------------------------------


@compiled
def unknown_nodes(
    bricks: Bricks, lattice: np.ndarray, axis: np.ndarray, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of lattice (8,) uint64, in the bricks [start, stop), that have to be evaluated: no sign is known, or both.

    axis (R,) float32: coordinates of the nodes 1 to R. Returns places (m,) int64 and points (m, 3) float32.
    """
    # First count, so that the arrays are made once.
    count = 0
    for slot in range(start, stop):
        for x in range(8):
            count += count_bits(_unknown(bricks, slot, x) & lattice[x])
    places, points = np.empty(count, np.int64), np.empty((count, 3), np.float32)
    found = 0
    for slot in range(start, stop):
        first, second, third = bricks.coords[slot]
        for x in range(8):
            # Take the set bits of the word one by one, from the lowest.
            word = _unknown(bricks, slot, x) & lattice[x]
            while word != ZERO:
                bit = lowest_bit(word)
                word &= word - ONE
                places[found] = slot * 512 + x * 64 + bit
                # The axis begins at node 1, so node i of it is at index i - 1.
                points[found, 0] = axis[first * 8 + x - 1]
                points[found, 1] = axis[second * 8 + (bit >> 3) - 1]
                points[found, 2] = axis[third * 8 + (bit & 7) - 1]
                found += 1
    return places, points


@inlined
def _unknown(bricks, slot, x):
    """The nodes of a word that have to be evaluated: not evaluated, and assumed neither outside nor inside, or both."""
    return ~bricks.evaluated[slot, x] & ~(bricks.outside[slot, x] ^ bricks.inside[slot, x])


@compiled
def keep_values(bricks: Bricks, places: np.ndarray, values: np.ndarray) -> None:
    """Store values (m,) float32 at places (m,) int64: the nodes are evaluated, and their sign is that of the value."""
    for index in range(len(places)):
        place, value = places[index], values[index]
        slot, x, bit = place >> 9, (place >> 6) & 7, ONE << np.uint64(place & 63)
        bricks.values[slot, place & 511] = value
        bricks.evaluated[slot, x] |= bit
        # Remove the assumed sign, whichever it was, before the true one is set. 0 counts as inside.
        bricks.outside[slot, x] &= ~bit
        bricks.inside[slot, x] &= ~bit
        if value > 0:
            bricks.outside[slot, x] |= bit
        else:
            bricks.inside[slot, x] |= bit


# --- signs that are assumed --------------------------------------------------------------------------------------


@compiled
def carve(
    bricks: Bricks,
    lattice: np.ndarray,
    bounds: np.ndarray,
    regions: np.ndarray,
    widths: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Around each evaluated node of lattice (8,), in the bricks [start, stop), assume its sign in a ball of nodes.

    The ball ends where the function may have fallen to the level. bounds (regions, FARTHEST_SQUARE + 1) float32: the
    largest fall over a distance, by region and by the squared distance in cells. regions (n,): region of each brick.
    widths: those of `ball_widths`.
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
                # A node implies something if the level is not reached one cell away. Beyond the border none does.
                if bound[1] < abs(value) < OUTSIDE:
                    if not found:
                        _neighbours(bricks, slot, around)
                        found = True
                    # The largest ball within which the function cannot fall by the value.
                    square = 1
                    while square < FARTHEST_SQUARE and abs(value) > bound[square + 1]:
                        square += 1
                    marks = bricks.outside if value > 0 else bricks.inside
                    _mark_ball(marks, bricks.evaluated, around, x, bit >> 3, bit & 7, widths[square])


@inlined
def _neighbours(bricks, slot, around):
    """Fill around (3, 3, 3) with the slots of the bricks around a brick, itself in the middle; -1 if not stored."""
    first, second, third = bricks.coords[slot]
    for x in range(3):
        for y in range(3):
            for z in range(3):
                around[x, y, z] = bricks.slots[first + x - 1, second + y - 1, third + z - 1]


@inlined
def _mark_ball(marks, evaluated, around, x, y, z, widths):
    """Set the bits of the nodes in a ball around node (x, y, z) of the middle brick, except those evaluated.

    widths (7, 7): how far the ball reaches along z, by the step along x and y, from -3 to 3; -1 for not at all.
    """
    for step_x in range(-3, 4):
        if widths[step_x + 3, 3] < 0:
            continue
        # The word within its brick, and which of the three bricks along x holds it.
        plane, brick_x = (x + step_x) & 7, ((x + step_x) >> 3) + 1
        for step_y in range(-3, 4):
            width = widths[step_x + 3, step_y + 3]
            if width < 0:
                continue
            row, brick_y = np.uint64(8 * ((y + step_y) & 7)), ((y + step_y) >> 3) + 1
            # The nodes z - width to z + width as bits, 8 for each of the three bricks along z: bits 8 to 15 are the
            # row of the middle brick.
            line = ((ONE << np.uint64(2 * width + 1)) - ONE) << np.uint64(8 + z - width)
            for brick_z in range(1 if z >= width else 0, 2 if z + width < 8 else 3):
                target = around[brick_x, brick_y, brick_z]
                if target >= 0:
                    part = (line >> np.uint64(8 * brick_z)) & BYTE
                    marks[target, plane] |= (part << row) & ~evaluated[target, plane]


def ball_widths() -> np.ndarray:
    """(FARTHEST_SQUARE + 1, 7, 7) int64: how far a ball of nodes reaches along z; -1 for not at all.

    By its squared radius and the steps along x and y, each from -3 to 3, in cells.
    """
    squares = np.arange(-3, 4) ** 2
    # (13, 7, 7): what the squared radius leaves for the step along z.
    rest = np.arange(FARTHEST_SQUARE + 1)[:, None, None] - squares[:, None] - squares
    return np.where(rest >= 0, np.sqrt(np.maximum(rest, 0)), -1).astype(np.int64)


@compiled
def take_signs(bricks: Bricks, start: int, stop: int) -> None:
    """Assume, for nodes of the bricks [start, stop) on the lower faces, the sign of the skipped brick beyond the face.

    Those nodes are the upper corners of cells of the skipped brick, whose sign was assumed for all of its cells.
    """
    for slot in range(start, stop):
        for corner in range(1, 8):
            place, sign = _lower_neighbour(bricks, slot, corner)
            if place < 0:
                marks = bricks.outside if sign > 0 else bricks.inside
                for x in range(1 if corner & 4 else 8):
                    marks[slot, x] |= face(corner) & ~bricks.evaluated[slot, x]


@compiled
def contradicted(bricks: Bricks, count: int) -> np.ndarray:
    """(count, 8) bool: of each of the first `count` bricks, the lower neighbours whose assumed sign is wrong.

    Column 4 x + 2 y + z is the brick at minus (x, y, z). It is True if that brick is not stored, and a node on the face
    between the two has another sign than the brick.
    """
    found = np.zeros((count, 8), np.bool_)
    for slot in range(count):
        for corner in range(1, 8):
            place, sign = _lower_neighbour(bricks, slot, corner)
            if place < 0:
                assumed = ALL if sign > 0 else ZERO
                for x in range(1 if corner & 4 else 8):
                    found[slot, corner] |= ((bricks.outside[slot, x] ^ assumed) & face(corner)) != ZERO
    return found


@inlined
def _lower_neighbour(bricks, slot, corner):
    """(slot, assumed sign) of the brick at minus a corner 4 x + 2 y + z; slot -1 if it is not stored."""
    first, second, third = bricks.coords[slot]
    first, second, third = first - (corner >> 2), second - ((corner >> 1) & 1), third - (corner & 1)
    return bricks.slots[first, second, third], bricks.signs[first, second, third]


# --- nodes that crossed cells need -------------------------------------------------------------------------------


@compiled
def needed_nodes(bricks: Bricks, needed: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Nodes (m, 3) int32, not evaluated, whose values the crossed cells of the bricks slots (k,) need.

    needed (256,) uint8: the corners whose values a cell needs, as bits, by the signs of its corners. A node of two
    bricks may come twice.
    """
    found, nodes = 0, np.empty((1024, 3), np.int32)
    # Outside, evaluated and wanted nodes of one brick, as rows.
    rows, done, wanted = np.empty((9, 9), np.uint64), np.empty((9, 9), np.uint64), np.empty((9, 9), np.uint64)
    for slot in slots:
        gather_rows(bricks, bricks.outside, slot, True, rows)
        gather_rows(bricks, bricks.evaluated, slot, False, done)
        _want_corners(rows, needed, wanted)
        # A brick adds at most its 9^3 nodes; double the array before it could be full.
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


@inlined
def _want_corners(rows, needed, wanted):
    """Fill wanted (9, 9), rows as those of `gather_rows`, with the nodes that the crossed cells need."""
    wanted[:] = ZERO
    for x in range(8):
        for y in range(8):
            word = crossed_cells(rows, x, y)
            while word != ZERO:
                z = lowest_bit(word)
                word &= word - ONE
                corners = np.uint64(needed[corner_signs(rows, x, y, z)])
                # Two corners at a time, of the heights z and z + 1, from each of the four rows around the cell.
                for pair in range(4):
                    bits = (corners >> np.uint64(2 * pair)) & np.uint64(3)
                    wanted[x + (pair >> 1), y + (pair & 1)] |= bits << np.uint64(z)
