"""Sparse against dense marching, side by side in one run: same mesh, evaluations, time, memory.

`make bench-march ARGS="a.safetensors b.safetensors"` takes fitted models; the published networks of
../shared/data/published come along where they are. Without a model, networks are fitted here to analytic shapes first
(DAM widths and 8 x 32, a few minutes). For each network: the meshes at --same compared, the times at --timed, where the
dense one is measured on a tenth of its planes and scaled, and for DAM models the memory and time of the command at
--large, as the operating system counts them.
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
import torch

# The modules of the project come before the benchmarks of the same names beside this file.
sys.path.insert(0, str(Path(__file__).parents[1]))

from published import published_networks

import marching
from network import DAM_WIDTHS, NeuralSDF


def main():
    flags = command_line().parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        paths = flags.models or fit_analytic(Path(folder), flags.steps)
        models = {path.stem: NeuralSDF.load(path) for path in paths}
        functions = {name: marching.as_function(model.distance) for name, model in models.items()}
        functions |= {name: marching.as_function(network) for name, network in published_networks().items()}
        failures = [name for name, function in functions.items() if not bench(name, function, flags)]
        for path in paths:
            if flags.large and models[path.stem].widths == DAM_WIDTHS:
                bench_command(path, flags.large, Path(folder))
    print(f"{len(functions) - len(failures)} of {len(functions)} networks: same mesh, watertight, positive volume")
    return 1 if failures else 0


def command_line():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, help="fitted models, .safetensors")
    parser.add_argument("--same", type=int, nargs="*", default=[128, 256], help="grids whose meshes are compared")
    parser.add_argument("--timed", type=int, nargs="*", default=[512], help="grids that are timed")
    parser.add_argument("--large", type=int, default=1024, help="grid of the command with --maxMemory 1G; 0 is off")
    parser.add_argument("--steps", type=int, default=1500, help="steps of the fits where no model is given")
    return parser


def machine():
    processor = platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {platform.platform()}"


def bench(name, function, flags):
    """One network: prints a line a grid; whether all meshes were the same, watertight and of positive volume."""
    good = True
    for resolution in flags.same:
        sparse, dense = marching.march(function, resolution), marching.march_dense(function, resolution)
        verdict = compare(sparse, dense)
        good &= verdict == "same mesh"
        ratio = dense.stats["seconds"] / sparse.stats["seconds"]
        print(f"{line(name, sparse)}  dense {dense.stats['seconds']:.1f} s, {ratio:.1f} times; {verdict}", flush=True)
    for resolution in flags.timed:
        sparse, seconds = marching.march(function, resolution), dense_seconds(function, resolution)
        ratio = seconds / sparse.stats["seconds"]
        print(f"{line(name, sparse)}  dense {seconds:.0f} s (a tenth, scaled), {ratio:.1f} times", flush=True)
    return good


def line(name, result):
    stats, closed = result.stats, "closed" if is_watertight(result.faces) else "OPEN"
    return (
        f"{name:24} {stats['resolution']:4}  {len(result.faces):8} faces in {components(result)} {closed} pieces, "
        f"volume {volume(result):.4f}  evaluated {stats['evaluated']:8} (1/{stats['nodes'] / stats['evaluated']:.1f}), "
        f"audited {stats['audited']}, hits {stats['hits']}, {stats['seconds']:.2f} s"
    )


def dense_seconds(function, resolution):
    """Seconds that evaluating the whole grid would take, by a tenth of its planes."""
    probe = marching.Probe(function, resolution, 0.0, None)
    planes = np.linspace(1, resolution, max(1, resolution // 10)).round().astype(int)
    started = time.perf_counter()
    for plane in planes:
        marching.dense_plane(probe, plane, resolution + 2)
    return (time.perf_counter() - started) * resolution / len(planes)


def compare(sparse, dense):
    """'same mesh', or what differs: vertices to a thousandth of a cell, faces to the count, closed, outward."""
    if len(sparse.faces) != len(dense.faces) or len(sparse.vertices) != len(dense.vertices):
        return f"{len(sparse.faces)} and {len(dense.faces)} faces"
    order, other = np.lexsort(sparse.vertices.T.round(9)), np.lexsort(dense.vertices.T.round(9))
    apart = np.abs(sparse.vertices[order] - dense.vertices[other]).max() * (sparse.stats["resolution"] - 1) / 2
    if apart > 1e-3:
        return f"vertices {apart:.1g} cells apart"
    if not is_watertight(sparse.faces) or volume(sparse) <= 0:
        return "not a closed mesh of positive volume"
    return "same mesh"


def is_watertight(faces):
    """Each edge is used once in each direction."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    keys, opposite = (edges[:, i] * (faces.max() + 1) + edges[:, 1 - i] for i in (0, 1))
    keys.sort()
    opposite.sort()
    return bool((np.diff(keys) > 0).all() and np.array_equal(keys, opposite))


def volume(result):
    first, second, third = (result.vertices[result.faces[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->", first, np.cross(second, third)) / 6)


def components(result):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = result.faces[:, [0, 1]].T
    third = result.faces[:, 2]
    pairs = np.concatenate([first, second]), np.concatenate([second, third])
    count = len(result.vertices)
    return connected_components(coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(count, count)))[0]


def bench_command(path, resolution, folder):
    """The command itself at a large grid, bound to 1 GiB: seconds and the peak that the operating system saw."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "marching.py", str(path.resolve()), "--output", str(folder / "large.stl")]
    command += ["--reconstructionRes", str(resolution), "--maxMemory", "1G"]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    # The peak of the children so far: the largest of these runs, as nothing else is started here.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    said = (done.stdout or done.stderr).strip().splitlines()[-1]
    print(f"{path.stem:24} {resolution:4}  command with --maxMemory 1G: {seconds:.1f} s, peak {peak:.2f} GiB; {said}")


# --- networks to march where none is given -----------------------------------------------------------------------


def box_and_torus(points):
    beyond = (points - torch.tensor([-0.2, 0.0, 0.0])).abs() - torch.tensor([0.45, 0.35, 0.25])
    box = beyond.clamp(min=0).norm(dim=1) + beyond.max(dim=1).values.clamp(max=0)
    ring = torch.stack([(points[:, :2] - torch.tensor([0.3, 0.1])).norm(dim=1) - 0.45, points[:, 2]], dim=1)
    return torch.minimum(box, ring.norm(dim=1) - 0.12)


def hollow_box(points):
    beyond = [points.abs() - torch.tensor([0.6, 0.5, 0.4]), points.abs() - torch.tensor([0.57, 0.47, 0.37])]
    outer, inner = (part.clamp(min=0).norm(dim=1) + part.max(dim=1).values.clamp(max=0) for part in beyond)
    return torch.maximum(outer, -inner)


def two_balls(points):
    offset = torch.tensor([0.45, 0.0, 0.0])
    return torch.minimum((points - offset).norm(dim=1) - 0.35, (points + offset).norm(dim=1) - 0.4)


def fit_analytic(folder, steps):
    """Fits networks to analytic shapes and saves them: their paths."""
    jobs = {"dam_box_and_torus": (DAM_WIDTHS, box_and_torus)}
    jobs |= {f"8x32_{shape.__name__}": ((32,) * 8, shape) for shape in (box_and_torus, hollow_box, two_balls)}
    paths = []
    for name, (widths, distance) in jobs.items():
        started = time.perf_counter()
        model, loss = fit(widths, distance, steps)
        paths.append(folder / f"{name}.safetensors")
        model.save(paths[-1])
        print(f"{name}: {steps} steps in {time.perf_counter() - started:.0f} s, last loss {loss:.5f}", flush=True)
    return paths


def fit(widths, distance, steps, batch=4096, rate=1e-3):
    """A NeuralSDF fitted to an analytic distance near its surface, Adam with a falling rate, and its last loss."""
    generator = torch.Generator().manual_seed(0)
    model = NeuralSDF(widths=widths)
    model.initialise("he_uniform", generator)
    points = torch.rand(1_000_000, 3, generator=generator) * 2 - 1
    near = torch.rand(len(points), generator=generator) < torch.exp(-20 * distance(points).abs()) + 0.05
    points = points[near]
    targets = distance(points)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (0.501 + 0.499 * np.cos(np.pi * step / steps))
        chosen = torch.randint(len(points), (batch,), generator=generator)
        loss = (model.distance(points[chosen]) - targets[chosen]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, loss.item()


if __name__ == "__main__":
    sys.exit(main())
