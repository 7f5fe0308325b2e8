"""A fitted network, rounded to the numbers that its file can hold, so that what is measured is what is written.

In: a fitted network, and points where its error is known. Out: the same network, changed in place.

With int8 every feature of every level of the hash grid is rounded to whole numbers of steps. The steps are those with
the fewest bits for a given error, by Lagrange's multiplier: each number costs -log2(step) bits, and a feature adds
(dependence * step)^2 / 12 to the mean square error, where the dependence is that of the distance near the surface on
the feature. So a step is proportional to sqrt(rows of the level) / dependence. The common factor is the largest that
lets the error rise by MOST_LOSS at most (docs/log.md has the bytes and errors of other steps).

Without a hash grid the weights of each layer are rounded to whole numbers of a step of the layer, chosen in the same
way.
"""

from collections.abc import Callable

import numpy as np
import torch

from neuralparts.errors import UserError
from neuralparts.network.neural_sdf import NeuralSDF
from neuralparts.network.precision import (
    LARGEST_INTEGER,
    Precision,
    as_float16,
    table_integers,
    table_of,
    whole_weights,
)

# The error on the given points may rise by this factor.
MOST_LOSS = 1.05
# The first step tried, in units of the error; the factor from each to the next; how many are tried, down to 2e-6 of the
# first.
_FIRST_STEP, _NEXT_STEP, _TRIES = 4.0, 0.85, 80
# Where all numbers of a step are at most this, they become 0: float32 has no steps for them, and no distance depends on
# them.
_NOTHING = 1e-30
# The error of a fit is taken for this at least, domain units: far below what float32 gives.
_LEAST_ERROR = 1e-9
# How far points lie from the given ones where the dependence on features is taken too, domain units.
_SPREAD = 0.02
# Of so many points at most where it is taken for the weights: a wide network has as many numbers a point as a layer.
_MOST_PLACES = 4096


def round_network(network: NeuralSDF, precision: str, points: np.ndarray, distances: np.ndarray) -> None:
    """Round the numbers of a fitted network in place to those that a file of this precision holds.

    points (N, 3) and distances (N,), float32, domain: where the error is measured, best on the surface. Raises
    UserError for numbers too large for the precision.
    """
    if precision == "float32":
        return
    grid = network.encoding
    try:
        with torch.no_grad():
            for name, tensor in network.layers.named_parameters():
                if precision == "float16" or grid is not None or name.endswith("bias"):
                    tensor.copy_(as_float16(tensor))
            if precision == "float16" and grid is not None:
                grid.table.copy_(as_float16(grid.table))
        steps = None
        if precision == "int8":
            steps = (_round_weights if grid is None else _round_table)(network, points, distances)
        network.keep(Precision(precision, steps=steps))
    except ValueError as error:
        raise UserError(f"--precision {precision}: {error}; give --precision float32") from error


def _round_table(network: NeuralSDF, points: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Round the table of the hash grid in place; returns the steps (levels, features) float32."""
    grid = network.encoding
    table = grid.table.detach().cpu().numpy().copy()  # (rows, features)
    levels = np.split(table, grid.arrays.offsets[1:-1])
    largest = np.stack([np.abs(level).max(axis=0) for level in levels])  # (levels, features)
    rows = np.diff(grid.arrays.offsets)[:, None]  # (levels, 1)
    cost = _dependence(network, points) / np.sqrt(rows / rows.max())  # (levels, features)

    def keep(steps: np.ndarray) -> None:
        grid.table.copy_(torch.from_numpy(table_of(table_integers(table, steps, grid), steps, grid)))

    return _largest_steps(network, points, distances, cost, largest, keep)


def _round_weights(network: NeuralSDF, points: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Round the weights of a network without a hash grid in place; returns the steps (layers,) float32."""
    layers = _linear_layers(network)
    weights = [layer.weight.detach().cpu().numpy().copy() for layer in layers]  # (outputs, inputs) each
    largest = np.array([np.abs(weight).max() for weight in weights])

    def keep(steps: np.ndarray) -> None:
        for layer, weight, step in zip(layers, weights, steps, strict=True):
            layer.weight.copy_(torch.from_numpy(whole_weights(weight, step).astype(np.float32) * step))

    return _largest_steps(network, points, distances, _dependence_on_weights(network, points), largest, keep)


def _largest_steps(
    network: NeuralSDF,
    points: np.ndarray,
    distances: np.ndarray,
    cost: np.ndarray,
    largest: np.ndarray,
    keep: Callable[[np.ndarray], None],
) -> np.ndarray:
    """The largest steps, float32, of the shape of `cost`, with which the error stays within MOST_LOSS.

    Steps are in inverse proportion to `cost`. largest: the largest |number| that has each step. keep: rounds the
    numbers of the network in place, by steps.
    """
    # A step is the largest number at most, so that it can be kept, and not so small that this has too many steps. Where
    # all numbers are 0 or become 0, any step will do.
    largest = np.where(largest > _NOTHING, largest, 1.0)

    def error() -> float:
        return float(np.abs(network.domain(points) - distances).mean())

    allowed = max(_LEAST_ERROR, MOST_LOSS * error())
    for attempt in range(_TRIES):
        step = _FIRST_STEP * allowed * _NEXT_STEP**attempt
        wanted = step / np.maximum(cost, step / largest)
        steps = np.maximum(wanted, largest / (LARGEST_INTEGER - 1)).astype(np.float32)
        with torch.no_grad():
            keep(steps)
        if error() <= allowed:
            break
    return steps


def _linear_layers(network: NeuralSDF) -> list[torch.nn.Linear]:
    """The layers that have weights, in their order."""
    return [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]


def _places(points: np.ndarray) -> np.ndarray:
    """(2 N, 3) float32: the points (N, 3), and as many near them."""
    near = points + np.random.default_rng(0).normal(0.0, _SPREAD, points.shape)
    return np.concatenate([points, np.clip(near, -1, 1)]).astype(np.float32)


def _dependence_on_weights(network: NeuralSDF, points: np.ndarray) -> np.ndarray:
    """(layers,) root mean square of the derivative of the distance by a weight, at and near the points."""
    places = _places(points)
    values = torch.from_numpy(places[:: -(-len(places) // _MOST_PLACES)]).to(network.layers[0].weight)
    inputs, outputs = [], []  # (N, width) of each layer
    with torch.enable_grad():
        values.requires_grad_(True)
        for layer in network.layers:
            if isinstance(layer, torch.nn.Linear):
                inputs.append(values.detach())
            values = layer(values)
            if isinstance(layer, torch.nn.Linear):
                outputs.append(values)
        slopes = torch.autograd.grad(network.scaler.inverse(values.squeeze(-1)).sum(), outputs)
    # The derivative by a weight is the slope at its output times its input: mean squares over all weights of a layer.
    squares = [
        (slope.double().square().mean(1) * entry.double().square().mean(1)).mean()
        for slope, entry in zip(slopes, inputs, strict=True)
    ]
    return torch.stack(squares).sqrt().cpu().numpy()


def _dependence(network: NeuralSDF, points: np.ndarray) -> np.ndarray:
    """(levels, features) root mean square of the derivative of the distance by a feature, at and near the points."""
    grid = network.encoding
    places = _places(points)
    with torch.no_grad():
        features = grid(torch.from_numpy(places).to(grid.table.device))  # (2 N, levels * features)
    features.requires_grad_(True)
    with torch.enable_grad():
        distances = network.scaler.inverse(network.layers(features).squeeze(-1))
        (slopes,) = torch.autograd.grad(distances.sum(), features)
    return slopes.double().square().mean(0).sqrt().cpu().numpy().reshape(grid.levels, grid.features)
