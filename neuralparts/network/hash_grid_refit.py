"""The finest levels of a hash grid fitted once more after the training: to distances near the surface, and to normals.

With the layers fixed, values and gradients are linear in the table, within a piece of the ReLU. So a few iterations of
conjugate gradients (Hestenes and Stiefel, 1952) come closer to the least error than as many passes of Adam. Absolute
errors are fitted as least squares whose weights fall with the error (iteratively reweighted least squares).

In: a network, labelled points, points of the surface with its normals. Out: the table, changed in place.
"""

from dataclasses import dataclass

import numpy as np

from neuralparts.network.hash_grid_step import has_compiled_step
from neuralparts.network.hash_levels import LevelArrays
from neuralparts.network.neural_sdf import NeuralSDF

# Levels that are fitted again, rounds of weights, and iterations in each (docs/log.md).
LEVELS, ROUNDS, ITERATIONS = 2, 2, 3
# Errors below these weigh as if they were as large: of a value, domain units, and of a gradient.
LEAST_ERROR, LEAST_SLOPE_ERROR = 3e-5, 0.03
# Weight of the error of a gradient beside that of a value on the surface, domain units.
GRADIENT_WEIGHT = 0.016
# A normal that is farther than this from the gradient says nothing: an edge, or a sheet with one sign on both sides.
FARTHEST_NORMAL = 1.0
# Added to the diagonal of the equations, as a fraction of its mean: rows that few points see stay where they are.
DAMPING = 0.1
# Cells along an axis of the grid by which points are ordered, so that neighbours find rows of the table in the cache.
_ORDER_CELLS = 32


@dataclass(frozen=True)
class RefitPoints:
    """What the table is fitted to: points (N, 3) with distances (N,) and weights (N,), 1 on the surface; points of the
    surface (M, 3) and normals (M, 3) of either orientation. All float32, domain."""

    points: np.ndarray
    distances: np.ndarray
    weights: np.ndarray
    on_surface: np.ndarray
    normals: np.ndarray


def refit_finest_levels(network: NeuralSDF, given: RefitPoints) -> None:
    """Fit the table's finest LEVELS again, in place. Raises ValueError for a network that Adam's compiled step cannot
    train, and for one with a scaler."""
    if not has_compiled_step(network) or network.scaler.name != "none":
        raise ValueError(
            "only a float32 hash grid on the CPU with one hidden layer of ReLU and no scaler can be refitted"
        )
    fine = _finest(network.encoding.arrays)
    near, near_weights = _value_equations(network, given)
    surface, surface_weights = _surface_equations(network, given)
    start = network.encoding.arrays.offsets[-1] - fine.offsets[-1]
    table = network.encoding.table.detach().numpy()[start:]
    for number in range(ROUNDS):
        # Weights that make squares of errors grow as the errors themselves do: of values, and of whole gradients.
        near.weights[0] = near_weights / _at_least(np.abs(near.residuals[0]), LEAST_ERROR)
        surface.weights[0] = surface_weights[0] / _at_least(np.abs(surface.residuals[0]), LEAST_ERROR)
        lengths = np.sqrt((surface.residuals[1:] ** 2).sum(0))
        surface.weights[1] = surface_weights[1] / _at_least(lengths, LEAST_SLOPE_ERROR)
        change = _least_squares((near, surface), fine, table.shape)
        table += change
        if number < ROUNDS - 1:
            _add_changes((near, surface), fine, change)


def _at_least(errors: np.ndarray, least: float) -> np.ndarray:
    """Errors (N,), none below `least`."""
    return np.maximum(errors, np.float32(least))


def _finest(levels: LevelArrays) -> LevelArrays:
    """The sizes of the finest levels, whose rows count from 0."""
    offsets = levels.offsets[-LEVELS - 1 :]
    return LevelArrays(
        levels.resolutions[-LEVELS:], offsets - offsets[0], levels.dense[-LEVELS:], levels.masks[-LEVELS:]
    )


def _value_equations(network: NeuralSDF, given: RefitPoints) -> "tuple[Equations, np.ndarray]":
    """The equations of the values at the labelled points, and the points' weights (N,)."""
    from neuralparts.network.hash_grid_refit_kernels import Equations

    points, distances, weights = _in_tiles(given.points, given.distances[:, None], given.weights[:, None])
    values, _, jacobian = _linearised(network, points, 0)
    return Equations(points, jacobian, values - distances, np.empty_like(weights)), weights[0]


def _surface_equations(network: NeuralSDF, given: RefitPoints) -> "tuple[Equations, np.ndarray]":
    """The equations of values and gradients on the surface, and the weights (2, N) of both: 0 for a gradient where the
    normal says nothing."""
    from neuralparts.network.hash_grid_refit_kernels import Equations

    points, normals, weights = _in_tiles(given.on_surface, given.normals, np.ones((len(given.normals), 1), np.float32))
    values, gradients, jacobian = _linearised(network, points, 3)
    # A normal points to either side, the gradient outward.
    sides = np.where((gradients * normals).sum(0) < 0, np.float32(-1), np.float32(1))
    errors = gradients - sides * normals
    kept = (errors * errors).sum(0) < FARTHEST_NORMAL**2
    weights = np.concatenate([weights, np.float32(GRADIENT_WEIGHT) * weights * kept])
    return Equations(points, jacobian, np.concatenate([values, errors]), np.empty_like(weights)), weights


def _in_tiles(points: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    """Points (N, 3) and what belongs to them, (N, K), as arrays (3, N) and (K, N): neighbours beside each other, and
    zeros behind, to whole tiles."""
    from neuralparts.network.vector_kernels import LANES

    x, y, z = ((points + 1) * np.float32(_ORDER_CELLS / 2)).clip(0, _ORDER_CELLS - 1).astype(np.uint16).T
    order = np.argsort(x + _ORDER_CELLS * (y + _ORDER_CELLS * z), kind="stable")
    count = -(-len(points) // LANES) * LANES
    ordered = [np.zeros((array.shape[1], count), np.float32) for array in (points, *columns)]
    for target, array in zip(ordered, (points, *columns), strict=True):
        target[:, : len(points)] = array[order].T
    return ordered


def _linearised(network: NeuralSDF, points: np.ndarray, axes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (1, N) at points (3, N), their gradients (3, N) or (0, N) for 3 or 0 axes, and their derivatives (L, N, F)
    by the features of the finest levels."""
    from neuralparts.network.hash_grid_kernels import ranges, run
    from neuralparts.network.hash_grid_refit_kernels import linearise

    count, features = points.shape[1], network.encoding.features
    values, gradients = np.empty((1, count), np.float32), np.empty((axes, count), np.float32)
    jacobian = np.empty((LEVELS, count, features), np.float32)
    table, layers = network.encoding.table.detach().numpy(), _layers(network)
    common = points, table, network.encoding.arrays, layers, values, gradients, jacobian
    run(linearise, [(*common, start, stop, (0,) * features) for start, stop in ranges(count)])
    return values, gradients, jacobian


def _layers(network: NeuralSDF) -> "Layers":
    """The network's layers as the compiled loops take them."""
    from neuralparts.network.hash_grid_refit_kernels import Layers
    from neuralparts.network.vector_kernels import UNITS

    hidden, output = network.layers[0], network.layers[2]
    width, inputs = hidden.weight.shape
    missing = -width % UNITS, -inputs % UNITS
    weight = np.pad(hidden.weight.detach().numpy(), [(0, missing[0]), (0, missing[1])])
    of_units = [np.pad(array.detach().numpy(), (0, missing[0])) for array in (hidden.bias, output.weight[0])]
    zeros = np.zeros(weight.shape[1], np.float32)
    return Layers(weight.T.ravel(), weight.ravel(), *of_units, output.bias.detach().numpy(), zeros)


def _least_squares(all_equations: "tuple[Equations, ...]", fine: LevelArrays, shape: tuple[int, int]) -> np.ndarray:
    """The table's change, of this shape, after ITERATIONS of conjugate gradients, preconditioned by the diagonal."""
    gradient, diagonal = _gradient_and_diagonal(all_equations, fine, shape)
    downhill = -gradient
    damping = np.float32(DAMPING * diagonal[diagonal > 0].mean())
    inverse = 1 / (diagonal + damping)
    change, ahead = np.zeros(shape, np.float32), inverse * downhill
    direction, product = ahead.copy(), float((downhill * ahead).sum())
    for _ in range(ITERATIONS):
        image = _image(all_equations, fine, direction) + damping * direction
        length = product / max(float((direction * image).sum()), np.finfo(np.float32).tiny)
        change += np.float32(length) * direction
        downhill -= np.float32(length) * image
        ahead = inverse * downhill
        before, product = product, float((downhill * ahead).sum())
        direction = ahead + np.float32(product / max(before, np.finfo(np.float32).tiny)) * direction
    return change


def _sweep(job: int, all_equations: "tuple[Equations, ...]", fine: LevelArrays, change: np.ndarray, results: int) -> np.ndarray:
    """One pass over all equations, see `hash_grid_refit_kernels.sweep`. Returns so many tables (results, rows, F)."""
    from neuralparts.network.hash_grid_kernels import run
    from neuralparts.network.hash_grid_refit_kernels import sweep

    # A task for each kind of equations, which adds to tables of its own.
    tables = np.zeros((len(all_equations), 2, *change.shape), np.float32) if results == 2 else np.zeros((len(all_equations), 1, *change.shape), np.float32)
    lanes = (0,) * change.shape[1]
    run(sweep, [(job, equations, fine, change, own[0], own[-1], lanes) for equations, own in zip(all_equations, tables, strict=True)])
    return tables.sum(0)


def _gradient_and_diagonal(all_equations, fine, shape):
    return _sweep(1, all_equations, fine, np.empty(shape, np.float32), 2)


def _image(all_equations, fine, direction):
    return _sweep(2, all_equations, fine, direction, 1)[0]


def _add_changes(all_equations, fine, change):
    _sweep(0, all_equations, fine, change, 1)
