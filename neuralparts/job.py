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
from pathlib import Path
from types import SimpleNamespace

from neuralparts.errors import CheckpointError, Interrupted, UserError, lacks_memory, one_line, with_place
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
    flags = SimpleNamespace(**job["flags"])
    source = Path(job.get("source", job["input"]))
    files = PartFiles(Path(job.get("outputDir", flags.outputDir)), job["name"], flags.outputFormat)
    result = {"name": job["name"], "input": job["input"], "status": "done", "reason": "", "record": None}
    staged = StagedFiles(files, job.get("path") or os.path.abspath(job["input"]))
    try:
        with files.lock():
            if job.get("folder"):
                check_link(source)
            record = find_finished(staged, job["flags"], source, job["input"])
            if record is not None:
                old = has_sizes_alone(record) and not job.get("folder")
                notes = [f"{files.record}: an earlier version wrote it; sizes were compared, not contents"] * old
                return result | outcome(record) | {"skipped": True, "notes": notes}
            job = job | {"flags": files.with_earlier_outputs(job["flags"])}
            return result | _fit_locked(job, source, staged, should_stop, fit)
    except BusyError as error:
        return result | {"status": "busy", "reason": visible(str(error))}
    except (OSError, UserError) as error:
        return result | {"status": "failed", "reason": failure_line(error, files, job["input"])}


def _fit_locked(
    job: dict, source: Path, staged: StagedFiles, should_stop: Callable[[], bool] | None, fit: FitFunction | None
) -> dict:
    """Fit a part whose lock is held. Returns status, reason, record, notes, and perhaps again and fatal.

    An exception that is no UserError, nor an OSError, nor a lack of memory, is a fault of the program: its whole
    traceback goes to NAME.log, and the reason names that file. A fit that succeeds removes the log of an earlier one.
    """
    notes, files = [], staged.home
    try:
        result = _fit_and_settle(job, source, staged, should_stop, fit, notes)
        files.remove_log()
    except Interrupted as error:
        result = {"status": "stopped", "reason": str(error)}
    except MeshError as error:
        result = {"status": "refused", "reason": failure_line(error, files, job["input"])}
    except (UserError, OSError, ImportError) as error:
        result = {"status": "failed", "reason": failure_line(error, files, job["input"])}
    except Exception as error:
        result = _failure(files, error, job["input"])
    return result | {"notes": [visible(line) for line in notes]}


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
        record = plain(_fit_or_resume(job, source, staged, should_stop, fit, notes))
        kept = staged.settle(fitted=True)
    finally:
        staged.remove_if_incomplete()
    # If the earlier result stays, summary.csv gets no errors of a fit that is not there.
    return {"status": "failed", "reason": kept, "record": None} if kept else outcome(record)


def _failure(files: PartFiles, error: Exception, given: str) -> dict:
    """Status, reason, and perhaps again and fatal, of a fit that raised an unexpected exception.

    given: the input as the user wrote it.
    """
    memory = lacks_memory(error)
    # After any other error of a GPU, every later call of its driver in this process fails too.
    lost = type(error).__name__ == "AcceleratorError" and not memory
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
    if in_folder and flags.overwrite and job.get("attempt", 1) == 1:
        files.remove_checkpoint()
        if files.read_record() is not None:
            files.mark_unfinished()  # if this fit is stopped, the same command without --overwrite 1 goes on with it
    exists = files.checkpoint.is_file()
    if flags.resume and not (exists or in_folder):
        say(f"{visible(str(files.checkpoint))}: no such checkpoint; the fit begins anew")
    flags.resume = int(flags.resume or (in_folder and exists))
    try:
        return fit(source, flags, staged, watch, job["input"])
    except CheckpointError as error:
        if not in_folder:
            raise
        files.remove_checkpoint()
        watch.timings.clear()
        watch.notes.clear()
        watch.note(f"begun anew: {str(error).partition('; remove it')[0]}")
    return fit(source, flags, staged, watch, job["input"])


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
