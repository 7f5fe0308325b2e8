"""NaN in, NaN out; infinitely far is infinitely far. Gradients of both are NaN; all other values keep their bits."""

import numpy as np
import pytest
import torch

from neuralparts.choices import ACTIVATIONS, SCALERS
from neuralparts.network import HashGrid, fit_scaler
from tests.network.cases import a_model, some_points

TARGETS = np.random.default_rng(0).laplace(0, 0.1, 2000).astype(np.float32)
BAD = (np.nan, np.inf, -np.inf)


def some_bad_points():
    """Points (60, 3) float32: each axis and each bad value in turn, all three axes at once, and infinity beside NaN."""
    points = some_points(60)
    for index in range(12):
        points[5 * index, slice(None) if index >= 9 else index % 3] = BAD[index // 3 % 3]
    points[59, :2] = np.nan, np.inf
    return points


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("encoding", [None, (2, 2, 4, 8, 8)])
def test_nan_and_infinity_on_every_path(encoding, activation, scaler):
    encoding = None if encoding is None else HashGrid(*encoding)
    model = a_model(activation=activation, encoding=encoding, scaler=fit_scaler(scaler, TARGETS), scale=0.5)
    points = some_bad_points()
    tensor = torch.as_tensor(points)
    unknown = np.isnan(points).any(axis=1)
    infinite = np.isinf(points).any(axis=1) & ~unknown
    finite = ~unknown & ~infinite
    # Differentiable: the value, and the gradient by all three coordinates.
    followed = tensor.clone().requires_grad_(True)
    distances = model.signed_distance(followed)
    (gradient,) = torch.autograd.grad(distances.sum(), followed)
    # In batches and one by one; arrays and tensors; domain and file units.
    one_by_one = np.array([model(point) for point in points])
    values = [model.domain(points), model.domain(tensor), model(points), model(tensor), one_by_one, distances.detach()]
    for found in map(np.asarray, values):
        np.testing.assert_array_equal(np.isnan(found), unknown)
        np.testing.assert_array_equal(np.isposinf(found), infinite)
    for gradients in (gradient.numpy(), model.gradient(points), model.gradient(tensor).numpy()):
        np.testing.assert_array_equal(np.isnan(gradients), np.repeat(~finite[:, None], 3, axis=1))
    # Finite points keep their bits beside those that are not.
    plain = model.scaler.inverse(model.scaled(tensor)).detach().numpy()
    np.testing.assert_array_equal(distances.detach().numpy()[finite].view(np.int32), plain[finite].view(np.int32))


@pytest.mark.parametrize("count", [1, 7, 64, 4097])
def test_one_nan_point_in_a_network_wide_enough_to_be_rounded(count):
    model = a_model(widths=(96, 96))
    points = some_points(count)
    points[-1, 1] = np.nan
    for training in (False, True):
        model.train(training)
        values = model.signed_distance(torch.as_tensor(points)).detach()
        assert torch.isnan(values).tolist() == [False] * (count - 1) + [True]


def test_a_coordinate_beyond_float32_warns_nobody():
    model = a_model(scale=1e-3)
    with np.errstate(all="raise"):
        values = model(np.array([[0, 0, 1e300], [-1e300, 0, 0], [0, 0, 0]]))
        inside = model.domain(np.array([[0, 0, 1e300], [0, 0, 0]]))  # in the network's own dtype
    np.testing.assert_allclose(values[:2], 1e300)
    assert np.isfinite(values[2]) and np.isposinf(inside).tolist() == [True, False]


def test_gradients_keep_their_bits():
    model = a_model(encoding=HashGrid(2, 2, 4, 8, 8))
    points = torch.as_tensor(some_points(300)).requires_grad_(True)
    (expected,) = torch.autograd.grad(model.scaled(points).sum(), points)
    np.testing.assert_array_equal(model.gradient(points.detach()).numpy(), expected.numpy())


def test_second_derivatives_are_those_of_the_network():
    model = a_model(activation="sine").double()
    points = torch.as_tensor(some_points(20)).double().requires_grad_(True)

    def second(function):
        (gradient,) = torch.autograd.grad(function(points).sum(), points, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), points)[0]

    assert torch.equal(second(model.signed_distance), second(model.scaled))
