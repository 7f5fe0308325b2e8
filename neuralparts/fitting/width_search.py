"""The search for the widths of a plain network, by masks over its units (DAM: Bu et al., 2021).

In: a network with more units than are wanted, its samples, and the most parameters that may be left. Out: the smaller
network of the units that are left, with their fitted weights, and how far its fit is by then.

The search is the first part of the fit. It begins with all units (a cold start, as in the paper), then the number of
parameters that are left falls evenly to the number that is wanted.
"""

from dataclasses import dataclass

import torch

from neuralparts.errors import Interrupted
from neuralparts.fitting.batches import Batches, random_generator
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.collapse import CollapseError
from neuralparts.fitting.masked_step import MaskedStep
from neuralparts.fitting.members import NOT_BEGUN, HeadStart, Member
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.fitting.schedule import Schedule, make_schedule
from neuralparts.fitting.settings import FitSettings
from neuralparts.network import SPREAD, NeuralSDF, UnitMasks, is_rounded
from neuralparts.widths import parameters_of

# Fraction of a fit that the search takes at most, and its most steps (docs/log.md).
SEARCH_FRACTION, SEARCH_STEPS = 0.2, 200
# The search begins with so many times the parameters that are wanted.
START_MULTIPLE = 2
# Fraction of the search before the first unit goes.
COLD_FRACTION = 0.3


@dataclass(frozen=True)
class FoundWidths:
    """What a search found.

    network: of the units that are left, with their weights. head_start: how far its fit is.
    """

    network: NeuralSDF
    head_start: HeadStart


def find_widths(
    member: Member, settings: FitSettings, most_parameters: int, begun: HeadStart = NOT_BEGUN
) -> FoundWidths:
    """Search for hidden widths with at most so many parameters, or 1 unit a layer; the member's network is used up.

    begun: what the fit has taken before. The same seed, samples and settings find the same widths, unless a clock ends
    the search. If the loss is not finite, all layers lose alike, and the fit that goes on collapses and is repeated.
    Raises ValueError for samples of other shapes, Interrupted when the hooks ask to stop.
    """
    member.check()
    network = member.network
    network.train()
    network.initialise(settings.init, random_generator(settings.seed))
    batches = Batches(member.points, member.sdf, network.scaler, settings, member.device, member.pairs)
    masks = UnitMasks(network)
    optimizer = make_optimizer(settings.optimizer, masks.weights, rounded=is_rounded(network.layers))
    state = FitState(
        network, optimizer, torch.zeros((), device=member.device), steps=begun.steps, seconds=begun.seconds
    )
    has_sines = network.activation == "sine"
    schedule = make_schedule(settings, len(batches), optimizer.rate_multiple, has_encoding=False, has_sines=has_sines)
    step = MaskedStep(state, batches, settings, schedule, masks)
    _search(member, step, state, schedule, masks, most_parameters)
    masks.apply()
    return FoundWidths(masks.pruned(), HeadStart(state.steps, state.seconds))


def _search(
    member: Member, step: MaskedStep, state: FitState, schedule: Schedule, masks: UnitMasks, most_parameters: int
) -> None:
    """Take the steps of a search, and count them and its seconds in its state. Raises Interrupted."""
    hooks, full = member.hooks, parameters_of(member.network.widths)
    steps, seconds, start = state.steps, state.seconds, member.hooks.clock()
    while (done := _fraction_done(schedule, state.steps - steps, state.seconds - seconds)) < 1:
        # How far the number of parameters is to fall by this step, from 0 to 1.
        fallen = (done - COLD_FRACTION) / (1 - COLD_FRACTION)
        try:
            step(schedule.learning_rate(state.steps, schedule.fraction_done(state.steps, state.seconds)))
        except CollapseError:
            break
        state.seconds = seconds + hooks.clock() - start
        if fallen > 0:
            step.shrink(round(full + fallen * (most_parameters - full)))
        if hooks.progress is not None:
            hooks.progress(done, float(state.loss_sum) / (state.steps - steps))
        if hooks.should_stop is not None and hooks.should_stop():
            raise Interrupted("stopped on request")
    # What a short search could not take away; offsets of -SPREAD leave one unit each.
    while parameters_of(masks.smooth_widths(masks.offsets)) > most_parameters and masks.offsets.max() > -SPREAD:
        step.shrink(most_parameters)


def _fraction_done(schedule: Schedule, steps: int, seconds: float) -> float:
    """Fraction of the search that is done, 0 or more: by steps, and with a time budget also by seconds."""
    budget = SEARCH_FRACTION * schedule.settings.time_budget
    if budget:
        return max(steps / SEARCH_STEPS, seconds / budget)
    return steps / max(1, min(SEARCH_STEPS, round(SEARCH_FRACTION * schedule.total_steps)))
