"""From the largest blocks of cells down to bricks: skip the blocks that the surface cannot reach, halve the others."""

import numpy as np

from neuralparts.marching.bricks import BRICK, CORNERS
from neuralparts.marching.falls import largest_block
from neuralparts.marching.sparse_field import Skipped, SparseField

# Blocks judged at a time, at 200 bytes each.
PART = 2**18


def descend(field: SparseField, opened: dict[int, np.ndarray]) -> None:
    """Judge blocks, size by size, and store the bricks that may hold surface.

    opened: block size -> origins (n, 3) int32 of blocks to judge, besides the eighths of those that were not skipped.
    """
    resolution = field.probe.resolution
    size, origins = largest_block(resolution), np.empty((0, 3), dtype=np.int32)
    while size >= BRICK:
        # (n, 3) blocks of twice the size -> (8 n, 3), without those beyond the grid.
        origins = (origins[:, None] + CORNERS * size).reshape(-1, 3)
        origins = origins[(origins <= resolution).all(axis=1)]
        origins = _skip(field, size, np.concatenate([origins, opened.get(size, origins[:0])]))
        # For the progress: a surface through a block touches about size^2 of its nodes on either side.
        field.probe.expected = field.probe.evaluated + 2 * len(origins) * size**2
        size //= 2
    _store_bricks(field, origins)


def grid_of_blocks(resolution: int, size: int) -> np.ndarray:
    """Origins (n, 3) int32 of the blocks of size^3 cells that cover all cells of the grid."""
    side = -(-(resolution + 1) // size)
    return (np.indices((side,) * 3).reshape(3, -1).T * size).astype(np.int32)


def _skip(field: SparseField, size: int, origins: np.ndarray) -> np.ndarray:
    """Blocks (n, 3) -> those (m, 3) that may hold surface.

    Many blocks are judged part by part, in random order: the first part, on which the fall is measured, is then a
    sample of all.
    """
    if len(origins) > PART:
        origins = field.generator.permutation(origins)
    parts = [origins[start : start + PART] for start in range(0, len(origins), PART)]
    return np.concatenate([origins[:0], *(_skip_part(field, size, part) for part in parts)])


def _skip_part(field: SparseField, size: int, origins: np.ndarray) -> np.ndarray:
    """Blocks (n, 3) -> those (m, 3) that may hold surface. The sign of the others is assumed in the store."""
    resolution = field.probe.resolution
    centers, reach = _reach(field, size, origins)
    values = field.values(centers)
    if size not in field.falls.by_size:
        field.falls.measure(size, centers, values, CORNERS * size - size // 2, reach, field.values)
    # A block is skipped if the function cannot fall to the level between its centre and its farthest node; but not if
    # it is inside and at the border, beyond which everything is outside.
    border = ((origins < 1) | (origins + size > resolution)).any(axis=1)
    skipped = np.abs(values) > field.falls.within(size, origins, reach)
    skipped &= (values > 0) | ~border
    field.store.skip(size, origins[skipped], np.where(values[skipped] > 0, 1, -1).astype(np.int8))
    field.skipped.append(Skipped(size, origins[skipped].astype(np.int16), values[skipped], reach[skipped]))
    return origins[~skipped]


def _reach(field: SparseField, size: int, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blocks (n, 3) -> the node nearest to the centre of each (n, 3), and the distance from there to the farthest node
    of the block within the domain (n,) float32, domain units."""
    # All three in the domain: a block at the border is cut.
    low = np.clip(origins, 1, field.probe.resolution)
    high = np.clip(origins + size, 1, field.probe.resolution)
    centers = np.clip(origins + size // 2, 1, field.probe.resolution)
    steps = np.maximum(centers - low, high - centers).astype(np.float32)
    return centers, np.linalg.norm(steps, axis=1) * np.float32(field.probe.cell)


def _store_bricks(field: SparseField, origins: np.ndarray) -> None:
    """Store the bricks that are left, blocks (n, 3) of 8^3 cells, with nothing assumed of their nodes; and the skipped
    bricks between which the assumed sign changes. Raises MemoryBoundError."""
    bricks = origins // BRICK
    bricks = bricks[field.store.slots[tuple(bricks.T)] < 0]
    field.check_memory(len(bricks))
    field.store.allocate(bricks, 0)
    field.store.allocate(field.store.opposed(), 0)
    field.store_values_so_far()
