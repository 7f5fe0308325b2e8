"""Healthy models, checkpoints and samples files: the seeds of their mutants."""

import contextlib
from pathlib import Path

import numpy as np
import torch

from neuralparts.errors import Interrupted
from neuralparts.fitting import FitHooks, FitSettings, fit
from neuralparts.network import HashGrid, NeuralSDF, fit_scaler


def ball_samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    """points (count, 3) and sdf (count,), float32, of a ball."""
    points = np.random.default_rng(0).uniform(-1, 1, (count, 3)).astype(np.float32)
    return points, np.linalg.norm(points, axis=1) - np.float32(0.6)


def networks() -> list[NeuralSDF]:
    """Small networks: all scalers, with and without a hash grid."""
    sdf = ball_samples(500)[1]
    made = [NeuralSDF((8, 8), "sine", None, fit_scaler("PowerTransformer", sdf), (0.1, 0.2, 0.3), 0.5)]
    for scaler in ("none", "StandardScaler", "QuantileTransformer"):
        made.append(NeuralSDF((8, 8), "relu", HashGrid(2, 2, 4, 8, 6), fit_scaler(scaler, sdf)))
        made.append(NeuralSDF((8,), "relu", None, fit_scaler(scaler, sdf)))
    for network in made:
        network.initialise("he_uniform", torch.Generator().manual_seed(0))
    return made


def run_fit(network: NeuralSDF, checkpoint: Path, stop_after: int, resume: bool) -> None:
    """A fit of 16 steps that is interrupted after so many. Raises as `fit` does, but for the interruption."""
    settings = FitSettings(epochs=1, batch_size=32, optimizer="soap" if network.encoding is None else "adam")
    left = iter(range(stop_after))
    hooks = FitHooks(checkpoint=checkpoint, should_stop=lambda: next(left, None) is None)
    with contextlib.suppress(Interrupted):
        fit(network, *ball_samples(512), settings, hooks, resume)


def model_files(kind: str, folder: Path) -> list[bytes]:
    """The healthy files of a kind: model, checkpoint or samples."""
    path, files = folder / "healthy", []
    if kind == "samples":
        points, sdf = ball_samples(60)
        train = np.column_stack([points, sdf])
        for save in (np.savez, np.savez_compressed):
            save(path, train=train, center=np.zeros(3), scale=np.float64(0.5))
            files.append(path.with_suffix(".npz").read_bytes())
        np.savez(path, train=np.asfortranarray(train.astype(np.float64)))
        return [*files, path.with_suffix(".npz").read_bytes()]
    for network in networks():
        if kind == "model":
            network.save(path)
        else:
            run_fit(network, path, 6, resume=False)
        files.append(path.read_bytes())
    return files
