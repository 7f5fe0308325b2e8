"""Layers of a network: widths, activations, and how the first weights are drawn.

In: hidden widths, names of an activation and of an initialisation, a generator. Out: a `torch.nn.Sequential` of linear
layers with activations between them, one output, drawn on the generator's device.
"""

import math

import torch
from torch import nn

from neuralparts.choices import ACTIVATIONS, INITIALISATIONS

# Hidden widths that DAM (Bu et al., 2021) selected: with 3 inputs and 1 output 589,790 parameters.
DAM_WIDTHS = (333, 442, 351, 340, 304, 139, 76, 53, 39, 36, 35)
# Bound of the first layer's biases, as a fraction of its largest weight. The planes at which its units bend are then
# spread through the domain instead of all going through its centre. Measured in docs/log.md.
FIRST_BIAS_FRACTION = 0.5
# SIREN's frequency (Sitzmann et al., 2020).
SINE_FREQUENCY = 30.0


class Sine(nn.Module):
    """sin(30 x), SIREN's activation (Sitzmann et al., 2020)."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Elementwise, any shape."""
        return torch.sin(SINE_FREQUENCY * values)


_ACTIVATION_CLASSES = {"relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU, "sine": Sine}


def make_activation(name: str) -> nn.Module:
    """The activation module `name`. Raises ValueError for an unknown name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; one of {', '.join(ACTIVATIONS)}")
    return _ACTIVATION_CLASSES[name]()


def make_layers(widths: tuple[int, ...], activation: str, inputs: int = 3) -> nn.Sequential:
    """Linear layers with the given hidden widths, an activation after each, and one linear output.

    Maps (N, inputs) -> (N, 1). Raises ValueError for an unknown activation, and unless there is at least one width and
    all are positive.
    """
    if len(widths) == 0 or min(widths) < 1:
        raise ValueError(f"hidden widths must be positive, at least one; got {tuple(widths)}")
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), make_activation(activation)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


@torch.no_grad()
def initialise(layers: nn.Sequential, init: str, generator: torch.Generator) -> None:
    """Draw the weights and biases of all linear layers in place, first layer first, each weight before its bias.

    init: he_uniform, he_normal (He et al., 2015), xavier_uniform, xavier_normal (Glorot and Bengio, 2010), or siren
    (Sitzmann et al., 2020). Raises ValueError for an unknown name.
    """
    if init not in INITIALISATIONS:
        raise ValueError(f"unknown init {init!r}; one of {', '.join(INITIALISATIONS)}")
    linear_layers = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for index, layer in enumerate(linear_layers):
        weight = _draw_weight(init, layer, index == 0, generator)
        layer.weight.copy_(weight)
        layer.bias.copy_(_draw_bias(init, layer, index == 0, weight, generator))


def _draw_weight(init: str, layer: nn.Linear, is_first: bool, generator: torch.Generator) -> torch.Tensor:
    """A weight (outputs, inputs) for a layer, on the generator's device: the same numbers wherever the layer is."""
    weight = torch.empty(layer.weight.shape, device=generator.device)
    inputs, outputs = layer.in_features, layer.out_features
    if init == "siren":
        bound = 1 / inputs if is_first else math.sqrt(6 / inputs) / SINE_FREQUENCY
        return weight.uniform_(-bound, bound, generator=generator)
    variance = 2 / inputs if init.startswith("he") else 2 / (inputs + outputs)
    if init.endswith("normal"):
        return weight.normal_(0.0, math.sqrt(variance), generator=generator)
    bound = math.sqrt(3 * variance)
    return weight.uniform_(-bound, bound, generator=generator)


def _draw_bias(
    init: str, layer: nn.Linear, is_first: bool, weight: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """A bias (outputs,) for a layer with this weight, on the generator's device.

    Zero, with two exceptions: SIREN's are uniform within 1 / sqrt(inputs), because its sines need phases; those of a
    first layer that reads coordinates spread the planes at which its units bend.
    """
    bias = torch.zeros(layer.bias.shape, device=generator.device)
    if init == "siren":
        bound = 1 / math.sqrt(layer.in_features)
    elif is_first and layer.in_features == 3:
        bound = FIRST_BIAS_FRACTION * float(weight.abs().max())
    else:
        return bias
    return bias.uniform_(-bound, bound, generator=generator)
