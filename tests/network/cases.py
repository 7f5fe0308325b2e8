"""Models and points that several tests of the network use."""

from typing import Any

import numpy as np
import torch

from neuralparts.network import NeuralSDF


def a_model(**kwargs: Any) -> NeuralSDF:
    """A small network with weights from seed 3. kwargs: of the constructor."""
    model = NeuralSDF(**({"widths": (16, 16)} | kwargs))
    model.initialise("siren" if model.activation == "sine" else "he_uniform", torch.Generator().manual_seed(3))
    return model


def some_points(count: int = 50, seed: int = 0) -> np.ndarray:
    """Points (count, 3) float32, uniform in the domain."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3)).astype(np.float32)
