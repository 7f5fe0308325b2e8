"""The slow twin of the search: evaluates every node of the grid, one layer of bricks at a time."""

import numpy as np

from neuralparts.marching.bricks import BRICK, OUTSIDE
from neuralparts.marching.node_store import NodeStore
from neuralparts.marching.probe import Probe


def sweep_dense(probe: Probe) -> NodeStore:
    """Evaluate every node; store the bricks that the surface touches, with all their values."""
    store = NodeStore(probe.resolution)
    nodes = store.side * BRICK + 1
    # Nine planes of nodes: the eight of a layer of bricks, and the first of the next, which its cells need too.
    slab = np.full((BRICK + 1, nodes, nodes), OUTSIDE, dtype=np.float32)
    crossed = np.zeros((store.side, store.side), dtype=bool)
    for layer in range(store.side):
        slab[0] = slab[-1]
        for plane in range(1 if layer else 0, BRICK + 1):
            slab[plane] = _plane(probe, layer * BRICK + plane, nodes)
        crossed = _store_layer(store, layer, slab, crossed)
    return store


def _plane(probe: Probe, index: int, nodes: int) -> np.ndarray:
    """Values (nodes, nodes) float32 of the nodes of plane `index` of the first axis; OUTSIDE beyond the border."""
    plane = np.full((nodes, nodes), OUTSIDE, dtype=np.float32)
    if 1 <= index <= probe.resolution:
        # (R^2, 3) nodes of the domain in this plane -> (R, R) values within the border.
        line = np.arange(1, probe.resolution + 1, dtype=np.int32)
        second, third = (part.ravel() for part in np.meshgrid(line, line, indexing="ij"))
        values = probe.at_nodes(np.stack([np.full_like(second, index), second, third], axis=1))
        plane[1 : probe.resolution + 1, 1 : probe.resolution + 1] = values.reshape(probe.resolution, -1)
    return plane


def _store_layer(store: NodeStore, layer: int, slab: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Store the bricks of a layer whose cells the surface crosses, and their upper neighbours, which own nodes of these
    cells. The sign of every other brick is that of its first node.

    slab (9, n, n) float32: values. below, and the result, (side, side) bool: the bricks that the surface crosses in the
    layer below, and in this one.
    """
    outside = slab > 0
    # (n, n) each, whether some or all of the nine nodes along the first axis are outside; then, by brick (side, side),
    # of its 9 x 9 columns of nodes. The surface crosses a brick if some but not all of its nodes are outside.
    windows = [
        np.lib.stride_tricks.sliding_window_view(part, (BRICK + 1,) * 2) for part in (outside.any(0), outside.all(0))
    ]
    some, every = (part[::BRICK, ::BRICK] for part in windows)
    crossed = some.any(axis=(2, 3)) & ~every.all(axis=(2, 3))
    # Upper neighbours along each axis, and so along the diagonals too.
    kept = crossed | below
    kept[1:] |= kept[:-1].copy()
    kept[:, 1:] |= kept[:, :-1].copy()
    store.signs[layer, :-1, :-1] = np.where(outside[0, :-1:BRICK, :-1:BRICK], 1, -1)
    # (m, 2) bricks of the layer -> their values (m, 8, 8, 8).
    bricks = np.argwhere(kept)
    blocks = np.lib.stride_tricks.sliding_window_view(slab[:BRICK], (BRICK, BRICK), axis=(1, 2))
    blocks = blocks[:, bricks[:, 0] * BRICK, bricks[:, 1] * BRICK].swapaxes(0, 1)
    slots = store.allocate(np.insert(bricks, 0, layer, axis=1).astype(np.int32), 0)
    store.fill(slots, blocks)
    return crossed
