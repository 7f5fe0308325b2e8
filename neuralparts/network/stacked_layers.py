"""The layers of many networks of one shape as one: their values, and by hand the gradients of all their parameters.

In: stacked weights and biases, points of each network, then the gradient of a loss by the values. Out: values, then
gradients. Values are computed in float32, gradients as `gradient_dtype` and GPU_GRADIENTS have it; with sines always in
float32, because nobody has measured them rounded. A network whose numbers are not finite changes no other one.
"""

from collections.abc import Callable

import torch
from torch import nn

from neuralparts.network.layers import SINE_FREQUENCY, Sine
from neuralparts.network.matrix_products import (
    ACTIVATION_BACKWARD,
    cast_all,
    exact_products,
    gradient_dtype,
    gradient_products,
    multiply_stacks,
)

# Activations in place, any shape. Their gradient needs their output alone.
_IN_PLACE: dict[type[nn.Module], Callable[[torch.Tensor], torch.Tensor]] = {
    nn.ReLU: torch.relu_,
    nn.LeakyReLU: nn.functional.leaky_relu_,
    nn.ELU: nn.functional.elu_,
}


def can_be_stacked(layers: nn.Sequential) -> bool:
    """True for float32 layers with activations of which `StackedLayers` knows the gradient."""
    known = all(type(activation) in (*_IN_PLACE, Sine) for activation in layers[1::2])
    return known and all(parameter.dtype == torch.float32 for parameter in layers.parameters())


class StackedLayers:
    """Linear layers of P networks with activations of one kind between them.

    parameters: first layer first, each weight (P, outputs, inputs) before its bias (P, 1, outputs), float32 on one
    device. They are read at every call. activation: its class. is_rounded: True if a GPU may round the gradients.
    """

    def __init__(self, parameters: list[torch.Tensor], activation: type[nn.Module]):
        self.parameters = parameters
        self._weights, self._biases = parameters[::2], parameters[1::2]
        self._activation = activation
        self._device = parameters[0].device
        self.is_rounded = activation is not Sine
        self._dtype = gradient_dtype(parameters[0]) if self.is_rounded else torch.float32
        # Of the latest values: the inputs of each layer, (P, N, inputs), and what each activation's gradient needs.
        self._inputs: list[torch.Tensor] = []
        self._kept: list[torch.Tensor] = []

    @torch.no_grad()
    def values(self, points: torch.Tensor) -> torch.Tensor:
        """points (P, N, 3) -> (P, N): each network's values at its own points."""
        self._inputs, self._kept = [], []
        outputs, last = points, len(self._weights) - 1
        with exact_products(self._device):
            for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
                self._inputs.append(outputs)
                outputs = torch.baddbmm(bias, outputs, weight.mT)  # (P, N, outputs)
                if index < last:
                    outputs = self._activate(outputs)
        return outputs.squeeze(-1)

    def _activate(self, values: torch.Tensor) -> torch.Tensor:
        """The activation of (P, N, width); keeps what its gradient needs."""
        if self._activation is Sine:
            values.mul_(SINE_FREQUENCY)
            outputs = torch.sin(values)
            self._kept.append(values)
            return outputs
        outputs = _IN_PLACE[self._activation](values)
        self._kept.append(outputs)
        return outputs

    @torch.no_grad()
    def gradients(self, by_values: torch.Tensor) -> list[torch.Tensor]:
        """Gradients of all parameters, float32, shaped like them and in their order, of the latest `values`.

        by_values: (P, N), gradient by those values of the sum of a loss of each network.
        """
        if self._activation is not Sine:  # the same tensors, the kept one being the next layer's input
            self._inputs[1:] = self._kept = cast_all(self._inputs[1:], self._dtype)
        inputs = cast_all(self._inputs[:1], self._dtype) + self._inputs[1:]
        weights = cast_all(self._weights, self._dtype)
        gradient = by_values.unsqueeze(-1).to(self._dtype)  # (P, N, 1)
        found = []  # last layer first, bias before weight
        products = gradient_products if self.is_rounded else exact_products
        with products(self._device):
            for index in reversed(range(len(weights))):
                # Here `gradient` is that of the layer's outputs (P, N, outputs).
                found.append(gradient.sum(1, keepdim=True, dtype=torch.float32))  # (P, 1, outputs)
                found.append(multiply_stacks(gradient.mT, inputs[index]))  # (P, outputs, inputs)
                if index > 0:
                    gradient = self._before_activation(torch.bmm(gradient, weights[index]), self._kept[index - 1])
        self._inputs, self._kept = [], []
        return found[::-1]

    def _before_activation(self, gradient: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """The gradient of an activation's input from that of its output, both (P, N, width)."""
        if self._activation is Sine:
            return kept.cos().mul_(SINE_FREQUENCY).mul_(gradient)
        return ACTIVATION_BACKWARD[self._activation](gradient, kept)
