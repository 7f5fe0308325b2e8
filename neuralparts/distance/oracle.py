"""The signed-distance oracle: exact distance and trustworthy sign for any triangle mesh.

Owns: how far a point of the domain is from a mesh, where the nearest point lies, and whether the point is inside.
Comes in: a `geometry.Mesh`, whose vertices lie in the domain, and (N, 3) points of the domain. Goes out: float32 arrays
in domain units, negative inside.

Distance and sign are apart: the sign is that of the winding number, the distance is never multiplied by it.

- Distance: a float64 search of our own over a tree of boxes, exact for needles and slivers too. It was faster than
  Open3D and libigl on each of thirty meshes (docs/log.md). Both can be had by name: `engine="open3d"` asks Open3D's
  ray-casting scene (Embree, float32) about the triangles that float32 can be trusted with, `engine="libigl"` its tree;
  the slivers stay with our own search, since Open3D is wrong by up to a thousandth of the domain on ordinary CAD parts.
- Winding number: signed crossings of a ray along an axis, decided edge by edge so that a closed mesh has no cracks,
  which is the exact integer winding number. For an open mesh the boundary is continued downwards without end by strips
  that close it; their share is a sum over the boundary edges (the idea of "one-shot" winding numbers, Martens and
  Bessmeltsev 2025), again exact. Only where the boundary is too long for that sum, as in a soup of thousands of loose
  triangles, libigl's fast winding number (Barill et al. 2018) takes its place, and every value near one half is still
  computed exactly.

Importing this module imports Numba (half a second); the first use on a machine compiles the kernels (ten seconds).
"""

import functools
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from neuralparts.choices import DISTANCE_ENGINES
from neuralparts.distance import kernels
from neuralparts.machine import thread_count
from neuralparts.mesh import EdgeTable

# Points that a thread takes at a time: enough to be sorted into runs of neighbours, and a few MiB of temporary arrays.
BLOCK = 65536
# Points that a library is given at a time, to bound the memory of its answer (40 bytes a point).
CHUNK = 2**20
NO_GUESS = np.empty(0, dtype=np.int32)
# Bins of the ray grid for each triangle, and list entries for each triangle at most (plus a constant for small meshes).
BINS_PER_TRIANGLE = 4
ENTRIES_PER_TRIANGLE = 12
# Sides of the ray grid at the least and at the most: 2048^2 bins take 32 MiB.
GRID_SIDES = (8, 2048)
# An open mesh is asked this far beside the point (domain units), so that no ray runs exactly along a strip, as it would
# over each vertex of a part on a lattice. The winding number changes by under 1e-6 farther than 1e-3 from the boundary.
OPEN_SHIFT = np.array([1e-9, 0.618e-9])
# Boundary edges up to which the exact sum (4 ns an edge) is used for every point; libigl takes as long as 2,300 edges.
EXACT_BOUNDARY = 2000
# libigl's accuracy scale, and how near to one half its value is replaced by the exact one: five times the largest error
# that was measured on soups and on meshes with thousands of holes or of turned triangles (0.005).
FAST_ACCURACY = 2.0
FAST_DOUBT = 0.03


class DistanceOracle:
    """Distance, closest point, winding number and sign for points around a mesh.

    mesh: geometry.Mesh. engine: what finds the closest points, one of DISTANCE_ENGINES; "auto" is the fastest, numba.
    `engine` is the one in use. Points are (N, 3) float32 or float64 in the domain. Raises ValueError for an unknown
    engine or malformed points, and ImportError where open3d was asked for and cannot be had.
    """

    def __init__(self, mesh, engine="auto"):
        self.mesh = mesh
        self.engine = choose_engine(engine)

    @functools.cached_property
    def _search(self):
        search = {"open3d": Open3dSearch, "libigl": LibiglSearch, "numba": TriangleSearch}[self.engine]
        return search(self.mesh)

    @functools.cached_property
    def _winding(self):
        return WindingNumber(self.mesh)

    def distance(self, points):
        """(N, 3) points -> (N,) float32 unsigned distance to the mesh, domain units, right to 1e-6."""
        return self._closest(points, wanted=False)[2]

    def closest(self, points):
        """(N, 3) points -> closest points (N, 3) float32, their face (N,) int64, distance (N,) float32."""
        return self._closest(points, wanted=True)

    def _closest(self, points, wanted):
        points = _checked(points)
        closest = np.empty((len(points) if wanted else 0, 3), dtype=np.float32)
        face, distance = np.empty(len(points), dtype=np.int64), np.empty(len(points), dtype=np.float32)
        self._search.fill(points, closest, face, distance)
        return closest, face, distance

    def winding_number(self, points):
        """(N, 3) points -> (N,) float32 generalised winding number (an integer off the surface of a closed mesh)."""
        return self._winding(_checked(points)).astype(np.float32)

    def inside(self, points):
        """(N, 3) points -> (N,) bool, winding number > 0.5."""
        return self._winding(_checked(points)) > 0.5

    def signed_distance(self, points):
        """(N, 3) points -> (N,) float32 signed distance, domain units, negative inside."""
        points = _checked(points)
        distance = self.distance(points)
        return np.where(self.inside(points), -distance, distance)


def _checked(points):
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype not in (np.float32, np.float64):
        raise ValueError(f"points must be (N, 3) float32 or float64, got {points.shape} {points.dtype}")
    if not np.isfinite(points).all():
        raise ValueError("points hold NaN or infinite coordinates")
    return points


# ------------------------------------------------------------------------------------------------ engines and threads


def choose_engine(engine):
    """The engine that a name stands for here. Raises ValueError and ImportError as DistanceOracle does."""
    if engine not in DISTANCE_ENGINES:
        raise ValueError(f"unknown distance engine {engine!r}; choose one of {', '.join(DISTANCE_ENGINES)}")
    trouble = engine == "open3d" and _open3d_trouble()
    if trouble:
        raise ImportError(f"open3d cannot be used: {trouble}; the default engine does without")
    return "numba" if engine == "auto" else engine


@functools.cache
def _open3d_trouble():
    """Why open3d cannot be imported, in a few words, or None."""
    try:
        import open3d  # noqa: F401
    except (ImportError, OSError) as error:
        return explain_import_error(error)
    return None


def explain_import_error(error):
    """What an ImportError means to a person: the missing library and the Debian package that brings it."""
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name} is not installed"
    library = re.search(r"lib[\w.+-]+?\.so(\.\d+)*", str(error))
    if library and "cannot open shared object file" in str(error):
        package = debian_package(library.group())
        return f"{library.group()} is missing (on Debian: apt-get install {package})"
    return " ".join(str(error).split())


def debian_package(library):
    """libX11.so.6 -> libx11-6: the name in small letters and the version, apart where the name ends in a digit."""
    name, _, version = library.partition(".so")
    name, version = name.lower(), version.strip(".").partition(".")[0]
    return f"{name}-{version}" if version and name[-1].isdigit() else name + version


def _in_blocks(work, count):
    """Call work(slice) for blocks of a range, in threads."""
    blocks = [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    if len(blocks) < 2 or thread_count() < 2:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(thread_count()) as pool:
        for _ in pool.map(work, blocks):
            pass


# --------------------------------------------------------------------------------------------------- closest points


class TriangleSearch:
    """Closest points by the float64 tree of distance_kernels, for all triangles."""

    def __init__(self, mesh):
        self._hold(mesh.vertices[mesh.faces], np.arange(len(mesh.faces)))

    def _hold(self, triangles, searched, others=()):
        """Build the tree over the triangles `searched`; `others` are only known as guesses."""
        corners = triangles[searched]
        order, boxes, first, count = kernels.build_tree(corners.min(axis=1), corners.max(axis=1))
        self._tree = (boxes, first, count)
        self._face = np.concatenate([searched[order], np.asarray(others, dtype=np.int64)])
        self._frames = kernels.triangle_frames(triangles[self._face])

    def fill(self, points, closest, face, distance, guess=NO_GUESS):
        """Fill closest (N, 3) or (0, 3), face (N,) and distance (N,) for (N, 3) points.

        guess: (N,) int32 places in the search's own order of triangles that may be nearest, or NO_GUESS.
        """

        def fill_block(block):
            block_points = np.ascontiguousarray(points[block], dtype=np.float64)
            nearest = np.empty(len(block_points), dtype=np.int32)
            outputs = (nearest, closest[block], distance[block])
            kernels.search_block(block_points, guess[block], self._tree, self._frames, *outputs)
            face[block] = self._face[nearest]

        _in_blocks(fill_block, len(points))


class AidedSearch(TriangleSearch):
    """Closest points by a library among the triangles that it gets right, by the float64 tree among the slivers.

    The library only names a triangle; the distance to it is computed again in float64. A child has TRUSTED_HEIGHT, the
    height over the longest side under which a triangle is a sliver, _load(triangles) and _ask(points) -> triangles.
    """

    def __init__(self, mesh):
        triangles = mesh.vertices[mesh.faces]
        sliver = relative_height(triangles) < self.TRUSTED_HEIGHT
        self._slivers = np.count_nonzero(sliver)
        self._hold(triangles, np.flatnonzero(sliver), np.flatnonzero(~sliver))
        if self._slivers < len(triangles):
            self._load(triangles[~sliver])

    def fill(self, points, closest, face, distance):
        """As TriangleSearch.fill, a chunk at a time: the libraries hold the interpreter lock and start threads."""
        if self._slivers == len(self._face):
            super().fill(points, closest, face, distance)
            return
        for start in range(0, len(points), CHUNK):
            chunk = slice(start, start + CHUNK)
            guess = self._ask(points[chunk]).astype(np.int32) + np.int32(self._slivers)
            super().fill(points[chunk], closest[chunk], face[chunk], distance[chunk], guess)


def relative_height(triangles):
    """(F, 3, 3) triangles -> (F,) height over the longest side, as a share of it; 0 for a point."""
    sides = np.roll(triangles, -1, axis=1) - triangles
    longest2 = (sides**2).sum(axis=2).max(axis=1)
    doubled_area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    return doubled_area / np.where(longest2 > 0, longest2, 1)


class Open3dSearch(AidedSearch):
    """Aided by Open3D's ray-casting scene (Embree), float32."""

    # Measured on single triangles of side 1.5, points 0.001 to 1 away: error at most 1e-6 at 0.1, 3e-4 at 0.01.
    TRUSTED_HEIGHT = 0.1

    def _load(self, triangles):
        import open3d

        self._scene = open3d.t.geometry.RaycastingScene(nthreads=thread_count())
        corners = triangles.reshape(-1, 3).astype(np.float32)
        self._scene.add_triangles(corners, np.arange(len(corners), dtype=np.uint32).reshape(-1, 3))

    def _ask(self, points):
        points = np.ascontiguousarray(points, dtype=np.float32)
        return self._scene.compute_closest_points(points, nthreads=thread_count())["primitive_ids"].numpy()


class LibiglSearch(AidedSearch):
    """Aided by libigl's tree of boxes, float64."""

    # Measured in the same way: 1e-9 at 1e-5, 7e-6 at 1e-6, 5e-4 at 1e-7.
    TRUSTED_HEIGHT = 1e-5

    def _load(self, triangles):
        import igl

        self._vertices = triangles.reshape(-1, 3)
        self._faces = np.arange(len(self._vertices)).reshape(-1, 3)
        self._boxes = igl.AABB()
        self._boxes.init(self._vertices, self._faces)

    def _ask(self, points):
        points = points.astype(np.float64)
        order, triangle = kernels.near_order(points), np.empty(len(points), dtype=np.int64)
        triangle[order] = self._boxes.squared_distance(self._vertices, self._faces, points[order])[1]
        return triangle


# --------------------------------------------------------------------------------------------------- winding numbers


class WindingNumber:
    """The generalised winding number of a mesh, see the top of the module: (N, 3) points -> (N,) float64."""

    def __init__(self, mesh):
        self._axis, self._records, self._columns = _ray_grid(mesh.vertices[mesh.faces])
        self._edges = _boundary_edges(mesh, self._axis)
        boundary = self._edges.shape[1]
        self._shift = OPEN_SHIFT if boundary else np.zeros(2)
        self._fast = None
        if boundary > EXACT_BOUNDARY:
            import igl

            self._fast = igl.FastWindingNumberBVH()
            self._fast.init(mesh.vertices, mesh.faces)

    def __call__(self, points):
        winding = np.empty(len(points))
        _in_blocks(lambda block: self._fill_block(points[block], winding[block]), len(points))
        return winding

    def _fill_block(self, points, winding):
        points = np.ascontiguousarray(points, dtype=np.float64)
        if self._fast is None:
            self._exact(points, winding)
            return
        winding[:] = self._fast.winding_number(points, FAST_ACCURACY)
        doubtful = np.flatnonzero(np.abs(winding - 0.5) < FAST_DOUBT)
        exact = np.empty(len(doubtful))
        self._exact(points[doubtful], exact)
        winding[doubtful] = exact

    def _exact(self, points, winding):
        kernels.winding_block(points, self._axis, self._shift, self._records, self._columns, self._edges, winding)


def _ray_grid(triangles):
    """The axis of the rays, the records of the triangles and the columns of the grid, as winding_block takes them.

    The grid is coarsened until its lists fit ENTRIES_PER_TRIANGLE, which bounds the memory.
    """
    low, high = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
    axis = _ray_axis(low, high)
    records = kernels.column_records(triangles, axis)
    records = records[np.argsort(-records[:, 9], kind="stable")]
    (low_u, low_v), (high_u, high_v) = low[[axis - 2, axis - 1]], high[[axis - 2, axis - 1]]
    resolution = int(np.clip(np.sqrt(BINS_PER_TRIANGLE * len(triangles)), *GRID_SIDES))
    limit = ENTRIES_PER_TRIANGLE * len(triangles) + 2**20
    entries = ()
    while len(entries) == 0:
        scale_u, scale_v = resolution / (high_u - low_u), resolution / (high_v - low_v)
        start, entries = kernels.fill_columns(records, low_u, low_v, scale_u, scale_v, resolution, limit)
        columns = (start, entries, low_u, low_v, scale_u, scale_v, resolution)
        resolution //= 2
    return axis, records, columns


def _ray_axis(low, high):
    """The axis along which a box is thinnest: its rays meet the fewest triangles."""
    return int(np.argmin(high - low))


def _boundary_edges(mesh, axis):
    """(7, B) edges that the mesh uses unequally often in its two directions, as winding_block takes them.

    An edge stands as often in it as its uses differ.
    """
    if mesh.closed:
        return np.empty((7, 0))
    table = EdgeTable(mesh.faces)
    used = np.flatnonzero(table.balance)
    one = np.unique(table.edge.ravel(), return_index=True)[1][used]  # a corner of a face for each edge
    ends = np.sort(np.stack([mesh.faces.ravel()[one], np.roll(mesh.faces, -1, axis=1).ravel()[one]], axis=1), axis=1)
    balance = table.balance[used].astype(np.float64)
    corners = mesh.vertices[ends][:, :, [axis - 1, axis - 2, axis]]
    falling = corners[:, 0, 0] > corners[:, 1, 0]
    corners[falling] = corners[falling][:, ::-1]
    balance[falling] *= -1
    edges = np.column_stack([corners.reshape(-1, 6), np.sign(balance)])
    return np.ascontiguousarray(np.repeat(edges, np.abs(balance).astype(np.int64), axis=0).T)
