"""Search and winding number on a GPU, beside those of the CPU, for calls of many points.

Comes in: a `TriangleSearch` or a `WindingNumber`, whose arrays are copied to the GPU once, and (N, 3) points. Goes out:
what they return, within rounding. Importing this needs numba-cuda; `gpu_choice.py` does so only if a GPU was chosen.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

from neuralparts.distance import device_kernels
from neuralparts.distance.gpu_choice import cpu_takes_over
from neuralparts.distance.search import NO_LIMIT, TriangleSearch
from neuralparts.distance.winding import INSIDE_ABOVE, WindingNumber
from neuralparts.errors import UserError
from neuralparts.wording import say

# numba-cuda warns of calls of few points. Those of `checked_twin` are, on purpose.
warnings.filterwarnings("ignore", ".*will likely result in GPU under-utilization")

# Points on the GPU at a time: up to 44 bytes each, in two batches, and more than its threads, 270,000 on the largest.
BATCH = 2**20
# Calls of fewer points are left to the CPU: they would not fill the GPU.
LEAST_POINTS = 2**14
# Threads of a block, and threads that fill a GPU: a search of more points has each thread take several, up to MOST_RUN.
THREADS, FULL, MOST_RUN = 128, 2**17, 8
# Boundary edges up to which a GPU computes winding numbers of an open mesh: it takes their exact sum for each point.
MOST_EDGES = 4096
# Points near the vertices, and as many in the cube, that are labelled by both before the GPU is used; the largest
# difference of a distance, domain units.
CHECKED, LARGEST_DIFFERENCE = 500, 1e-6


class DeviceSearch:
    """Closest points on triangles, as `TriangleSearch`; large calls on a GPU, if it `suits` the mesh.

    search: the one of the CPU. device: number of the GPU. note: gets a line if the GPU fails and the CPU takes over.
    batch: points there at a time. For the kernel it holds arrays, those of the search on the GPU.
    """

    def __init__(self, search: TriangleSearch, device: int, note: Callable[[str], None] = say, batch: int = BATCH):
        self.on_cpu, self._device, self._note, self._batch = search, device, note, batch
        self._is_usable = True
        with cuda.gpus[device]:
            self.arrays = [cuda.to_device(np.ascontiguousarray(array)) for array in (*search.tree, search.frames)]

    def nearest(
        self, points: np.ndarray, with_points: bool = True, limit: np.ndarray = NO_LIMIT
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `TriangleSearch.nearest`; the GPU finds the nearest triangles beyond the limits too."""
        if len(points) >= LEAST_POINTS and self._is_usable:
            try:
                return self.nearest_on_gpu(points, with_points)
            except Exception as error:  # the driver and numba-cuda have many
                self._is_usable = False
                self._note(cpu_takes_over("distances", error))
        return self.on_cpu.nearest(points, with_points, limit=limit)

    def nearest_on_gpu(self, points: np.ndarray, with_points: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `nearest`, however few the points."""
        closest = np.empty((len(points) if with_points else 0, 3), dtype=np.float32)
        face, distance = np.empty(len(points), dtype=np.int64), np.empty(len(points), dtype=np.float32)

        def launch(block: slice, there: Any) -> Callable[[], None]:
            count = len(there)
            position, foot = cuda.device_array(count, np.int32), cuda.device_array(closest[block].shape, np.float32)
            away = cuda.device_array(count, np.float32)
            run = min(-(-count // FULL), MOST_RUN)
            grid = -(-count // (THREADS * run)), THREADS
            device_kernels.search_points[grid](there, run, *self.arrays, position, foot, away)

            def fetch() -> None:
                face[block] = self.on_cpu.face[position.copy_to_host()]
                away.copy_to_host(distance[block])
                if with_points:
                    foot.copy_to_host(closest[block])

            return fetch

        in_batches(launch, points, self._device, self._batch)
        return closest, face, distance


class DeviceWinding:
    """The winding number of a mesh, as `WindingNumber`; large calls of `inside` on a GPU, if `suits` the mesh.

    winding: the one of the CPU. device: number of the GPU. note: gets a line if the GPU fails and the CPU takes over.
    batch: points there at a time. For the kernel it holds arrays, those of the rays and of the boundary on the GPU.
    """

    def __init__(self, winding: WindingNumber, device: int, note: Callable[[str], None] = say, batch: int = BATCH):
        self.on_cpu, self._device, self._note, self._batch = winding, device, note, batch
        self._is_usable = True
        grid = winding.grid
        place = np.array([grid.low_u, grid.low_v, grid.scale_u, grid.scale_v])
        arrays = winding.shift, grid.records, grid.start, grid.entries, place, winding.edges
        with cuda.gpus[device]:
            shift, *others, edges = (cuda.to_device(np.ascontiguousarray(array)) for array in arrays)
        self.arrays = grid.axis, shift, *others, grid.resolution, edges

    @property
    def crowd(self) -> float:
        """As `WindingNumber.crowd`."""
        return self.on_cpu.crowd

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """As `WindingNumber`, on the CPU."""
        return self.on_cpu(points)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """As `WindingNumber.inside`."""
        if len(points) >= LEAST_POINTS and self._is_usable:
            try:
                return self.winding_on_gpu(points) > INSIDE_ABOVE
            except Exception as error:
                self._is_usable = False
                self._note(cpu_takes_over("signs", error))
        return self.on_cpu.inside(points)

    def winding_on_gpu(self, points: np.ndarray) -> np.ndarray:
        """(N,) float64 winding numbers of (N, 3) points, exact, however few the points."""
        winding = np.empty(len(points))

        def launch(block: slice, there: Any) -> Callable[[], None]:
            found = cuda.device_array(len(there), np.float64)
            grid = -(-len(found) // THREADS), THREADS
            device_kernels.winding_of_points[grid](there, *self.arrays, found)

            def fetch() -> None:
                found.copy_to_host(winding[block])

            return fetch

        in_batches(launch, points, self._device, self._batch)
        return winding


def checked_twin(
    labeller: TriangleSearch | WindingNumber, device: int, vertices: np.ndarray, note: Callable[[str], None] = say
) -> DeviceSearch | DeviceWinding:
    """The twin on a GPU of a search or winding number, after both have labelled points about the vertices (V, 3).

    note: gets a line if the GPU fails later. Raises UserError if the GPU cannot take the mesh or labels otherwise, and
    whatever numba-cuda raises.
    """
    generator = np.random.default_rng(0)
    near = vertices[generator.integers(len(vertices), size=CHECKED)] + 0.02 * generator.standard_normal((CHECKED, 3))
    points = np.concatenate([near, generator.uniform(-1, 1, (CHECKED, 3))])
    if not suits(labeller):
        raise UserError("the mesh has a long boundary, many bodies within each other, or large triangles everywhere")
    if isinstance(labeller, TriangleSearch):
        twin = DeviceSearch(labeller, device, note)
        difference = np.abs(twin.nearest_on_gpu(points, False)[2] - labeller.nearest(points, False)[2]).max()
        if not difference <= LARGEST_DIFFERENCE:
            raise UserError(f"a distance differs by {difference:.2g}")
        return twin
    twin = DeviceWinding(labeller, device, note)
    wrong = np.count_nonzero((twin.winding_on_gpu(points) > INSIDE_ABOVE) != labeller.inside(points))
    if wrong:
        raise UserError(f"{wrong} of {len(points)} signs differ")
    return twin


def suits(labeller: TriangleSearch | WindingNumber) -> bool:
    """True if a GPU can take this mesh: points and rays meet few triangles, and the boundary is short.

    In a crowded mesh one kernel would run for long: the GPU lacks the CPU's loops for such meshes, and nothing
    interrupts a kernel but a driver that then ends all work of the process on that GPU.
    """
    if isinstance(labeller, TriangleSearch):
        return not labeller.is_crowded
    return labeller.grid.slopes is None and labeller.edges.shape[1] <= MOST_EDGES


def in_batches(launch: Callable[..., Callable[[], None]], points: np.ndarray, device: int, batch: int) -> None:
    """Have launch(block, points) start the kernels for each batch on a GPU. It gets the slice of the points, and on the
    device the points (B, 3) float64; it returns a function that fetches the results.

    The points keep their order: sorting them on the CPU took far longer than the kernels for unsorted ones. While a
    batch is computed, the next is made ready.
    """
    fetch = None
    with cuda.gpus[device]:
        for start in range(0, len(points), batch):
            block = slice(start, min(start + batch, len(points)))
            part = np.ascontiguousarray(points[block], dtype=np.float64)
            if fetch is not None:
                fetch()
            fetch = launch(block, cuda.to_device(part))
        if fetch is not None:
            fetch()
