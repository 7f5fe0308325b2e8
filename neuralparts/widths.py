"""Hidden widths of a plain network: as flags say them, counted, and of several networks the mean.

Light, as `flags.py` is. A plain network has 3 inputs and 1 output.
"""

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace

from neuralparts import choices


def widths_in(text: str) -> tuple[int, ...]:
    """The widths that --widths says, such as "333,442"."""
    return tuple(map(int, text.split(",")))


def widths_text(widths: Sequence[int]) -> str:
    """Widths as --widths takes them."""
    return ",".join(map(str, widths))


def widths_as_flags(widths: Sequence[int]) -> str:
    """The flags that give these hidden widths by hand."""
    return f"--damArch 0 --widths {widths_text(widths)}"


def search_identity(flags: SimpleNamespace) -> dict[str, str | float]:
    """What a checkpoint must agree in with a fit whose widths are searched for, by name; {} for any other fit."""
    if flags.damArch != choices.SEARCH:
        return {}
    aims = {name: getattr(flags, name) for name in ("damArch", "damParameters", "damError")}
    return aims | {"numLayers": searched_layers(flags)}


def given_widths(flags: SimpleNamespace) -> tuple[int, ...]:
    """The hidden widths that the flags of a fit say with --damArch 0."""
    return widths_in(flags.widths) if flags.widths else (flags.layerWidth,) * (flags.numLayers or choices.NUM_LAYERS)


def most_parameters(flags: SimpleNamespace) -> int:
    """The most parameters of the network that --damArch search finds."""
    return flags.damParameters or choices.SEARCHED_PARAMETERS


def searched_layers(flags: SimpleNamespace) -> int:
    """The number of hidden layers for which --damArch search finds widths."""
    return flags.numLayers or choices.SEARCHED_LAYERS


def parameters_of(widths: Sequence[float]) -> float:
    """Number of parameters of a plain network of these hidden widths, an integer if they are."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise((3, *widths, 1)))


def rectangle(layers: int, parameters: int) -> tuple[int, ...]:
    """So many hidden layers of one width: the largest with at most this number of parameters, 1 or more."""
    width = 1
    while parameters_of((width + 1,) * layers) <= parameters:
        width += 1
    return (width,) * layers


def mean_widths(several: Sequence[Sequence[int]], parameters: int) -> tuple[int, ...]:
    """The mean of several networks' hidden widths, layer by layer, narrowed to at most this number of parameters.

    Raises ValueError unless there are networks, all with the same number of layers.
    """
    if not several or len({len(widths) for widths in several}) > 1:
        raise ValueError(f"no mean of networks of {[len(widths) for widths in several]} hidden layers")
    widths = [max(1, round(sum(layer) / len(several))) for layer in zip(*several, strict=True)]
    while parameters_of(widths) > parameters and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return tuple(widths)
