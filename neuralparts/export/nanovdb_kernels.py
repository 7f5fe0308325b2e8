"""The loop that fills a NanoVDB volume, compiled by Warp.

Only `nanovdb.py` imports this module, once it knows that Warp is there.
"""

import warp


@warp.kernel
def store_tiles(volume: warp.uint64, corners: warp.array(dtype=warp.vec3i), values: warp.array4d(dtype=float)):
    """Store values (T, 8, 8, 8) in the tiles whose first voxels are corners (T,); one thread for each voxel."""
    tile, x, y, z = warp.tid()
    corner = corners[tile]
    warp.volume_store_f(volume, corner[0] + x, corner[1] + y, corner[2] + z, values[tile, x, y, z])
