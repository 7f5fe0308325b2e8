"""Points a second of distances and gradients: three networks against the exact queries of other libraries.

`make bench-query` asks for the same points on one thread in one run, for meshes of three sizes: half of the points are
uniform in the mesh's bounding box, widened by a tenth, half lie within a hundredth of the surface. The networks are not
fitted: their rates do not depend on the weights. Each figure is the median of three calls with as many points as take
--seconds, but at most --points.

Open3D: `RaycastingScene.compute_signed_distance`, and `compute_closest_points` for gradients. libigl: `signed_distance`
with the sign by pseudonormals or by the fast winding number; a call builds its trees, and returns the closest points
too. trimesh: `proximity.signed_distance`, which needs rtree. Where a library is missing, a line says so.
Other meshes: `make bench-query ARGS="MESH ..."`.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# The root of the project comes first: the package is imported from there.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from neuralparts.machine import settle_threads

# Before a library is imported: one thread for each, and one core for those that ask for more.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
settle_threads()
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np
import torch

from benchmarks.labels import machine
from neuralparts.choices import LAYER_WIDTH, NUM_LAYERS
from neuralparts.mesh import Mesh, load_mesh
from neuralparts.network import DAM_WIDTHS, HashGrid, NeuralSDF
from neuralparts.sampling import points_on_surface

DATA = ROOT.parent / "shared" / "data"
MESHES = (DATA / "parts/featuretype.STL", ROOT / "data/impeller/impeller.stl", DATA / "organic/nefertiti.obj")
# What the hash grid is meant to reach: times Open3D's rate, gradients' rate over that of distances, seconds of a point.
TIMES_OPEN3D, GRADIENT_FRACTION, ONE_POINT = 5, 1 / 3, 60e-6

Query = Callable[[np.ndarray], object]


class Contender(NamedTuple):
    """Something that answers points (N, 3) float32 in file units: with distances, and perhaps with gradients."""

    name: str
    distances: Query
    gradients: Query | None = None


def main() -> int:
    flags = command_line().parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; measured on one thread")
    tables = []
    for path in flags.meshes or MESHES:
        if path.exists():
            tables.append(bench(path, flags))
        else:
            print(f"{path}: no such file; left out")
    print_table(tables)
    return 0 if tables else 1


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("meshes", nargs="*", type=Path, metavar="MESH", help="mesh files")
    parser.add_argument("--points", type=int, default=500_000, help="most points in a call (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="least seconds of a call (%(default)s)")
    return parser


# --------------------------------------------------------------------------------------------------------- contenders


def networks(mesh: Mesh) -> Iterator[Contender]:
    """The three networks of this program, with weights from seed 0."""
    sizes = {"hash grid": (64,), "DAM": DAM_WIDTHS, "8x32": (LAYER_WIDTH,) * NUM_LAYERS}
    for name, widths in sizes.items():
        grid = HashGrid() if name == "hash grid" else None
        sdf = NeuralSDF(widths, encoding=grid, center=mesh.transform.center, scale=mesh.transform.scale)
        sdf.initialise("he_uniform", torch.Generator().manual_seed(0))
        yield Contender(name, sdf, sdf.gradient)


def open3d_scene(vertices: np.ndarray, faces: np.ndarray) -> Contender:
    import open3d

    def distances(points: np.ndarray) -> object:
        return scene.compute_signed_distance(points, nthreads=1)

    def gradients(points: np.ndarray) -> np.ndarray:
        signed = scene.compute_signed_distance(points, nthreads=1).numpy()
        closest = scene.compute_closest_points(points, nthreads=1)["points"].numpy()
        return (points - closest) / signed[:, None]

    scene = open3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(vertices.astype(np.float32), faces.astype(np.uint32))
    return Contender("Open3D", distances, gradients)


def libigl(vertices: np.ndarray, faces: np.ndarray, sign: str) -> Contender:
    import igl

    kind = getattr(igl, f"SIGNED_DISTANCE_TYPE_{sign.upper().replace(' ', '_')}")

    def distances(points: np.ndarray) -> object:
        return igl.signed_distance(points.astype(np.float64), vertices, faces, sign_type=kind)

    def gradients(points: np.ndarray) -> np.ndarray:
        signed, _, closest, _ = distances(points)
        return (points - closest) / signed[:, None]

    return Contender(f"libigl, {sign}", distances, gradients)


def trimesh_proximity(vertices: np.ndarray, faces: np.ndarray) -> Contender:
    import rtree  # noqa: F401 (trimesh asks for it only when it answers)
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return Contender("trimesh", lambda points: trimesh.proximity.signed_distance(mesh, points))


def contenders(mesh: Mesh) -> Iterator[Contender]:
    """The networks, then the libraries that are there, each on the mesh in file units."""
    yield from networks(mesh)
    arrays = (mesh.transform.to_file(mesh.vertices), mesh.faces)
    makers = {
        "Open3D": lambda: open3d_scene(*arrays),
        "libigl, pseudonormal": lambda: libigl(*arrays, "pseudonormal"),
        "libigl, fast winding number": lambda: libigl(*arrays, "fast winding number"),
        "trimesh": lambda: trimesh_proximity(*arrays),
    }
    for name, make in makers.items():
        try:
            yield make()
        except (ImportError, OSError) as error:
            print(f"{name}: not measured, {error}")


# --------------------------------------------------------------------------------------------------------- measuring


def bench(path: Path, flags: argparse.Namespace) -> tuple[str, dict[str, tuple[float, float | None]]]:
    """Measure all contenders on a mesh, print how the hash grid does; returns the mesh's title and
    {contender: (distances a second, gradients a second or None)}."""
    mesh = load_mesh(path, 0)
    points = query_points(mesh, flags.points)
    title = f"{path.stem}, {len(mesh.faces):,} triangles"
    rates, single = {}, {}
    for contender in contenders(mesh):
        name, distances, gradients = contender
        rates[name] = (rate(distances, points, flags), gradients and rate(gradients, points, flags))
        single[name] = one_point(distances, points)
    print_verdict(title, rates, single)
    return title, rates


def query_points(mesh: Mesh, count: int) -> np.ndarray:
    """Points (count, 3) float32 in file units, in random order: see the head of this file."""
    generator = np.random.default_rng(0)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    margin = 0.05 * (high - low)
    uniform = generator.uniform(low - margin, high + margin, (count - count // 2, 3))
    near = points_on_surface(mesh, count // 2, generator)[0] + generator.uniform(-0.01, 0.01, (count // 2, 3)) / 3**0.5
    points = generator.permutation(np.concatenate([uniform, near]))
    return mesh.transform.to_file(points).astype(np.float32)


def rate(query: Query, points: np.ndarray, flags: argparse.Namespace) -> float:
    """Points a second: the median of three calls, after the first ones have found how many points to ask for."""
    count = 200
    while (seconds := elapsed(query, points[:count])) < flags.seconds and count < len(points):
        count = min(len(points), max(2 * count, int(count * flags.seconds / max(seconds, 1e-3))))
    return statistics.median(count / elapsed(query, points[:count]) for _ in range(3))


def elapsed(query: Query, points: np.ndarray) -> float:
    start = time.perf_counter()
    query(points)
    return time.perf_counter() - start


def one_point(query: Query, points: np.ndarray) -> float:
    """Seconds of a call with a single point: the median of as many calls as take a second, 1,000 at most."""
    calls, start = [], time.perf_counter()
    while len(calls) < 3 or (len(calls) < 1000 and time.perf_counter() - start < 1):
        calls.append(elapsed(query, points[len(calls)][None]))
    return statistics.median(calls)


# ---------------------------------------------------------------------------------------------------------- printing


def print_verdict(title: str, rates: dict, single: dict[str, float]) -> None:
    """Print the seconds of a single point, and the hash grid's figures beside what is asked of them."""
    print(f"\n{title}")
    print("one point, microseconds: " + ", ".join(f"{name} {1e6 * seconds:.0f}" for name, seconds in single.items()))
    distances, gradients = rates["hash grid"]
    if "Open3D" in rates:
        print(f"hash grid: {distances / rates['Open3D'][0]:.1f} times Open3D (asked: {TIMES_OPEN3D})")
    print(f"hash grid: gradients at {gradients / distances:.2f} of the rate (asked: {GRADIENT_FRACTION:.2f})")
    print(f"hash grid: one point in {1e6 * single['hash grid']:.0f} microseconds (asked: {1e6 * ONE_POINT:.0f})")


def print_table(tables: list[tuple[str, dict]]) -> None:
    """Print a table in Markdown: distances and gradients, thousands a second, a column for each mesh."""
    if not tables:
        return
    print("\nthousands of distances / gradients a second\n")
    print("| | " + " | ".join(title for title, _ in tables) + " |")
    print("|" + "---|" * (len(tables) + 1))
    for name in tables[0][1]:
        cells = [" / ".join(thousands(value) for value in rates[name]) for _, rates in tables]
        print(f"| {name} | " + " | ".join(cells) + " |")


def thousands(rate: float | None) -> str:
    """1234567 as 1,235; small rates with a digit more; None as a dash."""
    return "-" if rate is None else f"{rate / 1000:,.0f}" if rate >= 10_000 else f"{rate / 1000:.2g}"


if __name__ == "__main__":
    sys.exit(main())
