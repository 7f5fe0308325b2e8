"""The form `nvdb`: a sparse volume in NanoVDB's format, for Warp, Blender, Houdini and renderers.

In: a model and a number R of nodes along an edge. Out: the grid of `grids.py` in tiles of 8^3 voxels, distances clamped
to a band of three voxels on either side of the surface. Tiles that lie outside the band are left out, and read as its
width. Those deep inside are kept, since the format as Warp writes it has one value for all that is left out, and
that cannot be both signs. The package warp-lang is an optional extra.
"""

import os
from pathlib import Path
from types import ModuleType

import numpy as np

from neuralparts.errors import UserError, missing_package
from neuralparts.export.grids import Grid, grid_of, planes
from neuralparts.network import NeuralSDF
from neuralparts.whole_file import whole_file

# Voxels along an edge of a tile of NanoVDB, and width of the band in voxels, as in OpenVDB's level sets.
TILE, BAND = 8, 3.0
# Warp keeps a volume's origin in float32. Its rounding may move the surface by this fraction of a voxel.
_LARGEST_SHIFT = 0.01


def write_nanovdb(sdf: NeuralSDF, out: Path, resolution: int) -> list[Path]:
    """Write the band about the surface as an .nvdb file; returns [out]. Needs the package warp-lang.

    Memory grows with the tiles that are kept, three times 4 bytes for each of their voxels. Raises UserError if Warp is
    missing, the part lies too far from the origin for it, or the resolution is below 2; OSError.
    """
    warp, grid = _import_warp(), grid_of(sdf, resolution)
    if np.abs(grid.origin).max() * np.finfo(np.float32).eps > _LARGEST_SHIFT * grid.spacing:
        raise UserError(f"{out}: the part lies too far from the origin for nvdb, {grid.origin}; write vti, or move it")
    corners, values = _tiles(sdf, grid)
    volume = warp.Volume.allocate_by_tiles(
        warp.array(corners, dtype=warp.vec3i, device="cpu"),
        voxel_size=grid.spacing,
        bg_value=BAND * grid.spacing,
        translation=tuple(grid.origin),
        device="cpu",
    )
    _fill(warp, volume, corners, values)
    with whole_file(out) as file:
        volume.save_to_nvdb(os.dup(file.fileno()))  # Warp opens a descriptor as it opens a path, and closes it
    return [out]


def _import_warp() -> ModuleType:
    """The package warp. Raises UserError if it is missing."""
    try:
        import warp
    except ImportError as error:
        raise missing_package("the form nvdb", "warp-lang", "volume") from error
    warp.config.log_level = warp.LOG_WARNING  # without a greeting
    warp.init()
    return warp


def _tiles(sdf: NeuralSDF, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The tiles that hold more than the background: (first voxels (T, 3) int32, distances (T, 8, 8, 8) float32)."""
    band, side = np.float32(BAND * grid.spacing), -(-grid.resolution // TILE)
    corners, values = [], []
    # A layer of tiles (8, 8 side, 8 side); voxels beyond the grid are outside.
    layer = np.full((TILE, TILE * side, TILE * side), band)
    for number, plane in enumerate(planes(sdf, grid.resolution, (0, 1, 2))):
        layer[number % TILE, : grid.resolution, : grid.resolution] = np.clip(plane, -band, band)
        if number % TILE < TILE - 1 and number < grid.resolution - 1:
            continue
        # As tiles (side, side, 8, 8, 8), of which those that are not all outside are kept.
        tiles = layer.reshape(TILE, side, TILE, side, TILE).transpose(1, 3, 0, 2, 4)
        kept = (tiles < band).any(axis=(2, 3, 4))
        places = np.argwhere(kept).astype(np.int32)
        corners.append(np.insert(places * TILE, 0, number // TILE * TILE, axis=1))
        values.append(tiles[kept])
        layer = np.full_like(layer, band)
    return np.ascontiguousarray(np.concatenate(corners), dtype=np.int32), np.concatenate(values)


def _fill(warp: ModuleType, volume: object, corners: np.ndarray, values: np.ndarray) -> None:
    """Store the distances (T, 8, 8, 8) of the tiles whose first voxels are corners (T, 3)."""
    from neuralparts.export.nanovdb_kernels import store_tiles

    arrays = [warp.array(corners, dtype=warp.vec3i, device="cpu"), warp.array(values, dtype=float, device="cpu")]
    warp.launch(store_tiles, dim=values.shape, inputs=[volume.id, *arrays], device="cpu")
