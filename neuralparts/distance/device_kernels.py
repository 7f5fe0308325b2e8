"""The kernels of search and rays for a GPU, by numba-cuda: one thread a point.

Comes in: arrays on the device. Goes out: arrays on the device. The loops are those of `search_kernels` and
`ray_kernels`: `device_function` has numba-cuda compile the same Python functions. Importing this needs numba-cuda.
"""

import math
import pickle
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from types import FunctionType
from typing import Any

import numpy as np
from numba import cuda
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps

from neuralparts.compiled import MachineCode
from neuralparts.distance import common_kernels, ray_kernels, search_kernels
from neuralparts.errors import one_line
from neuralparts.wording import say

STACK, WARP = search_kernels.STACK, 32
# The simulator runs the loops in Python, one thread after the other, and lacks some of numba-cuda.
IN_SIMULATOR = not hasattr(cuda, "libdevice")


@cuda.jit(device=True)
def _rounded_product(a, b):
    """a times b, never merged into a sum."""
    return cuda.libdevice.dmul_rn(a, b)


# Functions that are made once, by their dispatcher on the CPU.
_made = {} if IN_SIMULATOR else {common_kernels.product: _rounded_product}


def device_function(compiled: Dispatcher) -> Callable:
    """The twin on the GPU of a function that Numba compiles for the CPU, and of all functions that it calls."""
    if compiled not in _made:
        function = compiled.py_func
        names = dict(function.__globals__)
        for name in function.__code__.co_names:
            if isinstance(names.get(name), Dispatcher):
                names[name] = device_function(names[name])
        _made[compiled] = cuda.jit(device=True)(FunctionType(function.__code__, names, function.__name__))
    return _made[compiled]


def kernel(function: Callable) -> Callable:
    """A decorator that compiles a kernel at its first launch, and keeps its machine code as `cached_njit` does."""
    made = cuda.jit(function)
    if not IN_SIMULATOR:
        made._cache = KernelCode(function)
    return made


class KernelCode(MachineCode):
    """The machine code of a kernel for the GPU. If this numba-cuda lacks the names used here, nothing is kept."""

    def load_overload(self, signature: tuple, target_context: Any) -> Any:
        with suppress(Exception):
            return super().load_overload(signature, target_context)

    def save_overload(self, signature: tuple, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except Exception as error:
            say(f"the GPU's loops cannot be kept ({one_line(error)}): every start compiles them anew")

    def _reduced(self, compiled: Any) -> bytes:
        return dumps((version("numba-cuda"), compiled._reduce_states()))

    def _rebuilt(self, target_context: Any, code: bytes) -> Any:
        made_by, states = pickle.loads(code)
        return cuda.dispatcher._Kernel._rebuild(**states) if made_by == version("numba-cuda") else None


_search_tree = device_function(search_kernels.search_tree)
_foot_and_distance = device_function(search_kernels.foot_and_distance)
_place_of_foot = device_function(search_kernels.place_of_foot)
_count_crossings = device_function(ray_kernels.count_crossings)
_strip_tangent = device_function(ray_kernels.strip_tangent)
_sum_of_two = device_function(ray_kernels.sum_of_two)


@kernel
def search_points(points, run, boxes, first, count, frames, nearest, closest, distance):
    """As `search_kernels.search_block`, for points (N, 3) in any order.

    A warp takes WARP * run points, WARP at a time; each thread starts the search for its next point from the answer for
    its last.
    """
    thread = cuda.grid(1)
    start = thread // WARP * WARP * run + thread % WARP
    stack, stack2 = cuda.local.array(STACK, np.int32), cuda.local.array(STACK, np.float64)
    position = 0
    for i in range(start, min(start + WARP * run, len(points)), WARP):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        position = _search_tree(px, py, pz, position, np.inf, boxes, first, count, frames, stack, stack2)
        nearest[i] = position
        foot_x, foot_y, distance[i] = _foot_and_distance(px, py, pz, frames[position])
        if len(closest) > 0:
            _place_of_foot(frames[position], foot_x, foot_y, closest[i])


@kernel
def winding_of_points(points, axis, shift, records, start, entries, place, resolution, edges, winding):
    """Winding numbers (N,) of the points, one thread a point: the crossings of `ray_kernels.crossings_block`, and the
    strips of `add_strips`.

    shift: (2,); place: (4,) low_u, low_v, scale_u, scale_v of the ray grid. The strips' angles are added edge by edge.
    """
    i = cuda.grid(1)
    if i < len(points):
        u, v, w = points[i, (axis + 1) % 3] + shift[0], points[i, (axis + 2) % 3] + shift[1], points[i, axis]
        bins = (start, entries, place[0], place[1], place[2], place[3], resolution)
        total = _count_crossings(u, v, w, records, bins)
        sine, cosine, revolutions = 0.0, 1.0, 0.0
        for e in range(edges.shape[1]):
            more_sine, more_cosine = _strip_tangent(u, v, w, edges, e)
            sine, cosine, passed = _sum_of_two(sine, cosine, more_sine, more_cosine)
            revolutions += passed
        winding[i] = total + math.atan2(sine, cosine) / (2 * math.pi) + revolutions
