"""The original recipe and ours side by side on any mesh: `make bench-fit ARGS="MESH ... [--high 1]"`.

The original: the DAM widths in plain autograd, Adam at a constant 0.001, batch 1024, no scaler, 6 epochs of 5 million
points. Ours: this program's fit with its defaults and StandardScaler, for 1/80 and 1/40 of the original's samples, for
the Low budget (8 million samples) and, with `--high 1`, for as many samples as the original; each time the schedule
ends there. Both are fitted to the same labels and scored at the end on the same fresh points of the surface. The
original's curve is scored on these points too, with the clock stopped; ours on 256 of them, which counts in its time.
With one thread, times are CPU times, so other programs hardly change them. Results are kept in `--out`, one JSON file
per mesh and budget, and are not measured again, so a campaign can be stopped and resumed. `--rates 1` measures only
the steps. Nothing is tuned on the mesh.
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neuralparts.machine import settle_threads

settle_threads()

import numpy as np
import torch

from neuralparts.choices import OPTIMIZERS
from neuralparts.distance import DistanceOracle
from neuralparts.errors import Interrupted
from neuralparts.fitting import FitHooks, FitSettings, fit
from neuralparts.mesh import load_mesh
from neuralparts.network import DAM_WIDTHS, NeuralSDF, fit_scaler, make_layers
from neuralparts.sampling import importance_samples, points_on_surface

BATCH, RATE = 1024, 0.001
# Fresh points of the surface for the error at the end, and how often the original's error is taken.
SCORED_POINTS, SCORES = 20_000, 60
# Steps before the first one that `--rates 1` times: SOAP refreshes its bases more often at the start.
UNTIMED_STEPS = 45
FRACTIONS = {"ours, 1/80 of the samples": 1 / 80, "ours, 1/40 of the samples": 1 / 40}
LOW_SAMPLES = 8_000_000


def surface_error(function: Callable[[torch.Tensor], torch.Tensor], surface: torch.Tensor) -> float:
    """Mean |f| over points (N, 3) of the surface, domain units."""
    with torch.no_grad():
        return float(torch.cat([function(part).abs() for part in surface.split(8192)]).mean())


def original_loop() -> tuple[torch.nn.Sequential, Callable[[torch.Tensor, torch.Tensor], None]]:
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


def clock() -> float:
    """Seconds: CPU time with one thread, else wall time."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def original(points: torch.Tensor, sdf: torch.Tensor, surface: torch.Tensor, epochs: float) -> list[tuple]:
    """(samples, seconds, error) of the original recipe, SCORES times."""
    layers, take_step = original_loop()
    steps, curve, seconds = int(epochs * (len(points) // BATCH)), [], 0.0
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


def ours(points: np.ndarray, sdf: np.ndarray, surface: torch.Tensor, samples: int) -> list[tuple]:
    """(samples, seconds, error) of this program's fit; the errors before the end are those of 256 points."""
    epochs = -(-samples // len(points))
    chosen = slice(0, samples // epochs)
    network = NeuralSDF(DAM_WIDTHS, scaler=fit_scaler("StandardScaler", sdf))
    start = clock()
    settings = FitSettings(epochs=epochs, batch_size=BATCH)
    hooks = FitHooks(held_out=surface[:256].numpy(), clock=clock)
    result = fit(network, points[chosen], sdf[chosen], settings, hooks)
    seconds = clock() - start
    history = result.history
    curve = list(zip(history["samples"], history["seconds"], history["held_out"], strict=True))
    return [*curve, (result.samples, seconds, surface_error(network.signed_distance, surface))]


def bare_products(batch: int) -> Callable[[], None]:
    """A function that computes the float32 matrix products of a step of the DAM network, and nothing else."""
    generator = torch.Generator().manual_seed(0)
    widths = (3, *DAM_WIDTHS, 1)
    weights = [torch.randn(outputs, inputs, generator=generator) for inputs, outputs in itertools.pairwise(widths)]
    values = [torch.randn(batch, width, generator=generator) for width in widths]

    def compute():
        for index, weight in enumerate(weights):
            values[index] @ weight.T  # values of the next layer
            values[index + 1].T @ values[index]  # gradient of the weight
            if index:
                values[index + 1] @ weight  # gradient of the values

    return compute


def step_rates(batch: int = BATCH, repeats: int = 40) -> dict[str, float]:
    """Samples a second of a step's bare float32 products, of the original's loop and of ours, by medians.

    The bare products and the original's step are timed between the steps of ours, so other programs slow all alike.
    """
    points = np.random.default_rng(0).uniform(-1, 1, (batch * 4, 3)).astype(np.float32)
    sdf = np.linalg.norm(points, axis=1) - 0.5
    batch_points, batch_sdf = torch.as_tensor(points[:batch]), torch.as_tensor(sdf[:batch])
    _, original_step = original_loop()
    between = {"bare products": bare_products(batch), "original": lambda: original_step(batch_points, batch_sdf)}
    times = {name: [] for name in (*between, *OPTIMIZERS)}
    for optimizer in OPTIMIZERS:
        settings = FitSettings(epochs=UNTIMED_STEPS + repeats, batch_size=batch, optimizer=optimizer)
        hooks = FitHooks(should_stop=timed_between(between, times, optimizer, repeats))
        with contextlib.suppress(Interrupted):
            fit(NeuralSDF(DAM_WIDTHS), points, sdf, settings, hooks)
    return {name: batch / statistics.median(seconds) for name, seconds in times.items()}


def timed_between(
    between: dict[str, Callable[[], None]], times: dict[str, list[float]], name: str, repeats: int
) -> Callable[[], bool]:
    """A `should_stop` that times the step before it as `name`, then calls and times the functions of `between`.

    It appends seconds to `times`, and is True when there are `repeats` of the step.
    """
    steps, end_of_last = itertools.count(), time.perf_counter()

    def after_step() -> bool:
        nonlocal end_of_last
        is_timed = next(steps) >= UNTIMED_STEPS
        seconds = {name: time.perf_counter() - end_of_last}
        for other, function in between.items():
            start = time.perf_counter()
            function()
            seconds[other] = time.perf_counter() - start
        for key, value in seconds.items():
            times[key] += [value] * is_timed
        end_of_last = time.perf_counter()
        return len(times[name]) == repeats

    return after_step


def compare(path: Path, flags: argparse.Namespace) -> dict[str, list]:
    """Measure every run of one mesh that its file in `flags.out` lacks. Returns (samples, seconds, error) by run."""
    kept = flags.out / f"{path.name}-{flags.num_points}x{flags.epochs}.json"
    curves = json.loads(kept.read_text()) if kept.is_file() else {}
    whole = flags.num_points * flags.epochs
    budgets = {name: int(whole * fraction) for name, fraction in FRACTIONS.items()}
    budgets["ours, Low"] = min(LOW_SAMPLES, whole)
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


def median_about(curve: list, samples: int) -> float:
    """Median error of a curve over the last tenth before `samples`: the original's error swings from step to step."""
    near = [error for done, _, error in curve if 0.9 * samples <= done <= samples]
    return statistics.median(near) if near else min(curve, key=lambda point: abs(point[0] - samples))[2]


def summary(name: str, curves: dict[str, list]) -> str:
    """One line: how many times sooner ours ends than the original, and how many times lower its error is."""
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


def plot(curves: dict[str, dict], path: Path) -> None:
    """Write a picture of error over seconds, one panel per mesh."""
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


def main() -> None:
    """Read the flags, measure, print one line per mesh."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("meshes", nargs="*", type=Path, default=[Path("../shared/data/parts/featuretype.STL")])
    parser.add_argument("--num_points", type=int, default=5_000_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--high", type=int, choices=(0, 1), default=0, help="1: ours with the original's samples too")
    parser.add_argument("--rates", type=int, choices=(0, 1), default=0, help="1: only the rates of the steps")
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
