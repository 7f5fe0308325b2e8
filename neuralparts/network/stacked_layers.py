"""The layers of many networks of one shape as one: their values, and by hand the gradients of all their parameters.

In: stacked weights and biases, points of each network, then the gradient of a loss by the values. Out: values, then
gradients. A GPU computes values in float32 and gradients in TF32; with sines those too in float32, because nobody has
measured them rounded. A network whose numbers are not finite changes no other one.
"""

from collections.abc import Callable

import torch
from torch import nn

from neuralparts.network.layers import SINE_FREQUENCY, Sine
from neuralparts.network.matrix_products import ACTIVATION_BACKWARD, exact_products, gradient_products
from neuralparts.network.side_streams import SideStreams

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
        self._streams = SideStreams(self._device)
        # Of the latest values: the inputs of each layer, (P, N, inputs), and what each activation's gradient needs.
        self._inputs: list[torch.Tensor] = []
        self._kept: list[torch.Tensor] = []

    @torch.no_grad()
    def values(self, points: torch.Tensor, has_gradients: bool = True) -> torch.Tensor:
        """points (P, N, 3) -> (P, N): each network's values at its own points.

        has_gradients: False if `gradients` is not called for them; then less memory is needed.
        """
        self._inputs, self._kept = [], []
        outputs, last = points, len(self._weights) - 1
        with exact_products(self._device):
            for index, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
                inputs = outputs
                if index < last:
                    kept, outputs = self._activated(inputs, weight, bias, has_gradients)  # both (P, N, outputs)
                else:
                    kept = outputs = _linear(inputs, weight, bias)
                if has_gradients:
                    self._inputs.append(inputs)
                    self._kept.append(kept)
        return outputs.squeeze(-1)

    def _activated(
        self, inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, is_step: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(what its gradient needs, the activation), both (P, N, outputs), of a layer of inputs (P, N, inputs).

        In a step of one network, a GPU computes a ReLU in the launch of the product. That may make a NaN 0, so the
        values of a check are computed without.
        """
        if is_step and len(weight) == 1 and self._activation is nn.ReLU:
            outputs = torch._addmm_activation(bias[0, 0], inputs[0], weight[0].T).unsqueeze(0)
            return outputs, outputs
        values = _linear(inputs, weight, bias)
        if self._activation is Sine:
            values.mul_(SINE_FREQUENCY)
            return values, torch.sin(values)
        outputs = _IN_PLACE[self._activation](values)
        return outputs, outputs

    @torch.no_grad()
    def gradients(self, by_values: torch.Tensor) -> list[torch.Tensor]:
        """Gradients of all parameters, float32, shaped like them and in their order, of the latest `values`.

        by_values: (P, N), gradient by those values of the sum of a loss of each network.
        """
        gradient, last = by_values.unsqueeze(-1), len(self._weights) - 1  # (P, N, 1)
        of_outputs = [gradient]  # of each layer, (P, N, outputs), last layer first
        found: list[torch.Tensor] = []  # last layer first, bias before weight
        products = gradient_products if self.is_rounded else exact_products
        with products(self._device):
            for index in reversed(range(last + 1)):
                with self._streams.branch(index):
                    found.append(gradient.sum(1, keepdim=True))  # (P, 1, outputs)
                    found.append(torch.bmm(gradient.mT, self._inputs[index]))  # (P, outputs, inputs)
                if index > 0:
                    gradient = self._before_activation(torch.bmm(gradient, self._weights[index]), self._kept[index - 1])
                    of_outputs.append(gradient)
        self._streams.join()
        self._inputs, self._kept = [], []
        return found[::-1]

    def _before_activation(self, gradient: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """The gradient of an activation's input from that of its output, both (P, N, width)."""
        if self._activation is Sine:
            return kept.cos().mul_(SINE_FREQUENCY).mul_(gradient)
        return ACTIVATION_BACKWARD[self._activation](gradient, kept)


def _linear(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """values (P, N, inputs), weight (P, outputs, inputs), bias (P, 1, outputs) -> (P, N, outputs)."""
    if len(weight) == 1:  # a GPU adds one bias within the product, several in a launch of their own
        return torch.addmm(bias[0, 0], values[0], weight[0].T).unsqueeze(0)
    return torch.baddbmm(bias, values, weight.mT)
