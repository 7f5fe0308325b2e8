"""Compiled steps that the loops over nodes and the loops over cells share: bits of a word, signs of a cell's corners.

A brick has 8^3 nodes; a set of them is 8 words (see `bricks.py`), so one step of a loop treats a plane of 64 nodes. For
cells a brick needs one more layer of nodes, that of its upper neighbours: `gather_rows` collects those sets in *rows*,
(9, 9) uint64, in which bits 0 to 8 of rows[x, y] are the nodes (x, y, 0) to (x, y, 8).

The machine code is kept (`neuralparts/compiled.py`). A change of any module of kernels has all of the stage compiled
again, a change of a constant in `bricks.py` does not.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from neuralparts.compiled import cached_njit
from neuralparts.marching.bricks import ALL_NODES, Bricks

# How every loop of the stage is compiled, and every step within one.
compiled = cached_njit(nogil=True, error_model="numpy")
inlined = numba.njit(inline="always")

ZERO, ONE, BYTE, ALL = np.uint64(0), np.uint64(1), np.uint64(0xFF), ALL_NODES
# The nodes of a word with y = 0, and those with z = 0.
FIRST_ROW, FIRST_COLUMN = BYTE, np.uint64(0x0101010101010101)


@intrinsic
def count_bits(typing_context, word):
    """How many bits of a uint64 are set, as int64."""
    return types.int64(types.uint64), lambda context, builder, signature, args: builder.ctpop(args[0])


@intrinsic
def lowest_bit(typing_context, word):
    """The index of the lowest bit set in a uint64 that is not 0, as int64."""
    defined = ir.Constant(ir.IntType(1), 1)
    return types.int64(types.uint64), lambda context, builder, signature, args: builder.cttz(args[0], defined)


@inlined
def face(corner: int) -> np.uint64:
    """The nodes of a word that the brick shares with its neighbour at minus `corner`, by the y and z of the corner.

    corner: 4 x + 2 y + z. The caller handles its x: if that is set, only word 0 is shared, else all eight are.
    """
    return (FIRST_ROW if corner & 2 else ALL) & (FIRST_COLUMN if corner & 1 else ALL)


@compiled
def gather_rows(bricks: Bricks, words: np.ndarray, slot: int, use_signs: bool, rows: np.ndarray) -> None:
    """Fill rows (9, 9) uint64 with a set of nodes of the brick `slot` and of the first layer of its upper neighbours.

    words (n, 8): the set. use_signs: a neighbour that is not stored counts as full if its assumed sign is outside;
    otherwise it is empty.
    """
    first, second, third = bricks.coords[slot]
    # Corner 0 is the brick itself, which gives the rows x, y < 8 and their bits 0 to 7. Each other corner gives what
    # lies beyond: x = 8, y = 8, or bit 8. Corners come in order, so a row is set before its bit 8 is added.
    for corner in range(8):
        place = first + (corner >> 2), second + ((corner >> 1) & 1), third + (corner & 1)
        source = bricks.slots[place]
        absent_word = ALL if use_signs and bricks.signs[place] > 0 else ZERO
        for x in range(8, 9) if corner & 4 else range(8):
            word = words[source, x & 7] if source >= 0 else absent_word
            for y in range(8, 9) if corner & 2 else range(8):
                row = (word >> np.uint64(8 * (y & 7))) & BYTE
                if corner & 1:
                    rows[x, y] |= (row & ONE) << np.uint64(8)
                else:
                    rows[x, y] = row


@inlined
def crossed_cells(rows: np.ndarray, x: int, y: int) -> np.uint64:
    """Of the 8 cells (x, y, 0) to (x, y, 7), those that the surface crosses, as bits: their corners differ in sign."""
    # Bit z of `some`: one of the four nodes at height z is outside; of `every`: all four are.
    some = rows[x, y] | rows[x, y + 1] | rows[x + 1, y] | rows[x + 1, y + 1]
    every = rows[x, y] & rows[x, y + 1] & rows[x + 1, y] & rows[x + 1, y + 1]
    # A cell has the heights z and z + 1. It is crossed if some corner is outside, and not all eight are.
    return (some | (some >> ONE)) & ~(every & (every >> ONE)) & BYTE


@inlined
def corner_signs(rows: np.ndarray, x: int, y: int, z: int) -> np.int64:
    """The signs of a cell's corners, 0 to 255: bit 4 i + 2 j + k is set if corner (x + i, y + j, z + k) is outside."""
    shift, pair = np.uint64(z), np.uint64(3)
    # Two bits, of the heights z and z + 1, from each of the four rows around the cell.
    near = ((rows[x, y] >> shift) & pair) | (((rows[x, y + 1] >> shift) & pair) << np.uint64(2))
    far = ((rows[x + 1, y] >> shift) & pair) | (((rows[x + 1, y + 1] >> shift) & pair) << np.uint64(2))
    return np.int64(near | (far << np.uint64(4)))
