"""The way of one part: a mesh or samples file in, a network, its surface, its errors and its report out.

`fit_part` is the whole way: `prepare` (load, label), `train`, `finish` (reconstruct, evaluate, write). Each step takes
what it needs and returns what it made; the steps are in `steps/`. `prepare`, `train` and `finish` may run in different
processes.

Importing this module imports no torch, which takes a second. A thread imports it while this one reads and labels.
"""

import gc
import importlib
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

from neuralparts.beside import beside
from neuralparts.inputs import Labelled, Shape, labelled, load
from neuralparts.output import StagedFiles
from neuralparts.watch import Watch


def fit_part(source: Path, flags: SimpleNamespace, files: StagedFiles, watch: Watch, name: str = "") -> dict:
    """All stages of one input. Writes its files and returns its record; `record["failure"]` says why there is no usable
    surface, or ''. The files are in their hidden folder afterwards; `files.settle()` puts them in place.

    name: what the user calls the source, if `source` is a copy. Raises UserError or OSError for what the user can mend,
    CollapseError for a fit without finite values, Interrupted where `watch.should_stop()` said so.
    """
    start = time.perf_counter()
    stages = beside(import_network_stages)
    # A GPU that the user names is tried before the work.
    is_named = flags.gpu is not None and flags.gpu >= 0
    device = stages().choose_device(flags.gpu, watch) if is_named else ""
    shape, data = prepare(source, flags, watch, flags.gpu)
    with watch.bar("load the libraries"):
        later = stages()
    device = device or later.choose_device(flags.gpu, watch)
    network, result = later.train(data, device, flags, files, watch)
    shown, content = later.device_name(device), data.content
    del data  # memory for the evaluation
    return later.finish(shape, content, network, result, shown, flags, files, watch, name or source, start)


def import_network_stages() -> ModuleType:
    """The module of `train` and `finish`. Garbage collection rests meanwhile: an import makes much, but no garbage."""
    if "neuralparts.network_stages" in sys.modules:
        return importlib.import_module("neuralparts.network_stages")
    gc.disable()
    try:
        return importlib.import_module("neuralparts.network_stages")
    finally:
        gc.freeze()  # what was imported stays, so it is never searched again
        gc.enable()


def prepare(source: Path, flags: SimpleNamespace, watch: Watch, gpu: int | None) -> tuple[Shape, Labelled]:
    """Read, repair and label an input: what it is, and what the training needs of it. Raises as `fit_part`.

    gpu: may compute labels; as --gpu.
    """
    with watch.timed("load"), watch.bar("load"):
        shape, content = load(source, flags, watch, gpu)
    with watch.timed("label"):
        return shape, labelled(shape, content, flags, watch)
