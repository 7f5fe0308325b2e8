"""The training loop: settings, losses, schedule, optimisers, checkpoints."""

from neuralparts.fitting.batches import Pairs
from neuralparts.fitting.checkpoint import checkpoint_widths
from neuralparts.fitting.collapse import CollapseError
from neuralparts.fitting.loop import fit, fit_batch
from neuralparts.fitting.losses import relative_weights
from neuralparts.fitting.members import NOT_BEGUN, HeadStart, Member, members_at_once, shape_key
from neuralparts.fitting.settings import FitHooks, FitResult, FitSettings
from neuralparts.fitting.size_trials import enough_parameters
from neuralparts.fitting.width_search import START_MULTIPLE, FoundWidths, find_widths

__all__ = [
    "NOT_BEGUN",
    "START_MULTIPLE",
    "CollapseError",
    "FitHooks",
    "FitResult",
    "FitSettings",
    "FoundWidths",
    "HeadStart",
    "Member",
    "Pairs",
    "checkpoint_widths",
    "enough_parameters",
    "find_widths",
    "fit",
    "fit_batch",
    "members_at_once",
    "relative_weights",
    "shape_key",
]
