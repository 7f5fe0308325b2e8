"""The signed-distance oracle: exact distance and trustworthy sign for any triangle mesh.

Owns: the queries that other stages make about a mesh: the distance of a point, the closest point of the mesh, the
winding number, and whether the point is inside.
Comes in: a `Mesh`, whose vertices lie in the domain, and (N, 3) points of the domain. Goes out: arrays in domain units;
signed distances are negative inside.

Distance and sign are computed apart (`search.py`, `winding.py`). The winding number gives the sign and never scales the
distance.

Importing this module imports Numba (half a second); the first use on a machine compiles the kernels (ten seconds).
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralparts.choices import DISTANCE_ENGINES
from neuralparts.distance.blocks import BLOCK
from neuralparts.distance.gpu_choice import on_gpu
from neuralparts.distance.open3d_search import Open3dSearch, open3d_problem
from neuralparts.distance.search import NO_LIMIT, TriangleSearch
from neuralparts.distance.winding import WindingNumber
from neuralparts.errors import UserError
from neuralparts.mesh import Mesh
from neuralparts.wording import say

if TYPE_CHECKING:
    from neuralparts.distance.device_labels import DeviceSearch, DeviceWinding


class DistanceOracle:
    """Distance, closest point, winding number and sign for points around a mesh.

    mesh: the Mesh. engine: finds the closest points, one of DISTANCE_ENGINES; "auto" is the fastest, numba. block:
    points that a thread takes at a time. gpu: number of the GPU that computes large calls, if numba-cuda is installed;
    -1 for none. note: gets a line if the CPU takes over from it. The attribute `engine` is the one in use. Raises
    ValueError for an unknown engine, and UserError if open3d is chosen and cannot be imported.

    Every method takes (N, 3) float32 or float64 points of the domain and raises ValueError for anything else. The
    trees are built when they are first needed. Threads may use one oracle at once.
    """

    def __init__(
        self,
        mesh: Mesh,
        engine: str = "auto",
        block: int = BLOCK,
        gpu: int = -1,
        note: Callable[[str], None] = say,
    ):
        self.mesh, self._gpu, self._note = mesh, gpu, note
        self.engine = _engine_in_use(engine)
        self._block = block
        self._built: dict[str, Any] = {}
        # A thread that needs a tree while another builds it waits: `functools.cached_property` would build two.
        self._building = threading.Lock()

    @property
    def _search(self) -> "TriangleSearch | Open3dSearch | DeviceSearch":
        return self._once("search", self._build_search)

    @property
    def _winding(self) -> "WindingNumber | DeviceWinding":
        return self._once("winding", self._build_winding)

    def _once(self, name: str, build: Callable[[], Any]) -> Any:
        """build(), or the result of the first call with this name."""
        if name not in self._built:
            with self._building:
                if name not in self._built:
                    self._built[name] = build()
        return self._built[name]

    def _build_search(self) -> "TriangleSearch | Open3dSearch | DeviceSearch":
        vertices, faces = self.mesh.vertices, self.mesh.faces
        if self.engine == "open3d":
            return Open3dSearch(vertices[faces], block=self._block)
        return on_gpu(TriangleSearch(vertices, faces, block=self._block), self._gpu, vertices, self._note)

    def _build_winding(self) -> "WindingNumber | DeviceWinding":
        return on_gpu(WindingNumber(self.mesh, block=self._block), self._gpu, self.mesh.vertices, self._note)

    @property
    def crowd(self) -> float:
        """Triangles that a query of `inside` looks at, about, if the mesh is crowded with large triangles; else 0."""
        return self._winding.crowd

    def distance(self, points: np.ndarray, limit: np.ndarray = NO_LIMIT) -> np.ndarray:
        """(N, 3) points -> (N,) float32 unsigned distance to the mesh, domain units, within 1e-6 of the exact one.

        It is 0 or more inside too; `signed_distance` is the one with a sign. limit: (N,) float32, or none. A point
        whose distance is not below its limit gets any number that is not below it either, which takes less time.
        """
        return self._search.nearest(_checked(points), with_points=False, limit=limit)[2]

    def closest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(N, 3) points -> closest points of the mesh (N, 3) float32, their faces (N,) int64, and the unsigned
        distance (N,) float32, domain units."""
        return self._search.nearest(_checked(points), with_points=True)

    def winding_number(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points -> (N,) float32 generalised winding number: for a closed mesh an integer off the surface."""
        return self._winding(_checked(points)).astype(np.float32)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points -> (N,) bool: the winding number is above INSIDE_ABOVE, 0.5."""
        return self._winding.inside(_checked(points))

    def signed_distance(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points -> (N,) float32 signed distance, domain units: negative inside, positive outside."""
        points = _checked(points)
        distance = self.distance(points)
        return np.where(self.inside(points), -distance, distance)


def _engine_in_use(engine: str) -> str:
    """The engine that a name of DISTANCE_ENGINES stands for. Raises as DistanceOracle does."""
    if engine not in DISTANCE_ENGINES:
        raise ValueError(f"unknown distance engine {engine!r}; choose one of {', '.join(DISTANCE_ENGINES)}")
    if engine == "open3d" and (problem := open3d_problem()):
        raise UserError(f"open3d cannot be used: {problem}; leave --distanceEngine out to do without it")
    return "numba" if engine == "auto" else engine


def _checked(points: np.ndarray) -> np.ndarray:
    """The points as an array; raises ValueError unless they are finite (N, 3) float32 or float64."""
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype not in (np.float32, np.float64):
        raise ValueError(f"points must be (N, 3) float32 or float64, got {points.shape} {points.dtype}")
    if not np.isfinite(points).all():
        raise ValueError("points hold NaN or infinite coordinates")
    return points
