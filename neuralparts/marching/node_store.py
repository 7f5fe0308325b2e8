"""Which nodes of the grid are known: bricks of nodes at the surface, one assumed sign for each brick elsewhere."""

import numpy as np

from neuralparts.marching.bricks import ALL_NODES, BRICK, CORNERS, OUTSIDE, Bricks, has_bit, node_words
from neuralparts.marching.node_kernels import keep_values


class NodeStore:
    """What is known of the nodes of a grid: the values and assumed signs of bricks that are stored, and, of each brick
    that is not stored, one assumed sign.

    side: bricks along an edge of the grid. used: stored bricks; the arrays below have room for more. The arrays are
    those of `Bricks`, which `bricks` gives to the compiled loops.
    """

    def __init__(self, resolution: int):
        # One node beyond the border on either side, so that each node of the domain has neighbours.
        side = -(-(resolution + 2) // BRICK)
        self.resolution, self.side, self.used = resolution, side, 0
        self.slots = np.full((side + 1,) * 3, -1, dtype=np.int32)
        self.signs = np.ones((side + 1,) * 3, dtype=np.int8)
        self.coords = np.empty((0, 3), dtype=np.int32)
        self.values = np.empty((0, BRICK**3), dtype=np.float32)
        self.evaluated, self.outside, self.inside = (np.empty((0, BRICK), dtype=np.uint64) for _ in range(3))

    @property
    def bricks(self) -> Bricks:
        """The arrays as the compiled loops take them: views, which a later `allocate` may leave behind."""
        stored = (self.values, self.evaluated, self.outside, self.inside, self.coords)
        return Bricks(*(array[: self.used] for array in stored), self.slots, self.signs)

    # --- whole bricks --------------------------------------------------------------------------------------------

    def allocate(self, bricks: np.ndarray, signs: np.ndarray | int) -> np.ndarray:
        """Store bricks (n, 3), none of them stored before, and assume signs (n,) of their nodes, 0 for nothing.

        Returns their slots (n,).
        """
        used = self.used + len(bricks)
        if used > len(self.values):
            self._grow(used + used // 4)  # pages that are never written cost no memory
        slots = np.arange(self.used, used)
        self.slots[tuple(bricks.T)] = slots
        self.coords[slots] = bricks
        self.evaluated[slots] = 0
        # One word for each brick, (n, 1), which all eight words of it take.
        self.outside[slots] = np.where(np.greater(signs, 0), ALL_NODES, 0).reshape(-1, 1)
        self.inside[slots] = np.where(np.less(signs, 0), ALL_NODES, 0).reshape(-1, 1)
        self.used = used
        self._fill_beyond(slots)
        return slots

    def _grow(self, capacity: int) -> None:
        """Make room for `capacity` bricks."""
        for name in ("coords", "values", "evaluated", "outside", "inside"):
            old = getattr(self, name)
            new = np.empty((capacity, *old.shape[1:]), dtype=old.dtype)
            new[: self.used] = old[: self.used]
            setattr(self, name, new)

    def _fill_beyond(self, slots: np.ndarray) -> None:
        """Set the nodes beyond the border of the domain, which are known without asking, to OUTSIDE."""
        # Only bricks that the border cuts, or that lie beyond it.
        first = self.coords[slots] * BRICK
        slots = slots[((first < 1) | (first + BRICK - 1 > self.resolution)).any(axis=1)]
        # (n, 3, 8): the nodes of each brick along each axis; then (n, 8) each, True beyond the border.
        index = self.coords[slots, :, None] * BRICK + np.arange(BRICK)
        x, y, z = ((index < 1) | (index > self.resolution)).transpose(1, 0, 2)
        # (n, 8, 8, 8) bool -> (n, 8) words.
        beyond = x[:, :, None, None] | y[:, None, :, None] | z[:, None, None, :]
        words = node_words(beyond)
        self.values[slots] = OUTSIDE  # the values of nodes within the domain are not valid yet
        self.evaluated[slots] = words
        self.outside[slots] |= words
        self.inside[slots] &= ~words

    def fill(self, slots: np.ndarray, blocks: np.ndarray) -> None:
        """Store all values blocks (n, 8, 8, 8) float32 of the bricks at slots (n,)."""
        self.values[slots] = blocks.reshape(-1, BRICK**3)
        self.evaluated[slots] = ALL_NODES
        self.outside[slots] = node_words(blocks > 0)
        self.inside[slots] = ~self.outside[slots]

    def forget_assumed(self) -> None:
        """Drop the assumed signs in stored bricks; what was evaluated stays."""
        for words in (self.outside, self.inside):
            words[: self.used] &= self.evaluated[: self.used]

    def skip(self, size: int, origins: np.ndarray, signs: np.ndarray) -> None:
        """Assume signs (n,) int8 in blocks of size^3 cells, whole bricks, whose first nodes are origins (n, 3)."""
        # (size/8)^3 bricks in a block; (n, (size/8)^3, 3) -> (m, 3). Blocks may reach beyond the grid.
        inner = np.indices((size // BRICK,) * 3).reshape(3, -1).T.astype(np.int32)
        bricks = (origins[:, None] // BRICK + inner).reshape(-1, 3)
        within = (bricks < self.side).all(axis=1)
        self.signs[tuple(bricks[within].T)] = np.repeat(signs, len(inner))[within]

    def opposed(self) -> np.ndarray:
        """Bricks (n, 3) int32, not stored, that touch a brick of the opposite sign that is not stored either.

        The surface passes between two such bricks, though both were taken to be free of it.
        """
        # (side + 2)^3 signs, 0 for stored bricks and for what lies beyond the grid. Then, axis by axis, the highest and
        # the lowest sign of each two neighbours: in the end (side + 1)^3, of the eight bricks at each corner.
        signs = np.where(self.slots < 0, self.signs, 0)
        high = low = np.pad(signs[:-1, :-1, :-1], 1)
        for axis in range(3):
            high = np.maximum(
                np.take(high, range(high.shape[axis] - 1), axis), np.take(high, range(1, high.shape[axis]), axis)
            )
            low = np.minimum(
                np.take(low, range(low.shape[axis] - 1), axis), np.take(low, range(1, low.shape[axis]), axis)
            )
        # Corners that touch both signs, and the eight bricks at each of them.
        corners = np.argwhere((high > 0) & (low < 0))
        bricks = np.unique(np.clip(corners[:, None] - CORNERS, 0, self.side - 1).reshape(-1, 3), axis=0)
        return bricks[self.slots[tuple(bricks.T)] < 0].astype(np.int32)

    # --- single nodes --------------------------------------------------------------------------------------------

    def locate(self, nodes: np.ndarray) -> np.ndarray:
        """(N, 3) nodes -> (N,) places: 512 slot + index in the brick, negative if the brick is not stored."""
        first, second, third = nodes.astype(np.intp).T
        slots = self.slots[first >> 3, second >> 3, third >> 3].astype(np.intp)
        return slots * BRICK**3 + (((first & 7) << 6) | ((second & 7) << 3) | (third & 7))

    def is_evaluated(self, nodes: np.ndarray) -> np.ndarray:
        """(N, 3) nodes -> (N,) bool."""
        places = self.locate(nodes)
        return (places >= 0) & has_bit(self.evaluated, places)

    def is_outside(self, nodes: np.ndarray) -> np.ndarray:
        """(N, 3) nodes -> (N,) bool: the sign, evaluated or assumed."""
        places = self.locate(nodes)
        return np.where(places >= 0, has_bit(self.outside, places), self.signs[tuple(nodes.T // BRICK)] > 0)

    def get(self, nodes: np.ndarray) -> np.ndarray:
        """(N, 3) nodes -> (N,) float32 values, NaN where not evaluated."""
        values = np.full(len(nodes), np.nan, dtype=np.float32)
        known = np.flatnonzero(self.is_evaluated(nodes))
        values[known] = self.values.ravel()[self.locate(nodes[known])]
        return values

    def put(self, nodes: np.ndarray, values: np.ndarray) -> None:
        """Store values (N,) of nodes (N, 3); those whose brick is not stored are dropped."""
        places = self.locate(nodes)
        keep_values(self.bricks, places[places >= 0], values[places >= 0])
