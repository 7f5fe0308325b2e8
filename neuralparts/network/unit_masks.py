"""Masks over the units of a network's hidden layers, by which its widths are learned (DAM: Bu et al., 2021).

Every hidden layer has one learned number, its offset beta. Unit i of n has the place mu_i = SPREAD i / n, and its
output is multiplied by the mask ReLU(tanh(mu_i + beta)). So a falling offset takes the units of the first places away,
one after the other, and softly: the mask of a unit nears 0 before it is 0. A unit whose mask is 0 can be cut off.

In: a network of linear layers with activations between them. Out: the same network with masked weights, the gradients
of what is learned, and the network of the units that are left.
"""

import math

import torch
from torch import nn

from neuralparts.network.neural_sdf import NeuralSDF

# Difference between the last place and the first, and the offset at the start: the paper's values.
SPREAD, FIRST_OFFSET = 5.0, 1.0


class UnitMasks:
    """The masks of a network's hidden layers.

    A mask multiplies the output of a unit, which is the same as multiplying the column of the following layer's weight
    that reads it. So the masked network is a plain one, whose layers `apply` fills.

    network: a NeuralSDF without an encoding, on any device. weights: what is learned beside the offsets, a copy of
    the network's parameters in their order. offsets: (hidden layers,) float32, on the CPU. places: of each hidden layer
    the places mu of its units, (width,).
    """

    def __init__(self, network: NeuralSDF):
        self.network = network
        self._linears: list[nn.Linear] = list(network.layers[::2])
        self.parameters = list(network.layers.parameters())
        device = self.parameters[0].device
        self.weights = [parameter.detach().clone() for parameter in self.parameters]
        self.offsets = torch.full((len(network.widths),), FIRST_OFFSET)
        self.places = [SPREAD * torch.arange(width, device=device) / width for width in network.widths]

    def masks(self) -> list[torch.Tensor]:
        """The mask (width,) of each hidden layer, each value in [0, 1)."""
        pairs = zip(self.places, self.offsets.tolist(), strict=True)
        return [torch.relu(torch.tanh(places + offset)) for places, offset in pairs]

    def widths(self) -> tuple[int, ...]:
        """The number of units of each hidden layer whose masks are above 0, or 1 if there is none."""
        pairs = zip(self.network.widths, self.offsets.tolist(), strict=True)
        # mu_i + beta > 0 for i > -beta n / SPREAD.
        return tuple(max(1, min(width, width - 1 - math.floor(-offset * width / SPREAD))) for width, offset in pairs)

    def smooth_widths(self, offsets: torch.Tensor) -> list[float]:
        """The widths of offsets (hidden layers,) as numbers that change evenly: at most 1 more than `widths`."""
        pairs = zip(self.network.widths, offsets.tolist(), strict=True)
        return [max(1.0, min(width, width + offset * width / SPREAD)) for width, offset in pairs]

    @torch.no_grad()
    def apply(self) -> None:
        """Fill the network's layers with the masked weights."""
        torch._foreach_copy_(self.parameters, self.weights)
        for linear, mask in zip(self._linears[1:], self.masks(), strict=True):
            linear.weight.mul_(mask)  # (outputs, inputs) times (inputs,)

    @torch.no_grad()
    def gradients(self, of_masked: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
        """(gradients of `weights`, gradients of the offsets (hidden layers,), on the CPU) of a loss.

        of_masked: gradients of the masked network's parameters, in their order.
        """
        of_weights, of_offsets = list(of_masked), []
        for index, mask in enumerate(self.masks()):
            place = 2 * (index + 1)  # of the following layer's weight
            by_column = (of_masked[place] * self.weights[place]).sum(0)  # (width,): gradient of each mask
            # tanh' = 1 - tanh^2 where the mask is above 0; ReLU has no slope below.
            of_offsets.append((by_column * (1 - mask * mask) * (mask > 0)).sum())
            of_weights[place] = of_masked[place] * mask
        return of_weights, torch.stack(of_offsets).cpu()

    @torch.no_grad()
    def pruned(self) -> NeuralSDF:
        """A new network of the units whose masks are above 0, with the same values as the masked one, up to rounding.

        Of a layer without such a unit the last one is kept: its mask 0 becomes part of the following weight.
        """
        old = self.network
        new = NeuralSDF(
            self.widths(), old.activation, None, old.scaler, old.transform.center, old.transform.scale, old.about
        )
        read = slice(None)  # which outputs of the layer before are left: the last ones, as places grow with the index
        for linear, source in zip(new.layers[::2], self._linears, strict=True):
            kept = slice(-linear.out_features, None)
            linear.weight.copy_(source.weight[kept, read])
            linear.bias.copy_(source.bias[kept])
            read = kept
        return new.to(self.parameters[0].device)
