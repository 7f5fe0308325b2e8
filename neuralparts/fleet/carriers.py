"""How jobs reach a cluster and results come back: as paths in folders that it shares, or as the files themselves."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from neuralparts.errors import UserError, one_line
from neuralparts.mesh_files import files_beside
from neuralparts.output import BusyError, PartFiles, outcome
from neuralparts.whole_file import write_whole


class Carrier(Protocol):
    """Prepares a job for the cluster, and takes its result."""

    def send(self, job: dict) -> dict:
        """The job as it travels; or its result, known by the key `status`, if it need not travel."""

    def receive(self, job: dict, result: dict) -> dict:
        """The result for the driver, from the one that came back."""


class SharedFolder:
    """For a cluster that shares the input and output folders: a job carries absolute paths."""

    def send(self, job: dict) -> dict:
        """The job with absolute paths."""
        return job | {"source": os.path.abspath(job["input"]), "outputDir": os.path.abspath(job["flags"]["outputDir"])}

    def receive(self, job: dict, result: dict) -> dict:
        """The result as it is: the files are written already."""
        return result


class Sender:
    """For a cluster that shares no folder: a job carries its files, and its lock is held on this machine.

    What travels is described at `neuralparts.job.fit_sent`, the worker function of such jobs.
    """

    def __init__(self):
        self.locks: dict[str, ExitStack] = {}

    def send(self, job: dict) -> dict:
        """Lock the part and add its files to the job; or the result of a part that is busy, finished or failed."""
        files, source = _files_of(job), Path(job["input"])
        result = {"name": job["name"], "input": job["input"], "status": "failed", "reason": "", "record": None}
        held = ExitStack()
        try:
            held.enter_context(files.lock())
            self.locks[job["name"]] = held
            overwrite = job["flags"]["overwrite"]
            record = None if overwrite else files.finished(job["flags"], source)
            if record is not None:
                return self._release(job, result | outcome(record) | {"skipped": True})
            files.check_free(source)
            checkpoint = files.checkpoint
            kept = checkpoint.read_bytes() if checkpoint.is_file() and not overwrite else None
            return job | {"content": source.read_bytes(), "beside": read_beside(source), "checkpoint": kept}
        except BusyError as error:
            return result | {"status": "busy", "reason": str(error)}
        except (OSError, UserError) as error:
            return self._release(job, result | {"reason": one_line(error)})

    def receive(self, job: dict, result: dict) -> dict:
        """Write the files that came back, the model first and the record last; returns the result without them.

        If one of them is no file of this part, none is written and the part has failed.
        """
        sent = result.pop("files", {})
        try:
            _write_files(job, sent)
        except (OSError, UserError) as error:
            reason = "; ".join(filter(None, [result.get("reason"), one_line(error)]))
            result |= {"status": "failed", "reason": reason, "again": False}
        return self._release(job, result)

    def _release(self, job: dict, result: dict) -> dict:
        """Unlock the part; returns the result."""
        if (held := self.locks.pop(job["name"], None)) is not None:
            held.close()
        return result


def read_beside(source: Path) -> dict[str, bytes]:
    """The files that belong to an input, by their names relative to its folder.

    Raises OSError, and UserError for a file outside the folder of the input.
    """
    names = files_beside(source)
    if any(os.path.isabs(name) or ".." in Path(name).parts for name in names):
        raise UserError(f"{source}: its buffers lie outside its folder and cannot travel; use --rayTransfer paths")
    return {name: (source.parent / name).read_bytes() for name in names}


def _files_of(job: dict) -> PartFiles:
    """The files of a job on this machine."""
    return PartFiles(Path(job["flags"]["outputDir"]), job["name"], job["flags"]["outputFormat"])


def _write_files(job: dict, sent: dict[str, bytes]) -> None:
    """Write the files of a part that came back, by their names relative to the output folder.

    Raises OSError, UserError for a name that this part's files do not have.
    """
    files = _files_of(job)
    paths = files.in_writing_order()
    if foreign := sorted(sent.keys() - paths.keys()):
        raise UserError(
            f"{job['input']}: the worker sent back {foreign[0]!r}, no file of this part; nothing is written"
        )
    results = sent.keys() - {files.checkpoint.name, files.log.name}
    # Files of an earlier fit must not be taken for this one's. With --overwrite 1, a part that was begun is not
    # finished any more.
    if results or (sent and job["flags"]["overwrite"]):
        files.discard()
    for name, path in paths.items():
        if name not in sent:
            continue
        if path == files.log:
            files.replace_log(sent[name])
        else:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, sent[name])
    if files.record.name in sent:  # the fit is complete
        files.checkpoint.unlink(missing_ok=True)
        files.remove_log()
