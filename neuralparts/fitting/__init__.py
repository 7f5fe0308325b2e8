"""The training loop: settings, losses, schedule, optimisers, checkpoints."""

from neuralparts.fitting.batches import Pairs
from neuralparts.fitting.collapse import CollapseError
from neuralparts.fitting.loop import fit
from neuralparts.fitting.settings import FitHooks, FitResult, FitSettings

__all__ = ["CollapseError", "FitHooks", "FitResult", "FitSettings", "Pairs", "fit"]
