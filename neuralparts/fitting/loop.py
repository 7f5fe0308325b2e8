"""The training loop: `fit` takes a network and labelled points and fits the network in place.

It knows nothing of meshes or of the files of meshes. All samples lie on the network's device for the whole fit, and the
loop reads nothing back from the device between checks and checkpoints. On the CPU the same machine, seed and settings
give the same weights to the bit, interrupted or not, unless a clock ends the fit.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from neuralparts.errors import Interrupted
from neuralparts.fitting.batches import Batches, Pairs, check_pairs, check_samples, random_generator
from neuralparts.fitting.checkpoint import CheckpointWriter, FitState, fit_identity, restore_checkpoint
from neuralparts.fitting.collapse import CollapseError, collapse_reason, signs_are_learnt
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.fitting.schedule import make_schedule
from neuralparts.fitting.settings import FitHooks, FitResult, FitSettings
from neuralparts.fitting.step import TorchStep, compiled_steps
from neuralparts.network import NeuralSDF, is_rounded, threads_for

# Samples that are evaluated to see whether a fit has collapsed, and whether it may stop at a target error.
_JUDGED_SAMPLES = 8192


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

    pairs: points (P, 2, 3) and sdf (P, 2), as `sampling.pair_samples` draws them, or None. Beside its samples, a step
    takes some of them (`Batches.pairs_beside`), fits their points too, and matches the slopes between them.

    resume: go on from `hooks.checkpoint` if that file exists. Raises ValueError for samples of other shapes or with
    values that are not finite, CollapseError if the last attempt gives values that are not numbers, CheckpointError for
    a checkpoint of another fit, Interrupted when the hooks ask to stop.
    """
    check_samples(points, sdf)
    if pairs is not None:
        check_pairs(*pairs)
    hooks = hooks or FitHooks()
    identity = fit_identity(network, settings, len(points), hooks.identity)
    batches = Batches(points, sdf, network.scaler, settings, _device_of(network), pairs)
    state = _begin_attempt(network, settings, attempt=0)
    try:
        if resume and hooks.checkpoint is not None and hooks.checkpoint.is_file():
            restore_checkpoint(hooks.checkpoint, state, identity)
        while True:  # at most two attempts; a checkpoint may hold the second
            run = FitRun(state, batches, settings, hooks, identity)
            try:
                result = run.to_the_end()
                if not (result.collapsed and run.may_be_repeated()):
                    return result
            except CollapseError:
                if not run.may_be_repeated():
                    raise
            state = _begin_attempt(network, settings, attempt=1)
            state.seconds = run.seconds()
    finally:
        network.eval()


def _device_of(network: NeuralSDF) -> torch.device:
    """The device of a network's parameters."""
    return next(network.parameters()).device


def _begin_attempt(network: NeuralSDF, settings: FitSettings, attempt: int) -> FitState:
    """Draw the network's weights in place, in training mode; returns the state before the first step of the attempt."""
    network.train()
    network.initialise(settings.init, random_generator(settings.seed + attempt))
    has_encoding, rounded = network.encoding is not None, is_rounded(network.layers)
    optimizer = make_optimizer(settings.optimizer, list(network.parameters()), has_encoding, rounded)
    return FitState(network, optimizer, torch.zeros((), device=_device_of(network)), attempt)


class FitRun:
    """One attempt at a fit, as far as this process takes it.

    `state` changes with every step, and a checkpoint holds all of it. Everything else is constant, but for the clock
    readings of this process: `_started`, when it took over, `_checked`, when it last checked, and the writer's.
    """

    def __init__(self, state: FitState, batches: Batches, settings: FitSettings, hooks: FitHooks, identity: dict):
        network, device = state.network, _device_of(state.network)
        self.state = state
        self._batches, self._settings, self._hooks = batches, settings, hooks
        self._schedule = make_schedule(
            settings,
            len(batches),
            state.optimizer.rate_multiple,
            has_encoding=network.encoding is not None,
            has_sines=network.activation == "sine",
        )
        self._held_out = None  # (M, 3)
        if hooks.held_out is not None:
            held_out = torch.as_tensor(hooks.held_out, dtype=torch.float32, device=device)
            self._held_out = held_out[: self._schedule.most_points_per_check]
        self._writer = CheckpointWriter(hooks, identity)
        self._resumed_at = state.steps * self._schedule.batch_size
        self._started = self._checked = hooks.clock()

    def to_the_end(self) -> FitResult:
        """Take all steps. Raises CollapseError for values that are not numbers, Interrupted."""
        network, schedule = self.state.network, self._schedule
        steps = compiled_steps(self.state, self._batches, self._settings, schedule)
        # The compiled steps come first: they have threads of their own, and torch keeps one.
        with steps as compiled, threads_for(network.encoding, network.widths, schedule.batch_size):
            ended_by = self._take_steps(compiled or TorchStep(self.state, self._batches, self._settings, schedule))
            seconds = self.seconds()
            collapsed = collapse_reason(network, *self._batches.first(_JUDGED_SAMPLES))
        return FitResult(
            ended_by=ended_by,
            collapsed=collapsed,
            seconds=seconds,
            samples=self.state.steps * schedule.batch_size,
            restarts=self.state.attempt,
            resumed_at=self._resumed_at,
            history=self.state.history,
        )

    def _take_steps(self, take_step: Callable[[float], None]) -> str:
        """Take steps until the schedule ends or the target error is reached; returns which of them ended the fit.

        take_step: takes one, at the learning rate that it is called with.
        """
        state, schedule, hooks = self.state, self._schedule, self._hooks
        while (fraction := self._fraction_done()) < 1:
            rate = schedule.learning_rate(state.steps, fraction)
            take_step(rate)
            if schedule.ends_epoch(state.steps) and hooks.validate is not None:
                self._validate()
            if schedule.check_is_due(state.steps, hooks.clock() - self._checked):
                held_out = self._check(rate)
                if self._is_good_enough(held_out):
                    return "targetError"
                self._judge_halfway()
            stop = hooks.should_stop is not None and hooks.should_stop()
            self._writer.write_if_due(state, self.seconds, is_last=stop)
            if stop:
                raise Interrupted("stopped on request")
        return "timeBudget" if self._settings.time_budget else "epochs"

    def _is_good_enough(self, held_out: float) -> bool:
        """True if there is a target error that the fit has reached: on the surface, where a small |f| alone may mean
        that the function is flat, and by its signs off the surface."""
        target, network = self._settings.target_error, self.state.network
        if not target or not held_out <= target:
            return False
        if not float(network.level_distance(self._held_out).mean()) <= target:
            return False
        return signs_are_learnt(network, *self._batches.first(_JUDGED_SAMPLES), beyond=target)

    def _judge_halfway(self) -> None:
        """Raise CollapseError if half of a time budget is over since the last check, and the network is constant.

        So there is time for the second attempt.
        """
        budget, seconds = self._settings.time_budget, [0.0, *self.state.history["seconds"]]
        if self.state.attempt > 0 or not seconds[-2] < budget / 2 <= seconds[-1] < budget:
            return
        samples = self._batches.first(_JUDGED_SAMPLES)
        if reason := collapse_reason(self.state.network, *samples, is_fitted=False):
            raise CollapseError(reason)

    def _check(self, rate: float) -> float:
        """Add a value to each curve and report progress. Returns the held-out error, domain units.

        Raises CollapseError if the mean loss since the last check is not finite.
        """
        self._checked = self._hooks.clock()
        state = self.state
        loss = float(state.loss_sum) / max(1, state.loss_steps)
        state.loss_sum.zero_()
        state.loss_steps = 0
        if not math.isfinite(loss):
            raise CollapseError("the loss is not a number any more: try a lower --learningRate")
        held_out = self._held_out_error()
        values = {
            "samples": state.steps * self._schedule.batch_size,
            "seconds": self.seconds(),
            "loss": loss,
            "learning_rate": rate,
            "held_out": held_out,
        }
        for name, value in values.items():
            state.history[name].append(value)
        if self._hooks.progress is not None:
            self._hooks.progress(self._fraction_done(), loss)
        if self._hooks.log is not None:
            self._hooks.log(values, self._fraction_done())
        return held_out

    def _validate(self) -> None:
        """Add the validation error to its curve."""
        error = self._hooks.validate()
        self.state.history["validation"].append(error)
        if self._hooks.log is not None:
            samples = self.state.steps * self._schedule.batch_size
            self._hooks.log({"samples": samples, "validation": error}, self._fraction_done())

    def _held_out_error(self) -> float:
        """Mean |f| over the held-out points of the surface, domain units; NaN if there are none."""
        if self._held_out is None:
            return math.nan
        return float(self.state.network.domain(self._held_out).abs().mean())

    def may_be_repeated(self) -> bool:
        """True after the first attempt, unless it took the whole time budget."""
        budget = self._settings.time_budget
        return self.state.attempt == 0 and not (budget and self.seconds() >= budget)

    def seconds(self) -> float:
        """Seconds of fitting until now, those of an earlier attempt and before an interruption included."""
        return self.state.seconds + self._hooks.clock() - self._started

    def _fraction_done(self) -> float:
        """Fraction of the fit that is done, from 0 to 1."""
        return self._schedule.fraction_done(self.state.steps, self.seconds())
