"""Follow the surface through the cells that it crosses: evaluate what they need, go on where a sign was wrong."""

import numpy as np

from neuralparts.marching.bricks import BRICK, CORNERS, unique_rows
from neuralparts.marching.node_kernels import contradicted, needed_nodes
from neuralparts.marching.node_store import NodeStore
from neuralparts.marching.sparse_field import SparseField

# Bricks handled at a time: at most 5 KiB of temporary arrays each.
CHUNK = 8192


def contradicted_bricks(store: NodeStore) -> np.ndarray:
    """Bricks (n, 3), not stored, whose assumed sign is not that of a node on their face to a stored brick."""
    slots, corners = np.nonzero(contradicted(store.bricks, store.used))
    bricks = store.coords[slots] - CORNERS[corners]
    return bricks[(bricks >= 0).all(axis=1)]


def follow(field: SparseField, slots: np.ndarray, needed: np.ndarray) -> int:
    """Evaluate what the crossed cells need, beginning with the bricks slots (n,); returns how many signs were wrong.

    needed (256,) uint8: the corners whose values a cell needs, as bits, by the signs of its corners.
    """
    corrected = 0
    while len(slots):
        parts = [slots[start : start + CHUNK] for start in range(0, len(slots), CHUNK)]
        wrong = np.concatenate([_verify(field, needed_nodes(field.store.bricks, needed, part)) for part in parts])
        corrected += len(wrong)
        # (m, 8, 3): the cells that have such a node as a corner. Their bricks come next.
        bricks = np.maximum(wrong[:, None] - CORNERS, 0).reshape(-1, 3) // BRICK
        slots = field.slots(bricks)
    return corrected


def _verify(field: SparseField, nodes: np.ndarray) -> np.ndarray:
    """Evaluate nodes (n, 3) of assumed sign, each once; returns those (m, 3) whose sign was wrong."""
    nodes = unique_rows(nodes, field.probe.resolution + 2)
    assumed = field.store.is_outside(nodes)
    field.slots(nodes >> 3)
    return nodes[(field.values(nodes) > 0) != assumed]
