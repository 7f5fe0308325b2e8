"""The finest levels of a hash grid fitted once more after the training: to distances near the surface, and to normals.

With the layers fixed, values and gradients are linear in the table, within a piece of the ReLU. So a few iterations of
conjugate gradients (Hestenes and Stiefel, 1952) come closer to the least error than as many passes of Adam. Absolute
errors are fitted as least squares whose weights fall with the error (iteratively reweighted least squares). Each round
of weights is linear about the table that the one before left (Gauss-Newton).

In: a network, labelled points, points of the surface with its normals. Out: the table, changed in place.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from neuralparts.network.hash_grid import threads_for
from neuralparts.network.hash_grid_step import has_compiled_step
from neuralparts.network.hash_levels import LevelArrays
from neuralparts.network.neural_sdf import NeuralSDF

# Levels that are fitted again, rounds of weights, and iterations in each (docs/log.md).
LEVELS, ROUNDS, ITERATIONS = 2, 2, 4
# Errors below these weigh as if they were as large: of a value, domain units, and of a gradient.
LEAST_ERROR, LEAST_SLOPE_ERROR = 3e-5, 0.03
# Weight of the error of a gradient beside that of a value on the surface, domain units.
GRADIENT_WEIGHT = 0.024
# Weight of a gradient's error along the normal beside that across it: the first is of its length, the second of its
# direction, and the length follows from the values.
LENGTH_WEIGHT = 0.1
# A normal that is farther than this from the gradient says nothing: an edge, or a sheet with one sign on both sides.
FARTHEST_NORMAL = 1.0
# Added to the diagonal of the equations, as a fraction of its mean: rows that few points see stay where they are.
DAMPING = 0.1
_BATCH = 16_384


@dataclass(frozen=True)
class RefitPoints:
    """What the table is fitted to: points (N, 3) with distances (N,) and weights (N,), 1 on the surface; points of the
    surface (M, 3) and normals (M, 3) of either orientation. All float32, domain."""

    points: np.ndarray
    distances: np.ndarray
    weights: np.ndarray
    on_surface: np.ndarray
    normals: np.ndarray


@dataclass
class _Rows:
    """Equations of some points: `residuals` (N, K) of their values, or of values and slopes, weighted by `weights`.
    Slopes have `normals`, along which their errors weigh LENGTH_WEIGHT."""

    points: np.ndarray
    jacobian: np.ndarray  # (N, L * F), of the values by the fitted levels' features
    squares: np.ndarray  # of the jacobian
    residuals: np.ndarray
    weights: np.ndarray
    normals: np.ndarray | None = None  # (N, 3)

    def weighted(self, errors: np.ndarray) -> np.ndarray:
        """Errors (N, K), or changes of them, times the weights."""
        result = self.weights * errors
        if self.normals is not None:
            along = (result[:, 1:] * self.normals).sum(1, keepdims=True)
            result[:, 1:] -= np.float32(1 - LENGTH_WEIGHT) * along * self.normals
        return result


def refit_finest_levels(network: NeuralSDF, given: RefitPoints) -> None:
    """Fit the table's finest LEVELS again, in place. Raises ValueError for a network that Adam's compiled step cannot
    train, and for one with a scaler."""
    if not has_compiled_step(network) or network.scaler.name != "none":
        raise ValueError(
            "only a float32 hash grid on the CPU with one hidden layer of ReLU and no scaler can be refitted"
        )
    fine = _finest(network.encoding.arrays)
    start = network.encoding.arrays.offsets[-1] - fine.offsets[-1]
    table = network.encoding.table.detach().numpy()[start:]
    for _ in range(ROUNDS):
        rows = _value_rows(network, fine, given), _surface_rows(network, fine, given)
        table += _least_squares(rows, fine, table.shape)


def _at_least(errors: np.ndarray, least: float) -> np.ndarray:
    """Errors (N,), none below `least`."""
    return np.maximum(errors, np.float32(least))


def _finest(levels: LevelArrays) -> LevelArrays:
    """The sizes of the finest levels, whose rows count from 0."""
    offsets = levels.offsets[-LEVELS - 1 :]
    return LevelArrays(
        levels.resolutions[-LEVELS:], offsets - offsets[0], levels.dense[-LEVELS:], levels.masks[-LEVELS:]
    )


def _value_rows(network: NeuralSDF, fine: LevelArrays, given: RefitPoints) -> _Rows:
    """The equations of the values at the labelled points, whose weights make squares of errors grow as errors do."""
    values, jacobian = _values_and_jacobian(network, given.points, fine)
    residuals = (values - given.distances)[:, None]
    weights = given.weights[:, None] / _at_least(np.abs(residuals), LEAST_ERROR)
    return _Rows(given.points, jacobian, jacobian * jacobian, residuals, weights)


def _surface_rows(network: NeuralSDF, fine: LevelArrays, given: RefitPoints) -> _Rows:
    """The equations of values and gradients on the surface, weighted as those of the values."""
    levels, normals = network.encoding.arrays, given.normals
    values, of_all = _values_and_jacobian(network, given.on_surface, levels)
    gradients = _gradients(network, given.on_surface, of_all)
    jacobian = np.ascontiguousarray(of_all[:, -len(fine.dense) * network.encoding.features :])
    # A normal points to either side, the gradient outward.
    sides = np.where((gradients * normals).sum(1) < 0, np.float32(-1), np.float32(1))
    errors = gradients - sides[:, None] * normals
    kept = (errors * errors).sum(1) < FARTHEST_NORMAL**2
    residuals = np.concatenate([values[:, None], errors], 1)
    weights = np.empty_like(residuals)
    weights[:, 0] = 1 / _at_least(np.abs(values), LEAST_ERROR)
    # The size of a gradient's error, whose part along the normal weighs less.
    along = (errors * normals).sum(1)
    sizes = np.sqrt((errors * errors).sum(1) - np.float32(1 - LENGTH_WEIGHT) * along * along)
    weights[:, 1:] = (GRADIENT_WEIGHT * kept / _at_least(sizes, LEAST_SLOPE_ERROR))[:, None]
    return _Rows(given.on_surface, jacobian, jacobian * jacobian, residuals, weights, normals)


def _gradients(network: NeuralSDF, points: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """(N, 3) gradients of the signed distance at points (N, 3), from its derivatives (N, L * F) by all features."""
    from neuralparts.network.hash_grid_kernels import point_gradients

    table, levels = network.encoding.table.detach(), network.encoding.arrays
    return point_gradients(torch.from_numpy(points), table, levels, torch.from_numpy(jacobian)).numpy()


@torch.no_grad()
def _values_and_jacobian(network: NeuralSDF, points: np.ndarray, levels: LevelArrays) -> tuple[np.ndarray, np.ndarray]:
    """Values (N,) at points (N, 3), and their derivatives (N, L * F) by the features of `levels`, the finest ones."""
    hidden, output = network.layers[0], network.layers[2]
    width = len(levels.dense) * network.encoding.features
    values, jacobian = np.empty(len(points), np.float32), np.empty((len(points), width), np.float32)
    with threads_for(network.encoding, network.widths, 1):  # so that the bits do not depend on threads
        for start in range(0, len(points), _BATCH):
            block = slice(start, start + _BATCH)
            units = hidden(network.encoding(torch.from_numpy(points[block])))
            values[block] = output(units.clamp(min=0))[:, 0].numpy()
            # (B, W) slopes of the output by the units, then (B, L * F) by the features.
            jacobian[block] = (((units > 0) * output.weight[0]) @ hidden.weight[:, -width:]).numpy()
    return values, jacobian


def _least_squares(all_rows: tuple[_Rows, ...], fine: LevelArrays, shape: tuple[int, int]) -> np.ndarray:
    """The table's change, of this shape, after ITERATIONS of conjugate gradients, preconditioned by the diagonal."""
    downhill = -_on_table([(rows, rows.weighted(rows.residuals)) for rows in all_rows], fine, shape)
    diagonal = _on_table([(rows, rows.weights) for rows in all_rows], fine, shape, squared=True)
    damping = np.float32(DAMPING * diagonal[diagonal > 0].mean())
    inverse = 1 / (diagonal + damping)
    change, ahead = np.zeros(shape, np.float32), inverse * downhill
    direction, product = ahead.copy(), float((downhill * ahead).sum())
    for _ in range(ITERATIONS):
        weighted = [(rows, rows.weighted(_changes(rows, direction, fine))) for rows in all_rows]
        image = _on_table(weighted, fine, shape) + damping * direction
        length = product / max(float((direction * image).sum()), np.finfo(np.float32).tiny)
        change += np.float32(length) * direction
        downhill -= np.float32(length) * image
        ahead = inverse * downhill
        before, product = product, float((downhill * ahead).sum())
        direction = ahead + np.float32(product / max(before, np.finfo(np.float32).tiny)) * direction
    return change


def _changes(rows: _Rows, change: np.ndarray, fine: LevelArrays) -> np.ndarray:
    """(N, K) changes of values, or of values and slopes, by a change of the table."""
    from neuralparts.network.hash_grid_kernels import ranges, run
    from neuralparts.network.hash_grid_refit_kernels import value_and_slope_changes, value_changes

    kernel = value_changes if rows.residuals.shape[1] == 1 else value_and_slope_changes
    changes = np.empty_like(rows.residuals)
    common, lanes = (rows.points, change, rows.jacobian, *fine, changes), (0,) * change.shape[1]
    run(kernel, [(*common, start, stop, lanes) for start, stop in ranges(len(rows.points))])
    return changes


def _on_table(
    terms: list[tuple[_Rows, np.ndarray]], fine: LevelArrays, shape: tuple[int, int], squared: bool = False
) -> np.ndarray:
    """Sum over equations of factors (N, K) times their derivatives by the table, or times the squares of these."""
    from neuralparts.network.hash_grid_kernels import run
    from neuralparts.network.hash_grid_refit_kernels import add_to_table

    result, lanes = np.zeros(shape, np.float32), (0,) * shape[1]
    parts = [result[first:last] for first, last in pairwise(fine.offsets)]
    columns = range(0, len(parts) * shape[1], shape[1])
    for rows, factors in terms:
        arrays = rows.points, rows.squares if squared else rows.jacobian, factors, squared
        levels = zip(columns, fine.resolutions, fine.dense, fine.masks, parts, strict=True)
        run(add_to_table, [(*arrays, *level, lanes) for level in levels])
    return result
