"""Networks and settings that several tests of the fit use."""

import itertools
from collections.abc import Callable

import numpy as np
import torch

from neuralparts.fitting import FitSettings
from neuralparts.network import HashGrid, NeuralSDF, fit_scaler

WIDTHS = (48, 48, 48)
# The recipe of presets/instant.sh, smaller.
INSTANT = FitSettings(
    epochs=2, batch_size=1024, learning_rate=0.01, optimizer="adam", schedule="cosine", loss="relative"
)


def a_network(
    sdf: np.ndarray, scaler: str = "StandardScaler", activation: str = "relu", widths: tuple[int, ...] = WIDTHS
) -> NeuralSDF:
    """A small network without an encoding."""
    return NeuralSDF(widths, activation, None, fit_scaler(scaler, sdf))


def a_hash_grid(widths: tuple[int, ...] = (64,)) -> NeuralSDF:
    """A small network with a hash grid."""
    return NeuralSDF(widths, "relu", HashGrid(4, 4, 8, 64, 12))


def weights_of(network: NeuralSDF) -> torch.Tensor:
    """All parameters in one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def interrupted_after(steps: int) -> Callable[[], bool]:
    """A `should_stop` that is False `steps` times."""
    left = iter(range(steps))
    return lambda: next(left, None) is None


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that goes on by so many seconds each time it is read."""
    readings = itertools.count()
    return lambda: next(readings) * seconds
