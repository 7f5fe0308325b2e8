"""The finest levels fitted once more: the compiled loops against dense equations from autograd, and what they gain."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuralparts.domain import Transform
from neuralparts.fitting import FitResult
from neuralparts.flags import parse_fit_flags
from neuralparts.inputs import Labelled
from neuralparts.network import HashGrid, NeuralSDF, RefitPoints, refit_finest_levels
from neuralparts.network import hash_grid_refit as constants
from neuralparts.steps import refit
from neuralparts.watch import Watch

# Two dense levels, two hashed ones.
SIZES = {"levels": 4, "base_resolution": 2, "finest_resolution": 16, "log2_table_size": 7}


def made_network(features: int) -> NeuralSDF:
    """A network with values of the size of 0.1 in its table, so that the levels matter."""
    network = NeuralSDF((16,), "relu", HashGrid(**SIZES, features=features))
    network.initialise("he_uniform", torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.encoding.table.mul_(1e3)
    return network


def points_of_a_sphere(count: int, radius: float = 0.6) -> RefitPoints:
    """Points near a sphere with their distances, points on it, and its normals, half of which point inward."""
    generator = np.random.default_rng(0)
    directions = generator.standard_normal((2 * count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distances = generator.laplace(0, 0.01, count)
    near, on = directions[:count] * (radius + distances)[:, None], directions[count:] * radius
    normals = directions[count:] * np.where(np.arange(count) % 2, 1, -1)[:, None]
    weights = 1 / (1 + 60 * np.abs(distances))
    return RefitPoints(*(array.astype(np.float32) for array in (near, distances, weights, on, normals)))


def values_and_slopes(network: NeuralSDF, table: torch.Tensor, points: np.ndarray) -> torch.Tensor:
    """(N, 4) of a float64 network with this table, differentiable."""
    places = torch.from_numpy(points).double().requires_grad_(True)
    features = torch.func.functional_call(network.encoding, {"table": table}, (places,))
    values = network.layers(features)[:, 0]
    return torch.cat([values[:, None], torch.autograd.grad(values.sum(), places, create_graph=True)[0]], 1)


def refitted_by_dense_equations(network: NeuralSDF, given: RefitPoints) -> np.ndarray:
    """The table that `refit_finest_levels` should make, by all its equations as one matrix in float64."""
    network = network.double()
    start = int(network.encoding.arrays.offsets[-1 - constants.LEVELS])
    coarse, fine = network.encoding.table.detach().split([start, len(network.encoding.table) - start])
    count = len(given.points)

    def equations(fine: torch.Tensor) -> torch.Tensor:
        table = torch.cat([coarse, fine])
        near = values_and_slopes(network, table, given.points)[:, :1]
        return torch.cat([near.flatten(), values_and_slopes(network, table, given.on_surface).flatten()])

    for _ in range(constants.ROUNDS):
        # Linear about the table as it is now: matrix @ change + now.
        matrix = torch.autograd.functional.jacobian(equations, fine).flatten(1).numpy()
        now = equations(fine).detach().numpy()
        gradients = now[count:].reshape(-1, 4)[:, 1:]
        normals = given.normals * np.sign((gradients * given.normals).sum(1))[:, None]
        errors = now - np.concatenate([given.distances, np.concatenate([np.zeros((count, 1)), normals], 1).ravel()])
        # The weights as one matrix: a diagonal, and for each gradient less along its normal.
        on_surface = errors[count:].reshape(-1, 4)
        kept = np.linalg.norm(on_surface[:, 1:], axis=1) < constants.FARTHEST_NORMAL
        directions = np.eye(3) - (1 - constants.LENGTH_WEIGHT) * normals[:, :, None] * normals[:, None]  # (N, 3, 3)
        sizes = np.sqrt(np.einsum("ni,nij,nj->n", on_surface[:, 1:], directions, on_surface[:, 1:]))
        of_slopes = constants.GRADIENT_WEIGHT * kept / sizes.clip(constants.LEAST_SLOPE_ERROR)
        of_values = 1 / np.abs(on_surface[:, :1]).clip(constants.LEAST_ERROR)
        near = given.weights / np.abs(errors[:count]).clip(constants.LEAST_ERROR)
        scale = np.concatenate([near, np.concatenate([of_values, np.repeat(of_slopes[:, None], 3, 1)], 1).ravel()])
        weights = np.diag(scale)
        for point, first in enumerate(range(count + 1, len(errors), 4)):
            weights[first : first + 3, first : first + 3] = of_slopes[point] * directions[point]
        diagonal = (scale[:, None] * matrix**2).sum(0)
        damping = constants.DAMPING * diagonal[diagonal > 0].mean()
        normal = matrix.T @ weights @ matrix + damping * np.eye(matrix.shape[1])
        change = conjugate_gradients(normal, -matrix.T @ weights @ errors, diagonal + damping)
        fine = fine + torch.from_numpy(change).view_as(fine)
    return torch.cat([coarse, fine]).numpy()


def conjugate_gradients(matrix: np.ndarray, target: np.ndarray, diagonal: np.ndarray) -> np.ndarray:
    """The textbook's iterations for matrix @ x = target, from zero, preconditioned by a diagonal."""
    x, rest = np.zeros_like(target), target.copy()
    direction = rest / diagonal
    for _ in range(constants.ITERATIONS):
        before = rest @ (rest / diagonal)
        length = before / (direction @ matrix @ direction)
        x, rest = x + length * direction, rest - length * (matrix @ direction)
        direction = rest / diagonal + (rest @ (rest / diagonal)) / before * direction
    return x


@pytest.mark.parametrize("features", [3, 4])
def test_the_compiled_loops_change_the_table_as_dense_equations_do(features):
    given, network = points_of_a_sphere(50), made_network(features)
    before = network.encoding.table.detach().clone().numpy()
    refit_finest_levels(network, given)
    changed = network.encoding.table.detach().numpy()
    expected = refitted_by_dense_equations(made_network(features), given)
    size = np.abs(expected - before).max()
    assert size > 1e-3
    np.testing.assert_allclose(changed, expected, atol=2e-3 * size)


def test_coarse_levels_and_layers_stay_and_threads_change_no_bit():
    given, network, again = points_of_a_sphere(3000), made_network(4), made_network(4)
    layers = [weight.detach().clone() for weight in network.layers.parameters()]
    coarse = int(network.encoding.arrays.offsets[-1 - constants.LEVELS])
    before = network.encoding.table.detach().clone()
    threads = torch.get_num_threads()
    refit_finest_levels(network, given)
    try:
        torch.set_num_threads(3)
        refit_finest_levels(again, given)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(network.encoding.table, again.encoding.table)
    assert torch.equal(network.encoding.table[:coarse], before[:coarse])
    assert not torch.equal(network.encoding.table[coarse:], before[coarse:])
    assert all(map(torch.equal, layers, network.layers.parameters()))


def test_a_grid_of_one_level_is_fitted_too_and_no_labelled_points_are_needed():
    given, network = points_of_a_sphere(500), NeuralSDF((16,), "relu", HashGrid(**SIZES | {"levels": 1}, features=4))
    network.initialise("he_uniform", torch.Generator().manual_seed(0))
    none = RefitPoints(given.points[:0], given.distances[:0], given.weights[:0], given.on_surface, given.normals)
    before = np.abs(network.domain(given.on_surface)).mean()
    refit_finest_levels(network, none)
    assert np.abs(network.domain(given.on_surface)).mean() < 0.5 * before


@pytest.mark.parametrize("is_right", [True, False])
def test_a_second_fit_that_raises_the_held_out_error_is_taken_back(is_right):
    given, network, watch = points_of_a_sphere(500), made_network(4), Watch()
    held_out = given.on_surface if is_right else np.zeros((1, 3), np.float32)
    with torch.no_grad():  # 0 at the held-out point, if it is one
        network.layers[2].bias -= 0.0 if is_right else float(network.domain(held_out)[0])
    before = network.encoding.table.detach().clone()
    samples = (given.points if is_right else given.points * 0.02), given.distances + (0.0 if is_right else 0.03)
    data = Labelled("", Transform(np.zeros(3), 1.0), samples, None, held_out, normals=(given.on_surface, given.normals))
    refit(network, data, FitResult(), SimpleNamespace(importanceWeight=60.0), watch)
    assert torch.equal(network.encoding.table, before) is not is_right
    assert len(watch.notes) == (0 if is_right else 1)


def test_networks_that_the_loops_do_not_know_are_refused():
    given = points_of_a_sphere(10)
    for network in (NeuralSDF((16, 16), "relu", HashGrid(**SIZES)), NeuralSDF((16,), "relu")):
        with pytest.raises(ValueError, match="one hidden layer of ReLU"):
            refit_finest_levels(network, given)


@pytest.mark.parametrize(
    "more", ["--numLayers 2", "--scaler StandardScaler", "--encoding none", "--layerWidth 128", "--hashFeatures 9"]
)
def test_flags_of_such_networks_are_refused_in_a_line(more, capsys):
    flags = f"--encoding hashgrid --numLayers 1 --layerWidth 64 --numNormals 100 {more}".split()
    with pytest.raises(SystemExit):
        parse_fit_flags(["part.stl", *flags])
    err = capsys.readouterr().err
    assert "--numNormals needs --encoding hashgrid" in err and err.count("\n") == 1
    assert parse_fit_flags(["part.stl", *flags, "--numNormals", "0"]).numNormals == 0
