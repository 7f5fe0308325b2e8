"""The training loop: settings, losses, schedule, optimisers, checkpoints."""

from neuralparts.fitting.loop import (
    CheckpointError,
    CollapseError,
    FitHooks,
    FitResult,
    FitRun,
    FitSettings,
    Interrupted,
    fit,
)

__all__ = [
    "CheckpointError",
    "CollapseError",
    "FitHooks",
    "FitResult",
    "FitRun",
    "FitSettings",
    "Interrupted",
    "fit",
]
