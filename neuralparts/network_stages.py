"""The stages of a part that need torch: the training of its network, and all that follows.

In: what `part.prepare` made of an input. Each of the two may run in another process. Lengths are domain units unless a
name says file units.
"""

import contextlib
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from neuralparts import choices
from neuralparts.beside import beside, wait_for
from neuralparts.device import choose_device
from neuralparts.domain import Transform
from neuralparts.fitting import FitResult
from neuralparts.inputs import Labelled, Shape
from neuralparts.machine import give_memory_back
from neuralparts.network import NeuralSDF, facts
from neuralparts.output import StagedFiles, outputs_of
from neuralparts.report import model_card
from neuralparts.steps import (
    about_fit,
    about_search,
    draw_report,
    evaluate,
    evaluate_off_surface,
    fit_network,
    make_network,
    open_log,
    reconstruct,
    refit,
    round_fitted,
    searched_network,
    versions,
    write_reconstruction,
    write_report,
)
from neuralparts.watch import Watch

__all__ = ["choose_device", "device_name", "finish", "train", "warm_up"]

# Points at which `warm_up` evaluates.
_WARM_POINTS = 64


def warm_up(device: str, flags: SimpleNamespace) -> None:
    """Have a GPU load its libraries and its code for the network that the flags describe, while the CPU labels.

    A GPU loads the code of an operation at its first use. Evaluates values and gradients of a network that is then
    forgotten. What fails here is left to the fit to report.
    """
    if device == "cpu":
        return
    points = np.random.default_rng(0).uniform(-1, 1, (_WARM_POINTS, 3)).astype(np.float32)
    with contextlib.suppress(RuntimeError):
        network = make_network(flags, points[:, 0], Transform(np.zeros(3), 1.0)).to(device)
        for values in (network.domain, network.level_distance, network.gradient):
            values(points)


def train(
    data: Labelled, device: str, flags: SimpleNamespace, files: StagedFiles, watch: Watch
) -> tuple[NeuralSDF, FitResult]:
    """The network that the flags describe, fitted on a torch device. Raises as `part.fit_part`."""
    with watch.timed("fit"):
        head_start = None
        if flags.damArch == choices.SEARCH:
            network, head_start = searched_network(data, device, flags, files.checkpoint, watch)
        else:
            with watch.bar("prepare the network"):
                network = make_network(flags, data.samples[1], data.transform).to(device)
        log = open_log(flags, files.name, network, data, watch)
        result = fit_network(network, data, flags, files.checkpoint, log, watch, head_start)
    give_memory_back()  # that of the fit, before the second one takes as much
    refit(network, data, result, flags, watch)
    return network, result


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
    """Round, reconstruct, evaluate and write a fitted part; returns its record.

    content: hash of the input. device: name of the one that trained. start: when the part began, by
    time.perf_counter(). members: parts that were trained at once, as one batch. Raises OSError, and UserError for
    weights that --precision cannot hold.
    """
    outputs = outputs_of(vars(flags))
    with watch.timed("fit"), watch.bar("round"):
        round_fitted(network, shape, flags.precision, flags.seed)
    with watch.timed("reconstruct"):
        surface, failure = reconstruct(network, flags, watch)
        if surface is not None and "mesh" in outputs:
            write_reconstruction(surface, shape.transform, flags, files, watch)
    give_memory_back()  # the evaluation needs as much as the fit and the marching did
    failure = result.collapsed or failure
    missing = failure or ("none was made" if flags.reconstructionRes else "not asked for")
    drawn = (files.name, result, network, shape, surface, missing, watch.in_folder)
    drawings = beside(lambda: draw_report(*drawn)) if "page" in outputs else None
    try:
        with watch.timed("evaluate"), watch.bar("evaluate"):
            evaluation = evaluate(network, shape, surface, flags, watch)
            off_surface = evaluate_off_surface(network, shape, flags.seed)
            network.about = about_fit(Path(name).name, shape, flags, evaluation.metrics)
            if "model" in outputs:
                files.write_model(network)
            if flags.modelCard:
                files.write_card(model_card(files.model.name, facts(network)))
    except Exception:
        if drawings is not None:
            wait_for(drawings)  # or it would take memory and processors from the next part, or the next try
        raise
    watch.timings["total"] = time.perf_counter() - start
    record = {"input": str(name), "content": content, "flags": vars(flags), "versions": versions(), "device": device}
    record |= about_part(shape, network, result, members) | about_search(flags, network)
    record |= {
        "timings": watch.timings,
        "metrics": evaluation.metrics,
        "off_surface": off_surface,
        "reconstruction": None if surface is None else surface.sizes(),
        "failure": failure,
        "notes": [*watch.notes, *evaluation.notes],
    }
    with watch.bar("write the report"):
        if drawings is not None:
            write_report(files, record, drawings())
        files.write_record(record)
    return record


def about_part(shape: Shape, network: NeuralSDF, result: FitResult, members: int) -> dict:
    """What the record says of the input, the network and its fit. members: parts that were trained at once."""
    fit = {key: getattr(result, key) for key in ("ended_by", "seconds", "samples", "restarts", "resumed_at")}
    return {
        "diagnosis": shape.mesh.diagnosis if shape.mesh is not None else {},
        "parameters": network.parameter_count,
        "precision": network.precision.facts(network.parameter_count),
        "transform": {"center": shape.transform.center.tolist(), "scale": shape.transform.scale},
        "fit": fit | ({"members": members} if members > 1 else {}),  # `seconds` are those of the whole batch
    }


def device_name(device: str) -> str:
    """A torch device as the record names it."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(device)
