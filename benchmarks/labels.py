"""Importance labels compared with the original way and with Open3D alone, ratios in one run: `make bench-labels`.

The original: 10 N uniform points, all labelled by libigl's signed distance with the fast winding number, N of them
drawn with replacement; measured on a fraction of N and scaled.
Open3D alone: one call of compute_closest_points for exactly the points that our sampler queries, once in the sampler's
order, once shuffled. If Open3D cannot be imported, a line says so.
Memory: the peak resident memory of two processes that label N and a fifth of N points.
Other meshes and counts: `make bench-labels ARGS="MESH --num_points N"`; a torus of T triangles: `--triangles T`.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# The package lies in the root, one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from neuralparts.choices import DISTANCE_ENGINES, IMPORTANCE_WEIGHT
from neuralparts.distance import DistanceOracle
from neuralparts.machine import thread_count
from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import write_mesh
from neuralparts.sampling import importance_samples

DEFAULT_MESH = Path(__file__).resolve().parents[2] / "shared/data/parts/featuretype.STL"
MIB = 2**20


class Recording:
    """An oracle that keeps the points whose distance is queried, and counts those whose sign is."""

    def __init__(self, oracle):
        self.oracle, self.mesh, self.queried, self.signs = oracle, oracle.mesh, [], 0

    def distance(self, points, *limit):
        self.queried.append(points)
        return self.oracle.distance(points, *limit)

    def inside(self, points):
        self.signs += len(points)
        return self.oracle.inside(points)


def main():
    flags = command_line().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if flags.triangles:
            flags.mesh = Path(folder) / "torus.stl"
            write_mesh(flags.mesh, *torus(flags.triangles))
        if not flags.mesh.exists():
            print(f"{flags.mesh}: no such file; name another mesh")
            return 1
        if flags.peaks:
            print(*peaks(flags))
            return 0
        print(machine())
        report_memory(flags)
        report_times(flags)
    return 0


def command_line():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, default=DEFAULT_MESH, help="mesh file (featuretype.STL)")
    parser.add_argument("--triangles", type=int, default=0, help="triangles of a torus instead of the file; 0 is off")
    parser.add_argument("--num_points", type=int, default=5_000_000, help="number of labels (%(default)s)")
    parser.add_argument(
        "--fraction",
        type=float,
        default=0.1,
        help="fraction of the labels that the original way is measured on; 0 is off (%(default)s)",
    )
    parser.add_argument("--distanceEngine", default="auto", choices=DISTANCE_ENGINES, help="(%(default)s)")
    parser.add_argument(
        "--peaks", action="store_true", help="only print three peaks of memory, in bytes, and the number of labels"
    )
    return parser


def machine():
    processor = platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {thread_count()} threads, {platform.platform()}"


def torus(triangles):
    """A torus of about this number of triangles: vertices (V, 3), faces (F, 3)."""
    side = int(np.sqrt(triangles / 2))
    u, v = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    ring, angle = 0.55 + 0.2 * np.cos(2 * np.pi * v / side), 2 * np.pi * u / side
    vertices = np.stack([ring * np.cos(angle), ring * np.sin(angle), 0.2 * np.sin(2 * np.pi * v / side)], axis=-1)
    a, b, c, d = (((u + i) % side) * side + (v + j) % side for i, j in ((0, 0), (1, 0), (1, 1), (0, 1)))
    faces = np.concatenate([np.stack(face, axis=-1).reshape(-1, 3) for face in ((a, b, c), (a, c, d))])
    return vertices.reshape(-1, 3), faces


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


# ------------------------------------------------------------------------------------------------------------- memory


def peak_memory():
    """Peak resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peaks(flags):
    """Peak memory of this process in bytes with the mesh loaded, with its trees built, with its labels drawn; and the
    number of labels."""
    mesh = load_mesh(flags.mesh, 0)
    loaded, oracle = peak_memory(), ready_oracle(mesh, flags.distanceEngine)
    built, kept = peak_memory(), labels(oracle, flags.num_points)
    return loaded, built, peak_memory(), len(kept[1])


def report_memory(flags):
    """Print the bytes per label and the constant, from two processes."""
    few, many = flags.num_points // 5, flags.num_points
    (loaded, built, less, _), (*_, more, _) = (peaks_of_process(flags, count) for count in (few, many))
    slope = (more - less) / (many - few)
    print(f"memory: loaded {loaded / MIB:.0f} MiB, with trees {built / MIB:.0f} MiB, with labels {more / MIB:.0f} MiB")
    if more > built:
        print(f"labels: {slope:.0f} bytes each, and a constant of {(less - built - slope * few) / MIB:.0f} MiB")


def peaks_of_process(flags, count):
    """The result of `peaks` in a separate process."""
    command = [sys.executable, __file__, flags.mesh, "--num_points", str(count), "--peaks"]
    command += ["--distanceEngine", flags.distanceEngine]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [int(number) for number in printed.split()]


# -------------------------------------------------------------------------------------------------------------- times


def report_times(flags):
    """Load, label three times, and label in the other ways; print the seconds and the ratios."""
    count = flags.num_points
    loading, mesh = timed(lambda: load_mesh(flags.mesh, 0))
    building, oracle = timed(lambda: ready_oracle(mesh, flags.distanceEngine))
    print(f"{flags.mesh.name}: {len(mesh.faces):,} triangles, loaded in {loading:.2f} s, trees in {building:.2f} s")
    seconds, points = timed(lambda: labels(oracle, count)[0])
    print(f"duplicates: {count_duplicates(points):,} among {count:,} importance labels by {oracle.engine}")
    queried = report_acceptance(oracle, count)
    seconds = min(seconds, timed(lambda: labels(oracle, count))[0])
    print(f"ours: {seconds:.2f} s")
    report_open3d(mesh, queried, seconds)
    if flags.fraction:
        report_original(mesh, count, flags.fraction, seconds)


def ready_oracle(mesh, engine):
    """An oracle with its trees built; the first use on a machine compiles the kernels."""
    oracle = DistanceOracle(mesh, engine)
    oracle.signed_distance(np.zeros((1, 3)))
    return oracle


def labels(oracle, count):
    """Importance labels without uniform points, which would only make the acceptance look better."""
    return importance_samples(oracle, count, np.random.default_rng(0), uniform_ratio=0.0)


def count_duplicates(points):
    rows = np.ascontiguousarray(points).view([("", points.dtype)] * 3).ravel()
    return len(rows) - len(np.unique(rows))


def report_acceptance(oracle, count):
    """Draw the labels again and print the number of queries; returns the points whose distance was queried."""
    recording = Recording(oracle)
    labels(recording, count)
    queried = np.concatenate(recording.queried)
    print(f"acceptance: {count / len(queried):.1%} of {len(queried):,} distances, those for the octree included")
    print(f"signs queried: {recording.signs / count:.2f} a label")
    return queried


def report_open3d(mesh, queried, seconds):
    """Print the ratio to Open3D's own closest points for the queried ones, in two orders; the better of two runs."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        print(f"Open3D alone: not measured, {error}")
        return
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    scene.compute_closest_points(queried[:1000])
    for order in ("in our order", "shuffled"):
        points = queried if order == "in our order" else np.random.default_rng(1).permutation(queried)
        alone = min(timed(lambda points=points: scene.compute_closest_points(points))[0] for _ in range(2))
        print(f"Open3D alone, the same points {order}: {alone:.2f} s; ours takes {seconds / alone:.2f} times as long")


def report_original(mesh, count, fraction, seconds):
    """Print the ratio to the original way, measured on a fraction of the labels."""
    import igl

    def draw():
        points = generator.uniform(-1, 1, (10 * few, 3))
        kind = igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER
        distance = igl.signed_distance(points, mesh.vertices, mesh.faces, sign_type=kind)[0]
        weight = np.exp(-IMPORTANCE_WEIGHT * np.abs(distance))
        chosen = generator.choice(len(points), few, p=weight / weight.sum())
        return points[chosen], distance[chosen]

    generator, few = np.random.default_rng(0), max(1, int(count * fraction))
    original, (points, _) = timed(draw)
    twice = count_duplicates(points) / few
    print(f"the original: {original / fraction:.1f} s (scaled from {fraction:g}), {twice:.1%} duplicates")
    print(f"ours is {original / fraction / seconds:.1f} times faster than the original")


if __name__ == "__main__":
    sys.exit(main())
