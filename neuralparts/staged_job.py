"""One part as three jobs, which may run in different processes: prepare it, train it in a batch of parts, finish it.

The driver holds the part's lock from the first to the last (`fleet.Staged`), so the worker function `run_stage` needs
its stage lock alone. Jobs and results are those of `job.py`, with further keys.

A job has `stage`: prepare, train or finish. Of the last two it has `handed`, what the stages before returned under that
key: notes, timings, and more of `part_stages.py`. A job of the stage train has `parts`, the jobs of its parts, instead
of a part of its own, and `processes`, how many train at a time; its result has `results`, a result for each by name.

status is prepared or trained if the next stage may begin; any other ends the part. A batch is stopped if no part of it
is trained because the worker was asked to stop.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from neuralparts.errors import CheckpointError, Interrupted, UserError, lost_device, with_place
from neuralparts.job import (
    begin_anew,
    begin_overwrite,
    found,
    outcome_of,
    places_of,
    settled,
    whole_result,
)
from neuralparts.output import StagedFiles, outcome, plain
from neuralparts.watch import Watch
from neuralparts.wording import visible

ShouldStop = Callable[[], bool] | None
# `part_stages`, or what has its functions prepare_part, train_parts and finish_part; None for that module.
Stages = Any


def run_stage(job: dict, should_stop: ShouldStop = None, stages: Stages = None) -> dict:
    """Run the stage that a job asks for. Raises nothing that concerns one part alone."""
    if job["stage"] == "train":
        return _train(job, should_stop, stages)
    source, files = places_of(job)
    staged = StagedFiles(files, job.get("path") or os.path.abspath(job["input"]))
    work = _prepare if job["stage"] == "prepare" else _finish
    return whole_result(job, files, files.stage(), lambda: work(job, source, staged, should_stop, stages))


def _watch(job: dict, should_stop: ShouldStop) -> Watch:
    """The watch of a stage, with the notes and timings of those before."""
    handed = job.get("handed", {})
    notes, timings = list(handed.get("notes", [])), dict(handed.get("timings", {}))
    return Watch(should_stop, True, job.get("scratch", ""), notes, timings)


def _handed(watch: Watch, more: dict) -> dict:
    """What a stage hands on."""
    return plain({"notes": watch.notes, "timings": watch.timings} | more)


def _noted(result: dict, watch: Watch) -> dict:
    """A result with the notes so far, as the driver prints them; `fatal` if the process has lost its GPU."""
    fatal = {"fatal": True} if watch.device_lost else {}
    return result | {"notes": [visible(line) for line in watch.notes]} | fatal


def _prepare(job: dict, source: Path, staged: StagedFiles, should_stop: ShouldStop, stages: Stages) -> dict:
    """Read and label a part, or find that it is finished."""
    if (earlier := found(job, source, staged)) is not None:
        return earlier
    watch = _watch(job, should_stop)

    def prepare() -> dict:
        flags = SimpleNamespace(**staged.home.with_earlier_outputs(job["flags"]))
        staged.begin()
        begin_overwrite(job, staged.home)
        more = _functions(stages).prepare_part(source, flags, staged, watch)
        resume = flags.resume or staged.checkpoint.is_file()
        more["kind"] += ", resumed" if resume else ""
        return {"status": "prepared", "handed": _handed(watch, more | {"flags": vars(flags)})}

    return _noted(outcome_of(prepare, staged.home, job["input"]), watch)


def _train(job: dict, should_stop: ShouldStop, stages: Stages) -> dict:
    """Train the parts of a batch; its result has one for each part, unless the batch failed as a whole."""
    results, trainees = {}, []
    with ExitStack() as held:
        for part in job["parts"]:
            _, files = places_of(part)
            result = whole_result(part, files, nullcontext(), partial(_hold, files.stage(), held))
            if result["status"] == "done":
                trainees.append((part, _trainee(part, StagedFiles(files), should_stop)))
            results[part["name"]] = result
        try:
            chosen = [trainee for _, trainee in trainees]
            outcomes = _functions(stages).train_parts(chosen, _processes(job)) if chosen else []
        except (UserError, Interrupted) as error:
            outcomes = [error] * len(trainees)
        except Exception as error:
            if len(trainees) > 1:  # one of them may be the cause: they are tried again in smaller batches
                return {"status": "failed", "reason": with_place(error), "again": True, "fatal": lost_device(error)}
            outcomes = [error]
        for (part, trainee), outcome in zip(trainees, outcomes, strict=True):
            results[part["name"]] |= _trained(part, trainee, outcome)
    statuses = {result["status"] for result in results.values()}
    status = "stopped" if "stopped" in statuses and "trained" not in statuses else "trained"
    fatal = any(result.get("fatal") for result in results.values())
    return {"status": status, "reason": "", "results": results, "fatal": fatal}


def _processes(job: dict) -> int:
    """How many processes train on this machine at a time: of those of a cluster, at most one a processor."""
    return min(job.get("processes", 1), os.cpu_count() or 1)


def _hold(lock: AbstractContextManager[None], held: ExitStack) -> dict:
    """Hold a lock until `held` ends. Raises as the lock does."""
    held.enter_context(lock)
    return {}


def _trainee(part: dict, staged: StagedFiles, should_stop: ShouldStop) -> SimpleNamespace:
    """A part as `part_stages.train_parts` takes it; it resumes from its checkpoint if there is one."""
    flags, watch = SimpleNamespace(**part["handed"]["flags"]), _watch(part, should_stop)
    flags.resume = int(flags.resume or staged.checkpoint.is_file())

    def of_another_fit(error: CheckpointError) -> None:
        begin_anew(staged.home, watch, error)
        watch.notes += part["handed"]["notes"]
        watch.timings |= part["handed"]["timings"]

    return SimpleNamespace(flags=flags, files=staged, watch=watch, begin_anew=of_another_fit)


def _trained(part: dict, trainee: SimpleNamespace, outcome: dict | Exception) -> dict:
    """The result of one part of a batch."""
    watch = trainee.watch

    def hand_on() -> dict:
        if isinstance(outcome, Exception):
            raise outcome
        more = part["handed"] | outcome | {"resume": trainee.flags.resume}
        return {"status": "trained", "handed": more | _handed(watch, {})}

    return _noted(outcome_of(hand_on, trainee.files.home, part["input"]), watch)


def _finish(job: dict, source: Path, staged: StagedFiles, should_stop: ShouldStop, stages: Stages) -> dict:
    """Reconstruct, evaluate and write a part, and put its result in place."""
    watch, handed = _watch(job, should_stop), job["handed"]
    flags = SimpleNamespace(**handed["flags"])
    flags.resume = handed["resume"]

    def finish() -> dict:
        # Another process may have been killed before its answer came: after it had put the result in place, ...
        if not staged.fitted.is_file() and (record := staged.home.finished(handed["flags"], source)) is not None:
            return outcome(record)
        if (record := staged.complete()) is None:  # ... or meanwhile
            record = _functions(stages).finish_part(source, flags, staged, watch, job["input"], handed)
        return settled(record, staged)

    return _noted(outcome_of(finish, staged.home, job["input"]), watch)


def _functions(stages: Stages) -> Any:
    """The functions of the stages; the real ones are imported only now, as they need torch."""
    if stages is None:
        from neuralparts import part_stages as stages
    return stages
