"""The nodes of the stored bricks: evaluate some of them, and take the sign of the others from values near to them."""

import numpy as np

from neuralparts.marching.bricks import BRICK, CORNERS, OUTSIDE, lattice_words
from neuralparts.marching.node_kernels import ball_widths, carve, keep_values, take_signs, unknown_nodes
from neuralparts.marching.sparse_field import SparseField

# Bricks handled at a time: at most 5 KiB of temporary arrays each.
CHUNK = 8192
# (8,) uint64: all nodes of a brick.
EVERYWHERE = lattice_words((0, 0, 0), 1)
# The order in which the nodes of a brick are looked at, (8,) uint64 each: the centres of its blocks of 4^3 cells, those
# of 2^3, the other corners of the blocks of 2^3, then the nodes on the faces of these blocks and on their edges.
LATTICES = [
    lattice_words((2, 2, 2), 4),
    lattice_words((1, 1, 1), 2),
    lattice_words((0, 0, 0), 2) & ~lattice_words((2, 2, 2), 4),
    sum(lattice_words(parity, 2) for parity in CORNERS if parity.sum() == 2),
    sum(lattice_words(parity, 2) for parity in CORNERS if parity.sum() == 1),
]


def resolve(field: SparseField) -> None:
    """Give each node of the stored bricks a value, or the sign of a value near to it: lattice by lattice."""
    if not field.store.used:
        return
    take_signs(field.store.bricks, 0, field.store.used)
    _evaluate_unknown(field, LATTICES[0])
    _measure_falls_of_nodes(field)
    bounds = field.falls.bounds(field.probe.cell)
    # Values of before the bricks, and of an earlier search, lie anywhere.
    _carve(field, EVERYWHERE, bounds)
    for lattice in LATTICES[1:]:
        _evaluate_unknown(field, lattice)
        _carve(field, lattice, bounds)
    # What two values gave opposite signs is unknown again.
    _evaluate_unknown(field, EVERYWHERE)


def _evaluate_unknown(field: SparseField, lattice: np.ndarray) -> None:
    """Evaluate the nodes of a lattice (8,) uint64 of which no sign is known, or both."""
    for start in range(0, field.store.used, CHUNK):
        stop = min(start + CHUNK, field.store.used)
        places, points = unknown_nodes(field.store.bricks, lattice, field.probe.axis, start, stop)
        keep_values(field.store.bricks, places, field.probe.at_node_points(points))


def _carve(field: SparseField, lattice: np.ndarray, bounds: np.ndarray) -> None:
    """Give the sign of each evaluated node of a lattice (8,) to the nodes around it, as far as the function cannot fall
    to the level. bounds: those of `Falls.bounds`."""
    regions = field.falls.region_of(field.store.coords[: field.store.used] * BRICK)
    carve(field.store.bricks, lattice, bounds, regions, ball_widths(), 0, field.store.used)


def _measure_falls_of_nodes(field: SparseField) -> None:
    """Measure the falls at sizes 4, 2 and 1, once: from the centres of blocks of 4^3 cells to their corners, to those
    of the 2^3 cells around the centre, and to the next node along an axis."""
    if 1 in field.falls.by_size:
        return
    # Eight centres in each of n bricks, (8 n, 3) nodes and their values (8 n,), all of which were just evaluated.
    local = 2 + 4 * CORNERS
    centers = (field.store.coords[: field.store.used, None] * BRICK + local).reshape(-1, 3)
    values = field.store.values[: field.store.used, local @ (BRICK**2, BRICK, 1)].ravel()
    centers, values = centers[np.abs(values) < OUTSIDE], values[np.abs(values) < OUTSIDE]
    axes = np.concatenate([np.eye(3, dtype=np.int32), -np.eye(3, dtype=np.int32)])
    for size, steps in ((4, 4 * CORNERS - 2), (2, 2 * CORNERS - 1), (1, axes)):
        reach = np.full(len(centers), np.linalg.norm(steps[0]) * field.probe.cell, dtype=np.float32)
        field.falls.measure(size, centers, values, steps, reach, field.values)
