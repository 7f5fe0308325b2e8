"""The original recipe and ours side by side on any mesh: `make bench-fit ARGS="MESH ... [--epochs 6]"`.

The original: the DAM widths in plain autograd, Adam at a constant 0.001, batch 1024, no scaler, every sample of every
epoch. Ours: this program's fit with its defaults, once for a thirtieth of the seconds that the original took (its
schedule ends there), once for the same number of samples. Both see the same labels and are scored on the same fresh
points of the surface; the original's clock stands still meanwhile. Nothing is tuned on the mesh.
"""

import argparse
import itertools
import os
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from threads import settle_threads

settle_threads()

import numpy as np
import torch

from distance import DistanceOracle
from fitting import FitHooks, FitRun, FitSettings, fit
from geometry import load_mesh
from network import DAM_WIDTHS, NeuralSDF, make_layers
from sampling import importance_samples, points_on_surface
from scaling import fit_scaler

BATCH, RATE = 1024, 0.001
SCORED_POINTS = 20_000
SCORES = 60
SHARE_OF_SECONDS = 1 / 30


def surface_error(function, surface):
    """Mean |f| over points of the surface, domain units."""
    with torch.no_grad():
        return float(torch.cat([function(part).abs() for part in surface.split(8192)]).mean())


def original_loop():
    """(network, step) of the original recipe: step(points, sdf) is plain autograd and torch's fused Adam."""
    torch.manual_seed(0)
    layers = make_layers(DAM_WIDTHS, "relu").eval()  # in this mode they are torch's own linear layers
    for layer in layers:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    optimizer = torch.optim.Adam(layers.parameters(), lr=RATE, fused=True)

    def step(points, sdf):
        loss = (layers(points)[:, 0] - sdf).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return layers, step


def original(points, sdf, surface, epochs):
    """(samples, seconds, errors) of the original recipe, scored SCORES times; epochs may be a fraction."""
    layers, take_step = original_loop()
    steps, curve, seconds = int(epochs * (len(points) // BATCH)), [], 0.0
    every, start = max(1, steps // SCORES), time.perf_counter()
    for step in range(steps):
        index = step % (len(points) // BATCH)
        if index == 0:
            order = torch.randperm(len(points))
        chosen = order[index * BATCH : (index + 1) * BATCH]
        take_step(points[chosen], sdf[chosen])
        if (step + 1) % every == 0:
            seconds += time.perf_counter() - start
            curve.append(((step + 1) * BATCH, seconds, surface_error(lambda p: layers(p)[:, 0], surface)))
            start = time.perf_counter()
    return curve


def ours(points, sdf, surface, settings):
    """(samples, seconds, errors) of this program's fit; the hooks' own scoring is in its seconds."""
    network = NeuralSDF(DAM_WIDTHS, scaler=fit_scaler("StandardScaler", sdf))
    result = fit(network, points, sdf, settings, FitHooks(held_out=surface[:2048].numpy()))
    curve = list(zip(result.history["samples"], result.history["seconds"], result.history["held_out"], strict=True))
    curve.append((result.samples, result.seconds, surface_error(network.distance, surface)))
    return curve


def step_rates(batch=BATCH, repeats=40):
    """Samples a second of a step's bare float32 products, of the original's loop and of ours, medians taken in turn."""
    generator = torch.Generator().manual_seed(0)
    widths = (3, *DAM_WIDTHS, 1)
    weights = [torch.randn(o, i, generator=generator) for i, o in itertools.pairwise(widths)]
    values = [torch.randn(batch, width, generator=generator) for width in widths]

    def bare():
        for index, weight in enumerate(weights):
            values[index] @ weight.T
            values[index + 1].T @ values[index]
            if index:
                values[index + 1] @ weight

    points = np.random.default_rng(0).uniform(-1, 1, (batch * 4, 3)).astype(np.float32)
    sdf = np.linalg.norm(points, axis=1) - 0.5
    batch_points, batch_sdf = torch.as_tensor(points[:batch]), torch.as_tensor(sdf[:batch])
    _, original_step = original_loop()
    runs = {"bare products": bare, "original": lambda: original_step(batch_points, batch_sdf)}
    for name in ("adam", "soap"):
        run = FitRun(NeuralSDF(DAM_WIDTHS), points, sdf, FitSettings(batch_size=batch, optimizer=name), FitHooks(), 0)
        runs[name] = lambda run=run: run.step(1e-3)
    times = {name: [] for name in runs}
    for name in runs:
        for _ in range(45):  # past SOAP's early refreshes
            runs[name]()
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: batch / statistics.median(seconds) for name, seconds in times.items()}


def compare(path, flags):
    """One mesh: both recipes; prints a line and returns its figures and curves."""
    mesh = load_mesh(path)
    oracle = DistanceOracle(mesh)
    points, sdf = importance_samples(oracle, flags.num_points, np.random.default_rng(0))
    surface = torch.as_tensor(points_on_surface(mesh, SCORED_POINTS, np.random.default_rng(1))[0])
    theirs = original(torch.as_tensor(points), torch.as_tensor(sdf), surface, flags.epochs)
    # The original's error swings from step to step: its end is the median of its last tenth.
    final = statistics.median(error for _, _, error in theirs[-max(1, SCORES // 10) :])
    seconds = theirs[-1][1]
    quick = ours(points, sdf, surface, FitSettings(time_budget=seconds * SHARE_OF_SECONDS, batch_size=BATCH))
    equal = ours(points, sdf, surface, FitSettings(epochs=flags.epochs, batch_size=BATCH))
    print(
        f"{path.name}: original ends at {final:.6f} after {seconds:.0f} s; ours in 1/{seconds / quick[-1][1]:.0f} of "
        f"that time: {quick[-1][2]:.6f}; at equal samples {equal[-1][2]:.6f} ({final / equal[-1][2]:.1f} times lower, "
        f"{equal[-1][1] / seconds:.2f} of the time)",
        flush=True,
    )
    return {"original": theirs, "ours, a thirtieth of the time": quick, "ours, equal samples": equal}


def plot(curves, path):
    """Error over seconds, a panel a mesh."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(curves), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, lines) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for label, curve in lines.items():
            axes.loglog([point[1] for point in curve], [point[2] for point in curve], label=label)
        axes.set(title=name, xlabel="seconds", ylabel="surface error")
        axes.legend(fontsize=7)
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("meshes", nargs="*", type=Path, default=[Path("../shared/data/parts/featuretype.STL")])
    parser.add_argument("--num_points", type=int, default=5_000_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("results/bench_fit.png"))
    flags = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    rates = step_rates()
    print(
        "; ".join(
            f"{name} {rate / rates['bare products']:.2f} of the bare products' rate" for name, rate in rates.items()
        )
    )
    curves = {path.name: compare(path, flags) for path in flags.meshes}
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    plot(curves, flags.out)
    print(f"plot: {flags.out}")


if __name__ == "__main__":
    main()
