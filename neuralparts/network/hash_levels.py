"""The sizes of a hash grid's levels, and the factors of its hash: what the module and its kernels both need."""

from typing import NamedTuple

import numpy as np

# Factors of the spatial hash (Müller et al., 2022, eq. 4). The first is 1: neighbours along x lie close together.
PRIMES = (1, 2654435761, 805459861)


class LevelArrays(NamedTuple):
    """Sizes of all levels as arrays (levels,), as the kernels take them."""

    resolutions: np.ndarray  # int32, cells along an axis
    offsets: np.ndarray  # (levels + 1,) int64, first row in the table of each level, then the number of rows
    dense: np.ndarray  # bool
    masks: np.ndarray  # uint32, bits of a row number that count: all in a dense level, else those of the hash


def level_arrays(levels: int, base_resolution: int, finest_resolution: int, table_size: int) -> LevelArrays:
    """Sizes of `levels` grids. Resolutions are in geometric progression; with more than `table_size` nodes, hashed."""
    growth = (finest_resolution / base_resolution) ** (1 / max(levels - 1, 1))
    resolutions = np.array([round(base_resolution * growth**level) for level in range(levels)])
    nodes = (resolutions + 1) ** 3
    offsets = np.concatenate([[0], np.cumsum(np.minimum(nodes, table_size))])
    dense = nodes <= table_size
    masks = np.where(dense, np.uint32(0xFFFFFFFF), np.uint32(table_size - 1))
    return LevelArrays(resolutions.astype(np.int32), offsets, dense, masks)
