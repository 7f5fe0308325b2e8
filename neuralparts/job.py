"""One part as a job that may run anywhere: in this process, in a worker process, on a cluster.

A job and its result are dictionaries of JSON values. The worker functions are `fit_one`, and `fit_sent` for a job that
carries its files.

A job has: input (path, as the user wrote it), name (of the part's files), flags (dictionary). It may have: folder
(True for one of many parts), attempt (1, 2), source and outputDir (where the input is read and the files are written
instead), path (absolute path of the input on the user's machine), scratch (a folder that is gone afterwards).

A result has: name, input, status, reason, record, notes. status is one of
  done, refused (the input cannot be used), failed (the fit, the reconstruction or the writing),
  stopped (should_stop() was True; a checkpoint holds the fit), busy (another process has this part).
It may have: skipped (an earlier run finished the part), again (another attempt may succeed), fatal (this process can
fit no more).
"""

import os
import tempfile
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

from neuralparts.errors import CheckpointError, Interrupted, UserError, lacks_memory, lost_device, one_line, with_place
from neuralparts.foreign_files import check_link
from neuralparts.mesh_files import MeshError
from neuralparts.output import (
    BusyError,
    PartFiles,
    StagedFiles,
    failure_line,
    find_finished,
    has_sizes_alone,
    outcome,
    plain,
)
from neuralparts.watch import Watch
from neuralparts.wording import say, visible

# Signature of `part.fit_part`: (source, flags, files, watch, name) -> record.
FitFunction = Callable[..., dict]


def fit_one(job: dict, should_stop: Callable[[], bool] | None = None, fit: FitFunction | None = None) -> dict:
    """Fit one part, or find that it is finished with these flags and this content. job and result: see the module.

    fit: the function that fits it, `part.fit_part` by default. Raises nothing that concerns this part alone.
    """
    source, files = places_of(job)
    staged = StagedFiles(files, job.get("path") or os.path.abspath(job["input"]))

    def fit_or_find() -> dict:
        if (earlier := found(job, source, staged)) is not None:
            return earlier
        flags = files.with_earlier_outputs(job["flags"])
        return _fit_locked(job | {"flags": flags}, source, staged, should_stop, fit)

    return whole_result(job, files, files.lock(), fit_or_find)


def places_of(job: dict) -> tuple[Path, PartFiles]:
    """Where the input of a job is read, and its files."""
    folder = Path(job.get("outputDir", job["flags"]["outputDir"]))
    return Path(job.get("source", job["input"])), PartFiles(folder, job["name"], job["flags"]["outputFormat"])


def whole_result(job: dict, files: PartFiles, lock: AbstractContextManager[None], work: Callable[[], dict]) -> dict:
    """The result of a job: what `work` returns while `lock` is held, or why it could not be begun."""
    result = {"name": job["name"], "input": job["input"], "status": "done", "reason": "", "record": None}
    try:
        with lock:
            return result | work()
    except BusyError as error:
        return result | {"status": "busy", "reason": visible(str(error))}
    except (OSError, UserError) as error:
        return result | {"status": "failed", "reason": failure_line(error, files, job["input"])}


def found(job: dict, source: Path, staged: StagedFiles) -> dict | None:
    """The result of a part that an earlier run finished, or None. Raises OSError, UserError."""
    if job.get("folder"):
        check_link(source)
    record = find_finished(staged, job["flags"], source, job["input"])
    if record is None:
        return None
    old = has_sizes_alone(record) and not job.get("folder")
    notes = [f"{staged.home.record}: an earlier version wrote it; sizes were compared, not contents"] * old
    return outcome(record) | {"skipped": True, "notes": notes}


def _fit_locked(
    job: dict, source: Path, staged: StagedFiles, should_stop: Callable[[], bool] | None, fit: FitFunction | None
) -> dict:
    """Fit a part whose lock is held. Returns status, reason, record, notes, and perhaps again and fatal."""
    notes: list[str] = []
    result = outcome_of(
        lambda: _fit_and_settle(job, source, staged, should_stop, fit, notes), staged.home, job["input"]
    )
    return result | {"notes": [visible(line) for line in notes]}


def outcome_of(work: Callable[[], dict], files: PartFiles, given: str) -> dict:
    """What `work` returns as a job's result, or status, reason, and perhaps again and fatal, of what it raises.

    given: the input as the user wrote it. An exception that is no UserError, nor an OSError, nor a lack of memory, is a
    fault of the program: its whole traceback goes to NAME.log, and the reason names that file.
    """
    try:
        return work()
    except Interrupted as error:
        return {"status": "stopped", "reason": str(error)}
    except MeshError as error:
        return {"status": "refused", "reason": failure_line(error, files, given)}
    except (UserError, OSError, ImportError) as error:
        return {"status": "failed", "reason": failure_line(error, files, given)}
    except Exception as error:
        return _failure(files, error, given)


def _fit_and_settle(
    job: dict,
    source: Path,
    staged: StagedFiles,
    should_stop: Callable[[], bool] | None,
    fit: FitFunction | None,
    notes: list[str],
) -> dict:
    """Fit a part in its hidden folder, and put the result in place; returns status, reason and record.

    A fit that fails leaves nothing, and the earlier result as it is.
    """
    try:
        staged.begin()
        return settled(_fit_or_resume(job, source, staged, should_stop, fit, notes), staged)
    finally:
        staged.remove_if_incomplete()


def settled(record: dict, staged: StagedFiles) -> dict:
    """Put a whole result in place, and remove the log of an earlier fit; returns status, reason and record."""
    record = plain(record)
    kept = staged.settle(fitted=True)
    staged.home.remove_log()
    # If the earlier result stays, summary.csv gets no errors of a fit that is not there.
    return {"status": "failed", "reason": kept, "record": None} if kept else outcome(record)


def _failure(files: PartFiles, error: Exception, given: str) -> dict:
    """Status, reason, and perhaps again and fatal, of a fit that raised an unexpected exception.

    given: the input as the user wrote it.
    """
    memory = lacks_memory(error)
    lost = lost_device(error)
    reason = failure_line(error, files, given) if memory or lost else _log_fault(files, error)
    return {"status": "failed", "reason": reason, "again": memory or lost, "fatal": lost}


def _log_fault(files: PartFiles, error: Exception) -> str:
    """Write the traceback of a fault of the program to NAME.log; returns the line for the user."""
    lines = "".join(traceback.format_exception(error))
    try:
        files.write_log(lines)
    except (OSError, UserError) as failure:
        say(lines)
        return visible(f"a fault of this program: {with_place(error)}; no log written: {one_line(failure)}")
    return visible(f"a fault of this program: {with_place(error)}; the traceback is in {files.log}")


def _fit_or_resume(
    job: dict,
    source: Path,
    staged: StagedFiles,
    should_stop: Callable[[], bool] | None,
    fit: FitFunction | None,
    notes: list[str],
) -> dict:
    """Fit a part, and return its record. In a folder, resume from its checkpoint if there is one.

    In a folder, a checkpoint of other flags or content is removed, with a note, and the fit begins anew. Elsewhere it
    raises CheckpointError.
    """
    in_folder, files = job.get("folder", False), staged.home
    watch = Watch(should_stop, in_folder, job.get("scratch", ""), notes)
    if fit is None:  # imported here: a part that is finished already does not wait for torch
        with watch.bar("load the libraries"):
            from neuralparts.part import fit_part as fit
    flags = SimpleNamespace(**job["flags"])
    if in_folder:
        begin_overwrite(job, files)
    exists = files.checkpoint.is_file()
    if flags.resume and not (exists or in_folder):
        say(f"{visible(str(files.checkpoint))}: no such checkpoint; the fit begins anew")
    flags.resume = int(flags.resume or (in_folder and exists))
    try:
        return fit(source, flags, staged, watch, job["input"])
    except CheckpointError as error:
        if not in_folder:
            raise
        begin_anew(files, watch, error)
    return fit(source, flags, staged, watch, job["input"])


def begin_overwrite(job: dict, files: PartFiles) -> None:
    """At the first attempt of a part with --overwrite 1, remove its checkpoint and mark the earlier result."""
    if job["flags"]["overwrite"] and job.get("attempt", 1) == 1:
        files.remove_checkpoint()
        if files.read_record() is not None:
            files.mark_unfinished()  # if this fit is stopped, the same command without --overwrite 1 goes on with it


def begin_anew(files: PartFiles, watch: Watch, error: CheckpointError) -> None:
    """Remove the checkpoint of another fit, and forget all of this one but the reason."""
    files.remove_checkpoint()
    watch.timings.clear()
    watch.notes.clear()
    watch.note(f"begun anew: {str(error).partition('; remove it')[0]}")


def fit_sent(job: dict, should_stop: Callable[[], bool] | None = None, fit: FitFunction | None = None) -> dict:
    """`fit_one` of a job that carries its files, in a folder of its own that is removed afterwards.

    Further keys of such a job: content (bytes of the input), beside (files that belong to it, bytes by relative name),
    checkpoint (bytes, or None). The result has `files`: bytes by name relative to the output folder.
    """
    content, beside, checkpoint = job["content"], job["beside"], job["checkpoint"]
    job = {key: value for key, value in job.items() if key not in ("content", "beside", "checkpoint")}
    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place) / "in" / Path(job["input"]).name, Path(place) / "out"
        out.mkdir()
        for path, data in {source: content, **{source.parent / name: data for name, data in beside.items()}}.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        files = PartFiles(out, job["name"], job["flags"]["outputFormat"])
        if checkpoint is not None:
            files.replace_checkpoint(checkpoint)
        result = fit_one(job | {"source": str(source), "outputDir": str(out), "scratch": f"{out}/"}, should_stop, fit)
        # The user's names of the files, not those of this folder.
        result["reason"] = result["reason"].replace(str(source), job["input"])
        result["reason"] = result["reason"].replace(str(out), str(Path(job["flags"]["outputDir"])))
        left = {name: path.read_bytes() for name, path in files.in_writing_order().items() if path.is_file()}
        return result | {"files": left}
