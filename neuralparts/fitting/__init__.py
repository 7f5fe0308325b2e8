"""The training loop: settings, losses, schedule, optimisers, checkpoints."""

from neuralparts.fitting.batches import Pairs
from neuralparts.fitting.collapse import CollapseError
from neuralparts.fitting.loop import fit, fit_batch
from neuralparts.fitting.members import Member, members_at_once, shape_key
from neuralparts.fitting.settings import FitHooks, FitResult, FitSettings

__all__ = [
    "CollapseError",
    "FitHooks",
    "FitResult",
    "FitSettings",
    "Member",
    "Pairs",
    "fit",
    "fit_batch",
    "members_at_once",
    "shape_key",
]
