"""Importance labels against the original way and against bare Open3D, ratios in one run: `make bench-labels`.

The original: 10 N uniform points, all labelled by libigl's signed distance with the fast winding number, N of them
drawn with replacement; measured on a share of N and scaled. Bare Open3D: one call of compute_closest_points for exactly
the points that our sampler asked about, once in the sampler's order, once shuffled. Other meshes and counts:
`make bench-labels ARGS="MESH --num_points N"`.
"""

import argparse
import os
import platform
import resource
import sys
import time
from pathlib import Path

import numpy as np

# The modules of the project come before the benchmarks of the same names beside this file.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from distance import DistanceOracle, thread_count
from geometry import load_mesh
from sampling import DEFAULT_IMPORTANCE_WEIGHT, importance_samples

DEFAULT_MESH = Path(__file__).resolve().parents[2] / "shared/data/parts/featuretype.STL"


class Recording:
    """An oracle that keeps the points whose distance was asked for, and counts those whose sign was."""

    def __init__(self, oracle):
        self.oracle, self.mesh, self.asked, self.signs = oracle, oracle.mesh, [], 0

    def distance(self, points):
        self.asked.append(points)
        return self.oracle.distance(points)

    def inside(self, points):
        self.signs += len(points)
        return self.oracle.inside(points)


def main():
    flags = command_line().parse_args()
    if not flags.mesh.exists():
        print(f"{flags.mesh}: no such file; name another mesh")
        return 1
    print(machine())
    mesh, count = load_mesh(flags.mesh, 0), flags.num_points
    oracle = DistanceOracle(mesh, flags.distanceEngine)
    oracle.signed_distance(np.zeros((1, 3)))  # builds the trees; the first use on a machine compiles the kernels
    print(f"{flags.mesh.name}: {len(mesh.faces):,} triangles; {count:,} importance labels by {oracle.engine}")
    memory = peak_memory()
    seconds, points = timed(lambda: labels(oracle, count)[0])
    print(f"ours: {seconds:.2f} s, peak memory up by {(peak_memory() - memory) / count:.0f} bytes a label")
    print(f"duplicates: {count_duplicates(points):,}")
    asked = report_acceptance(oracle, count)
    bare = {name: bare_open3d(mesh, points) for name, points in asked.items()}
    seconds = min(seconds, timed(lambda: labels(oracle, count))[0])
    for name, bare_seconds in bare.items():
        print(
            f"bare Open3D, the same points {name}: {bare_seconds:.2f} s; ours takes {seconds / bare_seconds:.2f} of it"
        )
    original, duplicates = the_original(mesh, max(1, int(count * flags.share)))
    original /= flags.share
    print(f"the original: {original:.1f} s (scaled from {flags.share:g}), {duplicates:.1%} duplicates")
    print(f"ours is {original / seconds:.1f} times faster than the original")
    return 0


def command_line():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", nargs="?", type=Path, default=DEFAULT_MESH, help="mesh file (featuretype.STL)")
    parser.add_argument("--num_points", type=int, default=5_000_000, help="labels (%(default)s)")
    parser.add_argument("--share", type=float, default=0.1, help="of the original way that is measured (%(default)s)")
    parser.add_argument("--distanceEngine", default="auto", help="auto, open3d, libigl or numba (%(default)s)")
    return parser


def machine():
    processor = platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {thread_count()} threads, {platform.platform()}"


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def peak_memory():
    """Bytes, as the operating system counted them so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def labels(oracle, count):
    """The labels without the uniform share, which would only make the acceptance look better."""
    return importance_samples(oracle, count, np.random.default_rng(0), uniform_ratio=0.0)


def count_duplicates(points):
    rows = np.ascontiguousarray(points).view([("", points.dtype)] * 3).ravel()
    return len(rows) - len(np.unique(rows))


def report_acceptance(oracle, count):
    """Draw the labels again and print what was asked; the asked points in two orders."""
    recording = Recording(oracle)
    labels(recording, count)
    asked = np.concatenate(recording.asked)
    print(f"acceptance: {count / len(asked):.1%} of {len(asked):,} distances, the octree's own among them")
    print(f"signs asked: {recording.signs / count:.2f} a label")
    return {"in our order": asked, "shuffled": np.random.default_rng(1).permutation(asked)}


def bare_open3d(mesh, points):
    """Seconds of Open3D's own closest points, the better of two runs."""
    import open3d

    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    scene.compute_closest_points(points[:1000])
    return min(timed(lambda: scene.compute_closest_points(points))[0] for _ in range(2))


def the_original(mesh, count):
    """Seconds for count labels in the original way, and the share of them that are duplicates."""
    import igl

    def draw():
        points = generator.uniform(-1, 1, (10 * count, 3))
        kind = igl.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER
        distance = igl.signed_distance(points, mesh.vertices, mesh.faces, sign_type=kind)[0]
        weight = np.exp(-DEFAULT_IMPORTANCE_WEIGHT * np.abs(distance))
        chosen = generator.choice(len(points), count, p=weight / weight.sum())
        return points[chosen], distance[chosen]

    generator = np.random.default_rng(0)
    seconds, (points, _) = timed(draw)
    return seconds, count_duplicates(points) / count


if __name__ == "__main__":
    sys.exit(main())
