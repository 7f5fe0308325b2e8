"""The way of one part: a mesh or samples file in, a network, its surface, its errors and its report out.

`fit_part` is the whole way: `prepare` (load, label), `train`, `finish` (reconstruct, evaluate, write). Each step takes
what it needs and returns what it made; the steps are in `steps/`. `prepare`, `train` and `finish` may run in different
processes.
"""

import time
from pathlib import Path
from types import SimpleNamespace

import torch

from neuralparts.device import choose_device
from neuralparts.fitting import FitResult
from neuralparts.network import NeuralSDF, facts
from neuralparts.output import StagedFiles
from neuralparts.report import model_card
from neuralparts.steps import (
    Labelled,
    Shape,
    about_fit,
    evaluate,
    evaluate_off_surface,
    fit_network,
    labelled,
    load,
    make_network,
    open_log,
    reconstruct,
    versions,
    write_reconstruction,
    write_report,
)
from neuralparts.watch import Watch


def fit_part(source: Path, flags: SimpleNamespace, files: StagedFiles, watch: Watch, name: str = "") -> dict:
    """All stages of one input. Writes its files and returns its record; `record["failure"]` says why there is no usable
    surface, or ''. The files are in their hidden folder afterwards; `files.settle()` puts them in place.

    name: what the user calls the source, if `source` is a copy. Raises UserError or OSError for what the user can mend,
    CollapseError for a fit without finite values, Interrupted where `watch.should_stop()` said so.
    """
    start = time.perf_counter()
    device = choose_device(flags.gpu, watch)
    shape, data = prepare(source, flags, watch)
    network, result = train(data, device, flags, files, watch)
    return finish(shape, data.content, network, result, device_name(device), flags, files, watch, name or source, start)


def prepare(source: Path, flags: SimpleNamespace, watch: Watch) -> tuple[Shape, Labelled]:
    """Read, repair and label an input: what it is, and what the training needs of it. Raises as `fit_part`."""
    with watch.timed("load"), watch.bar("load"):
        shape, content = load(source, flags, watch)
    with watch.timed("label"):
        return shape, labelled(shape, content, flags, watch)


def train(
    data: Labelled, device: str, flags: SimpleNamespace, files: StagedFiles, watch: Watch
) -> tuple[NeuralSDF, FitResult]:
    """The network that the flags describe, fitted on a torch device. Raises as `fit_part`."""
    with watch.timed("fit"):
        with watch.bar("prepare the network"):
            network = make_network(flags, data.samples[1], data.transform).to(device)
        log = open_log(flags, files.name, network, data, watch)
        return network, fit_network(network, data, flags, files.checkpoint, log, watch)


def finish(
    shape: Shape,
    content: str,
    network: NeuralSDF,
    result: FitResult,
    device: str,
    flags: SimpleNamespace,
    files: StagedFiles,
    watch: Watch,
    name: str | Path,
    start: float,
    members: int = 1,
) -> dict:
    """Reconstruct, evaluate and write a fitted part; returns its record.

    content: hash of the input. device: name of the one that trained. start: when the part began, by
    time.perf_counter(). members: parts that were trained at once, as one batch. Raises OSError.
    """
    with watch.timed("reconstruct"):
        surface, failure = reconstruct(network, flags, watch)
        if surface is not None:
            write_reconstruction(surface, shape.transform, flags, files, watch)
    with watch.timed("evaluate"), watch.bar("evaluate"):
        evaluation = evaluate(network, shape, surface, flags, watch)
        off_surface = evaluate_off_surface(network, shape, flags.seed)
        network.about = about_fit(Path(name).name, shape, flags, evaluation.metrics)
        files.write_model(network)
    watch.timings["total"] = time.perf_counter() - start
    fit = {key: getattr(result, key) for key in ("ended_by", "seconds", "samples", "restarts", "resumed_at")}
    record = {
        "input": str(name),
        "content": content,
        "flags": vars(flags),
        "versions": versions(),
        "diagnosis": shape.mesh.diagnosis if shape.mesh is not None else {},
        "device": device,
        "parameters": network.parameter_count,
        "transform": {"center": shape.transform.center.tolist(), "scale": shape.transform.scale},
        "fit": fit | ({"members": members} if members > 1 else {}),  # `seconds` are those of the whole batch
        "timings": watch.timings,
        "metrics": evaluation.metrics,
        "off_surface": off_surface,
        "reconstruction": None if surface is None else surface.sizes(),
        "failure": result.collapsed or failure,
        "notes": [*watch.notes, *evaluation.notes],
    }
    with watch.bar("write the report"):
        if flags.modelCard:
            files.write_card(model_card(files.model.name, facts(network)))
        write_report(files, record, result, network, shape, surface, watch.in_folder)
        files.write_record(record)
    return record


def device_name(device: str) -> str:
    """A torch device as the record names it."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(device)
