"""Architectures, initialisation, units, gradients, and the one file of a model."""

import json
import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neuralparts.choices import ACTIVATIONS, INITIALISATIONS, SCALERS
from neuralparts.network import DAM_WIDTHS, HashGrid, NeuralSDF, fit_scaler, make_layers
from neuralparts.network.neural_sdf import initialise


def a_model(**kwargs):
    model = NeuralSDF(**({"widths": (16, 16)} | kwargs))
    model.initialise("siren" if model.activation == "sine" else "he_uniform", torch.Generator().manual_seed(3))
    return model


def some_points(count=50, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3)).astype(np.float32)


def test_dam_has_the_promised_widths_and_parameters():
    assert DAM_WIDTHS == (333, 442, 351, 340, 304, 139, 76, 53, 39, 36, 35)
    assert NeuralSDF(DAM_WIDTHS).parameter_count == 589_790


@pytest.mark.parametrize("init", INITIALISATIONS)
def test_initialisation_has_its_variance_and_its_seed(init):
    layers = make_layers((400, 300), "sine" if init == "siren" else "relu")
    initialise(layers, init, torch.Generator().manual_seed(1))
    weight = layers[2].weight
    inputs, outputs = 400, 300
    expected = {
        "he_uniform": 2 / inputs,
        "he_normal": 2 / inputs,
        "xavier_uniform": 2 / (inputs + outputs),
        "xavier_normal": 2 / (inputs + outputs),
        "siren": 6 / inputs / 30**2 / 3,
    }[init]
    assert float(weight.detach().var()) == pytest.approx(expected, rel=0.02)
    if init.endswith("uniform"):
        assert float(weight.detach().abs().max()) <= math.sqrt(3 * expected) * 1.0001
    before = weight.detach().clone()
    initialise(layers, init, torch.Generator().manual_seed(1))
    assert torch.equal(before, layers[2].weight)
    initialise(layers, init, torch.Generator().manual_seed(2))
    assert not torch.equal(before, layers[2].weight)


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
    np.testing.assert_allclose(model.to_file(domain), in_file, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("encoding", [None, (2, 2, 4, 8, 8)])
def test_gradient_against_differences(activation, encoding):
    model = a_model(activation=activation, encoding=None if encoding is None else HashGrid(*encoding), scale=2.0)
    points = torch.as_tensor(some_points(200, 1)) / model.scale
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


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("encoding", [None, (3, 2, 4, 16, 8)])
def test_saved_and_loaded_gives_the_same_bits(tmp_path, scaler, encoding):
    sdf = np.random.default_rng(0).laplace(0, 0.02, 2000).astype(np.float32)
    encoding = None if encoding is None else HashGrid(*encoding)
    model = a_model(scaler=fit_scaler(scaler, sdf), encoding=encoding, center=(0.1, 0.2, 1 / 3), scale=0.7)
    model.save(tmp_path / "a.safetensors")
    again = NeuralSDF.load(tmp_path / "a.safetensors")
    points = some_points()
    np.testing.assert_array_equal(model(points), again(points))
    assert again.description() == model.description()
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_refuses_files_that_are_no_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such model"):
        NeuralSDF.load(tmp_path / "nothing.safetensors")
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match="not a model"):
        NeuralSDF.load(path)
    model = a_model()
    model.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="not a model"):
        NeuralSDF.load(path)
    header = int.from_bytes(data[:8], "little")
    assert "neural-sdf" in json.loads(data[8 : 8 + header])["__metadata__"]


def test_refuses_points_and_shapes_that_make_no_sense():
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        a_model()(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="widths"):
        NeuralSDF(())
    with pytest.raises(ValueError, match="scale"):
        NeuralSDF((4,), scale=0.0)
    with pytest.raises(ValueError, match="activation"):
        NeuralSDF((4,), "gelu")


def test_batches_do_not_change_values(monkeypatch):
    model = a_model()
    points = some_points(1000)
    whole = model.domain(points)
    monkeypatch.setattr("network.BATCH", 77)
    np.testing.assert_allclose(model.domain(points), whole, atol=1e-6)
    assert model.domain(np.zeros((0, 3))).shape == (0,)


class DrawsOnly(TorchDispatchMode):
    """Fails where numbers are drawn for a tensor that lies elsewhere than their generator, as a GPU's kernels do."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        generator = (keywords or {}).get("generator")
        if generator is not None:
            assert arguments[0].device == generator.device
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("init", INITIALISATIONS)
def test_weights_are_drawn_where_the_generator_is(init):
    network = NeuralSDF((8, 8), encoding=HashGrid(2, 2, 4, 8, 6)).to("meta")
    with DrawsOnly():
        network.initialise(init, torch.Generator().manual_seed(0))
        NeuralSDF((8, 8)).to("meta").initialise(init, torch.Generator().manual_seed(0))
    assert next(network.parameters()).device.type == "meta"
