"""How jobs reach a cluster and results come back: as paths in folders that it shares, or as the files themselves."""

import os
from pathlib import Path
from typing import Protocol

from neuralparts.choices import MESH_SUFFIXES
from neuralparts.errors import UserError
from neuralparts.fleet.part_locks import PartLocks, files_of
from neuralparts.foreign_files import check_link
from neuralparts.mesh_files import MeshError, SourceFile, read_source
from neuralparts.output import BusyError, PartFiles, StagedFiles, failure_line, find_finished, outcome
from neuralparts.whole_file import write_whole
from neuralparts.wording import visible


class Carrier(Protocol):
    """Prepares a job for the cluster, and takes its result."""

    def send(self, job: dict) -> dict:
        """The job as it travels; or its result, known by the key `status`, if it need not travel."""

    def receive(self, job: dict, result: dict) -> dict:
        """The result for the driver, from the one that came back."""


class SharedFolder:
    """For a cluster that shares the input and output folders: a job carries absolute paths."""

    def send(self, job: dict) -> dict:
        """The job with absolute paths; so are those of its parts, if it is a batch."""
        if "parts" in job:
            return job | {"parts": [self.send(part) for part in job["parts"]]}
        source = os.path.abspath(job["input"])
        return job | {"source": source, "path": source, "outputDir": os.path.abspath(job["flags"]["outputDir"])}

    def receive(self, job: dict, result: dict) -> dict:
        """The result as it is: the files are written already."""
        return result


class Sender:
    """For a cluster that shares no folder: a job carries its files, and its lock is held on this machine.

    What travels is described at `neuralparts.job.fit_sent`, the worker function of such jobs.
    """

    def __init__(self):
        self.locks = PartLocks()

    def send(self, job: dict) -> dict:
        """Lock the part and add its files to the job; or the result of a part that is busy, finished or failed."""
        files, source = files_of(job), Path(job["input"])
        result = {"name": job["name"], "input": job["input"], "status": "failed", "reason": "", "record": None}
        try:
            self.locks.hold(job)
            check_link(source)
            path, overwrite = os.path.abspath(source), job["flags"]["overwrite"]
            record = find_finished(StagedFiles(files, path), job["flags"], source, job["input"])
            if record is not None:
                return self._release(job, result | outcome(record) | {"skipped": True})
            job = job | {"flags": files.with_earlier_outputs(job["flags"])}
            checkpoint = files.checkpoint
            kept = checkpoint.read_bytes() if checkpoint.is_file() and not overwrite else None
            is_mesh = source.suffix.lower() in MESH_SUFFIXES
            read = read_source(source) if is_mesh else SourceFile(source, source.read_bytes())
            if overwrite and files.read_record() is not None:
                files.mark_unfinished()
            return job | {"path": path, "content": read.data, "beside": read.beside, "checkpoint": kept}
        except BusyError as error:
            return result | {"status": "busy", "reason": visible(str(error))}
        except (OSError, UserError) as error:
            status = "refused" if isinstance(error, MeshError) else "failed"
            return self._release(job, result | {"status": status, "reason": failure_line(error, files, job["input"])})

    def receive(self, job: dict, result: dict) -> dict:
        """Put the files that came back in place, as a fit on this machine does; returns the result without them.

        If one of them is no file of this part, or if they do not agree with their record, none is written and the part
        has failed.
        """
        sent = result.pop("files", {})
        try:
            if kept := _write_files(job, sent):
                result |= {"status": "failed", "reason": kept, "record": None}
        except (OSError, UserError) as error:
            reason = failure_line(error, files_of(job), job["input"])
            reason = "; ".join(filter(None, [result.get("reason"), reason]))
            result |= {"status": "failed", "reason": reason, "again": False}
        return self._release(job, result)

    def _release(self, job: dict, result: dict) -> dict:
        """Unlock the part; returns the result."""
        self.locks.release(job)
        return result


def _write_files(job: dict, sent: dict[str, bytes]) -> str:
    """Write the files of a part that came back, by their names relative to the output folder.

    Returns '', or why the earlier result stays. Raises OSError, UserError for names that this part's files do not have,
    and for files that do not agree with their record.
    """
    files = files_of(job)
    _check_sent(job, sent, files)
    kept, (checkpoint, log, record) = "", map(files.relative, (files.checkpoint, files.log, files.record))
    if sent.keys() - {checkpoint, log}:
        kept = _stage(job, sent, files)
    elif checkpoint in sent:
        files.replace_checkpoint(sent[checkpoint])
    if log in sent:
        files.replace_log(sent[log])
    elif record in sent:
        files.remove_log()
    return kept


def _check_sent(job: dict, sent: dict[str, bytes], files: PartFiles) -> None:
    """Raise UserError if anything that came back is no file of this part."""
    if not isinstance(sent, dict):
        raise UserError(f"{job['input']}: the worker sent back no files by name; nothing is written")
    names = files.in_writing_order().keys()
    foreign = [name for name, data in sent.items() if name not in names or not isinstance(data, bytes)]
    if foreign:
        more = f" and {len(foreign) - 1:,} more" if len(foreign) > 1 else ""
        raise UserError(
            f"{job['input']}: the worker sent back {str(foreign[0])[:200]!r}{more}, no file of this part; nothing is "
            "written"
        )


def _stage(job: dict, sent: dict[str, bytes], files: PartFiles) -> str:
    """Write a whole result, and put it in place; returns '', or why the earlier result stays."""
    staged = StagedFiles(files)
    try:
        staged.begin()
        for name, home in files.in_writing_order().items():
            if name in sent and home not in (files.checkpoint, files.log):
                path = staged.folder / home.relative_to(files.folder)
                path.parent.mkdir(exist_ok=True)
                write_whole(path, sent[name])
        if staged.complete() is None:
            raise UserError(
                f"{job['input']}: the files that the worker sent back do not agree with their record; none is written"
            )
        return staged.settle(fitted=True)
    finally:
        staged.remove_if_incomplete()
