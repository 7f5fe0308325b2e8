"""`NeuralSDF`: units, kinds of arrays, gradients, batches."""

import numpy as np
import pytest
import torch

from neuralparts.choices import ACTIVATIONS
from neuralparts.network import HashGrid, NeuralSDF
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
