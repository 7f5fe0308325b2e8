"""The settings of a fit, the hooks that it calls, and its result."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neuralparts.choices import (
    BATCH_SIZE,
    EPOCHS,
    IMPORTANCE_WEIGHT,
    INITIALISATIONS,
    LEARNING_RATE,
    LOSSES,
    OPTIMIZERS,
    SCHEDULES,
)

# Names of the curves in a history.
_CURVES = ("samples", "seconds", "loss", "learning_rate", "held_out", "validation")


@dataclass(frozen=True)
class FitSettings:
    """How a network is fitted. By default as the flags have it.

    The weights depend on these settings, the samples and the network's shape; with a target_error also on the held-out
    points, and with a time_budget on the clock.

    epochs: passes over the samples. Each is cut into whole batches; left-over samples are left out. batch_size: samples
    in a step. learning_rate: Adam's rate; SOAP takes 5 times as much, and a network with an encoding warms up to it.
    importance_weight: decay with |d| of the samples' weights, per domain unit, for the weighted and the relative loss.
    time_budget: seconds, instead of `epochs`, for both attempts that a fit may take; 0 is off. target_error: the fit
    stops when the held-out points' mean |f| and mean `NeuralSDF.level_distance` are both no larger, domain units, and
    99 of 100 samples farther from the surface have the right sign; 0 is off. With it the result is the weights or the
    mean of the latest ones, whichever is better; the learning rate falls as they ask for (`AveragedWeights`), and as
    `schedule` has it in the last quarter of the fit only; a constant one never falls.

    Raises ValueError for an unknown loss or schedule, and unless epochs, batch_size and learning_rate are positive.
    """

    epochs: int = EPOCHS
    batch_size: int = BATCH_SIZE
    learning_rate: float = LEARNING_RATE
    init: str = INITIALISATIONS[0]
    loss: str = LOSSES[0]
    schedule: str = SCHEDULES[0]
    optimizer: str = OPTIMIZERS[0]
    importance_weight: float = IMPORTANCE_WEIGHT
    time_budget: float = 0.0
    target_error: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if self.loss not in LOSSES or self.schedule not in SCHEDULES:
            raise ValueError(f"unknown loss {self.loss!r} or schedule {self.schedule!r}")
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise ValueError("epochs, batch size and learning rate must be positive")


@dataclass(frozen=True)
class FitHooks:
    """What a fit calls and writes beside its weights.

    With a target_error, `held_out` decides when the fit ends. With a time_budget, `clock` does, and it sets the
    learning rate too. `should_stop` interrupts the fit. Nothing else here has an effect on the weights.

    held_out: (M, 3) points of the surface in random order, domain, for `target_error` and the curve. validate: called
    after each epoch; its number is kept in the history. progress: called with (fraction done in [0, 1], loss) at every
    check. log: called with (values by name, fraction done): at every check those of the history, and after `validate`
    its number as `validation`, both with `samples`. should_stop: called after every step; True interrupts the fit.
    checkpoint: path of the checkpoint; it is read to resume, and written every `checkpoint_seconds` and when the fit is
    interrupted. checkpoint_seconds: None never writes it. identity: values by name, as JSON can hold them, which a
    checkpoint must agree with. warn: called with one line when a checkpoint cannot be written; the fit goes on. clock:
    seconds from any start.
    """

    held_out: np.ndarray | None = None
    validate: Callable[[], float] | None = None
    progress: Callable[[float, float], None] | None = None
    log: Callable[[dict[str, float], float], None] | None = None
    checkpoint: Path | None = None
    checkpoint_seconds: float | None = 30.0
    identity: dict = field(default_factory=dict)
    warn: Callable[[str], None] | None = None
    should_stop: Callable[[], bool] | None = None
    clock: Callable[[], float] = time.monotonic


def empty_history() -> dict[str, list[float]]:
    """The curves of a fit that has not begun, by name."""
    return {name: [] for name in _CURVES}


@dataclass(frozen=True)
class FitResult:
    """How a fit ended.

    ended_by: epochs, timeBudget or targetError. collapsed: why the last attempt failed, or ''. seconds: of fitting,
    those of an attempt that collapsed and before an interruption included. samples: steps times batch size. restarts: 1
    for the second attempt, else 0. resumed_at: samples at which a checkpoint was resumed, else 0. history: curves by
    name, one value per check; `validation` has one per epoch. `held_out` is of the weights; with a target error, of
    their mean where that is better. Errors are in domain units.
    """

    ended_by: str = "epochs"
    collapsed: str = ""
    seconds: float = 0.0
    samples: int = 0
    restarts: int = 0
    resumed_at: int = 0
    history: dict[str, list[float]] = field(default_factory=empty_history)
