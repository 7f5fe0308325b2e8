"""The schedule of a fit: how many steps there are, how the learning rate moves, and when to check.

In: settings, the number of samples, and two facts about the network. Out: a `Schedule`, which never changes. It reads
no clock: seconds are handed to it.
"""

import math
from dataclasses import dataclass

from neuralparts.fitting.settings import FitSettings

# Steps over which the rate of a fit with an encoding rises from 0: without them some fits collapsed (docs/log.md).
WARM_UP_STEPS = 30
# Fraction of the learning rate that suits sines: their frequency of 30 magnifies every step.
SINE_RATE_FRACTION = 0.2
# Check 100 to 199 times per fit, each time after the same whole number of steps; a fit of fewer steps is checked after
# each of them.
CHECKS = 100
# With --timeBudget the step count is unknown: check every 50 steps or every second, whichever comes first.
CHECK_STEPS = 50
CHECK_SECONDS = 1.0
# Held-out points that a check evaluates, at most, as a fraction of the samples since the last check: a held-out point
# costs a third of a sample. With --targetError a check evaluates all held-out points.
HELD_OUT_FRACTION = 0.1
# That limit is never lower than this number of points.
FEWEST_HELD_OUT = 64
# With --targetError a fit is checked more often as long as it is young: at least each time that its steps have grown by
# a fraction of 1/32 to 1/16, but not before so many steps.
CHECK_GROWTH, FEWEST_STEPS = 1 / 16, 16
# With --targetError the schedule's fall is that of the last quarter; until then the fit decides (`AveragedWeights`).
LAST_FALL = 0.25


def rate_factor(schedule: str, fraction: float) -> float:
    """Factor of the learning rate after a fraction in [0, 1] of the fit: linear and cosine fall from 1 to 0."""
    if schedule == "constant":
        return 1.0
    return 1 - fraction if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * fraction))


@dataclass(frozen=True)
class Schedule:
    """When things happen in one fit.

    batch_size: samples in a step. steps_per_epoch: whole batches in a pass over the samples. peak_rate: the optimiser's
    learning rate before `rate_factor` and warm-up. warm_up_steps: 0 for none.
    """

    settings: FitSettings
    batch_size: int
    steps_per_epoch: int
    peak_rate: float
    warm_up_steps: int

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole fit; None with a time budget."""
        return None if self.settings.time_budget else self.settings.epochs * self.steps_per_epoch

    @property
    def steps_per_check(self) -> int:
        """Most steps between two checks."""
        return CHECK_STEPS if self.total_steps is None else max(1, self.total_steps // CHECKS)

    def steps_between_checks(self, steps: int) -> int:
        """Steps from a check to the next one, about `steps` steps."""
        if not self.settings.target_error:
            return self.steps_per_check
        # A power of two, so that a check after a multiple of it is also one after a multiple of the smaller ones.
        growth = 2 ** int(math.log2(max(1.0, CHECK_GROWTH * steps)))
        return min(self.steps_per_check, max(FEWEST_STEPS, growth))

    @property
    def most_points_per_check(self) -> int | None:
        """Most held-out points that a check evaluates; None for all."""
        if self.settings.target_error:
            return None
        return max(FEWEST_HELD_OUT, int(HELD_OUT_FRACTION * self.steps_per_check * self.batch_size))

    def fraction_done(self, steps: int, seconds: float) -> float:
        """Fraction of the fit that is done, from 0 to 1: by steps, or by seconds with a time budget."""
        if self.total_steps is not None:
            return steps / self.total_steps
        return min(1.0, seconds / self.settings.time_budget)

    def learning_rate(self, steps: int, fraction: float) -> float:
        """The optimiser's learning rate of the step after `steps` steps, at this fraction of the fit."""
        warm_up = min(1.0, (steps + 1) / self.warm_up_steps) if self.warm_up_steps else 1.0
        if self.settings.target_error:
            fraction = max(0.0, 1 - (1 - fraction) / LAST_FALL)
        return self.peak_rate * rate_factor(self.settings.schedule, fraction) * warm_up

    def ends_epoch(self, steps: int) -> bool:
        """True after the last step of an epoch."""
        return steps % self.steps_per_epoch == 0

    def check_is_due(self, steps: int, seconds_since_check: float) -> bool:
        """True if it is time for a check: by steps, and with a time budget also by seconds."""
        if steps % self.steps_between_checks(steps) == 0:
            return True
        return self.total_steps is None and seconds_since_check >= CHECK_SECONDS


def make_schedule(
    settings: FitSettings, sample_count: int, rate_multiple: float, has_encoding: bool, has_sines: bool
) -> Schedule:
    """The schedule of a fit to `sample_count` samples; a batch is never larger than that.

    rate_multiple: of the user's learning rate, as the optimiser wants it. has_encoding, has_sines: of the network.
    """
    batch_size = min(settings.batch_size, sample_count)
    peak_rate = settings.learning_rate * rate_multiple
    if has_sines:
        peak_rate *= SINE_RATE_FRACTION
    return Schedule(
        settings,
        batch_size=batch_size,
        steps_per_epoch=sample_count // batch_size,
        peak_rate=peak_rate,
        warm_up_steps=WARM_UP_STEPS if has_encoding else 0,
    )
