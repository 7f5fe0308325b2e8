"""Labels on a GPU by numba-cuda, compared with the CPU's on the same machine: `make bench-gpu_labels`.

Each line is printed as soon as it is known; a part that fails says so, and the others go on. Near points: those of
importance sampling; far points: uniform in the cube. The first calls include compiling, unless its result was kept.
"""

import argparse
import itertools
import os
import sys
import time
import traceback
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

# The package lies in the root, one folder up.
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from neuralparts.distance import DistanceOracle
from neuralparts.distance.common_kernels import near_order
from neuralparts.distance.search import TriangleSearch
from neuralparts.distance.winding import WindingNumber
from neuralparts.machine import thread_count
from neuralparts.mesh import load_mesh
from neuralparts.sampling import importance_samples

# With NUMBA_ENABLE_CUDASIM=1 the loops run in Python, a few hundred points a second: a check of this script.
SIMULATED = bool(os.environ.get("NUMBA_ENABLE_CUDASIM"))
begun = time.perf_counter()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_points", type=int, default=60 if SIMULATED else 2**21, help="(%(default)s)")
    parser.add_argument("--gpu", type=int, default=0, help="number of the GPU (%(default)s)")
    flags = parser.parse_args()
    attempt("device", tell_device, flags.gpu)
    mesh = load_mesh(ROOT / "data/impeller/impeller.stl", 0)
    generator = np.random.default_rng(0)
    seconds, (near, _) = timed(lambda: importance_samples(DistanceOracle(mesh), flags.num_points, generator, 60.0, 0.0))
    tell("CPU", f"ready and {flags.num_points:,} importance samples in {seconds:.1f} s, compiling included")
    points = {"near": near, "far": generator.uniform(-1, 1, near.shape).astype(np.float32)}
    search = TriangleSearch(mesh.vertices, mesh.faces)
    search = attempt("distance", compare, "distance", search, mesh, points, flags.gpu)
    winding = attempt("sign", compare, "sign", WindingNumber(mesh), mesh, points, flags.gpu)
    attempt("sampling", compare_sampling, mesh, flags)
    open_mesh = opened(mesh)
    exact = WindingNumber(open_mesh, exact_inside=len(mesh.faces))  # without caps, which would have to be compiled
    what = f"sign, {exact.edges.shape[1]:,} boundary edges"
    attempt(what, compare, what, exact, open_mesh, points, flags.gpu)
    attempt("kernels", time_kernels, search, winding, near, flags.gpu)
    return 0


def tell(what: str, text: str) -> None:
    """Print a line at once, with the seconds since the start."""
    print(f"{time.perf_counter() - begun:6.1f} s  {what}: {text}", flush=True)


def attempt(name, work, *arguments):
    """The result of work, or None after its failure was printed."""
    try:
        return work(*arguments)
    except Exception as error:
        tell(name, f"failed: {type(error).__name__}: {error}")
        traceback.print_exc()


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def rate(points, seconds):
    return f"{len(points) / seconds / 1e6:.2f} M/s"


def opened(mesh):
    """The mesh without the triangles of a slab of it."""
    middle = mesh.vertices[mesh.faces].mean(axis=1)[:, 0]
    return replace(mesh, faces=mesh.faces[np.abs(middle) > 0.02], closed=False)


def tell_device(gpu):
    """Print the GPU, the versions, and the seconds until numba-cuda is ready."""
    seconds, cuda = timed(numba_cuda)
    names = ", ".join(f"{name} {version(name)}" for name in ("numba", "numba-cuda", "numpy"))
    tell("device", f"{'simulator' if SIMULATED else cuda.gpus[gpu].name}, {names}, {thread_count()} threads")
    with cuda.gpus[gpu]:
        context, _ = timed(cuda.current_context)
    tell("device", f"numba.cuda imported in {seconds:.2f} s, context in {context:.2f} s")


def numba_cuda():
    from numba import cuda

    return cuda


def compare(what, labeller, mesh, points, gpu):
    """Compare a search or winding number with its twin on the GPU, and their times; returns the twin."""
    from neuralparts.distance import device_labels

    seconds, twin = timed(lambda: device_labels.checked_twin(labeller, gpu, mesh.vertices))
    tell(what, f"ready after {seconds:.2f} s, its check included")
    if isinstance(labeller, TriangleSearch):
        on_cpu, on_gpu = (lambda p: labeller.nearest(p, False)[2]), (lambda p: twin.nearest_on_gpu(p, False)[2])
    else:
        on_cpu, on_gpu = labeller.inside, (lambda p: twin.winding_on_gpu(p) > device_labels.INSIDE_ABOVE)
    for kind, some in points.items():
        few = some[: len(some) // 8]
        cpu_seconds, expected = min((timed(lambda few=few: on_cpu(few)) for _ in range(2)), key=lambda one: one[0])
        gpu_seconds, found = min((timed(lambda some=some: on_gpu(some)) for _ in range(2)), key=lambda one: one[0])
        wrong = found[: len(few)] != expected
        differ = f"{np.count_nonzero(wrong)} of {len(few):,} differ"
        if found.dtype != bool:
            differ += f", by {np.abs(found[: len(few)] - expected).max():.2g} at most"
        tell(f"{what}, {kind}", f"{rate(some, gpu_seconds)} on the GPU, {rate(few, cpu_seconds)} on the CPU; {differ}")
    return twin


def compare_sampling(mesh, flags):
    """Time importance samples drawn with the GPU, and without."""
    for what, gpu in (("GPU", flags.gpu), ("CPU", -1)):
        oracle = DistanceOracle(mesh, gpu=gpu)
        oracle.signed_distance(np.zeros((1, 3)))
        seconds = min(
            timed(lambda o=oracle: importance_samples(o, flags.num_points, np.random.default_rng(2)))[0]
            for _ in range(2)
        )
        tell("sampling", f"{flags.num_points:,} importance samples by the {what}: {seconds:.2f} s")


def time_kernels(search, winding, points, gpu):
    """Time the kernels alone, with the points there: in several sizes of a block, and points a thread."""
    from neuralparts.distance import device_kernels

    cuda, count, points = numba_cuda(), len(points), points.astype(np.float64)
    with cuda.gpus[gpu]:
        seconds, unsorted = timed(lambda: cuda.to_device(points))
        tell("kernels", f"copy to the GPU: {points.nbytes / seconds / 1e9:.1f} GB/s")
        position, away = cuda.device_array(count, np.int32), cuda.device_array(count, np.float32)
        foot, found = cuda.device_array((0, 3), np.float32), cuda.device_array(count, np.float64)
        cases = {"sorted": cuda.to_device(points[near_order(points)]), "unsorted": unsorted}

        def launch(kernel, threads, run, *arguments):
            kernel[-(-count // (threads * run)), threads](*arguments)
            cuda.synchronize()

        for case, there in cases.items():
            for threads, run in itertools.product((64, 128, 256), (1, 4, 8, 16)):
                arguments = there, run, *search.arrays, position, foot, away
                work = (device_kernels.search_points, threads, run, *arguments)
                seconds = min(timed(lambda work=work: launch(*work))[0] for _ in range(2))
                tell("kernels", f"search, {case}, {threads} threads, {run} points a thread: {rate(points, seconds)}")
            work = (device_kernels.winding_of_points, 128, 1, there, *winding.arrays, found)
            seconds = min(timed(lambda work=work: launch(*work))[0] for _ in range(2))
            tell("kernels", f"crossings, {case}: {rate(points, seconds)}")
        for kernel in (device_kernels.search_points, device_kernels.winding_of_points):
            if not SIMULATED:
                registers, local = kernel.get_regs_per_thread(), kernel.get_local_mem_per_thread()
                tell("kernels", f"{kernel.py_func.__name__}: registers {registers}, bytes of local memory {local}")


if __name__ == "__main__":
    sys.exit(main())
