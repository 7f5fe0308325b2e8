"""How many parameters a network needs for an error: short fits of some sizes, the smallest first.

In: a function that makes a network, its samples, a surface error, sizes. Out: the first size whose short fit reaches
the error, and what the trials took of the fit's budget. A short fit that reaches the error says that the whole fit
will; one that does not says little, so the size that is found may be larger than needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from neuralparts.fitting.collapse import CollapseError
from neuralparts.fitting.loop import fit_batch
from neuralparts.fitting.members import NOT_BEGUN, HeadStart, Member
from neuralparts.fitting.settings import FitSettings

# Fraction of a fit that the trial of a size takes at most.
TRIAL_FRACTION = 0.05


def enough_parameters(
    make_member: Callable[[int], Member], settings: FitSettings, error: float, sizes: Sequence[int], largest: int
) -> tuple[int, HeadStart]:
    """The first of `sizes`, in rising order, whose short fit reaches a surface error, domain units; else `largest`.

    make_member: makes a member whose network has at most so many parameters, with held-out points of the surface. Also
    returned: the steps of the trials and their seconds, also those of a trial that collapsed. Raises ValueError and
    Interrupted as `fit`.
    """
    used = NOT_BEGUN
    for size in sizes:
        member, short = _shortened(make_member(size), replace(settings, target_error=error))
        start = member.hooks.clock()
        (outcome,) = fit_batch([member], short)
        used = HeadStart(used.steps, used.seconds + member.hooks.clock() - start)
        if isinstance(outcome, CollapseError):  # of a fit with such a learning rate; the larger ones may be better
            continue
        if isinstance(outcome, Exception):
            raise outcome
        used = HeadStart(used.steps + outcome.samples // settings.batch_size, used.seconds)
        if outcome.ended_by == "targetError":
            return size, used
    return largest, used


def _shortened(member: Member, settings: FitSettings) -> tuple[Member, FitSettings]:
    """A member and settings whose fit takes TRIAL_FRACTION of the whole: of its time budget, or of its epochs."""
    if settings.time_budget:
        return member, replace(settings, time_budget=TRIAL_FRACTION * settings.time_budget)
    epochs = TRIAL_FRACTION * settings.epochs
    if epochs >= 1:
        return member, replace(settings, epochs=round(epochs))
    count = max(1, round(epochs * len(member.points)))  # the samples are in random order
    member = replace(member, points=member.points[:count], sdf=member.sdf[:count], pairs=None)
    return member, replace(settings, epochs=1)
