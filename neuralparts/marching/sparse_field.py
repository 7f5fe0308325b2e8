"""What a search has found out about a function on a grid: values, assumed signs, the blocks that were skipped."""

from typing import NamedTuple

import numpy as np

from neuralparts.marching.bricks import unique_rows
from neuralparts.marching.falls import Falls
from neuralparts.marching.memory_bound import check_memory
from neuralparts.marching.node_store import NodeStore
from neuralparts.marching.probe import Probe


class Skipped(NamedTuple):
    """Blocks of size^3 cells that were skipped: one sign was assumed in each, as the surface could not reach it."""

    size: int
    origins: np.ndarray  # (n, 3) int16: first node
    values: np.ndarray  # (n,) float32: at the node nearest to the centre
    reach: np.ndarray  # (n,) float32: from there to the farthest node of the block, domain units


class SparseField:
    """A function at the nodes that were evaluated so far, and what is assumed of the others.

    store: the nodes. falls: how fast the function can come nearer to the level. skipped: the blocks that were. known:
    nodes (n, 3) and values (n,) evaluated before the first brick was stored; they are put into the bricks then.
    generator: of all samples. max_memory: see `march`.
    """

    def __init__(
        self,
        probe: Probe,
        falls: Falls,
        generator: np.random.Generator,
        known: tuple[np.ndarray, np.ndarray],
        max_memory: int | None = None,
    ):
        self.probe, self.falls, self.generator, self.max_memory = probe, falls, generator, max_memory
        self.store = NodeStore(probe.resolution)
        self.skipped: list[Skipped] = []
        self._unstored = [known]

    def values(self, nodes: np.ndarray) -> np.ndarray:
        """(N, 3) nodes -> (N,) float32 values, evaluated where the store has none, and kept."""
        values = self.store.get(nodes)
        unknown = np.isnan(values)
        values[unknown] = self.probe.at_nodes(nodes[unknown])
        self.store.put(nodes[unknown], values[unknown])
        if not self.store.used:
            self._unstored.append((nodes[unknown], values[unknown]))
        return values

    def slots(self, bricks: np.ndarray) -> np.ndarray:
        """Bricks (n, 3) -> their slots (m,), each once; those not stored yet are, with the sign assumed so far."""
        bricks = unique_rows(bricks, self.store.side)
        missing = bricks[self.store.slots[tuple(bricks.T)] < 0]
        if len(missing):
            self.check_memory(len(missing))
            self.store.allocate(missing, self.store.signs[tuple(missing.T)])
        return self.store.slots[tuple(bricks.T)].astype(np.intp)

    def store_values_so_far(self) -> None:
        """Put the values that were evaluated before any brick was stored into the bricks."""
        for nodes, values in self._unstored:
            self.store.put(nodes, values)
        self._unstored = []

    def check_memory(self, more: int) -> None:
        """Raise MemoryBoundError if `more` bricks do not fit the memory bound."""
        check_memory(self.max_memory, self.store.used + more, self.store.used, self.probe.resolution)
