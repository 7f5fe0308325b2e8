"""The finest levels of a hash grid fitted once more after the training: to distances near the surface, and to normals.

With the layers fixed, values and gradients are linear in the table, within a piece of the ReLU. So a few iterations of
conjugate gradients (Hestenes and Stiefel, 1952) come closer to the least error than as many passes of Adam. Absolute
errors are fitted as least squares whose weights fall with the error (iteratively reweighted least squares). Each round
is linear about the table that the one before left (Gauss-Newton).

In: a network, labelled points, points of the surface with its normals. Out: the table, changed in place.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuralparts.network.hash_grid_step import has_compiled_step
from neuralparts.network.hash_levels import LevelArrays
from neuralparts.network.neural_sdf import NeuralSDF

# Levels that are fitted again, rounds of weights, and iterations in each (docs/log.md).
LEVELS, ROUNDS, ITERATIONS = 2, 2, 4
# Errors below these weigh as if they were as large: of a value, domain units, and of a gradient.
LEAST_ERROR, LEAST_SLOPE_ERROR = 3e-5, 0.03
# Weight of the error of a gradient beside that of a value on the surface, domain units.
GRADIENT_WEIGHT = 0.024
# Weight of a gradient's error along the normal, which changes its length, beside that across it, which turns it.
LENGTH_WEIGHT = 0.1
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


class Layers(NamedTuple):
    """A network's layers, flat and filled up with zeros to whole UNITS: hidden weight (K, W) and (W, K), bias (W,),
    output weight (W,), output bias (1,), and zeros (K,). K is the number of inputs, W the width."""

    inner: np.ndarray
    outer: np.ndarray
    bias: np.ndarray
    output: np.ndarray
    output_bias: np.ndarray
    zeros: np.ndarray


class Equations(NamedTuple):
    """The equations of N points, whole tiles: of their values, or of values and slopes along x, y, z. All float32."""

    points: np.ndarray  # (3, N)
    jacobian: np.ndarray  # (L, N, F), derivatives of the values by the features of the fitted levels
    residuals: np.ndarray  # (1, N) of the values, or (4, N) with those of the slopes
    weights: np.ndarray  # (1, N) of the squares of the values' residuals, or (2, N) with w of those of the slopes
    light: np.ndarray  # (0, N), or (3, N): vectors v, for the slopes' matrix of weights w (I - v v^T)


def refit_finest_levels(network: NeuralSDF, given: RefitPoints) -> None:
    """Fit the table's finest LEVELS again, in place. Raises ValueError for a network that Adam's compiled step cannot
    train, and for one with a scaler."""
    if not has_compiled_step(network) or network.scaler.name != "none":
        raise ValueError(
            "only a float32 hash grid on the CPU with one hidden layer of ReLU and no scaler can be refitted"
        )
    # The compiled loops: only such a fit needs them.
    from neuralparts.network import hash_grid_refit_kernels as kernels

    fine = _finest(network.encoding.arrays)
    start = network.encoding.arrays.offsets[-1] - fine.offsets[-1]
    table = network.encoding.table.detach().numpy()[start:]
    # Space for the sums of `_sweep`: new arrays would cost page faults at every pass (docs/log.md).
    sums = np.empty((2, kernels.DESCEND, *table.shape), np.float32)
    labelled = _in_tiles(given.weights[:, None], given.points, given.distances[:, None])
    ones = np.ones((len(given.normals), 1), np.float32)
    on_surface = _in_tiles(ones, given.on_surface, given.normals)
    for _ in range(ROUNDS):
        both = _value_equations(network, *labelled), _surface_equations(network, *on_surface)
        table += _least_squares(both, fine, sums)


def _finest(levels: LevelArrays) -> LevelArrays:
    """The sizes of the finest levels, whose rows count from 0."""
    offsets = levels.offsets[-LEVELS - 1 :]
    return LevelArrays(
        levels.resolutions[-LEVELS:], offsets - offsets[0], levels.dense[-LEVELS:], levels.masks[-LEVELS:]
    )


def _value_equations(
    network: NeuralSDF, importance: np.ndarray, points: np.ndarray, distances: np.ndarray
) -> Equations:
    """The equations of the values at the labelled points, from `_in_tiles`."""
    values, _, jacobian = _linearised(network, points, axes=0)
    errors = values - distances
    weights = importance / _at_least(np.abs(errors), LEAST_ERROR)
    return Equations(points, jacobian, errors, weights, np.empty((0, points.shape[1]), np.float32))


def _surface_equations(
    network: NeuralSDF, importance: np.ndarray, points: np.ndarray, normals: np.ndarray
) -> Equations:
    """The equations of values and gradients on the surface, from `_in_tiles`."""
    values, gradients, jacobian = _linearised(network, points, axes=3)
    # A normal points to either side, the gradient outward.
    sides = np.where((gradients * normals).sum(0) < 0, np.float32(-1), np.float32(1))
    errors = gradients - sides * normals
    squares = (errors * errors).sum(0)
    of_gradients = np.float32(GRADIENT_WEIGHT) * importance * (squares < FARTHEST_NORMAL**2)
    # (N,) sizes of errors whose part along the normal weighs less: e^T (I - v v^T) e.
    light = np.float32(np.sqrt(1 - LENGTH_WEIGHT)) * normals
    sizes = np.sqrt(squares - (errors * light).sum(0) ** 2)
    weights = importance / _at_least(np.abs(values), LEAST_ERROR), of_gradients / _at_least(sizes, LEAST_SLOPE_ERROR)
    return Equations(points, jacobian, np.concatenate([values, errors]), np.concatenate(weights), light)


def _at_least(errors: np.ndarray, least: float) -> np.ndarray:
    """Errors, none below `least`: divided by them, weights make squares of errors grow as the errors themselves do."""
    return np.maximum(errors, np.float32(least))


def _in_tiles(weights: np.ndarray, points: np.ndarray, more: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (N, 1), points (N, 3) and `more` about each, (N, K), as the loops take them: transposed, neighbours
    beside each other, and filled up to whole tiles with copies of a point that weigh nothing."""
    from neuralparts.network.vector_kernels import LANES

    # The cell (N,) of each point in a grid, x fastest: numpy sorts 16 bits in linear time.
    x, y, z = ((points + 1) * np.float32(_ORDER_CELLS / 2)).clip(0, _ORDER_CELLS - 1).astype(np.uint16).T
    order = np.argsort(x + _ORDER_CELLS * (y + _ORDER_CELLS * z), kind="stable")
    order = np.pad(order, (0, -len(order) % LANES), mode="edge")
    weights, points_in_order, more = (np.take(array.T, order, axis=1) for array in (weights, points, more))
    weights[:, len(points) :] = 0
    return weights, points_in_order, more


def _linearised(network: NeuralSDF, points: np.ndarray, axes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (1, N) at points (3, N), their gradients (axes, N) along 3 axes or none, and their derivatives (L, N, F)
    by the features of the finest levels."""
    from neuralparts.network.hash_grid_kernels import ranges, run
    from neuralparts.network.hash_grid_refit_kernels import linearise

    count, features = points.shape[1], network.encoding.features
    values, gradients = np.empty((1, count), np.float32), np.empty((axes, count), np.float32)
    jacobian = np.empty((min(LEVELS, network.encoding.levels), count, features), np.float32)
    table, levels = network.encoding.table.detach().numpy(), network.encoding.arrays
    common = points, table, levels, _layers(network), values, gradients, jacobian
    run(linearise, [(*common, start, stop, (0,) * features) for start, stop in ranges(count)])
    return values, gradients, jacobian


def _layers(network: NeuralSDF) -> Layers:
    """The network's layers as the compiled loops take them."""
    from neuralparts.network.vector_kernels import UNITS

    hidden, output = network.layers[0], network.layers[2]
    weight, bias, of_output, output_bias = (
        array.detach().numpy() for array in (hidden.weight, hidden.bias, output.weight[0], output.bias)
    )
    units, inputs = ((0, -size % UNITS) for size in weight.shape)
    weight = np.pad(weight, (units, inputs))  # (W, K)
    zeros = np.zeros(weight.shape[1], np.float32)
    return Layers(weight.T.ravel(), weight.ravel(), np.pad(bias, units), np.pad(of_output, units), output_bias, zeros)


def _least_squares(both: tuple[Equations, Equations], fine: LevelArrays, sums: np.ndarray) -> np.ndarray:
    """The table's change (rows, F), after ITERATIONS of conjugate gradients, preconditioned by the diagonal."""
    from neuralparts.network import hash_grid_refit_kernels as kernels

    change = np.zeros(sums.shape[2:], np.float32)
    uphill, diagonal = _sweep(kernels.DESCEND, both, fine, change, sums)
    downhill = -uphill
    damping = np.float32(DAMPING * diagonal[diagonal > 0].mean())
    inverse = 1 / (diagonal + damping)
    ahead = inverse * downhill
    direction, product = ahead.copy(), float((downhill * ahead).sum())
    for _ in range(ITERATIONS):
        (image,) = _sweep(kernels.IMAGE, both, fine, direction, sums)
        image += damping * direction
        length = product / max(float((direction * image).sum()), np.finfo(np.float32).tiny)
        change += np.float32(length) * direction
        downhill -= np.float32(length) * image
        np.multiply(inverse, downhill, out=ahead)
        before, product = product, float((downhill * ahead).sum())
        direction *= np.float32(product / max(before, np.finfo(np.float32).tiny))
        direction += ahead
    return change


def _sweep(
    job: int, both: tuple[Equations, Equations], fine: LevelArrays, change: np.ndarray, sums: np.ndarray
) -> np.ndarray:
    """A pass over all equations, see `hash_grid_refit_kernels.sweep`. Returns the sums (job, rows, F): one for IMAGE,
    two for DESCEND; a part of `sums` (2, 2, rows, F), which it overwrites."""
    from neuralparts.network.hash_grid_kernels import run
    from neuralparts.network.hash_grid_refit_kernels import sweep

    # Each of both kinds is a task with sums of its own, so that the bits do not depend on threads.
    sums, lanes = sums[:, :job], (0,) * change.shape[1]
    sums[:] = 0
    run(sweep, [(job, equations, fine, change, own, lanes) for equations, own in zip(both, sums, strict=True)])
    sums[0] += sums[1]
    return sums[0]
