"""One step of a fit: a batch, its loss, and the optimiser's step; by torch, or as a whole by compiled loops.

In: the state of a fit and its batches; then a learning rate for each step. Out: the state, changed in place. Torch does
it for every network, loss, optimiser and device. The compiled step, which a test compares with torch's, does the same
sums in another order, for what takes the fewest seconds: a hash grid with one small layer of ReLU, fitted by Adam to a
loss of absolute errors on the CPU.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from neuralparts.fitting.adam import EPSILON, Adam
from neuralparts.fitting.batches import Batches
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.collapse import CollapseError
from neuralparts.fitting.losses import SLOPE_WEIGHT, batch_loss, clamp_limits, slope_loss
from neuralparts.fitting.schedule import Schedule
from neuralparts.fitting.settings import FitSettings
from neuralparts.machine import thread_count
from neuralparts.network import AdamMeans, HashGridStep, StepSamples, has_compiled_step

# Losses that are a mean of absolute errors, each with a weight that its sample brings along.
ABSOLUTE_LOSSES = ("l1", "weighted", "relative")


@contextmanager
def steps_of(
    states: list[FitState], batches: list[Batches], settings: FitSettings, schedule: Schedule
) -> Iterator[Callable[[float], None]]:
    """Yields a function that takes one step of every state, each as if alone, at the learning rate it is called with.

    It raises CollapseError for a single state only. One of several that collapses has NaN as its sum of losses.
    """
    with ExitStack() as stack:
        takers = []
        for pair in zip(states, batches, strict=True):
            compiled = stack.enter_context(compiled_steps(*pair, settings, schedule))
            takers.append(compiled or TorchStep(*pair, settings, schedule))
        yield takers[0] if len(takers) == 1 else StepsInTurn(states, takers)


class StepsInTurn:
    """Steps of several states, one after the other: called with a learning rate, it takes one of each."""

    def __init__(self, states: list[FitState], takers: list[Callable[[float], None]]):
        self._states, self._takers = states, takers

    def __call__(self, rate: float) -> None:
        """One step of every state; one that has collapsed only counts it."""
        for index, (state, take_step) in enumerate(zip(self._states, self._takers, strict=True)):
            try:
                take_step(rate)
            except CollapseError:
                self._takers[index] = lambda rate, state=state: self._count_collapsed(state)
                self._count_collapsed(state)

    @staticmethod
    def _count_collapsed(state: FitState) -> None:
        """Count a step of a state that cannot go on, with NaN as its loss."""
        state.loss_sum.fill_(torch.nan)
        state.loss_steps += 1
        state.steps += 1


class TorchStep:
    """Steps by torch: called with a learning rate, it takes one."""

    def __init__(self, state: FitState, batches: Batches, settings: FitSettings, schedule: Schedule):
        self._state, self._batches, self._loss = state, batches, settings.loss
        self._size, self._seed = schedule.batch_size, settings.seed + state.attempt
        self._parameters = list(state.network.parameters())
        self._limits = clamp_limits(state.network.scaler, batches.rows.device)

    def __call__(self, rate: float) -> None:
        """One batch, one step of the optimiser."""
        state, size = self._state, self._size
        points, targets, weights = self._batches.batch(state.steps, size, self._seed)
        values = state.network.scaled(points)
        loss = batch_loss(values, targets, weights, self._loss, self._limits)
        if len(points) > size:  # pairs follow the samples
            loss = loss + SLOPE_WEIGHT * slope_loss(points[size:], values[size:], targets[size:])
        # Gradients as a list, shaped like the parameters: `.grad` is never filled, so it need not be cleared.
        gradients = torch.autograd.grad(loss, self._parameters)
        state.optimizer.step(list(gradients), rate)
        state.loss_sum += loss.detach()  # on the device: the loop reads it at a check only
        state.loss_steps += 1
        state.steps += 1


@contextmanager
def compiled_steps(
    state: FitState, batches: Batches, settings: FitSettings, schedule: Schedule
) -> Iterator["CompiledStep | None"]:
    """Steps by compiled loops, on as many threads as torch has when the block begins, but no more than the processors
    that this process may use; None for a fit that needs torch."""
    optimizer, is_absolute = state.optimizer, settings.loss in ABSOLUTE_LOSSES
    if not (is_absolute and isinstance(optimizer, Adam) and has_compiled_step(state.network)):
        yield None
        return
    means = AdamMeans(optimizer.first, optimizer.second, optimizer.betas, EPSILON)
    size = schedule.batch_size
    samples = StepSamples(batches.rows, size, batches.pairs_beside(size), SLOPE_WEIGHT)
    step = HashGridStep(state.network, means, samples, min(torch.get_num_threads(), thread_count()))
    try:
        yield CompiledStep(step, state, batches, settings, schedule)
    finally:
        step.close()


class CompiledStep:
    """Steps by compiled loops: called with a learning rate, it takes one."""

    def __init__(
        self, step: HashGridStep, state: FitState, batches: Batches, settings: FitSettings, schedule: Schedule
    ):
        self._step, self._state, self._batches = step, state, batches
        self._size, self._seed = schedule.batch_size, settings.seed + state.attempt
        self._total = schedule.total_steps
        step.begin(*self._rows_of(state.steps))

    def __call__(self, rate: float) -> None:
        """One batch, one step of Adam; the next batch is read meanwhile, if there is one."""
        state = self._state
        is_last = state.steps + 1 == self._total
        following = None if is_last else self._rows_of(state.steps + 1)
        state.loss_sum += self._step.take(rate, state.optimizer.steps, following)
        state.optimizer.count_step()
        state.loss_steps += 1
        state.steps += 1

    def _rows_of(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the samples, and of the first of each pair, that the step after `steps` steps takes."""
        samples, pairs = self._batches.chosen(steps, self._size, self._seed)
        return samples.numpy(), len(self._batches) + 2 * pairs.numpy()
