"""The steps of fits: `steps_of` chooses who takes them.

In: the states of some fits and their samples; then a learning rate for each step. Out: the states, changed in place.
`torch_step.py` does it for every network, loss, optimiser and device. Two others do the same sums in another order, and
tests compare them with it: `stacked_step.py` for many plain networks at once, and on a GPU also for one; and the
compiled step for a hash grid with one small layer of ReLU, fitted by Adam to a loss of absolute errors on the CPU.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat

import numpy as np
import torch

from neuralparts.choices import WIDEST_STACKED_ON_A_CPU
from neuralparts.fitting.adam import EPSILON, Adam
from neuralparts.fitting.batches import Batches
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.collapse import CollapseError
from neuralparts.fitting.cuda_graph import capture
from neuralparts.fitting.losses import SLOPE_WEIGHT
from neuralparts.fitting.schedule import Schedule
from neuralparts.fitting.settings import FitSettings
from neuralparts.fitting.stack import GPU_MULTIPLE, stacked
from neuralparts.fitting.stacked_step import StackedStep
from neuralparts.fitting.step_frame import Rates, StepFrame
from neuralparts.fitting.torch_step import TorchStep
from neuralparts.machine import thread_count
from neuralparts.network import AdamMeans, HashGridStep, StepSamples, can_be_stacked, has_compiled_step

# Losses that are a mean of absolute errors, each with a weight that its sample brings along.
ABSOLUTE_LOSSES = ("l1", "weighted", "relative")


@contextmanager
def steps_of(
    states: list[FitState], batches: list[Batches], settings: FitSettings, schedule: Schedule
) -> Iterator[Callable[[Rates], None]]:
    """Yields a function that takes one step of every state, each as if alone, at the rate or rates it is called with.

    states: all after the same steps, of the same attempt, of one network shape. batches: theirs, slices of one stack.
    Inside the block the tensors of a state may be views of larger ones, and other objects than before and after: read
    them from the state. The function raises CollapseError for a single state only. One of several that collapses has
    NaN as its sum of losses.
    """
    on_gpu = batches[0].rows.device.type == "cuda"
    with ExitStack() as block:
        takers: list[Callable[[Rates], None]] = []
        if are_stacked(states):
            multiple = 1 if batches[0].rows.device.type == "cpu" else GPU_MULTIPLE
            stack = block.enter_context(stacked(states, settings.optimizer, multiple, settings.target_error > 0))
            takers.append(StackedStep(states, batches, settings, schedule, stack))
        else:
            for pair in zip(states, batches, strict=True):
                compiled = block.enter_context(compiled_steps(*pair, settings, schedule))
                takers.append(compiled or TorchStep(*pair, settings, schedule))
        for take_step in takers:
            if on_gpu and isinstance(take_step, StepFrame):
                capture(take_step, (False, True) if settings.optimizer == "soap" else (False,))
        yield takers[0] if len(takers) == 1 else StepsInTurn(states, takers)


def are_stacked(states: list[FitState]) -> bool:
    """True if `steps_of` takes the steps of these states at once, as a stack."""
    networks = [state.network for state in states]
    first = networks[0]
    if first.encoding is not None or not can_be_stacked(first.layers):
        return False
    if first.layers[0].weight.device.type == "cpu":
        return len(states) > 1 and max(first.widths) <= WIDEST_STACKED_ON_A_CPU
    return True


def values_at_once(take_step: Callable[[Rates], None]) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """`StackedStep.domain` of the states whose steps these are; None if they are no stack, but each on its own."""
    return take_step.domain if isinstance(take_step, StackedStep) else None


class StepsInTurn:
    """Steps of several states, one after the other: called with their rate or rates, it takes one of each."""

    def __init__(self, states: list[FitState], takers: list[Callable[[float], None]]):
        self._states, self._takers = states, takers

    def __call__(self, rate: Rates) -> None:
        """One step of every state; one that has collapsed only counts it."""
        rates = rate if isinstance(rate, list) else [rate] * len(self._states)
        for index, (state, take_step) in enumerate(zip(self._states, self._takers, strict=True)):
            try:
                take_step(rates[index])
            except CollapseError:
                self._takers[index] = lambda rate, state=state: self._count_collapsed(state)
                self._count_collapsed(state)

    @staticmethod
    def _count_collapsed(state: FitState) -> None:
        """Count a step of a state that cannot go on, with NaN as its loss."""
        state.loss_sum.fill_(torch.nan)
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
        self._step, self._state, self._total = step, state, schedule.total_steps
        size, seed = schedule.batch_size, settings.seed + state.attempt
        # Iterators do most of their work once for an epoch. After a step the code and data of Python are in no near
        # cache, so that each of its lines takes far longer than usual.
        self._samples = batches.order.batches("samples", size, state.steps, seed)
        beside, no_pairs = batches.pairs_beside(size), np.zeros(0, np.int64)
        self._pairs = batches.order.batches("pairs", beside, state.steps, seed) if beside else repeat(no_pairs)
        self._first_pair = len(batches)
        step.begin(*self._next_rows())

    def __call__(self, rate: float) -> None:
        """One batch, one step of Adam; the next batch is read meanwhile, if there is one."""
        state = self._state
        following = None if state.steps + 1 == self._total else self._next_rows()
        state.loss_sum += self._step.take(rate, state.optimizer.steps, following)
        state.optimizer.count_step()
        state.loss_steps += 1
        state.steps += 1

    def _next_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the samples, and of the first of each pair, of the next batch."""
        return next(self._samples), self._first_pair + 2 * next(self._pairs)
