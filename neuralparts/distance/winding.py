"""The generalised winding number of a mesh, whose sign is exact: inside is above 0.5.

Comes in: a `Mesh` in the domain and (N, 3) points. Goes out: (N,) float64.

- A closed mesh: signed crossings of a ray along an axis. They are decided edge by edge, so a closed mesh has no cracks,
  and the sum is the exact integer.
- An open mesh: endless strips that hang from the boundary close it. The rays cross mesh and strips together. The part
  of the strips is an exact sum over the boundary edges, and is taken off (the idea of "one-shot" winding numbers,
  Martens and Bessmeltsev 2025).
- That sum takes as long as the boundary. Caps close a longer one, and a tree over them takes its place (`caps.py`).
  Where the bound on its error leaves the side of one half open, the exact sum decides.
- Where a ray meets thousands of triangles (bodies within each other, large triangles everywhere), it is compared with
  many at once (`bin_kernels.py`). Where moreover caps would be about as many as the triangles, the solid angles of the
  triangles themselves are summed, without rays.
- Where a query of an open mesh looks at a good part of all triangles, the side of one half comes first from the sum of
  all solid angles in float32, with a bound on its error (`angle_kernels.py`). The other ways serve the few points that
  this leaves open.
"""

from typing import NamedTuple

import numpy as np

from neuralparts.distance import angle_kernels, bin_kernels, cap_kernels, ray_kernels
from neuralparts.distance.blocks import BLOCK, in_blocks
from neuralparts.distance.caps import CapTree, cap_tree, close_boundary
from neuralparts.distance.common_kernels import near_order
from neuralparts.mesh import EdgeTable, Mesh

# A point is inside if its winding number is above this.
INSIDE_ABOVE = 0.5
# In an open mesh the solid angles of all triangles are summed where a query would look at more than this fraction of
# them in other ways. A triangle took 2 ns in the sum, and 4 to 20 in the other ways.
LEAST_SUMMED = 1 / 12
# Bins of the ray grid per triangle. The lists of the bins hold at most this many entries per triangle, and a constant
# that matters for small meshes only.
BINS_PER_TRIANGLE = 4
# A grid is crowded if its bins list more triangles than this on average (those of ordinary parts list up to 20). Caps
# are crowded if more than this are near a point: less than two of their radii away, on average over so many points.
CROWDED, CROWD_SAMPLES = 1000, 64
ENTRIES_PER_TRIANGLE, MORE_ENTRIES = 12, 2**20
# Least and largest number of bins along a side of the ray grid: 2048^2 bins take 32 MiB.
GRID_SIDES = (8, 2048)
# Least extent of a ray grid (domain units): caps may lie in a plane along the rays.
LEAST_EXTENT = 1e-30
# For an open mesh the points are shifted by this (domain units), so that no ray runs exactly along a strip, as it would
# over each vertex of a part on a lattice. The winding number changes by less than 1e-6 at points more than 1e-3 from
# the boundary.
OPEN_SHIFT = np.array([1e-9, 0.618e-9])
# Up to this number of boundary edges the exact sum serves every point; it takes 4 ns an edge.
EXACT_BOUNDARY = 2000
# Up to this number it also says which points are inside: the tree over the caps would not be faster.
EXACT_INSIDE = 64
# Bound on the error of a winding number of a longer boundary.
VALUE_ERROR = 0.01


class RayGrid(NamedTuple):
    """A grid of bins over the plane that the rays cross at right angles; each bin lists the triangles over it.

    axis: 0, 1 or 2, that of the rays. records: (F, 11) float64 triangles, highest top first. start, entries: bin b
    lists the records entries[start[b] : start[b + 1]]. low_u to scale_v: bin = (coordinate - low) * scale. resolution:
    bins along a side. slopes: (F, 3) of the records if the grid is crowded, else None.
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
    slopes: np.ndarray | None

    @property
    def listed(self) -> float:
        """Triangles that a bin lists on average."""
        return len(self.entries) / self.resolution**2

    def crossings(self, points: np.ndarray, order: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """(N,) float64 signed crossings of the rays from (N, 3) float64 points, which are taken in an order (N,).

        shift: (2,) added to u and v.
        """
        crossings = np.empty(len(points))
        bins = self.start, self.entries, self.low_u, self.low_v, self.scale_u, self.scale_v, self.resolution
        if self.slopes is None:
            ray_kernels.crossings_block(points, order, self.axis, shift, self.records, bins, crossings)
        else:
            places = points[:, [self.axis - 2, self.axis - 1, self.axis]] + [*shift, 0]  # (N, 3) u, v, w
            bin_kernels.crossings_in_bins(places, self.records, self.slopes, bins, crossings)
        return crossings


class Caps(NamedTuple):
    """The caps of an open mesh.

    grid: their ray grid, or None if they are the mesh's own triangles, and the rest is nothing. tree: over them. near:
    number of them near a point if they are crowded, else 0.
    """

    grid: RayGrid | None
    tree: CapTree
    near: float


class WindingNumber:
    """The generalised winding number of a mesh, a function of points.

    grid: the ray grid of the mesh's triangles, by default `ray_grid(triangles)`. exact_boundary: number of boundary
    edges up to which every value is exact; for longer ones the error is VALUE_ERROR or less. exact_inside: number up to
    which `inside` computes exact values. block: points that a thread takes at a time. For the kernels it holds grid,
    edges (7, B) of the boundary, and shift (2,) of the points, as `ray_kernels.add_strips` takes them.
    """

    def __init__(
        self,
        mesh: Mesh,
        grid: RayGrid | None = None,
        exact_boundary: int = EXACT_BOUNDARY,
        exact_inside: int = EXACT_INSIDE,
        block: int = BLOCK,
    ):
        triangles = mesh.vertices[mesh.faces]
        self.grid = ray_grid(triangles) if grid is None else grid
        starts, ends = _directed_boundary(mesh)
        self.edges = _strip_edges(mesh.vertices, starts, ends, self.grid.axis)
        boundary = self.edges.shape[1]
        self.shift = OPEN_SHIFT if boundary else np.zeros(2)
        self.exact = boundary <= exact_boundary
        self._caps = _caps(mesh.vertices, starts, ends, self.grid, triangles) if boundary > exact_inside else None
        # The triangles for `angle_kernels`, or None if caps or rays are faster than the sum of all angles.
        is_summed = self._caps is not None and self.crowd > LEAST_SUMMED * len(triangles)
        self._summed = angle_kernels.triangle_blocks(triangles) if is_summed else None
        self._block = block

    @property
    def crowd(self) -> float:
        """Triangles and caps that a query looks at, about, if there are thousands; else 0."""
        near, has_rays = (self._caps.near, self._caps.grid is not None) if self._caps else (0.0, True)
        return near + (self.grid.listed if has_rays and self.grid.slopes is not None else 0.0)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) float32 or float64 points of the domain -> (N,) float64."""
        return self._computed(points, 0.0 if self.exact else VALUE_ERROR)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) float32 or float64 points of the domain -> (N,) bool: the winding number is above INSIDE_ABOVE."""
        return self._computed(points, np.inf) > INSIDE_ABOVE

    def _computed(self, points: np.ndarray, most_error: float) -> np.ndarray:
        """(N,) winding numbers with this error at most, and each on the right side of INSIDE_ABOVE."""
        winding = np.empty(len(points))
        in_blocks(lambda block: self._fill(points[block], most_error, winding[block]), len(points), self._block)
        return winding

    def _fill(self, points: np.ndarray, most_error: float, winding: np.ndarray) -> None:
        """Fill winding (N,) for one block of points."""
        points = np.ascontiguousarray(points, dtype=np.float64)
        if self._summed is not None and most_error == np.inf:
            doubtful = self._fill_sums(points, winding)
            points, rest = points[doubtful], np.empty(np.count_nonzero(doubtful))
            self._fill_apart(points, most_error, rest)
            winding[doubtful] = rest
        else:
            self._fill_apart(points, most_error, winding)

    def _fill_sums(self, points: np.ndarray, winding: np.ndarray) -> np.ndarray:
        """Fill winding (N,) with sums of solid angles; returns (N,) bool: where the side of INSIDE_ABOVE is open."""
        places, error = points.copy(), np.empty(len(points))
        places[:, [self.grid.axis - 2, self.grid.axis - 1]] += self.shift
        angle_kernels.winding_numbers_with_bounds(places, near_order(points), self._summed, winding, error)
        return np.abs(winding - INSIDE_ABOVE) <= error

    def _fill_apart(self, points: np.ndarray, most_error: float, winding: np.ndarray) -> None:
        """Fill winding (N,) by rays, and strips or caps."""
        if self._caps is None or most_error == 0:
            winding[:] = self._exact(points)
            return
        order, axis, (cap_grid, tree, near) = near_order(points), self.grid.axis, self._caps
        # The integers of the closed rest, which is the mesh without the caps.
        winding[:] = 0
        if cap_grid is not None:
            winding += self.grid.crossings(points, order, self.shift)
            winding -= cap_grid.crossings(points, order, self.shift)
        remainders = cap_kernels.CROWDED_REMAINDERS if near else cap_kernels.REMAINDERS
        doubtful = np.empty(len(points), dtype=bool)
        cap_kernels.capped_block(
            points, order, axis, self.shift, tuple(tree), remainders, most_error, winding, doubtful
        )
        winding[doubtful] = self._exact(points[doubtful])

    def _exact(self, points: np.ndarray) -> np.ndarray:
        """(N,) winding numbers of (N, 3) float64 points, without an approximation."""
        order = near_order(points)
        winding = self.grid.crossings(points, order, self.shift)
        if self.edges.shape[1]:
            ray_kernels.add_strips(points, order, self.grid.axis, self.shift, self.edges, winding)
        return winding


def _caps(vertices: np.ndarray, starts: np.ndarray, ends: np.ndarray, grid: RayGrid, triangles: np.ndarray) -> Caps:
    """The caps of the boundary edges from starts (B,) to ends (B,). grid: of the mesh's triangles (F, 3, 3)."""
    corners = vertices[close_boundary(starts, ends)]
    near = _near_caps(corners)
    if 2 * len(corners) >= len(triangles) and (near or grid.slopes is not None):
        return Caps(None, cap_tree(triangles), max(_near_caps(triangles), CROWDED))
    return Caps(ray_grid(corners, grid.axis), cap_tree(corners), near)


def _near_caps(corners: np.ndarray) -> float:
    """How many of the caps (T, 3, 3) are near a point on average, or 0 unless that is more than CROWDED."""
    if len(corners) <= CROWDED:
        return 0.0
    middle = corners.mean(axis=1)
    reach = 4 * ((corners - middle[:, None]) ** 2).sum(axis=2).max(axis=1)  # (T,) squares of two radii
    some = middle[:: -(-len(middle) // CROWD_SAMPLES)]
    near = float(np.mean([(((middle - point) ** 2).sum(axis=1) < reach).sum() for point in some]))
    return near if near > CROWDED else 0.0


def ray_grid(triangles: np.ndarray, axis: int | None = None, entry_limit: int | None = None) -> RayGrid:
    """The grid of (F, 3, 3) float64 triangles, coarsened until its lists have at most entry_limit entries.

    axis: that of the rays; by default the one along which the triangles' box is thinnest, so that rays meet few
    triangles. entry_limit bounds the memory: at least F, by default ENTRIES_PER_TRIANGLE F + MORE_ENTRIES.
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
    # Halve the resolution until the lists fit. This ends, because a single bin lists each triangle once: F entries.
    while True:
        scale_u, scale_v = (resolution / max(extent, LEAST_EXTENT) for extent in (high_u - low_u, high_v - low_v))
        start, entries = ray_kernels.fill_bins(records, low_u, low_v, scale_u, scale_v, resolution, entry_limit)
        if len(entries) > 0:
            slopes = bin_kernels.record_slopes(records) if len(entries) > CROWDED * resolution**2 else None
            return RayGrid(axis, records, start, entries, low_u, low_v, scale_u, scale_v, resolution, slopes)
        resolution //= 2


def _directed_boundary(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """The edges that the mesh uses more often in one direction than in the other, in that direction.

    Returns the vertices at which they start and end, (B,) each. An edge is listed as often as the numbers of its uses
    differ.
    """
    if mesh.closed:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    table = EdgeTable(mesh.faces)
    unbalanced = np.flatnonzero(table.balance)
    # (B,) a corner of a face at which each edge begins; (B, 2) the two vertices, the smaller number first.
    corner = np.unique(table.edge.ravel(), return_index=True)[1][unbalanced]
    starts, ends = mesh.faces.ravel()[corner], np.roll(mesh.faces, -1, axis=1).ravel()[corner]
    vertices = np.sort(np.stack([starts, ends], axis=1), axis=1)
    # The balance is positive if the edge runs from the smaller number to the larger.
    balance = table.balance[unbalanced]
    vertices[balance < 0] = vertices[balance < 0][:, ::-1]
    starts, ends = np.repeat(vertices, np.abs(balance), axis=0).T
    return starts, ends


def _strip_edges(vertices: np.ndarray, starts: np.ndarray, ends: np.ndarray, axis: int) -> np.ndarray:
    """(7, B) float64 boundary edges from starts (B,) to ends (B,), for `ray_kernels.add_strips`."""
    # (B, 2, 3) v, u and height of both vertices; an edge that falls in v is reversed, and its direction with it.
    pairs = np.sort(np.stack([starts, ends], axis=1), axis=1)
    coordinates = vertices[pairs][:, :, [axis - 1, axis - 2, axis]]
    direction = np.where(starts < ends, 1.0, -1.0)
    falling = coordinates[:, 0, 0] > coordinates[:, 1, 0]
    coordinates[falling] = coordinates[falling][:, ::-1]
    direction[falling] *= -1
    return np.ascontiguousarray(np.column_stack([coordinates.reshape(-1, 6), direction]).T)
