"""Layers: the promised widths, and initial weights by their variance, their seed and their device."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neuralparts.choices import INITIALISATIONS
from neuralparts.network import DAM_WIDTHS, HashGrid, NeuralSDF, initialise, make_layers


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


def test_biases_are_zero_but_for_those_of_a_first_layer_that_reads_coordinates():
    layers, decoder = make_layers((40, 30), "relu"), make_layers((40, 30), "relu", inputs=24)
    for network in (layers, decoder):
        initialise(network, "he_uniform", torch.Generator().manual_seed(1))
    first = layers[0]
    assert 0 < float(first.bias.detach().abs().max()) <= 0.5 * float(first.weight.detach().abs().max())
    assert all((layer.bias == 0).all() for layer in [*layers[2::2], *decoder[::2]])


def test_unknown_names_and_widths_are_refused():
    with pytest.raises(ValueError, match="widths"):
        make_layers((), "relu")
    with pytest.raises(ValueError, match="activation"):
        make_layers((4,), "gelu")
    with pytest.raises(ValueError, match="init"):
        initialise(make_layers((4,), "relu"), "zeros", torch.Generator())


class DrawsOnly(TorchDispatchMode):
    """Fails if numbers are drawn for a tensor on another device than their generator's, as a GPU's kernels do."""

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
