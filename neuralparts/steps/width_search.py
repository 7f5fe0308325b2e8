"""The search for the widths of a part's network (--damArch search), and what a record says of it."""

from pathlib import Path
from types import SimpleNamespace

from neuralparts import choices
from neuralparts.fitting import FitHooks, HeadStart, Member, checkpoint_widths, find_widths
from neuralparts.inputs import Labelled
from neuralparts.network import NeuralSDF
from neuralparts.steps.training import fit_settings, make_network
from neuralparts.watch import Watch
from neuralparts.widths import first_widths, most_parameters, widths_as_flags, widths_text
from neuralparts.wording import say


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
    network = make_network(flags, data.samples[1], data.transform, first_widths(flags)).to(device)
    with watch.bar("search widths") as show:
        hooks = FitHooks(progress=show, should_stop=watch.should_stop)
        member = Member(network, *data.samples, data.pairs, hooks)
        found = find_widths(member, fit_settings(flags), most_parameters(flags))
    widths = widths_as_flags(found.network.widths)
    say(f"found widths in {found.head_start.steps:,} steps, {found.head_start.seconds:.1f} s: {widths}")
    return found.network, found.head_start


def about_search(flags: SimpleNamespace, network: NeuralSDF) -> dict:
    """What the record says of a search for widths, under the key `search`; {} without one."""
    if flags.damArch != choices.SEARCH:
        return {}
    return {"search": {"widths": widths_text(network.widths), "most_parameters": most_parameters(flags)}}
