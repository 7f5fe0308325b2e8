"""Labels on a GPU by numba-cuda, compared with the CPU's on the same machine: `make bench-gpu_labels`.

Each line is printed as soon as it is known; a part that fails says so, and the others go on. Near points: those of
importance sampling; far points: uniform in the cube. The first calls include compiling, unless its result was kept.
"""

import argparse
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
from neuralparts.machine import thread_count
from neuralparts.mesh import load_mesh
from neuralparts.sampling import importance_samples

SIMULATED = bool(os.environ.get("NUMBA_ENABLE_CUDASIM"))
begun = time.perf_counter()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_points", type=int, default=400 if SIMULATED else 2_000_000, help="(%(default)s)")
    parser.add_argument("--gpu", type=int, default=0, help="number of the GPU (%(default)s)")
    flags = parser.parse_args()
    if SIMULATED:
        # Few points are enough there.
        from neuralparts.distance import device_labels

        device_labels.LEAST_POINTS = 0
    attempt("device", tell_device, flags.gpu)
    mesh = load_mesh(ROOT / "data/impeller/impeller.stl", 0)
    attempt("impeller", compare, "impeller, closed", mesh, flags)
    attempt("sampling", compare_sampling, mesh, flags)
    attempt("open", compare, "impeller, open", opened(mesh), flags)
    attempt("kernels", time_kernels, mesh, flags)
    return 0


def tell(what: str, text: str) -> None:
    """Print a line at once, with the seconds since the start."""
    print(f"{time.perf_counter() - begun:6.1f} s  {what}: {text}", flush=True)


def attempt(name, work, *arguments):
    """Call work; print its failure."""
    try:
        work(*arguments)
    except Exception as error:
        tell(name, f"failed: {type(error).__name__}: {error}")
        traceback.print_exc()


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def tell_device(gpu):
    seconds, cuda = timed(numba_cuda)
    names = ", ".join(f"{name} {version(name)}" for name in ("numba", "numba-cuda", "numpy"))
    tell("device", f"{'simulator' if SIMULATED else cuda.gpus[gpu].name}, {names}, {thread_count()} threads")
    with cuda.gpus[gpu]:
        context, _ = timed(cuda.current_context)
    tell("device", f"numba.cuda imported in {seconds:.2f} s, context in {context:.2f} s")


def numba_cuda():
    from numba import cuda

    return cuda


def opened(mesh):
    """The mesh without the triangles of a slab of it."""
    middle = mesh.vertices[mesh.faces].mean(axis=1)[:, 0]
    return replace(mesh, faces=mesh.faces[np.abs(middle) > 0.02], closed=False)


def oracles(mesh, gpu):
    """The oracle of the CPU, ready, and that of the GPU."""
    there, here = DistanceOracle(mesh, device=f"cuda:{gpu}"), DistanceOracle(mesh)
    here.signed_distance(np.zeros((1, 3)))
    return here, there


def compare(name, mesh, flags):
    """Compare distances and signs of both, and their times."""
    here, there = oracles(mesh, flags.gpu)
    tell(name, f"{len(mesh.faces):,} triangles, {here._winding.edges.shape[1]:,} boundary edges")
    for what, prepare in (("search", lambda: there._search), ("winding", lambda: there._winding)):
        seconds, made = timed(prepare)
        tell(name, f"{what} ready after {seconds:.2f} s, self-check included: {type(made).__name__}")
    generator = np.random.default_rng(0)
    near = importance_samples(here, flags.num_points, generator, uniform_ratio=0.0)[0]
    far = generator.uniform(-1, 1, (flags.num_points, 3)).astype(np.float32)
    for kind, points in (("near", near), ("far", far)):
        some = points[: len(points) // 8]
        cpu, expected = timed(lambda some=some: here.distance(some))
        cpu_sign, inside = timed(lambda some=some: here.inside(some))
        for _ in range(2):
            gpu, found = timed(lambda points=points: there.distance(points))
            gpu_sign, found_inside = timed(lambda points=points: there.inside(points))
        tell(
            f"{name}, {kind}",
            f"distance {rate(points, gpu)} on the GPU, {rate(some, cpu)} on the CPU; "
            f"sign {rate(points, gpu_sign)}, {rate(some, cpu_sign)}; largest difference "
            f"{np.abs(found[: len(some)] - expected).max():.2g}, signs that differ "
            f"{np.count_nonzero(found_inside[: len(some)] != inside)} of {len(some):,}",
        )


def rate(points, seconds):
    return f"{len(points) / seconds / 1e6:.2f} M/s"


def time_kernels(mesh, flags):
    """Time the kernels alone, with the points there: in several sizes of a block, with and without a first answer."""
    from neuralparts.distance import device_kernels
    from neuralparts.distance.common_kernels import near_order

    cuda = numba_cuda()
    here, there = oracles(mesh, flags.gpu)
    points = importance_samples(here, flags.num_points // 2, np.random.default_rng(1), uniform_ratio=0.0)[0]
    points = points.astype(np.float64)
    sorting, order = timed(lambda: near_order(points))
    tell("kernels", f"sorting on one core: {rate(points, sorting)}")
    with cuda.gpus[flags.gpu]:
        copying, there_points = timed(lambda: cuda.to_device(points))
        tell("kernels", f"copy to the GPU: {points.nbytes / copying / 1e9:.1f} GB/s")
        count = len(points)
        position, away = cuda.device_array(count, np.int32), cuda.device_array(count, np.float32)
        foot, winding = cuda.device_array((0, 3), np.float32), cuda.device_array(count, np.float64)
        sorted_points, plain = cuda.to_device(points[order]), cuda.to_device(np.arange(count))
        cases = {
            "sorted by index": (there_points, cuda.to_device(order)),
            "sorted": (sorted_points, plain),
            "unsorted": (there_points, plain),
        }
        for case, pair in cases.items():
            for threads in (64, 128, 256):
                for leaps in ((1,), (32, -32), (256, -256)):

                    def search(pair=pair, threads=threads, leaps=leaps):
                        for leap in leaps:
                            grid = -(-count // (threads * max(leap, 1))), threads
                            arrays = there._search._arrays
                            device_kernels.search_points[grid](*pair, leap, *arrays, position, foot, away)
                        cuda.synchronize()

                    seconds = min(timed(search)[0] for _ in range(2))
                    tell("kernels", f"search, {case}, {threads} threads, leap {leaps[0]}: {rate(points, seconds)}")
            arguments = there._winding._arguments

            def cross(pair=pair, arguments=arguments):
                device_kernels.winding_of_points[-(-count // 128), 128](*pair, *arguments, winding)
                cuda.synchronize()

            seconds = min(timed(cross)[0] for _ in range(2))
            tell("kernels", f"crossings, {case}: {rate(points, seconds)}")
        for kernel in (device_kernels.search_points, device_kernels.winding_of_points):
            if not SIMULATED:
                registers, local = kernel.get_regs_per_thread(), kernel.get_local_mem_per_thread()
                tell("kernels", f"{kernel.py_func.__name__}: registers {registers}, bytes of local memory {local}")


def compare_sampling(mesh, flags):
    """Time importance samples drawn by both oracles."""
    here, there = oracles(mesh, flags.gpu)
    there.signed_distance(np.zeros((1, 3)))
    for what, oracle in (("GPU", there), ("CPU", here)):
        seconds, _ = timed(lambda o=oracle: importance_samples(o, flags.num_points, np.random.default_rng(2)))
        tell("sampling", f"{flags.num_points:,} importance samples by the {what}: {seconds:.2f} s")


if __name__ == "__main__":
    sys.exit(main())
