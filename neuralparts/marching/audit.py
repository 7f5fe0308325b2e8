"""The audit of a search: evaluate some of the nodes that were skipped, and begin again where one was wrong."""

import numpy as np

from neuralparts.marching.bricks import BRICK, unique_rows
from neuralparts.marching.explain import deepest_point
from neuralparts.marching.sparse_field import Skipped, SparseField

# One node of each kind is audited for this many evaluated ones, within these limits.
EVALUATED_PER_AUDITED = 100
FEWEST, MOST = 1024, 32768
# A block was skipped narrowly if its value is less than so many times what would not have been skipped.
NARROW = 1.5


def audit(field: SparseField) -> tuple[int, np.ndarray]:
    """Evaluate a random sample of the nodes that were skipped; keep the values of those whose sign was wrong.

    A third of the nodes is uniform over the grid, a third lies in the blocks that were skipped most narrowly, a third
    in the stored bricks, near to the surface. If no sign has changed yet, the nodes around the value nearest to the
    other sign are added. Returns how many nodes were evaluated, and the hits (n, 3): those of another sign than
    assumed.
    """
    resolution = field.probe.resolution
    count = int(np.clip(field.probe.evaluated // EVALUATED_PER_AUDITED, FEWEST, MOST))
    uniform = field.generator.integers(1, resolution + 1, (count, 3), dtype=np.int32)
    nodes = [uniform, _narrow_nodes(field, count), _stored_nodes(field, count)]
    if field.probe.one_sided:
        nodes.append(_nodes_around(field, deepest_point(field.probe, field.generator)[0]))
    # Each node once, without those that were evaluated before.
    nodes = unique_rows(np.concatenate(nodes), resolution + 2)
    nodes = nodes[~field.store.is_evaluated(nodes)]
    values = field.probe.at_nodes(nodes)
    wrong = (values > 0) != field.store.is_outside(nodes)
    field.slots(nodes[wrong] >> 3)
    field.store.put(nodes[wrong], values[wrong])
    return len(nodes), nodes[wrong]


def _narrow_nodes(field: SparseField, count: int) -> np.ndarray:
    """(n, 3) int32, about `count`: random corners of blocks that were skipped narrowly."""
    nodes = []
    for size, origins, values, reach in field.skipped:
        narrow = np.flatnonzero(np.abs(values) < field.falls.within(size, origins, reach, factor=NARROW))
        number = min(len(narrow), count // len(field.skipped) + 1)
        chosen = origins[field.generator.choice(narrow, number, replace=False)].astype(np.int32)
        nodes.append(chosen + field.generator.integers(0, 2, chosen.shape, dtype=np.int32) * size)
    return np.clip(np.concatenate(nodes), 1, field.probe.resolution)


def _stored_nodes(field: SparseField, count: int) -> np.ndarray:
    """(n, 3) int32, at most `count`: random nodes of random stored bricks, moved into the domain."""
    slots = field.generator.integers(0, max(1, field.store.used), min(count, field.store.used))
    inner = field.generator.integers(0, BRICK, (len(slots), 3), dtype=np.int32)
    return np.clip(field.store.coords[slots] * BRICK + inner, 1, field.probe.resolution)


def _nodes_around(field: SparseField, point: np.ndarray) -> np.ndarray:
    """(125, 3) int32: the nodes within two cells, along each axis, of a point (3,) of the domain."""
    nearest = np.rint((point + 1.0) / field.probe.cell).astype(np.int32) + 1
    steps = np.indices((5, 5, 5), dtype=np.int32).reshape(3, -1).T - 2
    return np.clip(nearest + steps, 1, field.probe.resolution)


def reopen(field: SparseField, hits: np.ndarray) -> dict[int, np.ndarray]:
    """Trust the measured falls less; returns the blocks that are then no longer skipped: size -> origins (n, 3) int32.

    The 3^3 bricks around each hit (n, 3) are stored, and what was assumed in stored bricks is forgotten.
    """
    field.falls.distrust()
    # (n, 27, 3) bricks around the hits, those beyond the grid moved into it.
    steps = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    near = np.clip(hits[:, None] // BRICK + steps, 0, field.store.side - 1)
    field.slots(near.reshape(-1, 3).astype(np.int32))
    field.store.forget_assumed()
    opened: dict[int, np.ndarray] = {}
    still_skipped = []
    for size, origins, values, reach in field.skipped:
        again = np.abs(values) <= field.falls.within(size, origins, reach)
        still_skipped.append(Skipped(size, origins[~again], values[~again], reach[~again]))
        blocks = origins[again].astype(np.int32)
        opened[size] = np.concatenate([opened.get(size, blocks[:0]), blocks])
    field.skipped = still_skipped
    return opened
