"""`NeuralSDF`: units, kinds of arrays, gradients, batches."""

import numpy as np
import pytest
import torch

from neuralparts.choices import ACTIVATIONS
from neuralparts.network import HashGrid, NeuralSDF
from neuralparts.network.neural_sdf import LEAST_SLOPE
from neuralparts.network.queries import answer
from tests.network.cases import a_model, some_points


def test_file_units_and_kinds():
    center, scale = np.array([1e3, -2e3, 5e2]), 0.01
    model = a_model(center=center, scale=scale)
    domain = some_points()
    in_file = domain.astype(np.float64) / scale + center
    values = model(in_file)
    assert isinstance(values, np.ndarray) and values.shape == (50,)
    np.testing.assert_allclose(values, model.domain(domain) / scale, rtol=1e-4, atol=1e-4)
    tensor = model(torch.as_tensor(in_file))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-6)
    np.testing.assert_allclose(model.transform.to_file(domain), in_file, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("encoding", [None, (2, 2, 4, 8, 8)])
def test_gradient_against_differences(activation, encoding):
    model = a_model(activation=activation, encoding=None if encoding is None else HashGrid(*encoding), scale=2.0)
    points = torch.as_tensor(some_points(200, 1)) / model.transform.scale
    gradient = model.gradient(points)
    assert gradient.shape == (200, 3)
    step = 1e-3
    for axis in range(3):
        offset = torch.zeros(3)
        offset[axis] = step
        difference = (model(points + offset) - model(points - offset)) / (2 * step)
        # Kinks of a ReLU or of a grid lie between some of the pairs.
        agree = (difference - gradient[:, axis]).abs() < 0.02 * (1 + gradient[:, axis].abs())
        assert agree.float().mean() > 0.8


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_level_distance_of_a_flat_function_is_that_of_the_steep_one(scale):
    """f and f / 10 have one zero level: |f| differs tenfold, the distance to it does not."""
    model, points = a_model(encoding=HashGrid(2, 2, 4, 8, 8)), some_points(200, 1)
    with torch.no_grad():
        model.layers[-1].weight.mul_(scale)
        model.layers[-1].bias.mul_(scale)
    slope = np.linalg.norm(model.gradient(model.transform.to_file(points)), axis=1)
    distance = model.level_distance(points)
    assert distance.shape == (200,) and distance.dtype == np.float32
    np.testing.assert_allclose(distance, np.abs(model.domain(points)) / np.maximum(slope, LEAST_SLOPE), rtol=1e-3)
    assert isinstance(model.level_distance(torch.as_tensor(points)), torch.Tensor)


def test_level_distance_of_an_exact_plane_and_of_a_constant():
    model = NeuralSDF((2,))
    with torch.no_grad():
        hidden, last = model.layers[0], model.layers[-1]
        hidden.weight.copy_(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]))
        hidden.bias.zero_()
        last.weight.copy_(torch.tensor([[0.05, -0.05]]))
        last.bias.fill_(-0.01)  # f = 0.05 x - 0.01 is zero at x = 0.2
    points = some_points()
    np.testing.assert_allclose(model.level_distance(points), np.abs(points[:, 0] - 0.2), atol=1e-5)
    with torch.no_grad():
        last.weight.zero_()
    np.testing.assert_allclose(model.level_distance(points), 0.01 / LEAST_SLOPE, rtol=1e-6)
    assert np.isnan(model.level_distance(np.float32([[np.nan, 0, 0]]))).all()


def test_points_widths_and_transforms_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"\(\.\.\., 3\)"):
        a_model()(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="widths"):
        NeuralSDF(())
    with pytest.raises(ValueError, match="scale"):
        NeuralSDF((4,), scale=0.0)


def test_batches_do_not_change_values():
    model, points = a_model(), some_points(1000)
    whole = model.domain(points)
    with torch.no_grad():
        parts = answer(points, model.signed_distance, 77, torch.float32)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert model.domain(np.zeros((0, 3))).shape == (0,)
