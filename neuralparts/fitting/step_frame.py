"""What all steps by torch have in common: the host's part of a step, beside the device's part, `body`.

In: a learning rate for each step. Out: states that have taken it. The host hands over the rate and the numbers of the
batch's rows in tensors that stay where they are, so that `body` can be captured as a CUDA graph. It reads nothing back.
"""

from collections.abc import Callable

import torch

from neuralparts.fitting.adam import Adam
from neuralparts.fitting.batches import SampleOrder
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.schedule import Schedule
from neuralparts.fitting.settings import FitSettings
from neuralparts.fitting.soap import Soap

# The learning rate of a step: one for all states, or a list of one for each, if they are fitted to a target error.
Rates = float | list[float]


class StepFrame:
    """Steps of some states in one order of the samples: called with a learning rate, it takes one.

    states: all after the same steps, of the same attempt. order: of their samples. optimizer: that moves them all.
    numbers: (B,) int64, rows of the batch: samples, then the two of each pair. run: does the device's part of a step;
    by default `body`, and whatever else has the same effect may be put there. changed: all tensors that `body` changes.
    """

    changed: list[torch.Tensor]

    def __init__(
        self,
        states: list[FitState],
        order: SampleOrder,
        optimizer: Adam | Soap,
        settings: FitSettings,
        schedule: Schedule,
    ):
        self._states, self._order, self.optimizer = states, order, optimizer
        self._batch_size, self._seed = schedule.batch_size, settings.seed + states[0].attempt
        self.numbers = self._next_numbers().clone()
        self.run: Callable[[bool], None] = self.body

    def body(self, with_statistics: bool) -> None:
        """The device's part of a step. with_statistics: as `Soap.move` has it."""
        raise NotImplementedError

    def __call__(self, rate: Rates) -> None:
        """One batch, one step of the optimiser."""
        self.numbers.copy_(self._next_numbers())
        self.optimizer.set_rate(rate)
        self.run(self.optimizer.statistics_are_due)
        self.optimizer.advance()
        for state in self._states:
            state.loss_steps += 1
            state.steps += 1

    def _next_numbers(self) -> torch.Tensor:
        """The rows (B,) of the next step."""
        return self._order.rows(self._states[0].steps, self._batch_size, self._seed)
