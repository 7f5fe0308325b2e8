"""Sparse against dense marching, side by side in one run: same mesh, evaluations, time, memory.

`make bench-march` first fits those networks of FLEET to real meshes that are not in --folder yet (a few minutes on two
cores; networks whose mesh in ../shared/data is missing are skipped), and adds the published networks of
../shared/data/published. `ARGS="NAME ..."` takes some of FLEET, or fitted models by their path, instead.

For each network: whether the sparse and the dense mesh at --same are the same, and how many bodies they have beside
those of the exact distance on the same grid; the times at --timed, of which the dense one is measured on a tenth of its
planes and scaled; and for DAM models the memory and time of the command at --large, as the operating system counts
them. 0 for a list is off.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# The root of the project comes first: the package is imported from there.
sys.path.insert(0, str(Path(__file__).parents[1]))

from neuralparts.machine import settle_threads

settle_threads()

import numpy as np
import torch
from published import published_networks

from neuralparts.domain import grid_cell
from neuralparts.marching import MarchResult, NoSurfaceError, as_function, march, march_dense
from neuralparts.network import DAM_WIDTHS, NeuralSDF

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
# Small budgets: an unfinished network is the harder case for a bound on how fast its values fall.
DAM = "--damArch 1 --scaler StandardScaler --epochs 1 --num_points"
UNIFORM = "--numLayers 8 --layerWidth 32 --epochs 2 --batchSize 2048 --num_points"
HASH = "--encoding hashgrid --numLayers 1 --layerWidth 64 --optimizer adam --learningRate 0.01 --epochs 2"
HASH += " --batchSize 4096 --num_points"
FLEET = {
    "dam-impeller": (ROOT / "data/impeller/impeller.stl", f"{DAM} 300000"),
    "dam-tray": (DATA / "parts/1002_tray_bottom.STL", f"{DAM} 300000"),
    "dam-counter": (DATA / "parts/counter.unitsmm.STL", f"{DAM} 300000"),
    "dam-cycloidal": (DATA / "wild/cycloidal.ply", f"{DAM} 200000"),
    "dam-fandisk": (DATA / "organic/fandisk.obj", f"{DAM} 400000"),
    "dam-featuretype": (DATA / "parts/featuretype.STL", f"{DAM} 1500000"),
    "relu-ADIS": (DATA / "parts/ADIS16480.STL", f"{UNIFORM} 400000 --scaler StandardScaler"),
    "relu-box": (DATA / "wild/box.STL", f"{UNIFORM} 400000 --scaler QuantileTransformer"),
    "elu-rocker": (DATA / "organic/rocker-arm.obj", f"{UNIFORM} 400000 --activation elu --scaler PowerTransformer"),
    "sine-angle": (DATA / "parts/angle_block.STL", f"{UNIFORM} 200000 --activation sine --learningRate 0.0001"),
    "sine-multibody": (DATA / "wild/multibody.stl", f"{UNIFORM} 50000 --activation sine --scaler StandardScaler"),
    "leaky-homer": (DATA / "organic/homer.obj", f"{UNIFORM} 400000 --activation leakyrelu"),
    "hash-impeller": (ROOT / "data/impeller/impeller.stl", f"{HASH} 1000000"),
    "hash-tray": (DATA / "parts/1002_tray_bottom.STL", f"{HASH} 500000"),
    "hash-pocket": (DATA / "parts/octagonal_pocket.stl", f"{HASH} 1000000 --scaler StandardScaler"),
    "hash-multibody": (DATA / "wild/multibody.stl", f"{HASH} 100000"),
    "hash-nefertiti": (DATA / "organic/nefertiti.obj", f"{HASH} 500000 --scaler QuantileTransformer"),
    "hash-cheburashka": (DATA / "organic/cheburashka.obj", f"{HASH} 500000 --hashFinestRes 512"),
    "hash-cycloidal": (DATA / "wild/cycloidal.ply", f"{HASH} 500000 --scaler PowerTransformer"),
    "hash-busted": (DATA / "wild/busted.STL", f"{HASH} 50000"),
}


def main() -> int:
    """Run the benchmark; 1 if a mesh was not as it should be."""
    flags = command_line().parse_args()
    print(machine())
    models = {path.stem: (path, NeuralSDF.load(path)) for path in find_models(flags)}
    functions = {name: as_function(model.signed_distance) for name, (_, model) in models.items()}
    published = {} if flags.models else published_networks()
    functions |= {name: as_function(model.signed_distance) for name, model in published.items()}
    march(lambda points: np.linalg.norm(points, axis=1) - 0.5, 32)  # loads the compiled loops, untimed
    failures = [name for name, function in functions.items() if not bench(name, function, flags)]
    for path, model in models.values():
        if flags.large and model.widths == DAM_WIDTHS:
            bench_command(path, flags.large, flags.folder)
            bench_command(path, flags.large, flags.folder, "--maxMemory", "1G")
    if any(flags.same):
        print(f"{len(functions) - len(failures)} of {len(functions)} networks: same mesh, watertight, positive volume")
    return 1 if failures else 0


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"fitted models (.safetensors), or of: {' '.join(FLEET)}")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "results/bench-march", help="where the fitted networks are kept"
    )
    parser.add_argument("--same", type=int, nargs="+", default=[128, 256], help="resolutions whose meshes are compared")
    parser.add_argument("--timed", type=int, nargs="+", default=[256, 512], help="resolutions that are timed")
    parser.add_argument(
        "--large", type=int, default=1024, help="resolution of the command, alone and with --maxMemory 1G"
    )
    return parser


def machine() -> str:
    """Processor, cores, torch threads and operating system, in one line."""
    processor = platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {platform.platform()}"


def bench(name: str, function: Callable, flags: argparse.Namespace) -> bool:
    """One network: print a line for each grid. True if all meshes were the same, watertight and of positive volume."""
    good = True
    for resolution in filter(None, flags.same):
        sparse, dense = march(function, resolution), march_dense(function, resolution)
        verdict = compare(sparse, dense)
        good &= verdict == "same mesh"
        print(f"{line(name, sparse)}; {verdict}", flush=True)
        print(f"{'':30} bodies: {bodies(sparse)}{exact_bodies(name, resolution, flags.folder)}", flush=True)
    for resolution in filter(None, flags.timed):
        sparse, seconds = timed_march(function, resolution), dense_seconds(function, resolution)
        ratio = seconds / sparse.stats["seconds"]
        print(f"{line(name, sparse)}  dense {seconds:.0f} s (a tenth, scaled), {ratio:.1f} times", flush=True)
    return good


def line(name: str, result: MarchResult) -> str:
    """One march: its mesh, its evaluations, its seconds."""
    stats, closed = result.stats, "closed" if is_watertight(result.faces) else "OPEN"
    return (
        f"{name:30} {stats['resolution']:4}  {len(result.faces):8} faces, {closed}, volume {volumes(result).sum():.4f}"
        f"  evaluated {stats['evaluated']:8} (1/{stats['nodes'] / stats['evaluated']:.1f}), corrected "
        f"{stats['corrected']}, audited {stats['audited']}, hits {stats['hits']}, {stats['seconds']:.2f} s"
    )


def timed_march(function: Callable, resolution: int, short: float = 5.0) -> MarchResult:
    """The march of median time of three; the first one alone if it takes more than `short` seconds."""
    results = [march(function, resolution)]
    if results[0].stats["seconds"] < short:
        results += [march(function, resolution) for _ in range(2)]
    return sorted(results, key=lambda result: result.stats["seconds"])[len(results) // 2]


def dense_seconds(function: Callable, resolution: int) -> float:
    """Seconds that evaluating the whole grid would take, by a tenth of its planes."""
    axis = np.linspace(-1.0, 1.0, resolution, dtype=np.float32)
    second, third = (part.ravel() for part in np.meshgrid(axis, axis, indexing="ij"))
    planes = np.linspace(0, resolution - 1, max(1, resolution // 10)).round().astype(int)
    started = time.perf_counter()
    for first in axis[planes]:
        function(np.stack([np.full_like(second, first), second, third], axis=1))  # the (R^2, 3) nodes of a plane
    return (time.perf_counter() - started) * resolution / len(planes)


def compare(sparse: MarchResult, dense: MarchResult) -> str:
    """'same mesh', or the difference: vertices to a thousandth of a cell, number of faces, closed, positive volume."""
    if len(sparse.faces) != len(dense.faces) or len(sparse.vertices) != len(dense.vertices):
        return f"{len(sparse.faces)} and {len(dense.faces)} faces"
    order, other = np.lexsort(sparse.vertices.T.round(9)), np.lexsort(dense.vertices.T.round(9))
    apart = np.abs(sparse.vertices[order] - dense.vertices[other]).max() / grid_cell(sparse.stats["resolution"])
    if apart > 1e-3:
        return f"vertices {apart:.1g} cells apart"
    if not is_watertight(sparse.faces) or volumes(sparse).sum() <= 0:
        return "not a closed mesh of positive volume"
    return "same mesh"


def is_watertight(faces: np.ndarray) -> bool:
    """True if each edge is used once in each direction."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    keys, opposite = (edges[:, i] * (faces.max() + 1) + edges[:, 1 - i] for i in (0, 1))
    keys.sort()
    opposite.sort()
    return bool((np.diff(keys) > 0).all() and np.array_equal(keys, opposite))


def volumes(result: MarchResult) -> np.ndarray:
    """The signed volume of each connected surface, largest first; that of a void is negative."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second, third = result.faces.T
    pairs = np.concatenate([first, second]), np.concatenate([second, third])
    count = len(result.vertices)
    label = connected_components(coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(count, count)))[1]
    one, two, three = (result.vertices[corner] for corner in (first, second, third))
    return np.sort(np.bincount(label[first], np.einsum("ij,ij->i", one, np.cross(two, three)) / 6))[::-1]


def bodies(result: MarchResult) -> str:
    """Bodies and voids of a mesh in words; those under a thousandth of its volume are counted apart."""
    volume = volumes(result)
    small = np.abs(volume) < 1e-3 * volume.sum()
    solids, crumbs = ((volume > 0) & ~small).sum(), ((volume > 0) & small).sum()
    voids, bubbles = ((volume < 0) & ~small).sum(), ((volume < 0) & small).sum()
    return f"{solids} and {crumbs} crumbs, {voids} voids and {bubbles} bubbles"


def exact_bodies(name: str, resolution: int, folder: Path) -> str:
    """The bodies of the input as read, and of its exact distance on the grid, in words; '' if it is not of FLEET."""
    from neuralparts.distance import DistanceOracle
    from neuralparts.mesh import load_mesh

    mesh = next((mesh for key, (mesh, _) in FLEET.items() if name == f"{mesh.stem}-{key}"), None)
    if mesh is None:
        return ""
    kept = folder / f"{mesh.stem}-{resolution}.txt"
    if not kept.exists():
        mesh = load_mesh(mesh)
        try:
            exact = bodies(march(DistanceOracle(mesh).signed_distance, resolution))
        except NoSurfaceError as error:
            exact = str(error)
        kept.write_text(f"; exact distance: {exact}; input: {mesh.diagnosis['bodies']}")
    return kept.read_text()


def bench_command(path: Path, resolution: int, folder: Path, *extra: str) -> None:
    """Run the command itself at a large grid: print its seconds and its peak of resident memory."""
    command = [sys.executable, "marching.py", str(path.resolve()), "--output", str((folder / "large.stl").resolve())]
    command += ["--reconstructionRes", str(resolution), *extra]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.stdout.read().strip().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, peak = time.perf_counter() - started, usage.ru_maxrss / 2**20
    print(f"{path.stem:30} {resolution:4}  marching.py {' '.join(extra)}: {seconds:.1f} s, peak {peak:.2f} GiB")
    print("\n".join(f"{'':37}{text}" for text in said[-2:]), flush=True)


# --- the networks that are marched ----------------------------------------------------------------------------


def find_models(flags: argparse.Namespace) -> list[Path]:
    """The paths of the models named, or of all of FLEET; those of FLEET that are not in the folder yet are fitted."""
    flags.folder.mkdir(parents=True, exist_ok=True)
    paths = [Path(name) if name.endswith(".safetensors") else of_fleet(name, flags.folder) for name in flags.models]
    return [path for path in paths or [of_fleet(name, flags.folder) for name in FLEET] if path]


def of_fleet(name: str, folder: Path) -> Path | None:
    """The model of that name, fitted if it is not in the folder yet; None if its mesh is missing."""
    mesh, flags = FLEET[name]
    if not mesh.exists():
        print(f"{name}: skipped, {mesh} is missing")
        return None
    path = folder / f"{mesh.stem}-{name}.safetensors"
    if not path.exists():
        fit(name, mesh, flags, folder)
    return path


def fit(name: str, mesh: Path, flags: str, folder: Path) -> None:
    """Fit one network of FLEET with trainer.py, which leaves it in the folder, and print its error."""
    command = [sys.executable, "trainer.py", str(mesh.resolve()), "--outputDir", str(folder.resolve())]
    command += [f"--suffix=-{name}", "--reconstructionRes", "0", "--showVis", "0", *flags.split()]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    record = json.loads((folder / f"{mesh.stem}-{name}.json").read_text())
    seconds, error, iou = record["timings"]["fit"], record["metrics"]["surface_error"], record["metrics"]["iou"]
    print(f"{name}: {flags}: fitted in {seconds:.0f} s, surface error {error:.5f}, IoU {iou:.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
