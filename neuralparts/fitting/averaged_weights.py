"""The running mean of a fit's weights, and the learning rate that it asks for: a target error is then reached soonest.

In: a network that takes steps; at checks the errors of its weights and of their mean. Out: a network whose weights are
the mean of the latest ones; a factor of the learning rate.

A fit that ends at an error does not know how many steps it takes, so no schedule can let its rate fall over them. At a
high rate the weights jump around the place that a fall would reach, and their mean is near that place at every step
(Polyak and Juditsky, 1992). The mean forgets: with the n-th weights it takes the fraction (k + 1) / (k + n) of them
(Shamir and Zhang, 2013), so it covers about the latest 1 / (k + 1) of the fit. The rate is held as long as steps bring
the weights on. It falls when the weights are much worse than their mean, because jumps then are most of their error.
"""

from collections.abc import Iterator
from copy import deepcopy

import torch

from neuralparts.network import NeuralSDF

# Steps between two weights that the mean takes: the mean of all would be no better, and cost a tenth of a small step.
MEAN_EVERY = 8
# k above: 3 to 15 reach nearly the same errors (docs/log.md).
FORGETTING = 11
# The rate falls if the weights' error is more than this many times their mean's; between two such checks after m and n
# steps by (m / n)^FALL_POWER.
LARGEST_RATIO = 1.5
FALL_POWER = 2.0


class AveragedWeights:
    """The mean of the latest weights of one fit, and the learning rate that they ask for.

    network: as the fit's, before the first step; copied. The attribute `network` is the copy, whose weights are the
    mean. rate_factor: shape (), float32, on the host: of the learning rate, 1 at first.
    """

    def __init__(self, network: NeuralSDF):
        self.network = deepcopy(network).requires_grad_(False)
        self.rate_factor = torch.ones(())

    @torch.no_grad()
    def follow(self, network: NeuralSDF, steps: int) -> None:
        """Take the weights after `steps` steps into the mean, if they are due."""
        if steps % MEAN_EVERY:
            return
        fraction = min(1.0, (FORGETTING + 1) / (FORGETTING + steps // MEAN_EVERY))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), fraction)

    def adapt_rate(self, error: float, mean_error: float, steps: float, steps_before: float) -> None:
        """Lower the rate if that is due. error, mean_error: of the weights and of their mean. steps: at this check.
        steps_before: at the last one, 0 at the first; steps may be counted in samples."""
        if steps_before > 0 and error > LARGEST_RATIO * mean_error:
            self.rate_factor *= (steps_before / steps) ** FALL_POWER

    @torch.no_grad()
    def copy_to(self, network: NeuralSDF) -> None:
        """Give a network the mean, in place."""
        torch._foreach_copy_(list(network.parameters()), list(self.network.parameters()))

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """All that changes, by name; to be changed in place."""
        yield from self.network.named_parameters()
        yield "rate_factor", self.rate_factor
