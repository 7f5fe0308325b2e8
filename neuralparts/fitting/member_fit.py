"""The fit of one member of a batch: its curves, its checkpoints, when it ends, and how.

In: a member and its samples; then the loop's calls at the checks, which it makes for all members of a batch. Out: the
outcome, a `FitResult` or the exception that ended this member alone.
"""

import math
from collections.abc import Callable

import torch

from neuralparts.fitting.averaged_weights import AveragedWeights
from neuralparts.fitting.batches import Batches, random_generator
from neuralparts.fitting.checkpoint import CheckpointWriter, FitState, fit_identity, restore_checkpoint
from neuralparts.fitting.collapse import CollapseError, collapse_reason, signs_are_learnt
from neuralparts.fitting.members import Member
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.fitting.schedule import make_schedule
from neuralparts.fitting.settings import FitResult, FitSettings
from neuralparts.network import NeuralSDF, is_rounded

# Samples that are evaluated to see whether a fit has collapsed, and whether it may stop at a target error.
_JUDGED_SAMPLES = 8192


class MemberFit:
    """The fit of one member, as far as this process takes it.

    state: changes with every step, and a checkpoint holds all of it. outcome: how the attempt ended, or None as long as
    it goes on. held_out: (M, 3) points of the surface on the device, or None. `begin` comes first; then, for each
    attempt, `start`, what the loop does at its steps, and an end.
    """

    def __init__(self, member: Member, batches: Batches, settings: FitSettings):
        self.member, self.batches, self.settings = member, batches, settings
        self.outcome: FitResult | Exception | None = None

    def begin(self) -> None:
        """Draw the network's weights in place, or go on from the member's checkpoint.

        Raises CheckpointError, and ValueError for settings or held-out points that make no sense.
        """
        network, hooks = self.member.network, self.member.hooks
        self.state = _first_state(self.member, self.settings, attempt=0)
        self.schedule = make_schedule(
            self.settings,
            len(self.batches),
            self.state.optimizer.rate_multiple,
            has_encoding=network.encoding is not None,
            has_sines=network.activation == "sine",
        )
        self.held_out = None
        if hooks.held_out is not None:
            held_out = torch.as_tensor(hooks.held_out, dtype=torch.float32, device=self.member.device)
            self.held_out = held_out[: self.schedule.most_points_per_check]
        self.average_error = torch.full((), math.nan, dtype=torch.float64, device=self.member.device)
        identity = fit_identity(network, self.settings, len(self.batches), hooks.identity)
        is_resumed = self.member.resume and hooks.checkpoint is not None and hooks.checkpoint.is_file()
        if is_resumed:
            restore_checkpoint(hooks.checkpoint, self.state, identity)
        self._resumed_at = self._samples() if is_resumed else 0
        self.writer = CheckpointWriter(hooks, identity)

    def may_be_repeated(self) -> bool:
        """True after a first attempt that collapsed, unless it took the whole time budget."""
        is_result = isinstance(self.outcome, FitResult)
        has_collapsed = self.outcome.collapsed if is_result else isinstance(self.outcome, CollapseError)
        budget = self.settings.time_budget
        return bool(has_collapsed) and self.state.attempt == 0 and not (budget and self._seconds_at_end >= budget)

    def repeat(self) -> None:
        """Begin the second attempt, which has the rest of a time budget: draw the weights from the next seed."""
        self.outcome = None
        self.state = _first_state(self.member, self.settings, attempt=1)
        self.state.seconds = self._seconds_at_end
        self._resumed_at = 0

    def start(self, clock: Callable[[], float], now: float) -> None:
        """Begin to count the seconds of this process. clock: of all members that are fitted together; now: it reads."""
        self._clock, self._started = clock, now

    def seconds(self) -> float:
        """Seconds of fitting until now, those of an earlier attempt and before an interruption included."""
        return self._seconds_at(self._clock())

    def _seconds_at(self, now: float) -> float:
        """As `seconds`, when the clock reads `now`."""
        return self.state.seconds + now - self._started

    def fraction_done(self) -> float:
        """Fraction of the fit that is done, from 0 to 1."""
        return self.schedule.fraction_done(self.state.steps, self.seconds())

    def learning_rate(self, fraction: float) -> float:
        """The learning rate of the next step, at this fraction of the fit."""
        rate, average = self.schedule.learning_rate(self.state.steps, fraction), self.state.average
        return rate if average is None else rate * float(average.rate_factor)

    def average_weights(self) -> None:
        """Take the present weights into their mean, if there is one."""
        if self.state.average is not None:
            self.state.average.follow(self.member.network, self.state.steps)

    def write_checkpoint(self, now: float) -> None:
        """Write a checkpoint. now: one reading of the clock for all members, so that they resume together."""
        self.writer.write(self.state, self._seconds_at(now))

    # --- what the loop calls at a check, for all members at the same step

    def validate(self) -> None:
        """Add the validation error to its curve, if there is one."""
        hooks = self.member.hooks
        if hooks.validate is None:
            return
        error = hooks.validate()
        self.state.history["validation"].append(error)
        if hooks.log is not None:
            hooks.log({"samples": self._samples(), "validation": error}, self.fraction_done())

    def measure(self) -> None:
        """Leave the `held_out_error` of the weights."""
        self.held_out_error = self._surface_error(self.member.network)

    def measure_average(self) -> None:
        """Leave in `average_error` the held-out error of the averaged weights; without them it stays NaN."""
        if self.state.average is not None:
            self.average_error = self._surface_error(self.state.average.network)

    def _surface_error(self, network: NeuralSDF) -> torch.Tensor:
        """The mean |f| of a network over the held-out points, domain units, () float64 on the device; NaN if there are
        none."""
        if self.held_out is None:
            return torch.full((), math.nan, dtype=torch.float64, device=self.member.device)
        return network.domain(self.held_out).abs().mean().double()

    def check(self, loss_sum: float, held_out: float, of_average: float, rate: float) -> None:
        """Add a value to each curve, report progress, and end the attempt if the target error is reached.

        loss_sum: of the steps since the last check. held_out, of_average: `held_out_error`, `average_error`. Raises
        CollapseError if the mean loss since the last check or the held-out error is not finite, or if the network is
        constant when half of a time budget is over.
        """
        state, hooks = self.state, self.member.hooks
        loss = loss_sum / max(1, state.loss_steps)
        state.loss_steps = 0
        if not math.isfinite(loss):
            raise CollapseError("the loss is not a number any more: try a lower --learningRate")
        if self.held_out is not None and not math.isfinite(held_out):
            raise CollapseError("the network's values are not numbers: try a lower --learningRate")
        if state.average is not None and self.settings.schedule != "constant":
            state.average.adapt_rate(held_out, of_average, self._samples(), (state.history["samples"] or [0])[-1])
        values = {
            "samples": self._samples(),
            "seconds": self.seconds(),
            "loss": loss,
            "learning_rate": rate,
            "held_out": of_average if of_average < held_out else held_out,  # of those that would be kept
        }
        for name, value in values.items():
            state.history[name].append(value)
        if hooks.progress is not None:
            hooks.progress(self.fraction_done(), loss)
        if hooks.log is not None:
            hooks.log(values, self.fraction_done())
        self.end_if_good_enough()
        if self.outcome is None:
            self._judge_halfway()

    def end_if_good_enough(self) -> None:
        """End the attempt if it stands at a check at which the averaged weights or the weights have reached a target
        error."""
        average, history = self.state.average, self.state.history
        if average is None or history["samples"][-1:] != [self._samples()]:
            return
        if not history["held_out"][-1] <= self.settings.target_error:
            return
        if self._is_good_enough(average.network):
            average.copy_to(self.member.network)
            self.end("targetError")
        elif self._is_good_enough(self.member.network):
            self.end("targetError")

    def _is_good_enough(self, network: NeuralSDF) -> bool:
        """True if a network has reached the target error: on the surface, where a small |f| alone may mean that the
        function is flat, and by its signs off the surface."""
        target = self.settings.target_error
        return self._larger_error(network) <= target and signs_are_learnt(
            network, *self.batches.first(_JUDGED_SAMPLES), beyond=target
        )

    def _larger_error(self, network: NeuralSDF) -> float:
        """The larger one of the mean |f| and the mean distance to the zero level over the held-out points."""
        distance = float(network.level_distance(self.held_out).mean())
        return max(float(self._surface_error(network)), distance)

    def keep_the_better_weights(self) -> None:
        """At the end of a schedule, replace the weights by their mean if that has the smaller error."""
        average = self.state.average
        if average is not None and self._larger_error(average.network) < self._larger_error(self.member.network):
            average.copy_to(self.member.network)

    def _judge_halfway(self) -> None:
        """Raise CollapseError if half of a time budget is over since the last check, and the network is constant.

        So there is time for the second attempt.
        """
        budget, seconds = self.settings.time_budget, [0.0, *self.state.history["seconds"]]
        if self.state.attempt > 0 or not seconds[-2] < budget / 2 <= seconds[-1] < budget:
            return
        samples = self.batches.first(_JUDGED_SAMPLES)
        if reason := collapse_reason(self.member.network, *samples, is_fitted=False):
            raise CollapseError(reason)

    def _samples(self) -> int:
        """Samples taken so far."""
        return self.state.steps * self.schedule.batch_size

    # --- the end of an attempt

    def end(self, ended_by: str) -> None:
        """End the attempt with a result. Raises CollapseError for values that are not numbers."""
        self._seconds_at_end = self.seconds()
        collapsed = collapse_reason(self.member.network, *self.batches.first(_JUDGED_SAMPLES))
        self.outcome = FitResult(
            ended_by=ended_by,
            collapsed=collapsed,
            seconds=self._seconds_at_end,
            samples=self._samples(),
            restarts=self.state.attempt,
            resumed_at=self._resumed_at,
            history=self.state.history,
        )

    def fail(self, error: Exception) -> None:
        """End the attempt with an exception."""
        self._seconds_at_end = self.seconds()
        self.outcome = error

    def leave_checkpoint(self) -> None:
        """Write a checkpoint of the end, from which the fit ends again at once, if the network is a usable one."""
        if self.writer.is_on and isinstance(self.outcome, FitResult) and not self.outcome.collapsed:
            self.writer.write(self.state, self._seconds_at_end)


def _first_state(member: Member, settings: FitSettings, attempt: int) -> FitState:
    """Draw the network's weights in place, in training mode; returns the state before the first step of the attempt.

    A first attempt with a head start keeps the weights, and its state is after those steps.
    """
    network, head_start = member.network, member.head_start if attempt == 0 else None
    network.train()
    if head_start is None:
        network.initialise(settings.init, random_generator(settings.seed + attempt))
    has_encoding, rounded = network.encoding is not None, is_rounded(network.layers)
    optimizer = make_optimizer(settings.optimizer, list(network.parameters()), has_encoding, rounded)
    has_target = settings.target_error > 0 and member.hooks.held_out is not None
    average = AveragedWeights(network) if has_target else None
    state = FitState(network, optimizer, torch.zeros((), device=member.device), attempt, average=average)
    if head_start is not None:
        state.steps, state.seconds = head_start.steps, head_start.seconds
    return state
