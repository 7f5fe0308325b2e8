"""What contradicts what among the flags of a command. Light, as `flags.py` is, which calls it."""

import argparse
import os

from neuralparts import choices

# What applies where a flag of the hash grid is left out.
HASH_DEFAULTS = {
    "hashLevels": choices.HASH_LEVELS,
    "hashFeatures": choices.HASH_FEATURES,
    "hashBaseRes": choices.HASH_BASE_RESOLUTION,
    "hashFinestRes": choices.HASH_FINEST_RESOLUTION,
    "hashTableLog2": choices.HASH_TABLE_LOG2,
}


def contradiction(flags: argparse.Namespace) -> str:
    """Why these flags of a fit contradict each other, or ''."""
    if flags.activation == "sine" and flags.init not in (None, "siren"):
        return f"--activation sine needs its own initialisation, not --init {flags.init}: give siren or leave it out"
    if flags.init == "siren" and flags.activation != "sine":
        return f"--init siren is for --activation sine, not {flags.activation}"
    if flags.reconstructionRes == 1 or flags.validationRes == 1:
        return "a grid needs 2 points along an axis or more; 0 is off"
    if flags.simplify and flags.reconstructionRes == 0:
        return "--simplify is for a reconstruction; --reconstructionRes 0 makes none: leave one of them out"
    if flags.simplify and "mesh" not in flags.outputs.split(","):
        return f"--simplify is for the mesh; --outputs {flags.outputs} leaves it out: add mesh, or leave --simplify out"
    if flags.modelCard and "model" not in flags.outputs.split(","):
        return f"--modelCard is about the model; --outputs {flags.outputs} leaves it out: add model, or 0"
    if flags.workers == 0 and (flags.partTimeout or flags.workerMemory or flags.ray or flags.partsPerBatch > 1):
        return "--partsPerBatch, --partTimeout, --workerMemory and --ray need worker processes; --workers 0 has none"
    if flags.ray and flags.gpu not in (None, -1):
        return f"--gpu {flags.gpu} is for this machine alone: a cluster assigns its own GPUs; give -1 or leave it out"
    if flags.rayTransfer != "paths" and not flags.ray:
        return "--rayTransfer is for --ray"
    if flags.rayTransfer == "bytes" and flags.partsPerBatch > 1:
        return "--partsPerBatch needs a folder that all machines see; --rayTransfer bytes trains each part for itself"
    if sign := next((sign for sign in (os.sep, os.altsep, "\0") if sign and sign in flags.suffix), ""):
        return f"--suffix {flags.suffix!r}: a file name cannot hold {sign!r}; --outputDir names the folder"
    return (
        width_contradiction(flags)
        or sampling_contradiction(flags)
        or hash_contradiction(flags)
        or normals_contradiction(flags)
    )


def sampling_contradiction(flags: argparse.Namespace) -> str:
    """Why the flags of the sampling contradict each other, or ''."""
    if flags.samplingMethod == "Uniform" and flags.uniformRatio is not None:
        return "--samplingMethod Uniform draws every point uniformly; leave --uniformRatio out"
    return ""


def hash_contradiction(flags: argparse.Namespace) -> str:
    """Why the flags of the hash grid contradict each other, or ''; a flag that is None was not given."""
    given = [name for name in HASH_DEFAULTS if getattr(flags, name) is not None]
    if flags.encoding != "hashgrid":
        return f"--{given[0]} is for --encoding hashgrid; leave it out" if given else ""
    sizes = {name: getattr(flags, name) or default for name, default in HASH_DEFAULTS.items()}
    base, finest, table = sizes["hashBaseRes"], sizes["hashFinestRes"], sizes["hashTableLog2"]
    if finest > choices.LARGEST_HASH_RESOLUTION:
        return f"--hashFinestRes {finest} is above {choices.LARGEST_HASH_RESOLUTION}"
    if base > finest:
        return f"--hashBaseRes {base} is finer than --hashFinestRes {finest}"
    largest = choices.LARGEST_HASH_TABLE_LOG2
    return f"--hashTableLog2 {table} is above {largest}" if table > largest else ""


def normals_contradiction(flags: argparse.Namespace) -> str:
    """Why --numNormals contradicts the network, or ''."""
    widest, most = choices.WIDEST_COMPILED_LAYER, choices.MOST_COMPILED_FEATURES
    one_layer = flags.numLayers == 1 and not flags.damArch and not flags.widths and flags.layerWidth <= widest
    grid = flags.encoding == "hashgrid" and (flags.hashFeatures or choices.HASH_FEATURES) <= most
    if not flags.numNormals or (grid and one_layer and flags.activation == "relu" and flags.scaler == "none"):
        return ""
    return (
        f"--numNormals needs --encoding hashgrid --numLayers 1 --activation relu --scaler none, --layerWidth up to "
        f"{widest} and --hashFeatures up to {most}: give these, or --numNormals 0"
    )


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
    if is_searched and flags.layerWidth != choices.LAYER_WIDTH:
        return "--damArch search finds the width of every layer; leave --layerWidth out"
    if is_searched and flags.encoding != "none":
        return f"--damArch search is for a network without an encoding; leave --encoding {flags.encoding} out"
    if is_searched and flags.numLayers is not None and not 2 <= flags.numLayers <= choices.MOST_LAYERS:
        return f"--damArch search is for 2 to {choices.MOST_LAYERS} hidden layers, not --numLayers {flags.numLayers}"
    fewest, most = choices.FEWEST_PARAMETERS, choices.MOST_PARAMETERS
    if flags.damParameters and not fewest <= flags.damParameters <= most:
        return f"--damParameters {flags.damParameters:,} is not between {fewest:,} and {most:,}"
    return ""
