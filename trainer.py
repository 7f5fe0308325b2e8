"""Fit a small network to the signed distance of a mesh, march its zero level, and say how well it fits.

    python trainer.py INPUT [flags]

The way of one part is `fit_part`: load, label, fit, reconstruct, evaluate, write. A folder goes through the same, in
worker processes or on a cluster (`fit_folder`). Exit code 0: all done; 1: an input was refused or a fit failed; 2: the
flags are wrong; 130, 143: stopped by Ctrl-C, SIGTERM.
"""

import argparse
import os
import stat
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import command
from flag_types import gpu, importance, memory, natural, not_negative, positive, positive_number, share
from folders import FolderBook, Sender, SharedFolder, ended, one_line
from threads import settle_threads

# Only what --help needs is imported here; the stages import their modules when they run.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from network import NeuralSDF

# Points of the surface that the curve of the held-out error and --targetError look at; not the final metric's.
HELD_OUT_POINTS = 1024
# Share of a samples file that is kept from training, to score the fit where there is no mesh; at most this many points.
HELD_OUT_SHARE, HELD_OUT_SAMPLES = 0.05, 100_000
# Fresh points of each of the final metrics.
METRIC_POINTS = 50_000
# Streams of random numbers, one a purpose, so that none changes when another draws more.
STREAMS = ("samples", "held_out", "metrics", "marching", "mesh_metrics", "missed")
# Sizes of the hash grid that are not given, and the largest that `encoding` takes.
HASH_DEFAULTS = {"hashLevels": 6, "hashFeatures": 4, "hashBaseRes": 16, "hashFinestRes": 256, "hashTableLog2": 15}
FINEST_HASH_RES, LARGEST_HASH_TABLE = 65536, 24
# Names that a folder's own files have.
RESERVED_NAMES = {"index", "summary", "running"}
# What is set aside for a worker process when their number is chosen: a margin, for 0.62 GiB was measured with 60,000
# points on the CPU (docs/scale.md).
WORKER_BYTES, BYTES_A_POINT = 2**30, 100


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line as a namespace; ends the process with code 2 and one line where flags are wrong."""
    parser = argparse.ArgumentParser(
        prog="trainer.py",
        description="Turn a triangle mesh into a small network whose zero level is that mesh.",
        epilog="Inside is negative. Results are in the file's own units; errors are in units of the cube [-1, 1]^3, in "
        "which the mesh's bounding sphere has radius 0.9.",
    )
    parser.add_argument(
        "input", help="a mesh (.stl .obj .ply .off .glb .gltf .3mf), samples (.npz), or a folder of either"
    )
    for add in (add_output_flags, add_network_flags, add_sampling_flags, add_fit_flags, add_machine_flags):
        add(parser)
    add_fleet_flags(parser)
    flags = parser.parse_args(arguments)
    if problem := contradiction(flags):
        parser.error(problem)
    for name, default in HASH_DEFAULTS.items():
        setattr(flags, name, getattr(flags, name) or default)
    flags.init = flags.init or ("siren" if flags.activation == "sine" else "he_uniform")
    return flags


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """What is written, and where."""
    group = parser.add_argument_group("output")
    group.add_argument("--outputDir", default="results", help="folder of the results (default results)")
    group.add_argument("--suffix", default="", help="added to the name of every part's files (default none)")
    group.add_argument(
        "--reconstructionRes",
        type=natural,
        default=256,
        help="marching-cubes grid of R^3; 0 is off (default 256)",
    )
    group.add_argument(
        "--outputFormat",
        default="stl",
        choices=("stl", "ply", "obj", "glb", "3mf", "off"),
        help="of the reconstruction (default stl)",
    )
    group.add_argument(
        "--maxMemory",
        type=memory,
        default=0,
        metavar="BYTES",
        help="that the process may occupy for a reconstruction to be made, such as 2G; 0 is no bound (default 0)",
    )
    group.add_argument(
        "--validationRes",
        type=natural,
        default=0,
        help="grid of R^3 points scored after every epoch; 0 is off (default 0)",
    )
    group.add_argument(
        "--showVis",
        type=int,
        choices=(0, 1),
        default=0,
        help="1 opens the report; without a display it says where it is (default 0)",
    )


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """The network's shape."""
    group = parser.add_argument_group("network")
    group.add_argument(
        "--damArch",
        type=int,
        choices=(0, 1),
        default=0,
        help="1: the 11 hidden widths selected by DAM, 589,790 parameters; 0: --numLayers of --layerWidth (default 0)",
    )
    group.add_argument(
        "--numLayers",
        type=positive,
        help="hidden layers with --damArch 0 (default 8); with --damArch 1 it is 10 or left out",
    )
    group.add_argument(
        "--layerWidth",
        "--firstLayerHiddenSize",
        dest="layerWidth",
        type=positive,
        default=32,
        help="width of every hidden layer with --damArch 0 (default 32)",
    )
    group.add_argument(
        "--activation",
        default="relu",
        choices=("relu", "leakyrelu", "elu", "sine"),
        help="between layers (default relu)",
    )
    group.add_argument(
        "--init",
        choices=("he_uniform", "he_normal", "xavier_uniform", "xavier_normal", "siren"),
        help="of the weights (default he_uniform; siren with --activation sine)",
    )
    group.add_argument(
        "--encoding",
        default="none",
        choices=("none", "hashgrid"),
        help="of the coordinates, before the first layer (default none)",
    )
    group.add_argument("--hashLevels", type=positive, help="grids of the hash grid (default 6)")
    group.add_argument("--hashFeatures", type=positive, help="features of each of its nodes (default 4)")
    group.add_argument(
        "--hashBaseRes",
        type=positive,
        help="cells along an axis of its coarsest grid (default 16)",
    )
    group.add_argument(
        "--hashFinestRes",
        type=positive,
        help="cells along an axis of its finest grid (default 256)",
    )
    group.add_argument("--hashTableLog2", type=positive, help="a grid keeps at most 2^this nodes (default 15)")


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """Where to ask, and what to learn there."""
    group = parser.add_argument_group("samples")
    group.add_argument("--num_points", type=positive, default=1_000_000, help="labelled points (default 1000000)")
    group.add_argument(
        "--samplingMethod",
        default="Importance",
        choices=("Importance", "Surface", "Uniform"),
        help="where they lie (default Importance)",
    )
    group.add_argument(
        "--importanceWeight",
        type=importance,
        default=60.0,
        help="beta of the density exp(-beta |d|), per domain unit (default 60)",
    )
    group.add_argument(
        "--uniformRatio",
        type=share,
        help="share of the points drawn uniformly from the cube, with Importance and Surface; 0 is off (default 0.05)",
    )
    group.add_argument(
        "--scaler",
        default="none",
        choices=("none", "StandardScaler", "PowerTransformer", "QuantileTransformer"),
        help="transform of the targets (default none)",
    )
    group.add_argument(
        "--distanceEngine",
        default="auto",
        choices=("auto", "open3d", "libigl", "numba"),
        help="of the exact distances (default auto: the fastest, numba)",
    )


def add_fit_flags(parser: argparse.ArgumentParser) -> None:
    """How the network is fitted, and when that ends."""
    group = parser.add_argument_group("fit")
    group.add_argument("--epochs", type=positive, default=4, help="passes over the points (default 4)")
    group.add_argument("--batchSize", type=positive, default=1024, help="points a step (default 1024)")
    group.add_argument(
        "--learningRate",
        type=positive_number,
        default=0.001,
        help="Adam's rate at the start; soap takes 5 times it (default 0.001)",
    )
    group.add_argument(
        "--optimizer",
        default="soap",
        choices=("soap", "adam"),
        help="soap is Adam in the eigenbasis of Shampoo's preconditioner (default soap)",
    )
    group.add_argument(
        "--schedule",
        default="linear",
        choices=("linear", "cosine", "constant"),
        help="of the learning rate: falling to 0, or constant (default linear)",
    )
    group.add_argument(
        "--loss",
        default="l1",
        choices=("l1", "l2", "clamp", "weighted", "relative"),
        help="clamp: l1 within 0.1 of the surface; weighted: l1, 4 times heavier on the surface; relative: l1 times "
        "0.05 / (0.05 + |d|) (default l1)",
    )
    group.add_argument(
        "--timeBudget",
        type=not_negative,
        default=0.0,
        help="seconds that the fit takes, instead of --epochs; 0 is off (default 0)",
    )
    group.add_argument(
        "--targetError",
        type=not_negative,
        default=0.0,
        help="held-out surface error, domain units, at which the fit stops; 0 is off (default 0)",
    )
    group.add_argument(
        "--resume",
        type=int,
        choices=(0, 1),
        default=0,
        help="1 goes on from the checkpoint of a fit that was interrupted (default 0)",
    )
    group.add_argument(
        "--checkpointSeconds",
        type=not_negative,
        default=30.0,
        help="seconds between checkpoints; 0 is off (default 30)",
    )
    group.add_argument("--seed", type=natural, default=0, help="of everything that is drawn (default 0)")


def add_machine_flags(parser: argparse.ArgumentParser) -> None:
    """Where it runs."""
    group = parser.add_argument_group("machine")
    group.add_argument("--gpu", type=gpu, help="number of the GPU; -1 is the CPU (default: GPU 0 if there is one)")


def add_fleet_flags(parser: argparse.ArgumentParser) -> None:
    """How a folder is gone through."""
    group = parser.add_argument_group("folders")
    group.add_argument(
        "--overwrite",
        type=int,
        choices=(0, 1),
        default=0,
        help="1 fits again what is done with these flags and this content; 0 skips it (default 0)",
    )
    group.add_argument(
        "--workers",
        type=natural,
        help="worker processes; 0 is this one, where a crash ends the run (default: one a GPU, else one a processor, "
        "as many as memory holds)",
    )
    group.add_argument(
        "--partTimeout",
        type=not_negative,
        default=0.0,
        help="seconds after which a part counts as hung and is ended; 0 is off (default 0)",
    )
    group.add_argument(
        "--workerMemory",
        type=memory,
        default=0,
        metavar="BYTES",
        help="that a worker may occupy, such as 2G, before its part is ended; with --ray: that is set aside for it on "
        "its node; 0 is off (default 0)",
    )
    group.add_argument(
        "--ray", default="", metavar="ADDRESS", help="fit on the Ray cluster there; local starts one (default: none)"
    )
    group.add_argument(
        "--rayTransfer",
        "--ray-transfer",
        dest="rayTransfer",
        default="paths",
        choices=("paths", "bytes"),
        help="paths of a folder that the cluster shares, or the files themselves (default paths)",
    )


def contradiction(flags: argparse.Namespace) -> str:
    """Why these flags cannot stand together, or ''."""
    if flags.damArch and flags.numLayers not in (None, 10):
        return f"--damArch 1 has 10 layers; --numLayers {flags.numLayers} contradicts it: give 10 or leave it out"
    if flags.activation == "sine" and flags.init not in (None, "siren"):
        return f"--activation sine needs its own initialisation, not --init {flags.init}: give siren or leave it out"
    if flags.init == "siren" and flags.activation != "sine":
        return f"--init siren is for --activation sine, not {flags.activation}"
    if flags.reconstructionRes == 1 or flags.validationRes == 1:
        return "a grid needs 2 points along an axis or more; 0 is off"
    if flags.samplingMethod == "Uniform" and flags.uniformRatio is not None:
        return "--samplingMethod Uniform draws every point uniformly; leave --uniformRatio out"
    if flags.workers == 0 and (flags.partTimeout or flags.workerMemory or flags.ray):
        return "--partTimeout, --workerMemory and --ray need worker processes; --workers 0 has none"
    if flags.ray and flags.gpu not in (None, -1):
        return f"--gpu {flags.gpu} is for this machine alone: a cluster deals its GPUs out; give -1 or leave it out"
    if flags.rayTransfer != "paths" and not flags.ray:
        return "--rayTransfer is for --ray"
    return hash_contradiction(flags)


def hash_contradiction(flags: argparse.Namespace) -> str:
    """Why the flags of the hash grid cannot stand, or ''; those that are None were not given."""
    given = [name for name in HASH_DEFAULTS if getattr(flags, name) is not None]
    if flags.encoding != "hashgrid":
        return f"--{given[0]} is for --encoding hashgrid; leave it out" if given else ""
    sizes = {name: getattr(flags, name) or default for name, default in HASH_DEFAULTS.items()}
    base, finest, table = sizes["hashBaseRes"], sizes["hashFinestRes"], sizes["hashTableLog2"]
    if finest > FINEST_HASH_RES:
        return f"--hashFinestRes {finest} is above {FINEST_HASH_RES}"
    if base > finest:
        return f"--hashBaseRes {base} is finer than --hashFinestRes {finest}"
    return f"--hashTableLog2 {table} is above {LARGEST_HASH_TABLE}" if table > LARGEST_HASH_TABLE else ""


@dataclass
class Part:
    """What the stages of one part hand on to each other."""

    source: Path
    flags: SimpleNamespace
    should_stop: "Callable[[], bool] | None" = None
    in_folder: bool = False
    input: str = ""  # what the user calls the source, where that is a copy
    content: str = ""  # SHA-256 of the file
    mesh: Any = None  # geometry.Mesh, or None for a samples file
    oracle: Any = None  # distance.DistanceOracle, or None
    transform: Any = None  # geometry.Transform
    points: "np.ndarray | None" = None
    sdf: "np.ndarray | None" = None
    kept: "tuple[np.ndarray, np.ndarray] | None" = None  # of a samples file, for the score
    notes: list[str] = field(default_factory=list)  # lines that a person should read
    scratch: str = ""  # a folder that is gone afterwards: of no meaning to who reads a note
    device: str = "cpu"  # or the name of a GPU
    missed: str = ""  # what of the surface the reconstruction lacks, and why
    timings: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def note(self, line: str) -> None:
        """A line that a person should read and the record keeps; of many parts, the driver says it."""
        line = line.replace(f"{self.scratch}{os.sep}", "") if self.scratch else line
        self.notes.append(line)
        if not self.in_folder:
            say(line)

    def stream(self, purpose: str) -> "np.random.Generator":
        """The generator of one purpose."""
        import numpy as np

        return np.random.default_rng([self.flags.seed, STREAMS.index(purpose)])

    @contextmanager
    def timed(self, stage: str):
        """Add the seconds of a block to `timings[stage]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - start


def fit_part(part: Part, artifacts) -> dict:
    """All stages of one input; writes its files and returns its record, with `failure` where it has no surface, or none
    that stands for the part.

    Raises one-line ValueError, OSError or RuntimeError for an input that cannot be used or a fit that failed, and
    fitting.Interrupted where it was asked to stop.
    """
    from artifacts import content_of

    start = time.perf_counter()
    device = choose_device(part)
    with part.timed("load"):
        load(part)
    part.content = content_of(part.source)
    with part.timed("label"):
        label(part)
    with part.timed("fit"):
        network = make_network(part).to(device)
        result = fit_network(part, network, artifacts, part.should_stop)
        artifacts.write_model(network)
    with part.timed("reconstruct"):
        reconstruction, failure = reconstruct(part, network)
        failure = result.collapsed or failure
        if reconstruction is not None:
            write_reconstruction(part, artifacts, reconstruction)
    with part.timed("evaluate"):
        distances = evaluate(part, network, reconstruction)
    part.timings["total"] = time.perf_counter() - start
    record = record_of(part, network, result, reconstruction, failure)
    write_report(part, artifacts, record, result, reconstruction, distances)
    artifacts.write_record(record)
    artifacts.checkpoint.unlink(missing_ok=True)
    return record


def load(part: Part) -> None:
    """Read the mesh, or the labelled samples."""
    if part.source.suffix.lower() == ".npz":
        return load_labelled(part)
    from distance import DistanceOracle
    from geometry import diagnosis_lines, load_mesh

    part.mesh = load_mesh(part.source, part.flags.reconstructionRes)
    part.transform = part.mesh.transform
    for line in diagnosis_lines(part.mesh.diagnosis):
        say(line)
    part.oracle = DistanceOracle(part.mesh, part.flags.distanceEngine)


def load_labelled(part: Part) -> None:
    """Read a samples file and keep a share of it from training."""
    from sampling import load_samples

    for name in ("targetError", "validationRes"):
        if getattr(part.flags, name):
            raise ValueError(f"{part.source}: --{name} needs a mesh; samples have no surface to look at: leave it out")
    points, sdf, part.transform = load_samples(part.source)
    order = part.stream("held_out").permutation(len(points))
    count = min(HELD_OUT_SAMPLES, max(1, int(len(points) * HELD_OUT_SHARE)))
    part.kept = points[order[:count]], sdf[order[:count]]
    part.points, part.sdf = points[order[count:]], sdf[order[count:]]
    if len(part.points) == 0:
        raise ValueError(f"{part.source}: too few samples to train on and to score; give at least 2")
    say(f"{len(points):,} samples, {count:,} of them kept from training to score it")


def label(part: Part) -> None:
    """Draw labelled points, unless they came with the file."""
    if part.points is not None:
        return
    from sampling import draw_samples

    flags, method = part.flags, part.flags.samplingMethod
    with progress_bar("label", flags.num_points) as bar:
        part.points, part.sdf = draw_samples(
            method,
            part.oracle,
            flags.num_points,
            part.stream("samples"),
            importance_weight=flags.importanceWeight if method == "Importance" else None,
            uniform_ratio=flags.uniformRatio,
            progress=lambda count: advance(part, bar, count),
        )


def advance(part: Part, bar, count: int) -> None:
    """Move a bar on. Raises Interrupted where the part was asked to stop."""
    from fitting import Interrupted

    bar.update(count)
    if part.should_stop is not None and part.should_stop():
        raise Interrupted("stopped on request")


def make_network(part: Part) -> "NeuralSDF":
    """The network that the flags describe, its scaler fitted to the targets."""
    from encoding import HashGrid
    from network import DAM_WIDTHS, NeuralSDF
    from scaling import fit_scaler

    flags = part.flags
    widths = DAM_WIDTHS if flags.damArch else (flags.layerWidth,) * (flags.numLayers or 8)
    sizes = (
        flags.hashLevels,
        flags.hashFeatures,
        flags.hashBaseRes,
        flags.hashFinestRes,
        flags.hashTableLog2,
    )
    encoding = HashGrid(*sizes) if flags.encoding == "hashgrid" else None
    scaler = fit_scaler(flags.scaler, part.sdf)
    return NeuralSDF(widths, flags.activation, encoding, scaler, part.transform.center, part.transform.scale)


def choose_device(part: Part) -> str:
    """The torch device of --gpu, kept by its name in `part.device`. Raises ValueError where that GPU is not there.

    A GPU is tried first: one that this torch has no code for, or that another program has, shows it only then. Where
    none was asked for, the CPU takes its place, and a note says so.
    """
    import torch

    gpu = part.flags.gpu
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu == -1 or (gpu is None and count == 0):
        return "cpu"
    if (gpu or 0) >= count:
        raise ValueError(f"--gpu {gpu}: there are {count} GPUs here; -1 is the CPU")
    name = f"cuda:{gpu or 0}"
    try:
        torch.zeros(1, device=name).add_(1).item()
        part.device = torch.cuda.get_device_name(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        if gpu is not None:
            raise ValueError(f"--gpu {gpu}: cannot be used ({reason}); -1 is the CPU") from error
        part.note(f"GPU 0 cannot be used ({reason}): fitted on the CPU; --gpu -1 does not ask")
        return "cpu"
    say(f"fitting on {part.device}")
    return name


def settings_of(flags):
    """The flags' `fitting.FitSettings`."""
    from fitting import FitSettings

    return FitSettings(
        epochs=flags.epochs,
        batch_size=flags.batchSize,
        learning_rate=flags.learningRate,
        init=flags.init,
        loss=flags.loss,
        schedule=flags.schedule,
        optimizer=flags.optimizer,
        importance_weight=flags.importanceWeight,
        time_budget=flags.timeBudget,
        target_error=flags.targetError,
        seed=flags.seed,
    )


def fit_network(part: Part, network: "NeuralSDF", artifacts, should_stop):
    """Train the network in place; returns fitting's result."""
    from fitting import FitHooks, fit

    flags = part.flags
    with progress_bar("fit", 100, unit="%") as bar:
        hooks = FitHooks(
            held_out=held_out_points(part),
            validate=validation(part, network),
            progress=lambda done, loss: show_share(bar, done, loss),
            checkpoint=artifacts.checkpoint,
            checkpoint_seconds=flags.checkpointSeconds or None,
            identity=identity_of(part),
            warn=part.note,
            should_stop=should_stop,
        )
        result = fit(network, part.points, part.sdf, settings_of(flags), hooks, resume=bool(flags.resume))
    if result.resumed_at:
        say(f"went on from the checkpoint at {result.resumed_at:,} samples")
    if result.restarts:
        part.note("the first attempt collapsed; this is the second, from the next seed")
    say(f"fitted {network.parameter_count:,} parameters to {result.samples:,} samples, ended by {result.ended_by}")
    return result


def held_out_points(part: Part) -> "np.ndarray | None":
    """Points of the surface for the held-out curve; a samples file has none."""
    if part.mesh is None:
        return None
    from sampling import points_on_surface

    return points_on_surface(part.mesh, HELD_OUT_POINTS, part.stream("held_out"))[0]


def validation(part: Part, network: "NeuralSDF"):
    """A function that scores the grid of --validationRes, or None where that is off or there is no mesh."""
    resolution = part.flags.validationRes
    if resolution == 0 or part.oracle is None:
        return None
    from metrics import grid_points, validation_grid

    points = grid_points(resolution)
    distances = part.oracle.signed_distance(points)
    return lambda: validation_grid(network.domain, points, distances)


def identity_of(part: Part) -> dict:
    """What, beside settings and shape, a checkpoint must agree in: the file's content and how it was sampled."""
    names = ("num_points", "samplingMethod", "uniformRatio", "distanceEngine")
    return {"content": part.content} | {name: getattr(part.flags, name) for name in names}


def reconstruct(part: Part, network: "NeuralSDF"):
    """((vertices, faces) in the domain, or None where there is none; why not, or '')."""
    flags = part.flags
    if flags.reconstructionRes == 0:
        return None, ""
    from marching import MemoryBoundError, NoSurfaceError, march

    with progress_bar("march", 100, unit="%") as bar:
        try:
            marched = march(
                network.domain,
                flags.reconstructionRes,
                max_memory=flags.maxMemory or None,
                generator=part.stream("marching"),
                progress=lambda done: show_share(bar, done),
            )
        except (NoSurfaceError, MemoryBoundError) as error:
            say(f"no reconstruction: {error}")
            return None, str(error)
    say(f"reconstruction: {len(marched.faces):,} triangles; {marched.stats.get('evaluated', 0):,} points evaluated")
    return (marched.vertices, marched.faces), ""


def write_reconstruction(part: Part, artifacts, reconstruction) -> None:
    """Write the mesh in file units."""
    from mesh_files import coarseness, write_mesh

    vertices, faces = part.transform.to_file(reconstruction[0]), reconstruction[1]
    cell = 2.0 / (part.flags.reconstructionRes - 1) / part.transform.scale
    if line := coarseness(artifacts.reconstruction, vertices, cell):
        part.note(f"{line}; --outputFormat ply keeps all digits")
    write_mesh(artifacts.reconstruction, vertices, faces)


def evaluate(part: Part, network: "NeuralSDF", reconstruction) -> "np.ndarray | None":
    """Fill the metrics from points that training never saw; returns the distance of each reconstructed vertex."""
    from metrics import MISSED, explain_missed, mesh_errors, point_errors, sample_errors

    if part.mesh is None:
        part.metrics = sample_errors(network.domain, *part.kept)
        return None
    weight = part.flags.importanceWeight
    part.metrics = point_errors(network.domain, part.oracle, METRIC_POINTS, part.stream("metrics"), weight)
    if reconstruction is None:
        return None
    cell = 2.0 / (part.flags.reconstructionRes - 1)
    part.metrics |= mesh_errors(
        *reconstruction, part.mesh, part.oracle, METRIC_POINTS, part.stream("mesh_metrics"), cell
    )
    if part.metrics["missed_surface"] > MISSED:
        part.missed = explain_missed(network.domain, *reconstruction, part.oracle, part.stream("missed"), cell)
        if not part.in_folder:  # of many parts, summary.csv has the share
            say(part.missed)
    return part.transform.length_to_file(part.oracle.distance(reconstruction[0]))


def record_of(part: Part, network: "NeuralSDF", result, reconstruction, failure: str) -> dict:
    """What NAME.json holds."""
    return {
        "input": part.input or str(part.source),
        "content": part.content,
        "flags": vars(part.flags),
        "versions": versions(),
        "diagnosis": part.mesh.diagnosis if part.mesh is not None else {},
        "device": part.device,
        "parameters": network.parameter_count,
        "transform": {"center": part.transform.center, "scale": part.transform.scale},
        "fit": {name: getattr(result, name) for name in ("ended_by", "seconds", "samples", "restarts", "resumed_at")},
        "timings": part.timings,
        "metrics": part.metrics,
        "reconstruction": None
        if reconstruction is None
        else {"vertices": len(reconstruction[0]), "faces": len(reconstruction[1])},
        "failure": failure,
        "notes": part.notes + [part.missed] * bool(part.missed),
    }


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "numpy", "trimesh", "scikit-image", "scikit-learn")} | {
        "python": sys.version.split()[0]
    }


def write_report(part: Part, artifacts, record: dict, result, reconstruction, distances) -> None:
    """Write the page and the curves, for a folder the thumbnail."""
    from report import curves_png, html_report, thumbnail_png

    def in_file_units(vertices, faces):
        return part.transform.to_file(vertices), faces

    shown_input = None if part.mesh is None else in_file_units(part.mesh.vertices, part.mesh.faces)
    shown = None if reconstruction is None else in_file_units(*reconstruction)
    page = html_report(artifacts.name, record, result.history, shown_input, shown, distances)
    artifacts.write_report(page, curves_png(artifacts.name, result.history, record))
    if part.in_folder and (pictured := shown or shown_input) is not None:
        artifacts.write_thumbnail(thumbnail_png(*pictured))


def show(page: Path) -> None:
    """Open a page in the browser, or say where it is when there is no display."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        say(f"no display here; the report is {page}")
        return
    import webbrowser

    webbrowser.open(page.resolve().as_uri())


def fit_one(job: dict, should_stop: "Callable[[], bool] | None" = None) -> dict:
    """One part, anywhere: job {input, name, flags (dict)} -> {name, input, status, reason, record, ...}, all JSON-able.

    status: done, refused (the input cannot be used), failed (the fit, the reconstruction or the writing), stopped
    (should_stop said so; a checkpoint holds the fit) or busy (another process has this part). What is done with these
    flags and this content is not done again: `skipped` is then true. `again`: smaller chunks could help. `notes`: lines
    that a person should read; of a part in a folder nothing else has said them. `fatal`: this process can fit no more.
    Further keys of a job: folder (bool), it is one of many; attempt, from the second on in smaller chunks; source and
    outputDir, where the input is read and the files are written instead; scratch, the folder that notes leave out.
    """
    from artifacts import Artifacts, BusyError

    flags = SimpleNamespace(**job["flags"])
    source = Path(job.get("source", job["input"]))
    artifacts = Artifacts(Path(job.get("outputDir", flags.outputDir)), job["name"], flags.outputFormat)
    result = {"name": job["name"], "input": job["input"], "status": "done", "reason": "", "record": None}
    try:
        with artifacts.lock():
            record = None if flags.overwrite else artifacts.finished(job["flags"], source)
            if record is not None:
                artifacts.checkpoint.unlink(missing_ok=True)
                return result | ended(record) | {"skipped": True}
            artifacts.check_free(source)
            return result | fit_locked(job, source, artifacts, should_stop)
    except BusyError as error:
        return result | {"status": "busy", "reason": str(error)}
    except (OSError, ValueError) as error:
        return result | {"status": "failed", "reason": one_line(error)}


def fit_locked(job: dict, source: Path, artifacts, should_stop) -> dict:
    """Fit a part whose lock is held; returns status, reason, record, notes, and `again` where smaller chunks could
    help."""
    from artifacts import plain
    from fitting import Interrupted
    from geometry import MeshError

    notes = []
    try:
        with chunks(small=job.get("attempt", 1) > 1):
            result = ended(plain(fit_or_go_on(job, source, artifacts, should_stop, notes)))
    except Interrupted as error:
        result = {"status": "stopped", "reason": str(error)}
    except MeshError as error:
        result = {"status": "refused", "reason": str(error)}
    except (ValueError, OSError, RuntimeError, MemoryError, ImportError) as error:
        memory = command.lacks_memory(error)
        # After any other error of a GPU its driver gives this process nothing but errors.
        lost = type(error).__name__ == "AcceleratorError" and not memory
        result = {"status": "failed", "reason": one_line(error), "again": memory or lost, "fatal": lost}
    return result | {"notes": notes}


def fit_or_go_on(job: dict, source: Path, artifacts, should_stop, notes: list[str]) -> dict:
    """Fit a part, in a folder from its checkpoint where there is one; one of another fit is told and removed."""
    from fitting import CheckpointError

    in_folder = job.get("folder", False)
    flags = SimpleNamespace(**job["flags"])
    if in_folder and flags.overwrite and job.get("attempt", 1) == 1:
        artifacts.checkpoint.unlink(missing_ok=True)
        artifacts.discard()  # once begun, this part is not done any more
    there = artifacts.checkpoint.is_file()
    if flags.resume and not (there or in_folder):
        say(f"{artifacts.checkpoint}: no such checkpoint; the fit begins anew")
    flags.resume = int(flags.resume or (in_folder and there))
    given = {"should_stop": should_stop, "in_folder": in_folder, "input": job["input"], "notes": notes}
    given["scratch"] = job.get("scratch", "")
    try:
        return fit_part(Part(source, flags, **given), artifacts)
    except CheckpointError as error:
        if not in_folder:
            raise
        Part(source, flags, **given).note(f"begun anew: {error}")
        artifacts.checkpoint.unlink(missing_ok=True)
    return fit_part(Part(source, flags, **given), artifacts)


@contextmanager
def chunks(small: bool):
    """Distances and networks evaluated in small chunks, where asked for: slower, less memory, the same results."""
    import distance
    import network

    names = ((distance, "CHUNK"), (network, "BATCH"), (network, "GPU_BATCH"))
    before = [getattr(module, name) for module, name in names]
    if small:
        for (module, name), size in zip(names, before, strict=True):
            setattr(module, name, max(1024, size // 16))
    try:
        yield
    finally:
        for (module, name), size in zip(names, before, strict=True):
            setattr(module, name, size)


def find_inputs(source: Path) -> list[Path]:
    """The input itself, or the meshes and samples of a folder by name. Raises ValueError where there are none."""
    from geometry import MESH_SUFFIXES

    if not source.is_dir():
        return [source]
    known = (*MESH_SUFFIXES, ".npz")
    with os.scandir(source) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and os.path.splitext(entry.name)[1].lower() in known
            and may_be_file(entry)
        )
    found = [source / name for name in names]
    if not found:
        raise ValueError(f"{source}: no mesh and no samples in this folder; known suffixes: {' '.join(known)}")
    return found


def may_be_file(entry: os.DirEntry) -> bool:
    """Whether an entry of a folder is a file, or a link to nowhere, which its part then has to tell."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


def names_of(inputs: list[Path], suffix: str, in_folder: bool = True) -> list[str]:
    """A name for each input's files: the stem, with the file's suffix where two share a stem, and all different.

    A folder's own files (index.html, summary.csv) and file systems without capital letters are thought of.
    """
    shared = Counter(path.stem.casefold() for path in inputs)
    shared.update(RESERVED_NAMES if in_folder else ())
    names, taken = [], set()
    for path in inputs:
        name = path.stem if shared[path.stem.casefold()] == 1 else f"{path.stem}_{path.suffix.lstrip('.').lower()}"
        while name.casefold() in taken:
            name += "_"
        taken.add(name.casefold())
        names.append(name + suffix)
    return names


def main(arguments: list[str] | None = None) -> int:
    """Fit what the command line asks for; returns the exit code."""
    flags = parse_arguments(arguments)
    settle_threads()
    from artifacts import check_folder_free, prepare_folder

    source, folder = Path(flags.input), Path(flags.outputDir)
    try:
        inputs = find_inputs(source)
        check_folder_flags(source, folder, flags)
        prepare_folder(folder)
        if source.is_dir():
            check_folder_free(folder)
    except (ValueError, OSError) as error:
        return complain(one_line(error))
    settings = {key: value for key, value in vars(flags).items() if key != "input"}
    names = names_of(inputs, flags.suffix, source.is_dir())
    if source.is_dir():
        jobs = (
            {"input": str(path), "name": name, "flags": settings, "folder": True}
            for path, name in zip(inputs, names, strict=True)
        )
        return fit_folder(jobs, names, flags)
    return fit_single({"input": str(source), "name": names[0], "flags": settings}, folder)


def check_folder_flags(source: Path, folder: Path, flags: argparse.Namespace) -> None:
    """Raise ValueError for flags of a folder with a file, and for results among the inputs."""
    if source.is_dir():
        if folder.exists() and folder.samefile(source):
            raise ValueError(f"{folder}: the results would be inputs of the next run; choose another --outputDir")
        return
    given = {"--workers": flags.workers, "--ray": flags.ray, "--partTimeout": flags.partTimeout}
    given["--workerMemory"] = flags.workerMemory
    if wrong := [name for name, value in given.items() if value]:
        raise ValueError(f"{wrong[0]} is for a folder; {source} is fitted in this process alone: leave it out")


def fit_single(job: dict, folder: Path) -> int:
    """Fit one input in this process; returns the exit code."""
    from fleet import Stop

    with Stop("stopping at the next check of the fit; once more stops at once") as stop:
        result = fit_one(job, stop)
    if result["status"] == "stopped":
        kept = (folder / f"{job['name']}.checkpoint").is_file()
        say("stopped" + kept * "; the same command with --resume 1 goes on from the checkpoint")
        return stop.exit_code
    if result["status"] != "done":
        return complain(result["reason"])
    if result.get("skipped"):
        say("done before, with these flags and this content; --overwrite 1 fits it again")
    print_result(result["record"], folder / job["name"])
    if job["flags"]["showVis"]:
        show(folder / f"{job['name']}.html")
    return 0


def fit_folder(jobs: "Iterator[dict]", names: list[str], flags: argparse.Namespace, worker="trainer:fit_one") -> int:
    """Fit many inputs; returns the exit code. jobs, names: of each input, in order; worker: module:function."""
    from artifacts import BusyError, Running, remove_leavings
    from fleet import FleetError, Stop, run

    folder = Path(flags.outputDir)
    stop = Stop("stopping in order: checkpoints are written; once more stops at once")
    with Running(folder) as running:
        if running.alone:
            remove_leavings(folder)
        try:
            place = place_to_run(flags, worker, len(names), stop)
        except FleetError as error:
            return complain(one_line(error))
        try:
            book = FolderBook(folder, names, vars(flags), fresh=running.alone)
        except (OSError, BusyError) as error:
            place.kill()
            return complain(one_line(error))
        stop.at_once = place.kill
        with stop:
            try:
                run(jobs, place, book.take, book.tick, stop)
                place.close()
            except FleetError as error:
                place.kill()
                complain(one_line(error))
            book.close(stopped=stop())
    if flags.showVis:
        show(folder / "index.html")
    return stop.exit_code if stop() else book.exit_code


def place_to_run(flags: argparse.Namespace, worker: str, parts: int, stop):
    """Where the parts of a folder are fitted. Raises fleet.FleetError."""
    import fleet

    if flags.ray:
        sender = Sender() if flags.rayTransfer == "bytes" else SharedFolder()
        worker = sender.worker or worker
        return fleet.Ray(
            flags.ray, worker, flags.workers, flags.gpu != -1, flags.partTimeout, flags.workerMemory, sender
        )
    if flags.workers == 0:
        return fleet.Here(worker, stop)
    gpus = fleet.usable_gpus() if flags.gpu is None else []
    asked = gpus if flags.gpu in (None, -1) else [str(flags.gpu)]
    count = flags.workers or fleet.default_workers(parts, memory_of(flags), asked)
    if count < min(parts, len(asked) or len(fleet.usable_processors())) and not flags.workers:
        say(f"worker processes: {count}; memory holds no more")
    return fleet.Processes(worker, min(count, parts), gpus, flags.partTimeout, flags.workerMemory)


def memory_of(flags: argparse.Namespace) -> int:
    """Bytes that are set aside for a worker."""
    return WORKER_BYTES + BYTES_A_POINT * flags.num_points


def fit_sent(job: dict, should_stop=None) -> dict:
    """fit_one of a job that a Sender made, in a folder of its own; the result has the files that it left as `files`
    (path in the output folder: bytes)."""
    import tempfile

    content, beside, checkpoint = job["content"], job["beside"], job["checkpoint"]
    job = {key: value for key, value in job.items() if key not in ("content", "beside", "checkpoint")}
    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place) / "in" / Path(job["input"]).name, Path(place) / "out"
        source.parent.mkdir()
        out.mkdir()
        source.write_bytes(content)
        for name, data in beside.items():
            (source.parent / name).parent.mkdir(parents=True, exist_ok=True)
            (source.parent / name).write_bytes(data)
        if checkpoint is not None:
            (out / f"{job['name']}.checkpoint").write_bytes(checkpoint)
        result = fit_one(job | {"source": str(source), "outputDir": str(out), "scratch": str(out)}, should_stop)
        result["reason"] = result["reason"].replace(str(source), job["input"])
        left = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.startswith("."))
        return result | {"files": {str(path.relative_to(out)): path.read_bytes() for path in left}}


def print_result(record: dict, stem: Path) -> None:
    """The last lines that a user reads."""
    metrics = record["metrics"]
    names = (
        "surface_error",
        "surface_error_p99",
        "importance_error",
        "grid_error",
        "iou",
        "chamfer",
        "hausdorff",
    )
    print("  ".join(f"{name} {metrics[name]:.3g}" for name in names if metrics.get(name) is not None))
    print("  ".join(f"{name} {seconds:.1f} s" for name, seconds in record["timings"].items()))
    print(f"report: {stem}.html")


def progress_bar(title: str, total: int, unit: str = " points"):
    """A bar on a terminal, nothing in a log file."""
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit=unit, unit_scale=unit != "%", disable=None, leave=False)


def show_share(bar, done: float, loss: float | None = None) -> None:
    """Move a bar of 100 to a share in [0, 1]."""
    bar.update(round(100 * done) - bar.n)
    if loss is not None:
        bar.set_postfix_str(f"loss {loss:.3g}", refresh=False)


def say(line: str) -> None:
    """A line for the user, on standard error where the bars are."""
    print(line, file=sys.stderr)


def complain(line: str) -> int:
    """A line that says what is wrong; returns exit code 1."""
    print(f"trainer.py: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    command.run(main)
