"""What contradicts what among --damArch, --damParameters, --damError, --numLayers and --widths.

Light, as `flags.py` is, which calls it.
"""

import argparse

from neuralparts import choices


def width_contradiction(flags: argparse.Namespace) -> str:
    """Why these flags contradict each other, or ''."""
    if flags.damArch == 1 and flags.numLayers not in (None, 10):
        layers = "10 layers between its 11 hidden widths"
        return f"--damArch 1 has {layers}; --numLayers {flags.numLayers} contradicts it: give 10 or leave it out"
    if flags.widths and flags.damArch:
        return f"--widths is for --damArch 0; --damArch {flags.damArch} has widths of its own: leave one of them out"
    if flags.widths and (flags.numLayers is not None or flags.layerWidth != choices.LAYER_WIDTH):
        given = "--layerWidth" if flags.numLayers is None else "--numLayers"
        return f"--widths {flags.widths} says every layer; leave {given} out"
    return _search_contradiction(flags)


def _search_contradiction(flags: argparse.Namespace) -> str:
    """The same, of the flags of --damArch search."""
    is_searched = flags.damArch == choices.SEARCH
    given = [name for name in ("damParameters", "damError") if getattr(flags, name)]
    if given and not is_searched:
        return f"--{given[0]} is for --damArch search, not {flags.damArch}: leave it out"
    if len(given) == 2:
        return "--damParameters and --damError are two aims of one search: leave one of them out"
    if is_searched and flags.encoding != "none":
        return f"--damArch search is for a network without an encoding; leave --encoding {flags.encoding} out"
    fewest, most = choices.FEWEST_PARAMETERS, choices.MOST_PARAMETERS
    if flags.damParameters and not fewest <= flags.damParameters <= most:
        return f"--damParameters {flags.damParameters:,} is not between {fewest:,} and {most:,}"
    return ""
