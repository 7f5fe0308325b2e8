"""How the nodes of a grid are laid out: bricks of 8^3 nodes, and sets of nodes as bits.

A grid of R^3 nodes spans the domain. Along each axis the nodes of the domain are numbered 1 to R; 0 and the numbers
above R lie beyond the border of the domain. Brick (a, b, c) holds the nodes 8 a to 8 a + 7, 8 b to 8 b + 7,
8 c to 8 c + 7. The cell of a node is the cube between it and the next node along each axis.

Within a brick, node (x, y, z) has the index 64 x + 8 y + z. A set of its nodes is 8 words of 64 bits, one for each x;
node (y, z) is bit 8 y + z of its word. A *place* is 512 slot + index, where slot says which stored brick is meant.
"""

import itertools
from typing import NamedTuple

import numpy as np

# Nodes along the edge of a brick, so that a plane of its nodes is one word of 64 bits.
BRICK = 8
# The value of every node beyond the border of the domain: far outside, so that a shape cut by the border is capped.
OUTSIDE = np.float32(1e30)
# A word with all bits set.
ALL_NODES = np.uint64(2**64 - 1)
# (8, 3) int32: the corners of a unit cube; row 4 x + 2 y + z is (x, y, z).
CORNERS = np.array(list(itertools.product((0, 1), repeat=3)), dtype=np.int32)


class Bricks(NamedTuple):
    """n stored bricks, and the grid of all bricks, s along each edge, the last layer of which lies beyond the nodes.

    A node may have been evaluated; else its sign may be assumed; else nothing is known of it. A bit in both `outside`
    and `inside` means that two neighbours disagree about its sign, so it has to be evaluated.
    """

    values: np.ndarray  # (n, 512) float32, valid where evaluated
    evaluated: np.ndarray  # (n, 8) uint64: the nodes that were evaluated
    outside: np.ndarray  # (n, 8) uint64: the nodes evaluated or assumed outside
    inside: np.ndarray  # (n, 8) uint64: the nodes evaluated or assumed inside
    coords: np.ndarray  # (n, 3) int32: where the brick lies in the grid of bricks
    slots: np.ndarray  # (s, s, s) int32: row of the brick in the arrays above, -1 if it is not stored
    signs: np.ndarray  # (s, s, s) int8: assumed sign of a brick that is not stored, 1 outside, -1 inside


def node_words(nodes: np.ndarray) -> np.ndarray:
    """(n, 8, 8, 8) bool, nodes of bricks -> (n, 8) uint64, the same sets as words."""
    # (n, 8, 64) bits -> (n, 8, 8) bytes -> (n, 8) words, the lowest bit and the lowest byte first.
    packed = np.packbits(nodes.reshape(-1, BRICK, BRICK**2), axis=2, bitorder="little")
    return packed.view("<u8").reshape(-1, BRICK).astype(np.uint64)


def has_bit(words: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(n, 8) uint64 words, (N,) places -> (N,) bool: True if the node is in the set. Undefined for negative places."""
    # place = 512 slot + 64 x + bit, so place >> 6 counts words and place & 63 the bits in one.
    rows = words.ravel()[places >> 6] if len(words) else np.zeros(len(places), dtype=np.uint64)
    return (rows >> (places & 63).astype(np.uint64)) & np.uint64(1) > 0


def lattice_words(parity: tuple[int, int, int], step: int) -> np.ndarray:
    """(8,) uint64: the nodes of a brick whose index along each axis is `parity` modulo `step`."""
    x, y, z = (np.arange(BRICK) % step == odd for odd in parity)
    return node_words((x[:, None, None] & y[:, None] & z)[None])[0]


def row_keys(rows: np.ndarray, side: int) -> np.ndarray:
    """(n, 3) indices in [0, side) -> (n,) int64 keys, equal for equal rows only and sorted as the rows are."""
    first, second, third = rows.astype(np.int64).T
    return (first * side + second) * side + third


def unique_rows(rows: np.ndarray, side: int) -> np.ndarray:
    """(n, 3) indices in [0, side) -> (m, 3) int32: each row once, sorted."""
    keys = np.unique(row_keys(rows, side))
    return np.stack([keys // side**2, keys // side % side, keys % side], axis=1).astype(np.int32)
