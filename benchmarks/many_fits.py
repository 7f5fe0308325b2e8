"""Fits in batches against fits one by one, on the eight development meshes: `make bench-many_fits`.

Each mesh has four sets of samples, and each of these 32 is fitted by 8 layers of 32: alone, in batches of 4, and in a
batch of 32, on one thread. Prints the surface error (mean |f| on 20,000 fresh points, domain units; median of a mesh's
four, then of the eight meshes), its ratio to the single fits', the spread of that ratio over the meshes, and samples a
second, with the ratio to the single fits of the same run.

    make bench-many_fits ARGS="--samples 200000 --epochs 4 --optimizer adam"
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

# Import modules from the project's root, not from this folder.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from neuralparts.machine import settle_threads

settle_threads()

import numpy as np
import torch

from benchmarks.instant import EIGHT
from neuralparts.choices import OPTIMIZERS
from neuralparts.distance import DistanceOracle
from neuralparts.fitting import FitSettings, Member, fit_batch
from neuralparts.mesh import load_mesh
from neuralparts.network import NeuralSDF, fit_scaler
from neuralparts.sampling import importance_samples, points_on_surface

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
WIDTHS, SETS, SCORED_POINTS = (32,) * 8, 4, 20_000
BATCHES = (1, 4, 32)


def labelled(name: str, count: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Points of a mesh's surface to score with, and its sets of samples."""
    mesh = load_mesh(DATA / name)
    oracle = DistanceOracle(mesh)
    sets = [importance_samples(oracle, count, np.random.default_rng(seed)) for seed in range(SETS)]
    return points_on_surface(mesh, SCORED_POINTS, np.random.default_rng(99))[0], sets


def fitted(samples: list[tuple[np.ndarray, np.ndarray]], size: int, settings: FitSettings) -> tuple[list, float]:
    """The networks of all sets of samples, fitted in batches of `size`, and the CPU seconds that it took."""
    members = [
        Member(NeuralSDF(WIDTHS, scaler=fit_scaler("StandardScaler", sdf)), points, sdf) for points, sdf in samples
    ]
    started = time.process_time()
    for first in range(0, len(members), size):
        for outcome in fit_batch(members[first : first + size], settings):
            if isinstance(outcome, Exception):
                raise outcome
    return [member.network for member in members], time.process_time() - started


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=200_000, help="samples of a fit")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batchSize", type=int, default=1024)
    parser.add_argument("--learningRate", type=float, default=0.001)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default=OPTIMIZERS[0])
    flags = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread; {vars(flags)}")
    surfaces, sets = zip(*(labelled(name, flags.samples) for name in EIGHT), strict=True)
    settings = FitSettings(
        epochs=flags.epochs,
        batch_size=flags.batchSize,
        learning_rate=flags.learningRate,
        optimizer=flags.optimizer,
    )
    errors, seconds = {}, {}
    for size in BATCHES:
        networks, seconds[size] = fitted([samples for own in sets for samples in own], size, settings)
        scores = [
            float(np.abs(network.domain(surfaces[index // SETS])).mean()) for index, network in enumerate(networks)
        ]
        errors[size] = np.median(np.reshape(scores, (len(EIGHT), SETS)), axis=1)  # (meshes,)
    print("batch of | surface error, ratio of medians, ratios of the meshes | samples/s of CPU time, ratio")
    for size in BATCHES:
        ratios = errors[size] / errors[1]
        medians = np.median(errors[size]), np.median(errors[size]) / np.median(errors[1])
        rate = len(EIGHT) * SETS * flags.samples * flags.epochs / seconds[size]
        print(
            f"{size:8} | {medians[0]:.5f} {medians[1]:.3f} ({np.median(ratios):.3f}; {ratios.min():.2f} to "
            f"{ratios.max():.2f}) | {rate:,.0f} {seconds[1] / seconds[size]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
