"""Models of every encoding, activation and scaler, points in and out of the cube, and what every form must answer."""

import itertools

import numpy as np
import torch

from neuralparts.choices import ACTIVATIONS, ENCODINGS, SCALERS
from neuralparts.domain import DOMAIN_RADIUS
from neuralparts.network import HashGrid, NeuralSDF, fit_scaler

# The largest difference from NeuralSDF, domain units; far from the part also this fraction of the distance.
TOLERANCE = 1e-5
COMBINATIONS = list(itertools.product(ENCODINGS, ACTIVATIONS, SCALERS))


def a_model(encoding: str, activation: str, scaler: str, features: int = 3) -> NeuralSDF:
    """A small network with drawn weights, away from the origin of its file, whose values leave the scaler's range."""
    generator = torch.Generator().manual_seed(3)
    sizes = {"levels": 3, "base_resolution": 3, "finest_resolution": 16, "log2_table_size": 9}
    grid = HashGrid(features=features, **sizes) if encoding == "hashgrid" else None
    targets = np.random.default_rng(3).normal(-0.05, 0.1, 4000).astype(np.float32)
    model = NeuralSDF((10, 7), activation, grid, fit_scaler(scaler, targets), (300.0, -20.0, 11.0), 0.07)
    model.initialise("siren" if activation == "sine" else "he_uniform", generator)
    if grid is not None:
        with torch.no_grad():
            grid.table.uniform_(-1, 1, generator=generator)
    return model


def some_points(model: NeuralSDF, count: int, seed: int = 1) -> np.ndarray:
    """Points (count, 3) float32, file units: two thirds in the cube, the others out of it, near and at 10^9 sizes."""
    generator = np.random.default_rng(seed)
    places = generator.uniform(-1, 1, (count, 3))
    near, far = count // 6, count // 3
    places[:near] *= 3
    places[near:far] *= 10.0 ** generator.uniform(0, 9, (far - near, 1))
    places[far], places[far + 1] = (1, 1, 1), (-1, 0.3, 1)  # on the border
    return model.transform.to_file(places).astype(np.float32)


def expected(model: NeuralSDF, points: np.ndarray) -> np.ndarray:
    """Signed distances (N,), domain units: of the network in the cube, continued outside of it by two lower bounds."""
    places = model.transform.to_domain(points)
    nearest = np.clip(places, -1, 1)
    values = model.domain(nearest.astype(np.float32)).astype(np.float64)
    way = np.linalg.norm(places - nearest, axis=1)
    lacking = np.maximum(0, np.linalg.norm(nearest, axis=1) - DOMAIN_RADIUS - values)
    bounds = np.hypot(np.maximum(values, 0), way), np.linalg.norm(places, axis=1) - DOMAIN_RADIUS - lacking / (1 + way)
    return np.where(way > 0, np.maximum(*bounds), values)


def worst_difference(model: NeuralSDF, points: np.ndarray, values: np.ndarray) -> float:
    """The largest difference of values (N,), file units, from those expected, in domain units.

    Of distances beyond 1 it is the fraction, because float32 has no more digits.
    """
    truth = expected(model, points)
    return float((abs(values.astype(np.float64) * model.transform.scale - truth) / np.maximum(1, abs(truth))).max())
