"""Every flag of every command, once: its name, type, allowed values, default and help.

A command adds the flags that it takes by name (`add_flags`); `flag_contradictions.py` says what contradicts what.
Nothing heavy is imported here, so `--help` is fast.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from neuralparts import choices
from neuralparts.command_line import CommandLine
from neuralparts.flag_contradictions import HASH_DEFAULTS, contradiction
from neuralparts.flag_types import (
    architecture,
    fraction,
    gpu,
    importance,
    memory,
    natural,
    not_negative,
    outputs,
    positive,
    positive_number,
    simplification,
    widths,
)


class Flag(NamedTuple):
    """A flag. help names the unit and the off value; `add_flags` adds the default to it, unless that is None."""

    help: str
    type: Callable[[str], Any] = str
    default: Any = None
    choices: tuple | None = None
    metavar: str | None = None


def one_of(help: str, options: tuple[str, ...]) -> Flag:
    """A flag that takes one of these options; the first is the default."""
    return Flag(help, default=options[0], choices=options)


ON_OFF = (0, 1)
SUFFIXES = " ".join(choices.MESH_SUFFIXES)

FLAGS = {
    # output
    "outputDir": Flag("folder of the results", default="results"),
    "suffix": Flag("text added to the name of every part's files", default=""),
    "outputs": Flag(
        "what to write of a part, such as model,record; the pictures belong to the page; the record is always written, "
        "as it says what is done; the figures stay, and the surface is marched for them: --reconstructionRes 0 leaves "
        "that out too",
        outputs,
        ",".join(choices.OUTPUTS),
        metavar=",".join(choices.OUTPUTS),
    ),
    "precision": one_of(
        "how the model's numbers are written, and rounded before the surface is marched and measured: float16 takes "
        "half the bytes; int8 packs the table of a hash grid, or the weights of a network without one, as whole "
        "numbers, in a seventh or a third of the bytes for up to a twentieth more surface error",
        choices.PRECISIONS,
    ),
    "reconstructionRes": Flag("marching-cubes grid of R^3; 0 is off", natural, choices.RECONSTRUCTION_RESOLUTION),
    "outputFormat": one_of("format of the reconstruction", choices.OUTPUT_FORMATS),
    "protocol": one_of(
        "neurbf prints the errors by the protocol of NeuRBF (Chen et al., 2023) instead, to compare with published "
        "figures; none is off",
        choices.PROTOCOLS,
    ),
    "simplify": Flag(
        "fraction of the reconstruction's triangles to keep, such as 0.1; error:0.05 keeps as few as stay within 0.05 "
        "file units of the marched surface; 0 is off",
        simplification,
        0.0,
        metavar="FRACTION|error:LENGTH",
    ),
    "modelCard": Flag("1 writes NAME.md, a page about the model for those who get it; 0 is off", int, 0, ON_OFF),
    "maxMemory": Flag(
        "skip the reconstruction if the process would need more memory than this, such as 2G; 0 is no limit",
        memory,
        0,
        metavar="BYTES",
    ),
    "validationRes": Flag("grid of R^3 points scored after every epoch; 0 is off", natural, 0),
    "logDir": Flag(
        "folder of a log for TensorBoard: curves, learning rate, section pictures; a subfolder for each part of a "
        "folder; needs the package tensorboard; empty is off",
        default="",
        metavar="DIR",
    ),
    "showVis": Flag("1 opens the report; without a display it says where the report is", int, 0, ON_OFF),
    # network
    "damArch": Flag(
        "1: the 11 hidden widths selected by DAM, 589,790 parameters; search: widths that masks over the units find "
        "for this part or folder, as the first part of the fit; 0: --widths, or --numLayers of --layerWidth",
        architecture,
        0,
        choices.ARCHITECTURES,
    ),
    "damParameters": Flag(
        "most parameters of the network that --damArch search finds; 0 is half of DAM's",
        natural,
        0,
        metavar="N",
    ),
    "damError": Flag(
        "surface error, domain units, that --damArch search aims at with few parameters: short fits of some sizes, in "
        "the same budget, show which is enough; 0 is off",
        not_negative,
        0.0,
    ),
    "numLayers": Flag(
        f"hidden layers with --damArch 0 (default {choices.NUM_LAYERS}), search (default {choices.SEARCHED_LAYERS}); "
        "10 or left out with --damArch 1",
        positive,
    ),
    "layerWidth": Flag("width of every hidden layer with --damArch 0", positive, choices.LAYER_WIDTH),
    "widths": Flag(
        "hidden widths with --damArch 0, such as 333,442,351; empty is --numLayers of --layerWidth",
        widths,
        "",
        metavar="W,W,...",
    ),
    "activation": one_of("function between layers", choices.ACTIVATIONS),
    "init": Flag(
        "distribution from which the weights are drawn (default he_uniform; siren with --activation sine)",
        choices=choices.INITIALISATIONS,
    ),
    "encoding": one_of("encoding of the coordinates before the first layer", choices.ENCODINGS),
    "hashLevels": Flag(f"number of grids in the hash grid (default {choices.HASH_LEVELS})", positive),
    "hashFeatures": Flag(f"trained numbers at each node of the hash grid (default {choices.HASH_FEATURES})", positive),
    "hashBaseRes": Flag(f"cells along an axis of the coarsest grid (default {choices.HASH_BASE_RESOLUTION})", positive),
    "hashFinestRes": Flag(
        f"cells along an axis of the finest grid (default {choices.HASH_FINEST_RESOLUTION})", positive
    ),
    "hashTableLog2": Flag(f"a grid stores at most 2^this nodes (default {choices.HASH_TABLE_LOG2})", positive),
    # samples
    "num_points": Flag("number of labelled points", positive, 1_000_000),
    "samplingMethod": one_of("where the points lie", choices.SAMPLING_METHODS),
    "importanceWeight": Flag(
        "beta of the density exp(-beta |d|) of importance samples, and of the weighted and the relative loss, per "
        f"domain unit; importance_error and sign_error are always taken at {choices.IMPORTANCE_WEIGHT:g}",
        importance,
        choices.IMPORTANCE_WEIGHT,
    ),
    "uniformRatio": Flag(
        "fraction of the points drawn uniformly from the cube, with Importance and Surface; 0 is off (default "
        f"{choices.UNIFORM_RATIO:g})",
        fraction,
    ),
    "numNear": Flag(
        "number of points of a mesh labelled beside --num_points, three times as near to its surface as "
        "--importanceWeight asks for; they take less time to label; 0 is off",
        natural,
        0,
    ),
    "numPairs": Flag(
        f"number of pairs of labelled points of a mesh, a {1 / choices.PAIR_LENGTH:.0f}th of a domain unit apart; the "
        "fit matches the slope between them too, for a better distance off the surface; 0 is off",
        natural,
        0,
    ),
    "numNormals": Flag(
        "number of points on a mesh's surface whose normals the two finest grids of a hash grid are fitted to after "
        "the training; 0 is off",
        natural,
        0,
    ),
    "scaler": one_of("transform of the targets", choices.SCALERS),
    "distanceEngine": one_of(
        "library that finds the closest points; auto is numba, the fastest", choices.DISTANCE_ENGINES
    ),
    # fit
    "epochs": Flag("passes over the points", positive, choices.EPOCHS),
    "batchSize": Flag("points in a step", positive, choices.BATCH_SIZE),
    "learningRate": Flag(
        "Adam's learning rate at the start; soap takes 5 times as much, sines a fifth, and a hash grid warms up to it",
        positive_number,
        choices.LEARNING_RATE,
    ),
    "optimizer": one_of("soap is Adam in the eigenbasis of Shampoo's preconditioner", choices.OPTIMIZERS),
    "schedule": one_of("how the learning rate falls to 0; constant keeps it", choices.SCHEDULES),
    "loss": one_of(
        "l1: mean |error|; l2: mean square; clamp: l1 within 0.1 of the surface; weighted: l1, 4 times heavier on the "
        "surface; relative: l1 times a / (a + |d|), where a is 3 / importanceWeight: 0.05 by default",
        choices.LOSSES,
    ),
    "timeBudget": Flag("seconds that the fit takes, instead of --epochs; 0 is off", not_negative, 0.0),
    "targetError": Flag(
        "the fit stops when the surface error and the surface distance of held-out points, domain units, are both this "
        "small and the signs off the surface are right, at the latest after --epochs or --timeBudget; 0 is off",
        not_negative,
        0.0,
    ),
    "resume": Flag("1 continues an interrupted fit from its checkpoint", int, 0, ON_OFF),
    "checkpointSeconds": Flag("seconds between checkpoints; 0 is off", not_negative, 30.0),
    "seed": Flag("seed of all random numbers", natural, 0),
    # machine
    "gpu": Flag("number of the GPU; -1 is the CPU (default: GPU 0 if there is one)", gpu),
    # folders
    "overwrite": Flag("1 fits finished parts again; 0 skips those with the same flags and content", int, 0, ON_OFF),
    "workers": Flag(
        "worker processes, and one more for each GPU; 0 fits in this process, where a crash ends the run (default: one "
        "a processor, as many as memory holds)",
        natural,
    ),
    "partsPerBatch": Flag(
        "parts that are trained at once, as one batch of networks; 1 trains each for itself; 0 is automatic: "
        f"{choices.PARTS_OF_A_GPU} on a GPU, as far as its memory holds them, {choices.PARTS_OF_A_WORKER} on a CPU if "
        f"their layers are at most {choices.WIDEST_STACKED_ON_A_CPU} wide",
        natural,
        0,
    ),
    "partTimeout": Flag("seconds after which a part counts as hung and is killed; 0 is off", not_negative, 0.0),
    "workerMemory": Flag(
        "resident memory, such as 2G, above which a worker is killed; with --ray: memory reserved for it on its node; "
        "0 is off",
        memory,
        0,
        metavar="BYTES",
    ),
    "ray": Flag("fit on the Ray cluster at this address; local starts one", default="", metavar="ADDRESS"),
    "rayTransfer": one_of("send paths in folders that the cluster shares, or the files themselves", ("paths", "bytes")),
    # packing
    "shardParts": Flag("most parts in a shard", positive, 1000),
    "remove": Flag(
        "1 removes the files of a part once its shard was read again and agrees; 0 keeps them", int, 0, ON_OFF
    ),
    "list": Flag("1 prints the parts of a packed folder, with the place of each; 0 packs", int, 0, ON_OFF),
    "name": Flag("part of a packed folder", metavar="NAME"),
    # the stages alone
    "out": Flag("samples file to write (default: the mesh's name with .npz)", metavar="FILE"),
    "output": Flag(
        f"mesh file to write: {' '.join('.' + name for name in choices.OUTPUT_FORMATS)} (default: the model's name "
        "with .stl)",
        metavar="FILE",
    ),
    "to": Flag("form to write (default: that of --out's suffix)", choices=tuple(choices.EXPORT_FORMS)),
    "refine": Flag("Newton steps that move vertices onto the level; 0 is off", natural, 0),
    "dense": Flag("1 evaluates every node of the grid; 0 is off", int, 0, ON_OFF),
    "points": Flag(
        "print the signed distance at the points of a text file, x y z a line, file units; - is standard input",
        metavar="FILE",
    ),
}
# Other spellings of a flag, kept for scripts of earlier versions.
SPELLINGS = {"layerWidth": ["firstLayerHiddenSize"], "rayTransfer": ["ray-transfer"]}

FIT_GROUPS = {
    "output": (
        "outputDir",
        "suffix",
        "outputs",
        "precision",
        "reconstructionRes",
        "outputFormat",
        "simplify",
        "modelCard",
        "maxMemory",
        "validationRes",
        "logDir",
        "showVis",
    ),
    "network": (
        "damArch",
        "damParameters",
        "damError",
        "numLayers",
        "layerWidth",
        "widths",
        "activation",
        "init",
        "encoding",
        "hashLevels",
        "hashFeatures",
        "hashBaseRes",
        "hashFinestRes",
        "hashTableLog2",
    ),
    "samples": (
        "num_points",
        "samplingMethod",
        "importanceWeight",
        "uniformRatio",
        "numNear",
        "numPairs",
        "numNormals",
        "scaler",
        "distanceEngine",
    ),
    "fit": (
        "epochs",
        "batchSize",
        "learningRate",
        "optimizer",
        "schedule",
        "loss",
        "timeBudget",
        "targetError",
        "resume",
        "checkpointSeconds",
        "seed",
    ),
    "machine": ("gpu",),
    "folders": ("overwrite", "workers", "partsPerBatch", "partTimeout", "workerMemory", "ray", "rayTransfer"),
}

# Flags that change how a fit runs, and which of its files are written and where, not its result.
NEUTRAL_FLAGS = {
    "outputDir",
    "outputs",
    "maxMemory",
    "logDir",
    "showVis",
    "resume",
    "overwrite",
    "checkpointSeconds",
    "gpu",
    "workers",
    "partsPerBatch",
    "partTimeout",
    "workerMemory",
    "ray",
    "rayTransfer",
}


# The first lines of `--help` of a fit.
FIT_HELP = """\
Turn a triangle mesh into a small network whose zero level is that mesh.

  {program} part.stl --damArch 1 --scaler StandardScaler --epochs 8
  {program} parts/ --damArch 1 --outputDir out

Most fits need five flags: --damArch or --encoding (the network), --num_points
and --epochs (the budget), --outputDir. In a checkout the presets set the rest:
presets/instant.sh (seconds), fine.sh (a minute), low.sh, medium.sh, high.sh,
very_high.sh (half an hour), each with the mesh as first argument."""


def add_flags(parser: argparse._ActionsContainer, *names: str, **changes: Any) -> None:
    """Add flags by name to a parser or a group. changes: fields of Flag that differ for this command."""
    for name in names:
        flag = FLAGS[name]._replace(**changes)
        spelled = [f"--{spelling}" for spelling in (name, *SPELLINGS.get(name, ()))]
        shown = f"{flag.default:g}" if isinstance(flag.default, float) else flag.default
        default = "" if flag.default is None else f" (default {'empty' if shown == '' else shown})"
        settings = flag._asdict() | {"help": flag.help + default}
        parser.add_argument(*spelled, dest=name, **settings)


def parse_fit_flags(arguments: list[str] | None, program: str = "trainer.py") -> argparse.Namespace:
    """The command line of a fit as a namespace. Ends the process with code 2 and one line where flags are wrong."""
    parser = CommandLine(
        prog=program,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{program} INPUT [flags]",
        description=FIT_HELP.format(program=program if " " in program else f"python {program}"),
        epilog="Inside is negative. Results are in the file's own units; errors are in units of\n"
        "the cube [-1, 1]^3, in which the mesh's bounding sphere has radius 0.9.",
    )
    kinds = f"a mesh ({SUFFIXES}), samples ({choices.SAMPLES_SUFFIX}), or a folder of either"
    parser.add_argument("input", metavar="INPUT", help=kinds)
    for title, names in FIT_GROUPS.items():
        add_flags(parser.add_argument_group(title), *names)
    flags = parser.parse_args(arguments)
    if problem := contradiction(flags):
        parser.error(problem)
    for name, default in HASH_DEFAULTS.items():
        setattr(flags, name, getattr(flags, name) or default)
    flags.init = flags.init or default_init(flags.activation)
    return flags


def default_init(activation: str | None) -> str:
    """The value of --init if it is left out."""
    return "siren" if activation == "sine" else "he_uniform"
