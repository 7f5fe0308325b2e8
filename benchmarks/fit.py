"""The original recipe and ours side by side on any mesh: `make bench-fit ARGS="MESH ... [--high 1]"`.

The original: the DAM widths in plain autograd, Adam at a constant 0.001, batch 1024, no scaler, 6 epochs of 5 million
points. Ours: this program's fit with its defaults and StandardScaler, for an eightieth and a fortieth of the original's
samples, for its Low budget (8 million) and, with `--high 1`, for as many as it has; the schedule ends there each time.
Both see the same labels and are scored at the end on the same fresh points of the surface. The original's curve has
these points too, with the clock stopped; ours has 256 of them, in its time. With one thread the clock is the
processor's, which other programs do not move. What is done lies in `--out`, a JSON file a mesh and budget, and is not
done again, so a campaign can be stopped; `--rates 1` compares the steps alone. Nothing is tuned on the mesh.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neuralparts.machine import settle_threads

settle_threads()

import numpy as np
import torch

from neuralparts.distance import DistanceOracle
from neuralparts.fitting import FitHooks, FitRun, FitSettings, fit
from neuralparts.mesh import load_mesh
from neuralparts.network import DAM_WIDTHS, NeuralSDF, fit_scaler, make_layers
from neuralparts.sampling import importance_samples, points_on_surface

BATCH, RATE = 1024, 0.001
SCORED_POINTS = 20_000
SCORES = 60
SHARES = {"ours, 1/80 of the samples": 1 / 80, "ours, 1/40 of the samples": 1 / 40}
LOW_SAMPLES = 8_000_000


def surface_error(function, surface):
    """Mean |f| over points of the surface, domain units."""
    with torch.no_grad():
        return float(torch.cat([function(part).abs() for part in surface.split(8192)]).mean())


def original_loop():
    """(network, step) of the original recipe: step(points, sdf) is plain autograd and torch's fused Adam."""
    torch.manual_seed(0)
    layers = make_layers(DAM_WIDTHS, "relu")
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


def clock():
    """Seconds: the processor's with one thread, else the wall's."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def original(points, sdf, surface, epochs):
    """[samples, seconds, error] of the original recipe, SCORES times."""
    layers, take_step = original_loop()
    steps, curve, seconds = epochs * (len(points) // BATCH), [], 0.0
    every, start = max(1, steps // SCORES), clock()
    for step in range(steps):
        index = step % (len(points) // BATCH)
        if index == 0:
            order = torch.randperm(len(points))
        chosen = order[index * BATCH : (index + 1) * BATCH]
        take_step(points[chosen], sdf[chosen])
        if (step + 1) % every == 0:
            seconds += clock() - start
            curve.append(((step + 1) * BATCH, seconds, surface_error(lambda p: layers(p)[:, 0], surface)))
            start = clock()
    return curve


def ours(points, sdf, surface, samples):
    """[samples, seconds, error] of this program's fit; the errors before the end are those of 256 points."""
    epochs = -(-samples // len(points))
    chosen = slice(0, samples // epochs)
    network = NeuralSDF(DAM_WIDTHS, scaler=fit_scaler("StandardScaler", sdf))
    start = clock()
    settings = FitSettings(epochs=epochs, batch_size=BATCH)
    result = fit(network, points[chosen], sdf[chosen], settings, FitHooks(held_out=surface[:256].numpy()))
    seconds = clock() - start
    of_a_second = seconds / max(result.seconds, 1e-9)  # the history has the wall's
    history = result.history
    seconds_then = [value * of_a_second for value in history["seconds"]]
    curve = list(zip(history["samples"], seconds_then, history["held_out"], strict=True))
    return [*curve, (result.samples, seconds, surface_error(network.signed_distance, surface))]


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
    """One mesh: every run that its file in `flags.out` lacks; returns {run: [samples, seconds, error] ...}."""
    kept = flags.out / f"{path.name}-{flags.num_points}x{flags.epochs}.json"
    curves = json.loads(kept.read_text()) if kept.is_file() else {}
    whole = flags.num_points * flags.epochs
    budgets = {name: int(whole * share) for name, share in SHARES.items()} | {"ours, Low": min(LOW_SAMPLES, whole)}
    if flags.high:
        budgets["ours, High"] = whole
    missing = [name for name in (*budgets, "original") if name not in curves]
    if not missing:
        return curves
    mesh = load_mesh(path)
    points, sdf = importance_samples(DistanceOracle(mesh), flags.num_points, np.random.default_rng(0))
    surface = torch.as_tensor(points_on_surface(mesh, SCORED_POINTS, np.random.default_rng(1))[0])
    for name in missing:
        if name == "original":
            curves[name] = original(torch.as_tensor(points), torch.as_tensor(sdf), surface, flags.epochs)
        else:
            curves[name] = ours(points, sdf, surface, budgets[name])
        samples, seconds, error = curves[name][-1]
        print(f"{path.name}, {name}: {samples} samples, {seconds:.0f} s, surface error {error:.6f}", flush=True)
        kept.write_text(json.dumps(curves))
    return curves


def median_about(curve, samples):
    """Median error over the tenth of `samples` before it: the original's error swings from step to step."""
    near = [error for done, _, error in curve if 0.9 * samples <= done <= samples]
    return statistics.median(near) if near else min(curve, key=lambda point: abs(point[0] - samples))[2]


def summary(name, curves):
    """One line: how much sooner and how much lower ours is than the original."""
    theirs = curves["original"]
    end, seconds = median_about(theirs, theirs[-1][0]), theirs[-1][1]
    line = [f"{name}: original ends at {end:.6f} after {seconds:.0f} s"]
    for run, curve in curves.items():
        if run != "original":
            samples, spent, error = curve[-1]
            line.append(f"{run} {error:.6f}, {seconds / spent:.1f} times sooner, {end / error:.1f} times lower")
            if run == "ours, Low":
                line.append(f"than the original there {median_about(theirs, samples) / error:.1f} times lower")
    return "; ".join(line)


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
    parser.add_argument("--high", type=int, choices=(0, 1), default=0, help="1: ours at the whole budget too")
    parser.add_argument("--rates", type=int, choices=(0, 1), default=0, help="1: a step's rates alone")
    parser.add_argument("--out", type=Path, default=Path("results/bench-fit"))
    flags = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}",
        flush=True,
    )
    if flags.rates:
        rates = step_rates()
        bare = rates["bare products"]
        print("; ".join(f"{name} {rate / bare:.2f} of the bare products' rate" for name, rate in rates.items()))
        return
    flags.out.mkdir(parents=True, exist_ok=True)
    curves = {path.name: compare(path, flags) for path in flags.meshes}
    print("\n".join(summary(name, of_mesh) for name, of_mesh in curves.items()))
    plot(curves, flags.out / "curves.png")
    print(f"plot: {flags.out / 'curves.png'}")


if __name__ == "__main__":
    main()
