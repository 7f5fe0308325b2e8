"""The generalised winding number of a mesh, whose sign is exact: inside is above 0.5.

Comes in: a `Mesh` in the domain and (N, 3) points. Goes out: (N,) float64.

- A closed mesh: signed crossings of a ray along an axis. They are decided edge by edge, so a closed mesh has no cracks,
  and the sum is the exact integer.
- An open mesh: endless strips that hang from the boundary close it. The rays cross mesh and strips together. The part
  of the strips is an exact sum over the boundary edges, and is taken off (the idea of "one-shot" winding numbers,
  Martens and Bessmeltsev 2025).
- A mesh whose boundary is too long for that sum, such as thousands of loose triangles: libigl's fast winding number
  (Barill et al. 2018). Values near one half are still computed exactly.
"""

from typing import NamedTuple

import numpy as np

from neuralparts.distance import ray_kernels
from neuralparts.distance.blocks import BLOCK, in_blocks
from neuralparts.mesh import EdgeTable, Mesh

# Bins of the ray grid per triangle. The lists of the bins hold at most this many entries per triangle, and a constant
# that matters for small meshes only.
BINS_PER_TRIANGLE = 4
ENTRIES_PER_TRIANGLE, MORE_ENTRIES = 12, 2**20
# Least and largest number of bins along a side of the ray grid: 2048^2 bins take 32 MiB.
GRID_SIDES = (8, 2048)
# For an open mesh the points are shifted by this (domain units), so that no ray runs exactly along a strip, as it would
# over each vertex of a part on a lattice. The winding number changes by under 1e-6 farther than 1e-3 from the boundary.
OPEN_SHIFT = np.array([1e-9, 0.618e-9])
# Up to this number of boundary edges the exact sum (4 ns an edge) serves every point; libigl takes as long as 2,300.
EXACT_BOUNDARY = 2000
# libigl's accuracy scale. Values this near to one half are replaced by the exact ones: five times the largest error
# measured on soups and on meshes with thousands of holes or of flipped triangles (0.005).
FAST_ACCURACY = 2.0
FAST_DOUBT = 0.03


class RayGrid(NamedTuple):
    """A grid of bins over the plane that the rays cross at right angles; each bin lists the triangles over it.

    axis: 0, 1 or 2, that of the rays. records: (F, 11) float64 triangles, highest top first. start, entries: bin b
    lists the records entries[start[b] : start[b + 1]]. low_u to scale_v: bin = (coordinate - low) * scale. resolution:
    bins along a side.
    """

    axis: int
    records: np.ndarray
    start: np.ndarray
    entries: np.ndarray
    low_u: float
    low_v: float
    scale_u: float
    scale_v: float
    resolution: int

    @property
    def columns(self) -> tuple:
        """The lists and the place of the grid, as `ray_kernels.winding_block` takes them."""
        return tuple(self[2:])


class WindingNumber:
    """The generalised winding number of a mesh, a function of points.

    grid: the ray grid of the mesh's triangles, by default `ray_grid(triangles)`. exact_boundary: number of boundary
    edges up to which every value is exact. block: points that a thread takes at a time.
    """

    def __init__(
        self, mesh: Mesh, grid: RayGrid | None = None, exact_boundary: int = EXACT_BOUNDARY, block: int = BLOCK
    ):
        self._grid = ray_grid(mesh.vertices[mesh.faces]) if grid is None else grid
        self._edges = _boundary_edges(mesh, self._grid.axis)
        boundary = self._edges.shape[1]
        self._shift = OPEN_SHIFT if boundary else np.zeros(2)
        self._fast = _fast_winding_number(mesh) if boundary > exact_boundary else None
        self._block = block

    @property
    def exact(self) -> bool:
        """True if every value is exact; False if libigl approximates those that are not near one half."""
        return self._fast is None

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) float32 or float64 points of the domain -> (N,) float64."""
        winding = np.empty(len(points))
        in_blocks(lambda block: self._fill(points[block], winding[block]), len(points), self._block)
        return winding

    def _fill(self, points: np.ndarray, winding: np.ndarray) -> None:
        """Fill winding (N,) for one block of points."""
        points = np.ascontiguousarray(points, dtype=np.float64)
        if self._fast is None:
            self._fill_exactly(points, winding)
            return
        winding[:] = self._fast.winding_number(points, FAST_ACCURACY)
        # The approximation may be on the wrong side of one half: compute these exactly.
        doubtful = np.flatnonzero(np.abs(winding - 0.5) < FAST_DOUBT)
        exact = np.empty(len(doubtful))
        self._fill_exactly(points[doubtful], exact)
        winding[doubtful] = exact

    def _fill_exactly(self, points: np.ndarray, winding: np.ndarray) -> None:
        grid = self._grid
        ray_kernels.winding_block(points, grid.axis, self._shift, grid.records, grid.columns, self._edges, winding)


def _fast_winding_number(mesh: Mesh):
    """libigl's tree for fast winding numbers of a mesh."""
    import igl

    tree = igl.FastWindingNumberBVH()
    tree.init(mesh.vertices, mesh.faces)
    return tree


def ray_grid(triangles: np.ndarray, axis: int | None = None, entry_limit: int | None = None) -> RayGrid:
    """The grid of (F, 3, 3) float64 triangles, coarsened until its lists have at most entry_limit entries.

    axis: that of the rays; by default the one along which the triangles' box is thinnest, so that rays meet few
    triangles. entry_limit bounds the memory; by default ENTRIES_PER_TRIANGLE F + MORE_ENTRIES.
    """
    low, high = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
    if axis is None:
        axis = int(np.argmin(high - low))
    if entry_limit is None:
        entry_limit = ENTRIES_PER_TRIANGLE * len(triangles) + MORE_ENTRIES
    # Highest top first, so that a ray can stop at the first triangle below its start.
    records = ray_kernels.column_records(triangles, axis)
    records = records[np.argsort(-records[:, 9], kind="stable")]
    # u and v are the next two axes after that of the rays, in cyclic order.
    (low_u, low_v), (high_u, high_v) = low[[axis - 2, axis - 1]], high[[axis - 2, axis - 1]]
    resolution = int(np.clip(np.sqrt(BINS_PER_TRIANGLE * len(triangles)), *GRID_SIDES))
    while True:
        scale_u, scale_v = resolution / (high_u - low_u), resolution / (high_v - low_v)
        start, entries = ray_kernels.fill_columns(records, low_u, low_v, scale_u, scale_v, resolution, entry_limit)
        if len(entries) > 0:
            return RayGrid(axis, records, start, entries, low_u, low_v, scale_u, scale_v, resolution)
        resolution //= 2


def _boundary_edges(mesh: Mesh, axis: int) -> np.ndarray:
    """(7, B) float64 edges that the mesh uses more often in one direction than in the other, for winding_block.

    An edge is listed as often as the numbers of its uses differ.
    """
    if mesh.closed:
        return np.empty((7, 0))
    table = EdgeTable(mesh.faces)
    unbalanced = np.flatnonzero(table.balance)
    # (B,) a corner of a face at which each edge begins; (B, 2) the two vertices, the smaller number first.
    corner = np.unique(table.edge.ravel(), return_index=True)[1][unbalanced]
    starts, ends = mesh.faces.ravel()[corner], np.roll(mesh.faces, -1, axis=1).ravel()[corner]
    vertices = np.sort(np.stack([starts, ends], axis=1), axis=1)
    balance = table.balance[unbalanced].astype(np.float64)
    # (B, 2, 3) v, u and height of both vertices; an edge that falls in v is reversed, and its balance with it.
    coordinates = mesh.vertices[vertices][:, :, [axis - 1, axis - 2, axis]]
    falling = coordinates[:, 0, 0] > coordinates[:, 1, 0]
    coordinates[falling] = coordinates[falling][:, ::-1]
    balance[falling] *= -1
    # (B, 7) both vertices and the direction, repeated by the size of the balance; transposed for the kernel.
    edges = np.column_stack([coordinates.reshape(-1, 6), np.sign(balance)])
    return np.ascontiguousarray(np.repeat(edges, np.abs(balance).astype(np.int64), axis=0).T)
