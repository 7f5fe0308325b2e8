"""The training loop: `fit` takes a network and labelled points and fits the network in place; `fit_batch` many at once.

There is one loop: a single fit is a batch of one. It knows nothing of meshes or of the files of meshes. All samples lie
on the networks' device for the whole fit. The loop reads nothing back from the device between checks and checkpoints,
and once at a check for all members. On the CPU the same machine, seed and settings give the same weights to the bit,
interrupted or not, unless a clock ends the fit.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from neuralparts.errors import Interrupted
from neuralparts.fitting.batches import Batches, Pairs, SampleStack, count_pairs
from neuralparts.fitting.collapse import CollapseError
from neuralparts.fitting.member_fit import MemberFit
from neuralparts.fitting.members import Member, check_alike
from neuralparts.fitting.settings import FitHooks, FitResult, FitSettings
from neuralparts.fitting.step import steps_of, values_at_once
from neuralparts.fitting.step_frame import Rates
from neuralparts.network import NeuralSDF, threads_for

# Points (P, M, 3) of P networks -> their values (P, M).
Values = Callable[[torch.Tensor], torch.Tensor]


def fit(
    network: NeuralSDF,
    points: np.ndarray,
    sdf: np.ndarray,
    settings: FitSettings,
    hooks: FitHooks | None = None,
    resume: bool = False,
    pairs: Pairs | None = None,
) -> FitResult:
    """Fit `network` in place to points (N, 3) float32 and sdf (N,) float32, domain units, negative inside.

    A fit that collapses is repeated once, from the next seed. With a time budget, the second attempt has the rest of
    it, and a network that is constant when half of it is over has collapsed. If the first attempt took all of the
    budget, there is no second. `FitResult.collapsed` says why the last attempt collapsed.

    pairs: points (Q, 2, 3) and sdf (Q, 2), as `sampling.pair_samples` draws them, or None. Beside its samples, a step
    takes some of them (`Batches.pairs_beside`), fits their points too, and matches the slopes between them.

    resume: go on from `hooks.checkpoint` if that file exists. Raises ValueError for samples of other shapes or with
    values that are not finite, CollapseError if the last attempt gives values that are not numbers, CheckpointError for
    a checkpoint of another fit, Interrupted when the hooks ask to stop.
    """
    (outcome,) = fit_batch([Member(network, points, sdf, pairs, hooks or FitHooks(), resume)], settings)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def fit_batch(members: Sequence[Member], settings: FitSettings) -> list[FitResult | Exception]:
    """Fit the networks of all members in place, each as `fit` would; returns their outcomes in the same order.

    An outcome is the result, or the exception with which `fit` would have ended for this member: it ends no other. All
    members have the same steps, checks and order of samples. One that reaches its target error or collapses leaves the
    batch, and the others go on; those that collapsed are fitted again together, after the first attempts. The clock of
    the first member is the clock of all.

    Members whose checkpoints stand at different steps are fitted in groups of equal steps, one group after the other.
    Raises ValueError unless the members' `shape_key`s are equal, and Interrupted when the hooks of any member ask to
    stop; then each that is being fitted has written its checkpoint.
    """
    outcomes: list[FitResult | Exception | None] = [_caught(member.check) for member in members]
    sound = [index for index, outcome in enumerate(outcomes) if outcome is None]
    check_alike([members[index] for index in sound])
    try:
        found = _fit_all([members[index] for index in sound], settings)
    finally:
        for index in sound:
            members[index].network.eval()
    for index, outcome in zip(sound, found, strict=True):
        outcomes[index] = outcome
    return outcomes


def _fit_all(members: list[Member], settings: FitSettings) -> list[FitResult | Exception]:
    """The outcomes of members that one batch can hold."""
    batches = _stacked_batches(members, settings)
    fits = [MemberFit(member, own, settings) for member, own in zip(members, batches, strict=True)]
    for fit in fits:
        fit.outcome = _caught(fit.begin)
    while waiting := [fit for fit in fits if fit.outcome is None]:
        group = _next_group(waiting)
        FitRun(group, others_wait=len(waiting) > len(group)).to_the_end()
        for fit in group:
            if fit.may_be_repeated():
                fit.outcome = _caught(fit.repeat)
    return [fit.outcome for fit in fits]


def _stacked_batches(members: list[Member], settings: FitSettings) -> list[Batches]:
    """The samples of all members in one stack."""
    if not members:
        return []
    first, device = members[0], members[0].device
    stack = SampleStack.empty(len(members), len(first.points), count_pairs(first.pairs), settings, device)
    return [
        Batches(member.points, member.sdf, member.network.scaler, settings, device, member.pairs, stack, place)
        for place, member in enumerate(members)
    ]


def _next_group(waiting: list[MemberFit]) -> list[MemberFit]:
    """Those that can be fitted together next: at the same step of the same attempt, first attempts first; with a time
    budget, which decides the learning rate, also after the same seconds."""

    def standing(fit: MemberFit) -> tuple[int, int, float]:
        state = fit.state
        return state.attempt, state.steps, state.seconds if fit.settings.time_budget else 0.0

    first = min(map(standing, waiting))
    return [fit for fit in waiting if standing(fit) == first]


def _caught(action: Callable[[], None]) -> Exception | None:
    """The exception that an action of one member raises, or None. Interrupted concerns all members, so it is raised."""
    try:
        action()
    except Interrupted:
        raise
    except Exception as error:
        return error
    return None


class FitRun:
    """Fits at the same step of the same attempt, taken to their ends together.

    others_wait: True if the batch has members that are fitted later. While any of the batch go on, one that ends leaves
    a checkpoint of its end, so that an interruption of the others costs it nothing.
    """

    def __init__(self, fits: list[MemberFit], others_wait: bool):
        self._all = self._running = fits
        self._others_wait = others_wait
        self._settings, self._schedule = fits[0].settings, fits[0].schedule
        self._clock = fits[0].member.hooks.clock
        self._checked = started = self._clock()
        for fit in fits:
            fit.start(self._clock, started)

    def to_the_end(self) -> None:
        """Take all steps, until each fit has its outcome. Raises Interrupted."""
        self._for_each(MemberFit.end_if_good_enough)  # one that was resumed from the checkpoint of its end
        self._drop_ended()
        while self._running:
            network = self._running[0].member.network
            states, batches = [fit.state for fit in self._running], [fit.batches for fit in self._running]
            # The steps come first: compiled ones have threads of their own, and torch keeps one.
            with (
                steps_of(states, batches, self._settings, self._schedule) as take_step,
                threads_for(network.encoding, network.widths, self._schedule.batch_size),
            ):
                self._take_steps(take_step)

    def _take_steps(self, take_step: Callable[[Rates], None]) -> None:
        """Take steps until a fit ends, or the schedule does for all.

        take_step: as `steps_of` yields it, for all that go on.
        """
        count, first = len(self._running), self._running[0]
        while (fraction := first.fraction_done()) < 1:
            rates = [fit.learning_rate(fraction) for fit in self._running]
            try:
                take_step(rates if len(set(rates)) > 1 else rates[0])
            except CollapseError as error:  # of the only one; one of several is found at the check
                first.fail(error)
            self._for_each(MemberFit.average_weights)
            self._check_if_due(dict(zip(self._running, rates, strict=True)), values_at_once(take_step))
            self._drop_ended()
            if self._running:
                self._write_checkpoints_or_stop()
            if len(self._running) < count:
                return
        ended_by = "timeBudget" if self._settings.time_budget else "epochs"
        self._for_each(MemberFit.keep_the_better_weights)
        self._for_each(lambda fit: fit.end(ended_by))
        self._drop_ended()

    def _check_if_due(self, rates: dict[MemberFit, float], values: Values | None) -> None:
        """Validate and check all that go on, if it is time for it. rates: of the last step. values: as `values_at_once`
        has it."""
        steps = self._running[0].state.steps
        if self._schedule.ends_epoch(steps):
            self._for_each(MemberFit.validate)
        if self._schedule.check_is_due(steps, self._clock() - self._checked):
            self._checked = self._clock()
            measured = self._measured(values)
            self._for_each(lambda fit: fit.check(*measured[fit], rates[fit]))

    def _measured(self, values: Values | None) -> dict[MemberFit, list[float]]:
        """[sum of losses since the last check, held-out error, that of the averaged weights] of each that goes on; the
        sums are set to zero."""
        errors = self._errors_at_once(values)
        if errors is None:
            self._for_each(MemberFit.measure)
        else:
            for fit, error in zip(self._running, errors.unbind(), strict=True):
                fit.held_out_error = error
        self._for_each(MemberFit.measure_average)
        fits = [fit for fit in self._running if fit.outcome is None]
        if not fits:
            return {}
        sums = [fit.state.loss_sum for fit in fits]
        columns = (
            torch.stack(sums).double(),
            *(torch.stack(own) for own in zip(*((fit.held_out_error, fit.average_error) for fit in fits), strict=True)),
        )
        # (fits, 3): one reading from the device for all.
        read = torch.stack(columns, dim=1).tolist()
        torch._foreach_zero_(sums)
        return dict(zip(fits, read, strict=True))

    def _errors_at_once(self, values: Values | None) -> torch.Tensor | None:
        """The held-out errors (fits,) float64 of all, or None unless they can be computed together."""
        points = [fit.held_out for fit in self._running]
        if values is None or any(own is None or own.shape != points[0].shape for own in points):
            return None
        return values(torch.stack(points)).abs().mean(1).double()

    def _write_checkpoints_or_stop(self) -> None:
        """Write the checkpoints of all that go on if that of one is due, or if one is asked to stop: then raise
        Interrupted. So all can be resumed from the same step."""
        asked = [fit.member.hooks.should_stop for fit in self._running]
        stop = any(should_stop is not None and should_stop() for should_stop in asked)
        writing = [fit for fit in self._running if fit.writer.is_on]
        if writing and (stop or self._checkpoint_is_due(writing)):
            now = self._clock()
            self._for_each(lambda fit: fit.writer.is_on and fit.write_checkpoint(now))
            now = self._clock()
            for fit in writing:
                fit.writer.written = now
        if stop:
            raise Interrupted("stopped on request")

    def _checkpoint_is_due(self, writing: list[MemberFit]) -> bool:
        """True if that of one of these is."""
        now = self._clock()
        return any(fit.writer.is_due(now) for fit in writing)

    def _for_each(self, action: Callable[[MemberFit], None]) -> None:
        """Call an action for each fit that goes on; one that raises an exception ends with it."""
        for fit in self._running:
            if fit.outcome is None and (error := _caught(lambda fit=fit: action(fit))) is not None:
                fit.fail(error)

    def _drop_ended(self) -> None:
        """Go on without those that have an outcome; see the class for their checkpoints."""
        ended = [fit for fit in self._running if fit.outcome is not None]
        self._running = [fit for fit in self._running if fit.outcome is None]
        if self._running or self._others_wait or any(fit.may_be_repeated() for fit in self._all):
            for fit in ended:
                fit.leave_checkpoint()
