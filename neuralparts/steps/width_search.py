"""The search for the widths of a part's network (--damArch search), and what a record says of it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from neuralparts import choices
from neuralparts.fitting import (
    NOT_BEGUN,
    START_MULTIPLE,
    FitHooks,
    HeadStart,
    Member,
    checkpoint_widths,
    enough_parameters,
    find_widths,
)
from neuralparts.inputs import Labelled
from neuralparts.network import NeuralSDF
from neuralparts.steps.training import fit_settings, make_network
from neuralparts.watch import Watch
from neuralparts.widths import most_parameters, rectangle, searched_layers, widths_as_flags, widths_text
from neuralparts.wording import say

# Numbers of parameters of which --damError takes the first that is enough; else half of DAM's.
TRIED_SIZES = tuple(choices.SEARCHED_PARAMETERS // 4**power for power in (3, 2, 1))


def searched_network(
    data: Labelled, device: str, flags: SimpleNamespace, checkpoint: Path | None, watch: Watch
) -> tuple[NeuralSDF, HeadStart | None]:
    """A network of the widths that the search finds, on a torch device, and how far it is fitted by then.

    If the fit is resumed from `checkpoint`, the network has the widths of that and no head start. None: there is no fit
    to resume. An interrupted search leaves no checkpoint. Raises CheckpointError, CollapseError, Interrupted.
    """
    if flags.resume and checkpoint is not None and checkpoint.is_file():
        widths = checkpoint_widths(checkpoint)
        return make_network(flags, data.samples[1], data.transform, widths).to(device), None

    settings, parameters, begun = fit_settings(flags), most_parameters(flags), NOT_BEGUN
    if flags.damError:
        with watch.bar("try sizes") as show:
            trial = partial(_member, data, device, flags, watch, show)
            parameters, begun = enough_parameters(trial, settings, flags.damError, TRIED_SIZES, parameters)
        say(f"--damError {flags.damError:g}: {parameters:,} parameters")
    with watch.bar("search widths") as show:
        member = _member(data, device, flags, watch, show, START_MULTIPLE * parameters)
        found = find_widths(member, settings, parameters, begun)
    widths = widths_as_flags(found.network.widths)
    say(f"found widths in {found.head_start.steps:,} steps, {found.head_start.seconds:.1f} s: {widths}")
    return found.network, found.head_start


def _member(
    data: Labelled,
    device: str,
    flags: SimpleNamespace,
    watch: Watch,
    show: Callable[[float, float], None],
    parameters: int,
) -> Member:
    """A network of layers of one width, with at most so many parameters, and its samples. show: takes the progress."""
    widths = rectangle(searched_layers(flags), parameters)
    network = make_network(flags, data.samples[1], data.transform, widths).to(device)
    hooks = FitHooks(held_out=data.held_out, progress=show, should_stop=watch.should_stop)
    return Member(network, *data.samples, data.pairs, hooks)


def about_search(flags: SimpleNamespace, network: NeuralSDF) -> dict:
    """What the record says of a search for widths, under the key `search`; {} without one."""
    return {"search": {"widths": widths_text(network.widths)}} if flags.damArch == choices.SEARCH else {}
