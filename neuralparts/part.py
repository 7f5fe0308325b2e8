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
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

from neuralparts.beside import beside, wait_for
from neuralparts.distance import may_label_on_gpu
from neuralparts.inputs import Labelled, Shape, labelled, load
from neuralparts.machine import give_memory_back, gpu_number
from neuralparts.output import StagedFiles
from neuralparts.watch import Watch


def fit_part(source: Path, flags: SimpleNamespace, files: StagedFiles, watch: Watch, name: str = "") -> dict:
    """All stages of one input. Writes its files and returns its record; `record["failure"]` says why there is no usable
    surface, or ''. The files are in their hidden folder afterwards; `files.settle()` puts them in place.

    name: what the user calls the source, if `source` is a copy. Raises UserError or OSError for what the user can mend,
    CollapseError for a fit without finite values, Interrupted where `watch.should_stop()` said so.
    """
    start = time.perf_counter()
    stages = beside(cache(lambda: stages_and_device(flags.gpu, watch)))
    warming = beside(lambda: stages()[0].warm_up(stages()[1], flags))
    if flags.gpu is not None and flags.gpu >= 0:
        stages()  # a GPU that the user names is tried before the work
    shape, data = prepare(source, flags, watch, lambda: gpu_for_labels(flags.gpu, lambda: stages()[1]))
    with watch.bar("load the libraries"):
        later, device = stages()
        wait_for(warming)  # nothing else may use the GPU while steps are captured
    give_memory_back()  # that of the labels, before the fit takes as much
    network, result = later.train(data, device, flags, files, watch)
    shown, content = later.device_name(device), data.content
    del data  # memory for the evaluation
    give_memory_back()
    return later.finish(shape, content, network, result, shown, flags, files, watch, name or source, start)


def stages_and_device(gpu: int | None, watch: Watch) -> tuple[ModuleType, str]:
    """The module of `train` and `finish`, and the torch device of --gpu. Raises as `device.choose_device`."""
    stages = import_network_stages()
    return stages, stages.choose_device(gpu, watch)


def import_network_stages() -> ModuleType:
    """The module of `train` and `finish`. Garbage collection rests meanwhile: an import makes much, but no garbage."""
    if "neuralparts.network_stages" in sys.modules:
        return importlib.import_module("neuralparts.network_stages")
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module("neuralparts.network_stages")
    finally:
        gc.freeze()  # what was imported stays, so it is never searched again
        if was_collecting:
            gc.enable()


def gpu_for_labels(gpu: int | None, device: Callable[[], str]) -> int:
    """Number of the GPU that computes labels: that of the chosen torch device; -1 for none.

    gpu: as --gpu. device: asked, as it waits for torch, only where labels can be computed on a GPU.
    """
    return gpu_number(device()) if gpu != -1 and may_label_on_gpu() else -1


def prepare(source: Path, flags: SimpleNamespace, watch: Watch, gpu: Callable[[], int]) -> tuple[Shape, Labelled]:
    """Read, repair and label an input: what it is, and what the training needs of it. Raises as `fit_part`.

    gpu: number of the GPU that computes labels, -1 for none; asked when the input has been read.
    """
    with watch.timed("load"), watch.bar("load"):
        shape, content = load(source, flags, watch, gpu)
    give_memory_back()  # that of the repair, before the labels
    with watch.timed("label"):
        return shape, labelled(shape, content, flags, watch)
