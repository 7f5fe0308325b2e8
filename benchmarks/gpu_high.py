"""The part `high` of `benchmarks/gpu.py`: the fit of presets/high.sh to its end, and fits of a second.

It takes the findings and the flags of the check. Samples are kept in files for the other parts.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.gpu_findings import Findings, judged
from benchmarks.gpu_fits import widths_of
from neuralparts.distance import DistanceOracle
from neuralparts.fitting import FitHooks, FitResult, FitSettings, fit
from neuralparts.mesh import load_mesh
from neuralparts.network import NeuralSDF, fit_scaler
from neuralparts.sampling import importance_samples, points_on_surface

ROOT = Path(__file__).resolve().parents[1]
IMPELLER = ROOT / "data/impeller/impeller.stl"
# Surface errors asked of High; featuretype.STL is not in the project (data/README.md).
IMPELLER_ERROR, FEATURETYPE_ERROR = 0.0001, 0.00006
# Seconds asked of High, and of a fit to SHORT_ERROR; the goal of the former.
HIGH_SECONDS, SHORT_SECONDS, SHORT_ERROR = 20.0, 1.0, 0.001
# Short fits: (samples, batch size), each a whole schedule that is shorter than High's.
SHORT_FITS = ((1_100_000, 1024), (1_500_000, 1024))
# Points of the surface for the error at the end.
SCORED_POINTS = 20_000


def samples_of(mesh_file: Path, flags: argparse.Namespace) -> dict[str, np.ndarray]:
    """points, sdf: importance samples of a mesh, as many as High takes; surface: fresh points of it."""
    kept = flags.out / f"gpu/{mesh_file.stem}.npz"
    if kept.exists():
        with np.load(kept) as arrays:
            return dict(arrays)
    mesh = load_mesh(mesh_file)
    count = 20_000 if flags.small else 5_000_000
    points, sdf = importance_samples(DistanceOracle(mesh), count, np.random.default_rng(0))
    surface = points_on_surface(mesh, SCORED_POINTS, np.random.default_rng(2))[0]
    arrays = {"points": points, "sdf": sdf, "surface": surface}
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.savez(kept, **arrays)
    return arrays


def fit_of(
    mesh_file: Path, flags: argparse.Namespace, samples: int = 0, batch: int = 1024
) -> tuple[NeuralSDF, FitResult, float, float]:
    """The fit of presets/high.sh to a mesh, or one of fewer samples at whose end the schedule ends.

    Returns the network on the device, its result, the seconds, and the surface error.
    """
    arrays = samples_of(mesh_file, flags)
    points, sdf = arrays["points"], arrays["sdf"]
    samples = min(samples, len(points)) or len(points) * (1 if flags.small else 6)
    epochs = -(-samples // len(points))
    chosen = slice(0, samples // epochs)
    network = NeuralSDF(widths_of(flags), scaler=fit_scaler("StandardScaler", sdf)).to(flags.device)
    hooks = FitHooks(held_out=arrays["surface"][:2048])
    start = time.perf_counter()
    result = fit(network, points[chosen], sdf[chosen], FitSettings(epochs=epochs, batch_size=batch), hooks)
    seconds = time.perf_counter() - start
    return network, result, seconds, surface_error(network, arrays)


def high(findings: Findings, flags: argparse.Namespace) -> None:
    """The fits of presets/high.sh to their ends, and shorter ones."""
    for samples, batch in SHORT_FITS:
        name = f"impeller, {samples:,} samples, batch {batch}"
        asked = f"{SHORT_ERROR} in {SHORT_SECONDS:g} s, one of these fits"
        findings.attempt(name, lambda plan=(samples, batch): short(*plan, flags), asked)
    for mesh_file, error in ((IMPELLER, IMPELLER_ERROR), (flags.featuretype, FEATURETYPE_ERROR)):
        asked = f"{HIGH_SECONDS:g} s, goal 10; error {error:.5f}"
        if mesh_file.exists():
            findings.attempt(f"High, {mesh_file.stem}", lambda plan=(mesh_file, error): whole(*plan, flags), asked)
        else:
            findings.tell(f"High, {mesh_file.stem}", f"left out: no file {mesh_file}; data/README.md has it", asked)


def short(samples: int, batch: int, flags: argparse.Namespace) -> str:
    """A short fit of the impeller."""
    _, result, seconds, error = fit_of(IMPELLER, flags, samples, batch)
    text = f"{seconds:.2f} s, {result.samples:,} samples, surface error {error:.6f}"
    return judged(seconds <= SHORT_SECONDS and error <= SHORT_ERROR, text)


def whole(mesh_file: Path, asked_error: float, flags: argparse.Namespace) -> str:
    """High to its end; the network of the impeller is kept for the part `marching`."""
    network, result, seconds, error = fit_of(mesh_file, flags)
    if mesh_file == IMPELLER:
        network.save(flags.out / "gpu/high.safetensors")
    on_cpu = surface_error(network.cpu(), samples_of(mesh_file, flags))
    history = zip(result.history["seconds"], result.history["held_out"], strict=True)
    below = [s for s, e in history if e < SHORT_ERROR]
    text = f"{seconds:.2f} s, {result.samples:,} samples, surface error {error:.6f}"
    text += f", below {SHORT_ERROR} after {below[0]:.2f} s" if below else ""
    text += f"; the same network's error on the CPU differs by {abs(error / on_cpu - 1):.1g} of it"
    # Of the error, as many digits as were asked for.
    return judged(seconds <= HIGH_SECONDS and round(error, 5) <= asked_error, text)


def surface_error(network: NeuralSDF, arrays: dict[str, np.ndarray]) -> float:
    """Mean |f| over fresh points of the surface, domain units."""
    return float(np.abs(network.domain(arrays["surface"])).mean())
