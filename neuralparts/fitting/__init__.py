"""The training loop: settings, losses, schedule, optimisers, checkpoints."""

from neuralparts.fitting.checkpoint import CheckpointError
from neuralparts.fitting.collapse import CollapseError
from neuralparts.fitting.loop import Interrupted, fit
from neuralparts.fitting.settings import FitHooks, FitResult, FitSettings

__all__ = [
    "CheckpointError",
    "CollapseError",
    "FitHooks",
    "FitResult",
    "FitSettings",
    "Interrupted",
    "fit",
]
