"""The way of one part: a mesh or samples file in, a network, its surface, its errors and its report out.

`fit_part` is the whole way in one screen: load, label, fit, reconstruct, evaluate, write. Each step takes what it
needs and returns what it made; the steps are in `steps/`.
"""

import time
from pathlib import Path
from types import SimpleNamespace

import torch

from neuralparts.device import choose_device
from neuralparts.network import facts
from neuralparts.output import StagedFiles, outputs_of
from neuralparts.report import model_card
from neuralparts.steps import (
    about_fit,
    evaluate,
    evaluate_off_surface,
    fit_network,
    label,
    label_pairs,
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
    start, outputs = time.perf_counter(), outputs_of(vars(flags))
    device = choose_device(flags.gpu, watch)
    with watch.timed("load"), watch.bar("load"):
        shape, content = load(source, flags, watch)
    with watch.timed("label"):
        samples, pairs = label(shape, flags, watch), label_pairs(shape, flags, watch)
    with watch.timed("fit"):
        with watch.bar("prepare the network"):
            network = make_network(flags, samples[1], shape.transform).to(device)
        log = open_log(flags, files.name, network, shape, watch)
        result = fit_network(network, samples, pairs, shape, content, flags, files.checkpoint, log, watch)
    with watch.timed("reconstruct"):
        surface, failure = reconstruct(network, flags, watch)
        if surface is not None and "mesh" in outputs:
            write_reconstruction(surface, shape.transform, flags, files, watch)
    with watch.timed("evaluate"), watch.bar("evaluate"):
        evaluation = evaluate(network, shape, surface, flags, watch)
        off_surface = evaluate_off_surface(network, shape, flags.seed)
        network.about = about_fit(Path(name or source).name, shape, flags, evaluation.metrics)
        if "model" in outputs:
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
        "reconstruction": None if surface is None else surface.sizes(),
        "failure": result.collapsed or failure,
        "notes": [*watch.notes, *evaluation.notes],
    }
    with watch.bar("write the report"):
        if flags.modelCard:
            files.write_card(model_card(files.model.name, facts(network)))
        if "page" in outputs:
            write_report(files, record, result, network, shape, surface, watch.in_folder)
        files.write_record(record)
    return record
