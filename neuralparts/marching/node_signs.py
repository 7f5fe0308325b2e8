"""On which side of a surface each node of a grid lies, kept sparsely, and on which sides of two surfaces.

In: the store that a search has filled. Out: a bit for each node near the surface, a sign for each other brick; and
counts of nodes.
"""

from typing import NamedTuple

import numpy as np

from neuralparts.marching.bricks import ALL_NODES, BRICK, CHUNK, node_words
from neuralparts.marching.node_store import NodeStore


class NodeSigns(NamedTuple):
    """The side of every node of a grid of resolution^3 nodes. Bricks and words are those of `bricks.py`."""

    resolution: int
    slots: np.ndarray  # (s, s, s) int32: row of the brick in `outside`, -1 if all of its nodes lie on one side
    signs: np.ndarray  # (s, s, s) int8: the side of such a brick, 1 outside, -1 inside
    outside: np.ndarray  # (n, 8) uint64: the nodes outside, as bits

    def words(self, bricks: tuple[np.ndarray, ...]) -> np.ndarray:
        """Bricks, three arrays (b,) of indices -> (b, 8) uint64: their nodes outside."""
        words = np.where(self.signs[bricks][:, None] > 0, ALL_NODES, np.uint64(0)).repeat(BRICK, axis=1)
        slots = self.slots[bricks]
        words[slots >= 0] = self.outside[slots[slots >= 0]]
        return words


class SideCounts(NamedTuple):
    """How many nodes lie inside both of two surfaces, outside the second only, outside the first only, outside both."""

    inside: int
    outside_second: int
    outside_first: int
    outside: int


def node_signs(store: NodeStore) -> NodeSigns:
    """The sides of all nodes, from a store that a search has filled; the values are left out."""
    return NodeSigns(store.resolution, store.slots, store.signs, store.outside[: store.used].copy())


def count_sides(first: NodeSigns, second: NodeSigns) -> SideCounts:
    """Count the nodes by their sides of two surfaces. Raises ValueError if the grids differ."""
    if first.resolution != second.resolution:
        raise ValueError(f"the grids have {first.resolution} and {second.resolution} nodes along an edge")
    # (s, 8) bool: the nodes of each brick along an axis that lie in the domain; 0 and the last ones do not.
    index = np.arange(len(first.slots) * BRICK).reshape(-1, BRICK)
    domain = (index >= 1) & (index <= first.resolution)
    # Whole bricks first, each with the product of its numbers of nodes along the axes: (s, s, s).
    along = domain.sum(axis=1)
    nodes = along[:, None, None] * along[:, None] * along
    whole = (first.slots < 0) & (second.slots < 0)
    sides = 2 * (first.signs[whole] > 0) + (second.signs[whole] > 0)
    counts = np.array([nodes[whole][sides == side].sum() for side in range(4)])
    # Then the others, node by node.
    listed = np.nonzero(~whole)
    for start in range(0, len(listed[0]), CHUNK):
        bricks = tuple(axis[start : start + CHUNK] for axis in listed)
        x, y, z = (domain[axis] for axis in bricks)  # (b, 8) each
        within = node_words(x[:, :, None, None] & y[:, None, :, None] & z[:, None, None, :])  # (b, 8) words
        one, two = first.words(bricks), second.words(bricks)
        counts += [
            int(np.bitwise_count(words & within).sum()) for words in (~one & ~two, ~one & two, one & ~two, one & two)
        ]
    return SideCounts(*map(int, counts))
