"""The instant preset against the DAM network and the original recipe: `make bench-instant ARGS="MESH ..."`.

For each mesh it measures
- the whole command `presets/instant.sh MESH`, timed from outside, with the figures of the files that it leaves;
- the preset's fit to the same samples again: for its curve, with smaller tables, and for a minute;
- this program's DAM network, for a minute;
- the original recipe (see `benchmarks/fit.py`), for a fraction of its 30 million samples. Its seconds are scaled up to
  all of them: its error hardly falls after the first tenth.
One file per mesh is kept in --out, and what it holds is not measured again, so that a long list can be measured in
several calls. The medians and the plot are those of all files.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

# Import modules from the project's root, not from this folder.
ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from neuralparts.machine import settle_threads

settle_threads()

import numpy as np
import torch

from benchmarks.fit import original, surface_error
from neuralparts.distance import DistanceOracle
from neuralparts.fitting import FitHooks, fit
from neuralparts.flags import parse_fit_flags
from neuralparts.mesh import load_mesh
from neuralparts.sampling import importance_samples, points_on_surface
from neuralparts.steps import fit_settings, label, label_pairs, load, make_network
from neuralparts.watch import Watch

DATA = Path("../shared/data")
EIGHT = (
    "parts/featuretype.STL",
    "parts/1002_tray_bottom.STL",
    "parts/octagonal_pocket.stl",
    "parts/plate_holes.STL",
    "parts/ADIS16480.STL",
    "organic/fandisk.obj",
    "organic/cheburashka.obj",
    "organic/rocker-arm.obj",
)
# Samples of the original recipe; points for the error at the end, and for the curve.
ORIGINAL_POINTS, ORIGINAL_EPOCHS = 5_000_000, 6
SCORED_POINTS, HELD_OUT = 20_000, 2048
DAM = ["--damArch", "1", "--scaler", "StandardScaler"]
SMALLER_TABLES = ("9", "11", "13")


def preset_flags() -> list[str]:
    """The flags that presets/instant.sh gives."""
    call = (ROOT / "presets/instant.sh").read_text().split("\nfit ")[1].split("-- ")[0]
    return shlex.split(call.replace("\\\n", " "))[1:]


def command(mesh: Path, folder: Path) -> dict:
    """The preset as a user runs it: its seconds, timed from outside, and the figures of NAME.json."""
    shutil.rmtree(folder, ignore_errors=True)  # a finished part would be skipped
    call = [ROOT / "presets/instant.sh", mesh, "--outputDir", folder, "--showVis", "0"]
    start = time.perf_counter()
    subprocess.run(call, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    record = json.loads((folder / f"{mesh.stem}.json").read_text())
    kept = ("surface_error", "surface_error_p99", "grid_error", "iou", "chamfer", "hausdorff")
    return {
        "seconds": seconds,
        "timings": record["timings"],
        "bodies": record["diagnosis"]["bodies"],
        "closed": record["diagnosis"]["closed"],
        "parameters": record["parameters"],
        **{name: record["metrics"][name] for name in kept},
    } | pieces(folder / f"{mesh.stem}.stl", mesh, record["transform"])


def pieces(reconstruction: Path, mesh: Path, transform: dict) -> dict:
    """Number of pieces of a reconstruction, and of stray ones: everywhere farther than a grid cell from the input."""
    import trimesh
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    made = trimesh.load(reconstruction)
    pairs = made.faces[:, [0, 1, 1, 2]].reshape(-1, 2).T
    links = coo_matrix((np.ones(pairs.shape[1]), pairs), shape=(len(made.vertices),) * 2)
    count, piece = connected_components(links, directed=False)
    points = (np.asarray(made.vertices) - transform["center"]) * transform["scale"]
    distance = DistanceOracle(load_mesh(mesh)).distance(np.clip(points, -1, 1).astype(np.float32))
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, piece, distance)
    return {"pieces": count, "astray": int((nearest > 2 / 256).sum())}


class Bench:
    """One mesh, labelled once with the preset's samples, and fits to them in this process."""

    def __init__(self, mesh: Path):
        self.mesh = mesh
        flags = parse_fit_flags([str(mesh), *preset_flags()])
        self.shape, _ = load(mesh, flags, Watch())
        self.samples, self.pairs = label(self.shape, flags, Watch()), label_pairs(self.shape, flags, Watch())
        fresh = points_on_surface(self.shape.mesh, SCORED_POINTS, np.random.default_rng(1))[0]
        self.surface = torch.as_tensor(fresh)

    def fitted(self, words: list[str]) -> dict:
        """A fit with these flags to the preset's samples: its curve (seconds, error), its error and its bytes."""
        flags = parse_fit_flags([str(self.mesh), *words])
        network = make_network(flags, self.samples[1], self.shape.transform)
        hooks = FitHooks(held_out=self.surface[:HELD_OUT].numpy())
        result = fit(network, *self.samples, fit_settings(flags), hooks, pairs=self.pairs)
        curve = list(zip(result.history["seconds"], result.history["held_out"], strict=True))
        error = surface_error(network.signed_distance, self.surface)
        return {"curve": [*curve, (result.seconds, error)], "error": error, "bytes": 4 * network.parameter_count}

    def original(self, fraction: float) -> dict:
        """The original recipe for a fraction of its samples: its curve, the median error of the last third."""
        count = min(ORIGINAL_POINTS, int(fraction * ORIGINAL_POINTS * ORIGINAL_EPOCHS))
        points, sdf = importance_samples(self.shape.oracle, count, np.random.default_rng(0))
        labelled = torch.as_tensor(points), torch.as_tensor(sdf)
        curve = original(*labelled, self.surface, fraction * ORIGINAL_POINTS * ORIGINAL_EPOCHS / count)
        error = statistics.median(score for _, _, score in curve[-len(curve) // 3 :])
        seconds = curve[-1][1] / fraction
        return {"curve": [line[1:] for line in curve], "error": error, "seconds": seconds, "fraction": fraction}


def measure(mesh: Path, flags: argparse.Namespace, figures: dict) -> dict:
    """Figures and curves of one mesh: `figures`, those of earlier calls, and all that they lack."""
    bench, preset = Bench(mesh), preset_flags()
    wanted = {
        "command": lambda: command(mesh, flags.out / mesh.stem),
        "instant": lambda: bench.fitted(preset),
        "tables": lambda: [bench.fitted([*preset, "--hashTableLog2", size]) for size in SMALLER_TABLES],
        "instant longer": lambda: bench.fitted([*preset, "--timeBudget", str(flags.seconds)]),
        "dam": lambda: bench.fitted([*DAM, "--timeBudget", str(flags.damSeconds)]),
        "original": lambda: bench.original(flags.originalFraction),
    }
    off = {"instant longer": not flags.seconds, "dam": not flags.damSeconds, "original": not flags.originalFraction}
    new = {name: take() for name, take in wanted.items() if name not in figures and not off.get(name)}
    return {"mesh": mesh.name} | figures | new


def seconds_to(error: float, curve: list) -> float | None:
    """Seconds at which a curve (seconds, error) is first as low as `error`; None if it never is."""
    return next((seconds for seconds, value in curve if value <= error), None)


def line(figures: dict) -> str:
    """One line for one mesh."""
    run = figures["command"]
    text = (
        f"{figures['mesh']}: command {run['seconds']:.1f} s, fit {run['timings']['fit']:.1f} s, surface error "
        f"{run['surface_error']:.6f}, IoU {run['iou']:.4f}, grid error {run['grid_error']:.4f}, {run['pieces']} pieces "
        f"of {run['bodies']} bodies, {run['astray']} astray"
    )
    for kind in ("instant longer", "dam"):
        if kind in figures:
            text += f"; {kind}, {figures[kind]['curve'][-1][0]:.0f} s: {figures[kind]['error']:.6f}"
    if ratio := ratio_to_original(figures):
        end = figures["original"]
        text += f"; original {end['error']:.6f} after {end['seconds']:.0f} s (scaled from {end['fraction']:g} of them)"
        text += f", instant {ratio:.0f} times sooner"
    return text


def ratio_to_original(figures: dict) -> float | None:
    """The original recipe's seconds over those of the instant fit to the original's error."""
    if "original" not in figures:
        return None
    reached = seconds_to(figures["original"]["error"], figures["instant"]["curve"])
    return figures["original"]["seconds"] / reached if reached else None


def medians(all_figures: list[dict]) -> str:
    """One line with the medians over the meshes."""
    runs = [figures["command"] for figures in all_figures]
    closed = [run["iou"] for run in runs if run["closed"]]
    texts = [
        f"medians of {len(runs)}: command {statistics.median(run['seconds'] for run in runs):.1f} s",
        f"fit {statistics.median(run['timings']['fit'] for run in runs):.1f} s",
        f"surface error {statistics.median(run['surface_error'] for run in runs):.6f}",
        f"IoU {statistics.median(closed):.4f} of {len(closed)} closed" if closed else "none closed",
    ]
    longer = [figures["instant longer"]["error"] for figures in all_figures if "instant longer" in figures]
    ratios = [ratio for ratio in map(ratio_to_original, all_figures) if ratio]
    texts += [f"longer {statistics.median(longer):.6f}"] if longer else []
    texts += [f"{statistics.median(ratios):.0f} times fewer seconds than the original"] if ratios else []
    return ", ".join(texts)


def plot(all_figures: list[dict], path: Path) -> None:
    """Write a picture of error over seconds, and of error over bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    over_time, over_bytes = figure.subplots(1, 2)
    kinds = {"instant": "C0", "instant longer": "C2", "dam": "C1", "original": "C3"}
    for kind, colour in kinds.items():
        fits = [figures[kind] for figures in all_figures if kind in figures]
        for number, fitted in enumerate(fits):
            label = f"{kind}, one line per mesh" if number == 0 else None
            over_time.loglog(*zip(*fitted["curve"], strict=True), color=colour, linewidth=0.8, label=label)
        errors = [fitted["error"] for fitted in fits]
        if errors and kind != "original":
            over_bytes.loglog(fits[0]["bytes"], statistics.median(errors), "o", color=colour, label=kind)
    sizes = zip(*(figures["tables"] for figures in all_figures), strict=True)
    medians = [(fits[0]["bytes"], statistics.median(fitted["error"] for fitted in fits)) for fits in sizes]
    over_bytes.loglog(*zip(*medians, strict=True), "o-", color="C0", fillstyle="none", label="instant, smaller tables")
    over_time.set(xlabel="seconds of fitting", ylabel="surface error")
    over_bytes.set(xlabel="bytes of the weights", ylabel="surface error, median")
    for axes in (over_time, over_bytes):
        axes.grid(True, which="major", color="#e3e8ee")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Read the flags, measure, print one line per mesh and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("meshes", nargs="*", type=Path, help="default: eight of ../shared/data")
    parser.add_argument(
        "--seconds", type=float, default=60, help="seconds of the longer instant fit; 0 is off (default 60)"
    )
    parser.add_argument(
        "--damSeconds", type=float, default=60, help="seconds of the DAM network's fit; 0 is off (default 60)"
    )
    parser.add_argument("--originalFraction", type=float, default=0.1, help="of its samples; 0 is off (default 0.1)")
    parser.add_argument("--out", type=Path, default=ROOT / "results/bench-instant")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for mesh in flags.meshes or [DATA / name for name in EIGHT]:
        kept = flags.out / f"{mesh.stem}.json"
        figures = measure(mesh, flags, json.loads(kept.read_text()) if kept.exists() else {})
        kept.write_text(json.dumps(figures))
        print(line(figures), flush=True)
    kept = [json.loads(path.read_text()) for path in sorted(flags.out.glob("*.json"))]
    print(medians(kept))
    plot(kept, flags.out / "instant.png")
    print(f"plot: {flags.out / 'instant.png'}")


if __name__ == "__main__":
    main()
