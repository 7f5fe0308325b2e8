"""Many fits at once: their members, which of them fit together, and how many. A stand-in: one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from neuralparts.errors import CheckpointError
from neuralparts.fitting.batches import Pairs
from neuralparts.fitting.collapse import CollapseError
from neuralparts.fitting.loop import fit
from neuralparts.fitting.settings import FitHooks, FitResult, FitSettings
from neuralparts.network import NeuralSDF


@dataclass(frozen=True)
class Member:
    """One network of a batched fit, fitted in place, on its device; the others as the parameters of `fit`."""

    network: NeuralSDF
    points: np.ndarray
    sdf: np.ndarray
    pairs: Pairs | None = None
    hooks: FitHooks = field(default_factory=FitHooks)
    resume: bool = False


def shape_key(member: Member) -> tuple:
    """What the members of one `fit_batch` must have in common."""
    description = member.network.description()
    shape = tuple(str(description[name]) for name in ("widths", "activation", "encoding", "scaler"))
    return (*shape, len(member.points), 0 if member.pairs is None else len(member.pairs[0]))


def members_at_once(member: Member) -> int:
    """How many members like this one the memory of its device holds at once; 1 or more."""
    return 128


def fit_batch(members: Sequence[Member], settings: FitSettings) -> list[FitResult | Exception]:
    """The outcome of each member: its result, or the exception that concerns it alone. Raises Interrupted for all."""
    if len({shape_key(member) for member in members}) > 1:
        raise ValueError("the members of a batch differ in shape")
    outcomes: list[FitResult | Exception] = []
    for member in members:
        arrays = member.network, member.points, member.sdf
        try:
            outcomes.append(fit(*arrays, settings, member.hooks, member.resume, member.pairs))
        except (CollapseError, CheckpointError) as error:
            outcomes.append(error)
    return outcomes
