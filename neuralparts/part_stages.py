"""The three stages of a part for processes that hand over by files: prepare and finish one part, train a batch of them.

They do what `part.fit_part` does in one process. Beside the files, a stage hands on a dictionary of JSON values.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import torch

from neuralparts.device import choose_device
from neuralparts.errors import CheckpointError, Interrupted, UserError, lacks_memory, lost_device, one_line
from neuralparts.fitting import FitResult, FitSettings, Member, fit_batch, members_at_once, shape_key
from neuralparts.inputs import load
from neuralparts.network import NeuralSDF
from neuralparts.network_stages import device_name, finish
from neuralparts.output import StagedFiles
from neuralparts.part import gpu_for_labels, prepare
from neuralparts.steps import (
    fit_settings,
    make_network,
    member,
    open_log,
    read_labelled,
    refit,
    tell_fit,
    write_labelled,
)
from neuralparts.watch import Watch
from neuralparts.wording import say


class Trainee(Protocol):
    """A part of a batch. begin_anew: called with the error if its checkpoint is another fit's."""

    flags: SimpleNamespace
    files: StagedFiles
    watch: Watch
    begin_anew: Callable[[CheckpointError], None]


def prepare_part(source: Path, flags: SimpleNamespace, files: StagedFiles, watch: Watch) -> dict:
    """Read and label a part, and write its labelled points.

    Returns the hash of the input, and `kind`: parts of one kind and the same flags can be trained as one batch. Raises
    as `part.fit_part`.
    """
    gpu = _shared_gpu(flags)
    number = gpu_for_labels(gpu, lambda: _device_of_stage(gpu, watch))
    _, data = prepare(source, flags, watch, lambda: number)
    watch.device_lost = number >= 0 and _device_of_stage(gpu, watch) == "cpu"
    write_labelled(files.labelled, data)
    pairs = 0 if data.pairs is None else len(data.pairs[0])
    return {"content": data.content, "kind": f"{len(data.samples[0])} samples, {pairs} pairs"}


def train_parts(trainees: Sequence[Trainee], processes: int = 1) -> list[dict | Exception]:
    """Train parts of one kind as a batch; for each what `finish_part` needs of it, or the error that ended it.

    processes: how many train on this machine at a time. Writes the fitted networks. If memory runs out, the batch is
    halved. The error of a part that was asked to stop is Interrupted. Raises UserError for a device that cannot be
    used.
    """
    found = Watch(in_folder=True)
    device = choose_device(trainees[0].flags.gpu, found)
    outcomes: list[dict | Exception] = [{}] * len(trainees)
    members: dict[int, Member] = {}  # by the place in `trainees`
    for place, trainee in enumerate(trainees):
        _add_notes(trainee.watch, found)
        try:
            with trainee.watch.timed("fit"):
                members[place] = _member(trainee, device)
        except Exception as error:
            if lost_device(error):
                raise
            outcomes[place] = error
    for batch in _batches(members, fit_settings(trainees[0].flags), device, processes):
        fitted = _fit_or_halve([trainees[k] for k in batch], [members[k] for k in batch], device)
        for place, outcome in zip(batch, fitted, strict=True):
            outcomes[place] = outcome
    return outcomes


def _batches(members: dict[int, Member], settings: FitSettings, device: str, processes: int) -> list[list[int]]:
    """The keys of `members`, cut into batches of one shape that the memory of the device holds."""
    alike: dict[tuple, list[int]] = {}
    shapes = {}
    for place, one in members.items():
        sizes = one.network, len(one.points), 0 if one.pairs is None else len(one.pairs[0])
        key = shape_key(*sizes)
        alike.setdefault(key, []).append(place)
        shapes[key] = sizes
    batches = []
    for key, places in alike.items():
        most = members_at_once(*shapes[key], device, settings, processes)
        batches += [places[k : k + most] for k in range(0, len(places), most)]
    return batches


def _fit_or_halve(trainees: list[Trainee], members: list[Member], device: str) -> list[dict | Exception]:
    """`_fit` of a batch, or of each half if memory runs out; the error of a part for which it runs out alone."""
    try:
        return _fit(trainees, members, device)
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        if len(trainees) == 1:
            return [error]
    # Outside of the except clause: the error holds the tensors of the batch.
    if device != "cpu":
        torch.cuda.empty_cache()
    half = len(trainees) // 2
    say(f"out of memory with {len(trainees)} parts as one batch: halved")
    halves = slice(0, half), slice(half, None)
    return [outcome for part in halves for outcome in _fit_or_halve(trainees[part], members[part], device)]


def _member(trainee: Trainee, device: str) -> Member:
    """A part as a member of a batch, with a new network. Raises OSError, and SafetensorError for a damaged file."""
    flags, files, watch = trainee.flags, trainee.files, trainee.watch
    data = read_labelled(files.labelled)
    network = make_network(flags, data.samples[1], data.transform).to(device)
    log = open_log(flags, files.name, network, data, watch)
    return member(network, data, flags, files.checkpoint, log, watch)


def _fit(trainees: list[Trainee], members: list[Member], device: str) -> list[dict | Exception]:
    """Fit one batch, and write its networks; the outcome of each. A checkpoint of another fit begins its fit anew."""
    start, settings = time.perf_counter(), fit_settings(trainees[0].flags)
    outcomes = _fit_or_stop(members, settings)
    if anew := [k for k, outcome in enumerate(outcomes) if isinstance(outcome, CheckpointError)]:
        for k in anew:
            trainees[k].begin_anew(outcomes[k])
        again = _fit_or_stop([replace(members[k], resume=False) for k in anew], settings)
        for k, outcome in zip(anew, again, strict=True):
            outcomes[k] = outcome
    seconds = time.perf_counter() - start
    handed: list[dict | Exception] = []
    for trainee, one, outcome in zip(trainees, members, outcomes, strict=True):
        trainee.watch.timings["fit"] = trainee.watch.timings.get("fit", 0.0) + seconds
        handed.append(outcome if isinstance(outcome, Exception) else _hand_on(trainee, one, outcome))
    common = {"device": device_name(device), "members": len(members)}
    return [one if isinstance(one, Exception) else one | common for one in handed]


def _fit_or_stop(members: list[Member], settings: FitSettings) -> list[FitResult | Exception]:
    """`fit_batch`, with Interrupted as an outcome: what was fitted before these members is not lost."""
    try:
        return fit_batch(members, settings)
    except Interrupted as error:
        return [error] * len(members)


def _hand_on(trainee: Trainee, member: Member, result: FitResult) -> dict | OSError:
    """Write the fitted network; returns what a dictionary can hold of its fit."""
    tell_fit(member.network, result, trainee.watch)
    try:
        if trainee.flags.numNormals:
            refit(member.network, read_labelled(trainee.files.labelled), result, trainee.flags, trainee.watch)
        member.network.save(trainee.files.fitted)
    except OSError as error:
        return error
    return {"result": asdict(result)}


def finish_part(
    source: Path, flags: SimpleNamespace, files: StagedFiles, watch: Watch, name: str, handed: dict
) -> dict:
    """Reconstruct, evaluate and write a part that was trained; returns its record.

    The input is read again. handed: what the other stages returned. Raises as `part.fit_part`, and UserError if the
    input has changed meanwhile.
    """
    start = time.perf_counter() - sum(watch.timings.values())
    device = _device_of_stage(_shared_gpu(flags), watch)
    with watch.timed("load"):
        shape, content = load(source, flags, Watch(in_folder=True))  # its notes are those of `prepare_part`
    if content != handed["content"]:
        raise UserError(f"{name}: the file was changed while it was fitted; the same command fits it again")

    def finish_on(device: str) -> dict:
        network, result = NeuralSDF.load(files.fitted).to(device), FitResult(**handed["result"])
        fitted = shape, content, network, result, handed["device"]
        return finish(*fitted, flags, files, watch, name, start, handed["members"])

    try:
        return finish_on(device)
    except (MemoryError, RuntimeError) as error:
        if device == "cpu" or not (lacks_memory(error) or lost_device(error)):
            raise
        watch.note(f"finished on the CPU, not on the GPU: {one_line(error)}")
        watch.device_lost = lost_device(error)
    return finish_on("cpu")


def _device_of_stage(gpu: int | None, watch: Watch) -> str:
    """The torch device of a stage beside the training."""
    found = Watch(in_folder=True)
    device = choose_device(gpu, found)
    _add_notes(watch, found)
    return device


def _add_notes(watch: Watch, found: Watch) -> None:
    """Add the notes about the device to those of a part, but for those that an earlier stage has added."""
    watch.notes += [line for line in found.notes if line not in watch.notes]


def _shared_gpu(flags: SimpleNamespace) -> int | None:
    """The GPU, as --gpu, of the stages beside the training: the one that this process sees, if any, unless it is off.

    The driver hides the GPUs from a process that shall use none.
    """
    return -1 if flags.gpu == -1 else None
