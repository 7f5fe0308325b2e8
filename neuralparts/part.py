"""The way of one part: a mesh or samples file in, a network, its surface, its errors and its report out.

`fit_part` is the whole way in one screen: load, label, fit, reconstruct, evaluate, write. Each stage takes what it
needs and returns what it made.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import numpy as np
import torch

import neuralparts
from neuralparts import choices
from neuralparts.device import choose_device
from neuralparts.distance import DistanceOracle
from neuralparts.domain import Transform, grid_cell
from neuralparts.errors import Interrupted, UserError
from neuralparts.fitting import FitHooks, FitResult, FitSettings, Pairs, fit
from neuralparts.marching import MemoryBoundError, NoSurfaceError, march
from neuralparts.mesh import Mesh, diagnosis_lines, load_mesh
from neuralparts.mesh_files import open_hashed, read_source, rounding_note, write_mesh
from neuralparts.metrics import (
    LARGEST_MISSED_FRACTION,
    explain_disagreement,
    explain_missed,
    grid_points,
    mean_absolute_error,
    mesh_errors,
    off_surface_errors,
    point_errors,
    sample_errors,
)
from neuralparts.network import DAM_WIDTHS, HashGrid, NeuralSDF, facts, fit_scaler
from neuralparts.output import StagedFiles, decisive, plain
from neuralparts.report import curves_png, html_report, model_card, thumbnail_png
from neuralparts.sampling import draw_samples, load_samples, negative_inside, pair_samples, points_on_surface
from neuralparts.watch import Watch
from neuralparts.wording import count_bar, fraction_bar, say

# Points of the surface for the curve of the held-out error and for --targetError; the final metrics draw their own.
HELD_OUT_POINTS = 1024
# Fraction of a samples file kept from training, to score the fit where there is no mesh; at most so many points.
HELD_OUT_FRACTION, HELD_OUT_SAMPLES = 0.05, 100_000
# Fresh points for each of the final metrics.
METRIC_POINTS = 50_000
# Points for the errors off the surface, in the cube and near the surface; a gradient costs several values.
OFF_SURFACE_POINTS = 20_000
# One stream of random numbers for each purpose, so that none changes when another draws more. The place in this tuple
# is part of the seed: add at the end only.
STREAMS = ("samples", "held_out", "metrics", "marching", "mesh_metrics", "missed", "pairs", "off_surface")
# Packages whose versions the record names, because the result depends on them.
RECORDED_PACKAGES = ("torch", "numpy", "numba", "libigl", "scipy", "scikit-image", "scikit-learn", "trimesh")


@dataclass(frozen=True)
class Shape:
    """What an input says: a mesh with its oracle, or labelled samples; the other fields are then None.

    samples: points (N, 3) and sdf (N,), float32, domain, to train on. kept: the same kind, kept from training.
    """

    transform: Transform
    mesh: Mesh | None = None
    oracle: DistanceOracle | None = None
    samples: tuple[np.ndarray, np.ndarray] | None = None
    kept: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Surface:
    """A reconstruction: vertices (V, 3) float64 in the domain, faces (F, 3) int64."""

    vertices: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """metrics: by name. notes: a line on errors that contradict each other, one on what the reconstruction lacks.
    deviation: (V,) distance of each reconstructed vertex from the input, file units, or None."""

    metrics: dict[str, float]
    notes: tuple[str, ...] = ()
    deviation: np.ndarray | None = None


def fit_part(source: Path, flags: SimpleNamespace, files: StagedFiles, watch: Watch, name: str = "") -> dict:
    """All stages of one input. Writes its files and returns its record; `record["failure"]` says why there is no usable
    surface, or ''. The files are in their hidden folder afterwards; `files.settle()` puts them in place.

    name: what the user calls the source, if `source` is a copy. Raises UserError or OSError for what the user can mend,
    CollapseError for a fit without finite values, Interrupted where `watch.should_stop()` said so.
    """
    start = time.perf_counter()
    device = choose_device(flags.gpu, watch)
    with watch.timed("load"):
        shape, content = load(source, flags, watch)
    with watch.timed("label"):
        samples, pairs = label(shape, flags, watch), label_pairs(shape, flags)
    with watch.timed("fit"):
        network = make_network(flags, samples[1], shape.transform).to(device)
        result = fit_network(network, samples, pairs, shape, content, flags, files.checkpoint, watch)
    with watch.timed("reconstruct"):
        surface, failure = reconstruct(network, flags)
        if surface is not None:
            write_reconstruction(surface, shape.transform, flags, files, watch)
    with watch.timed("evaluate"):
        evaluation = evaluate(network, shape, surface, flags, watch)
        off_surface = evaluate_off_surface(network, shape, flags.seed)
        network.about = about_fit(Path(name or source).name, shape, flags, evaluation.metrics)
        files.write_model(network)
    watch.timings["total"] = time.perf_counter() - start
    record = {
        "input": name or str(source),
        "content": content,
        "flags": vars(flags),
        "versions": versions(),
        "diagnosis": shape.mesh.diagnosis if shape.mesh is not None else {},
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(device),
        "parameters": network.parameter_count,
        "transform": {"center": shape.transform.center.tolist(), "scale": shape.transform.scale},
        "fit": {key: getattr(result, key) for key in ("ended_by", "seconds", "samples", "restarts", "resumed_at")},
        "timings": watch.timings,
        "metrics": evaluation.metrics,
        "off_surface": off_surface,
        "reconstruction": None if surface is None else {"vertices": len(surface.vertices), "faces": len(surface.faces)},
        "failure": result.collapsed or failure,
        "notes": [*watch.notes, *evaluation.notes],
    }
    if flags.modelCard:
        files.write_card(model_card(files.model.name, facts(network)))
    write_report(files, record, result, shape, surface, evaluation.deviation, watch.in_folder)
    files.write_record(record)
    return record


def random_stream(seed: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose of STREAMS."""
    return np.random.default_rng([seed, STREAMS.index(purpose)])


# ------------------------------------------------------------------------------------------------- load and label


def load(source: Path, flags: SimpleNamespace, watch: Watch) -> tuple[Shape, str]:
    """Read a mesh, or labelled samples; and the hash of the very bytes that were read, as `content_of` computes it.

    Raises UserError or OSError.
    """
    if source.suffix.lower() == choices.SAMPLES_SUFFIX:
        with open_hashed(source) as (file, content):
            return load_labelled(source, file, flags, watch), content
    read = read_source(source)
    mesh = load_mesh(read, flags.reconstructionRes)
    for line in diagnosis_lines(mesh.diagnosis):
        say(line)
    return Shape(mesh.transform, mesh, DistanceOracle(mesh, flags.distanceEngine)), read.content


def load_labelled(source: Path, file: BinaryIO, flags: SimpleNamespace, watch: Watch) -> Shape:
    """Read a samples file, which is open, and keep a fraction of it from training. Raises UserError.

    A note says if its signs had to be changed.
    """
    for name in ("targetError", "validationRes"):
        if getattr(flags, name):
            raise UserError(f"{source}: --{name} needs a mesh; samples have no surface to look at: leave it out")
    points, sdf, transform = load_samples(source, file)
    sdf, line = negative_inside(source, points, sdf)
    if line:
        watch.note(line)
    order = random_stream(flags.seed, "held_out").permutation(len(points))
    count = min(HELD_OUT_SAMPLES, max(1, int(len(points) * HELD_OUT_FRACTION)))
    held_out, trained = order[:count], order[count:]
    if len(trained) == 0:
        raise UserError(f"{source}: too few samples to train on and to score; give at least 2")
    say(f"{len(points):,} samples, {count:,} of them kept from training to score it")
    return Shape(transform, samples=(points[trained], sdf[trained]), kept=(points[held_out], sdf[held_out]))


def label(shape: Shape, flags: SimpleNamespace, watch: Watch) -> tuple[np.ndarray, np.ndarray]:
    """Labelled points (N, 3) and sdf (N,), float32, domain: those of the file, or newly drawn. Raises Interrupted."""
    if shape.samples is not None:
        return shape.samples
    with count_bar("label", flags.num_points) as add:

        def progress(count: int) -> None:
            add(count)
            if watch.should_stop is not None and watch.should_stop():
                raise Interrupted("stopped on request")

        return draw_samples(
            flags.samplingMethod,
            shape.oracle,
            flags.num_points,
            random_stream(flags.seed, "samples"),
            importance_weight=flags.importanceWeight if flags.samplingMethod == "Importance" else None,
            uniform_ratio=flags.uniformRatio,
            progress=progress,
        )


def label_pairs(shape: Shape, flags: SimpleNamespace) -> Pairs | None:
    """The pairs of points that --numPairs asks for; None for none, and where samples come without a mesh."""
    if shape.oracle is None or flags.numPairs == 0:
        return None
    return pair_samples(shape.oracle, flags.numPairs, random_stream(flags.seed, "pairs"))


# ------------------------------------------------------------------------------------------------------------ fit


def make_network(flags: SimpleNamespace, sdf: np.ndarray, transform: Transform) -> NeuralSDF:
    """The network that the flags describe, its scaler fitted to the targets sdf (N,)."""
    widths = DAM_WIDTHS if flags.damArch else (flags.layerWidth,) * (flags.numLayers or choices.NUM_LAYERS)
    encoding = None
    if flags.encoding == "hashgrid":
        encoding = HashGrid(
            levels=flags.hashLevels,
            features=flags.hashFeatures,
            base_resolution=flags.hashBaseRes,
            finest_resolution=flags.hashFinestRes,
            log2_table_size=flags.hashTableLog2,
        )
    scaler = fit_scaler(flags.scaler, sdf)
    return NeuralSDF(widths, flags.activation, encoding, scaler, transform.center, transform.scale)


def fit_settings(flags: SimpleNamespace) -> FitSettings:
    """What the flags say about the fit itself."""
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


def fit_network(
    network: NeuralSDF,
    samples: tuple[np.ndarray, np.ndarray],
    pairs: Pairs | None,
    shape: Shape,
    content: str,
    flags: SimpleNamespace,
    checkpoint: Path,
    watch: Watch,
) -> FitResult:
    """Train the network in place. content: hash of the input, which a checkpoint must agree with."""
    # A checkpoint belongs to one content and one way of sampling it; FitSettings has the weight and the seed.
    sampled = ("num_points", "samplingMethod", "uniformRatio", "numPairs", "distanceEngine")
    identity = {"content": content} | {name: getattr(flags, name) for name in sampled}
    with fraction_bar("fit") as show:
        hooks = FitHooks(
            held_out=held_out_points(shape, flags.seed),
            validate=validation(shape, network, flags.validationRes),
            progress=show,
            checkpoint=checkpoint,
            checkpoint_seconds=flags.checkpointSeconds or None,
            identity=identity,
            warn=watch.note,
            should_stop=watch.should_stop,
        )
        result = fit(network, *samples, fit_settings(flags), hooks, resume=bool(flags.resume), pairs=pairs)
    if result.resumed_at:
        say(f"resumed from the checkpoint at {result.resumed_at:,} samples")
    if result.restarts:
        watch.note("the first attempt collapsed; this is the second, from the next seed")
    visits = f"{result.samples:,} sample visits"
    say(f"fitted {network.parameter_count:,} parameters in {visits}, ended by {result.ended_by}")
    return result


def held_out_points(shape: Shape, seed: int) -> np.ndarray | None:
    """(HELD_OUT_POINTS, 3) points of the surface for the held-out curve; None for samples, which have no surface."""
    if shape.mesh is None:
        return None
    return points_on_surface(shape.mesh, HELD_OUT_POINTS, random_stream(seed, "held_out"))[0]


def validation(shape: Shape, network: NeuralSDF, resolution: int) -> Callable[[], float] | None:
    """A function that scores the grid of resolution^3 points; None where that is off or there is no mesh."""
    if resolution == 0 or shape.oracle is None:
        return None
    points = grid_points(resolution)
    distances = shape.oracle.signed_distance(points)
    return lambda: mean_absolute_error(network.domain, points, distances)


# ------------------------------------------------------------------------------------- reconstruct and evaluate


def reconstruct(network: NeuralSDF, flags: SimpleNamespace) -> tuple[Surface | None, str]:
    """The marched surface, or None, and why there is none though one was asked for, or ''."""
    if flags.reconstructionRes == 0:
        return None, ""
    with fraction_bar("march") as show:
        try:
            marched = march(
                network.domain,
                flags.reconstructionRes,
                max_memory=flags.maxMemory or None,
                generator=random_stream(flags.seed, "marching"),
                progress=show,
            )
        except (NoSurfaceError, MemoryBoundError) as error:
            say(f"no reconstruction: {error}")
            return None, str(error)
    say(f"reconstruction: {len(marched.faces):,} triangles; {marched.stats['evaluated']:,} points evaluated")
    return Surface(marched.vertices, marched.faces), ""


def write_reconstruction(
    surface: Surface, transform: Transform, flags: SimpleNamespace, files: StagedFiles, watch: Watch
) -> None:
    """Write the surface in file units. Notes where the format rounds its coordinates visibly. Raises OSError."""
    vertices = transform.to_file(surface.vertices)
    cell = transform.length_to_file(grid_cell(flags.reconstructionRes))
    if line := rounding_note(files.in_place(files.reconstruction), vertices, cell):
        watch.note(f"{line}; --outputFormat ply keeps all digits")
    write_mesh(files.reconstruction, vertices, surface.faces)


def evaluate(
    network: NeuralSDF, shape: Shape, surface: Surface | None, flags: SimpleNamespace, watch: Watch
) -> Evaluation:
    """The metrics, on points that training never saw."""
    if shape.mesh is None:
        return Evaluation(sample_errors(network.domain, *shape.kept))
    generator = random_stream(flags.seed, "metrics")
    functions = network.domain, network.level_distance
    metrics = point_errors(*functions, shape.oracle, METRIC_POINTS, generator, flags.importanceWeight)
    missed, deviation, cell = "", None, 0.0
    if surface is not None:
        cell = grid_cell(flags.reconstructionRes)
        triangles = surface.vertices, surface.faces
        generator = random_stream(flags.seed, "mesh_metrics")
        metrics |= mesh_errors(*triangles, shape.mesh, shape.oracle, METRIC_POINTS, generator, cell)
        if metrics["missed_surface"] > LARGEST_MISSED_FRACTION:
            generator = random_stream(flags.seed, "missed")
            missed = explain_missed(network.domain, *triangles, shape.oracle, generator, cell)
        deviation = shape.transform.length_to_file(shape.oracle.distance(surface.vertices))
    notes = tuple(filter(None, (explain_disagreement(metrics, shape.mesh.closed, cell), missed)))
    if notes and not watch.in_folder:  # of many parts, summary.csv has the numbers
        say("\n".join(notes))
    return Evaluation(metrics, notes, deviation)


def evaluate_off_surface(network: NeuralSDF, shape: Shape, seed: int) -> dict:
    """The errors by distance from the surface; empty where there is no mesh."""
    if shape.oracle is None:
        return {}
    generator = random_stream(seed, "off_surface")

    def gradient(points: np.ndarray) -> np.ndarray:
        return network.gradient(shape.transform.to_file(points))

    return off_surface_errors(network.domain, gradient, shape.oracle, OFF_SURFACE_POINTS, generator)


# ---------------------------------------------------------------------------------------------------------- write


def about_fit(source: str, shape: Shape, flags: SimpleNamespace, metrics: dict[str, float]) -> dict:
    """What the model file says of its fit. It goes where the model goes, so it names no folder and no machine."""
    about = {"source": source, "version": neuralparts.__version__, "metrics": metrics, "flags": decisive(vars(flags))}
    if shape.mesh is not None:
        corners = np.stack([shape.mesh.vertices.min(axis=0), shape.mesh.vertices.max(axis=0)])  # (2, 3)
        about["bounds"] = shape.transform.to_file(corners)
    return plain(about)


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    return {name: version(name) for name in RECORDED_PACKAGES} | {"python": sys.version.split()[0]}


def write_report(
    files: StagedFiles,
    record: dict,
    result: FitResult,
    shape: Shape,
    surface: Surface | None,
    deviation: np.ndarray | None,
    in_folder: bool,
) -> None:
    """Write the page and the curves, and the thumbnail of a part in a folder. Raises OSError."""

    def in_file_units(mesh: Mesh | Surface | None) -> tuple[np.ndarray, np.ndarray] | None:
        return None if mesh is None else (shape.transform.to_file(mesh.vertices), mesh.faces)

    shown_input, shown_surface = in_file_units(shape.mesh), in_file_units(surface)
    page = html_report(files.name, record, result.history, shown_input, shown_surface, deviation)
    files.write_report(page, curves_png(files.name, result.history, record))
    if in_folder and (pictured := shown_surface or shown_input) is not None:
        files.write_thumbnail(thumbnail_png(*pictured))
