"""What a folder run keeps while its parts come and go, and how jobs reach a cluster.

In: jobs and results as `fleet.run` hands them on. Out: summary.csv, index.html and the lines that a person reads; jobs
that carry paths (`SharedFolder`) or the files themselves (`Sender`). A part's own files belong to `artifacts`.
"""

import os
import time
from pathlib import Path

from neuralparts.errors import UserError, one_line
from neuralparts.fleet.fleet import Progress, Seldom
from neuralparts.mesh_files import files_beside
from neuralparts.output import Artifacts, BusyError, Summary, remove_leavings, summary_row, text, write_gallery
from neuralparts.whole_file import write_whole

# Seconds of a run until it writes its first gallery.
FIRST_PAGE_SECONDS = 20.0
# How a run that does all again goes on.
OVERWRITING = " without --overwrite 1, which would begin again; parts that were not reached keep what they had"


def ended(record: dict) -> dict:
    """Status, reason and record of a part that left a record."""
    status = "failed" if record["failure"] else "done"
    return {"record": record, "reason": record["failure"], "status": status}


def naming(source: str, reason: str) -> str:
    """A reason that says which file it is about."""
    return reason if source in reason else f"{source}: {reason}"


class FolderBook:
    """What is kept of a folder run: counts, summary.csv and index.html; a part's record goes as soon as it is noted."""

    def __init__(self, folder: Path, names: list[str], flags: dict, fresh: bool):
        self.folder, self.names, self.flags = folder, names, flags
        self.summary, self.progress = Summary(folder), Progress(len(names))
        self.lines, self.pages = Seldom(0.02, 1.0), Seldom(0.01, 60.0)
        # An earlier run's page stays until there is more to show than the first part.
        self.new_page, self.pages.at = False, time.monotonic() + FIRST_PAGE_SECONDS
        self.complained = ""
        self.spelled = {text(name): name for name in names if text(name) != name}
        if fresh:
            self.summary.start()

    def take(self, job: dict, result: dict) -> None:
        """Note a part that has ended."""
        status, reason, record = result["status"], result["reason"], result.get("record")
        self.progress.count(status, result.get("skipped", False) and status == "done")
        self.summary.add(summary_row(job["name"], job["input"], record, status, reason))
        for line in result.get("notes", []):
            self.progress.say(naming(job["input"], line))
        if status != "done":
            self.progress.say(f"trainer.py: {naming(job['input'], reason)}")
        self.new_page = True
        self.write_what_is_due()

    def tick(self, running: int, waiting: int) -> None:
        """Show how far the run is, and write what has waited for its turn."""
        self.progress.show(running, waiting)
        self.write_what_is_due()

    def write_what_is_due(self) -> None:
        if self.summary.pending:
            self.write(self.lines, self.summary.flush)
        if self.new_page:
            self.write(self.pages, self.write_gallery)

    def write(self, seldom, action) -> None:
        """Do what writes a file if it is due; where it cannot, say so once and go on: the next time may do."""
        if not seldom.due():
            return
        try:
            with seldom:
                action()
        except (OSError, BusyError) as error:
            line = f"trainer.py: not written: {one_line(error)}"
            if line != self.complained:
                self.progress.say(line)
            self.complained = line

    def write_gallery(self) -> None:
        write_gallery(self.folder, self.summary.rows(), self.spelled)
        self.new_page = False

    def close(self, stopped: bool) -> None:
        """Write everything and tell how it went."""
        self.progress.show(0, 0, force=True)
        self.progress.close()
        remove_leavings(self.folder)
        self.write(Seldom(1.0, 0.0), lambda: self.summary.finish(self.names, self.row_on_disk))
        self.write(Seldom(1.0, 0.0), self.write_gallery)
        counts = self.progress.counts
        done = counts["done"] + counts["skipped"]
        before = f" ({counts['skipped']} of them before)" if counts["skipped"] else ""
        print(f"{done} of {len(self.names)} done{before}; {self.folder / 'summary.csv'}, {self.folder / 'index.html'}")
        if stopped:
            print("stopped; the same command goes on from here" + OVERWRITING * self.flags["overwrite"])
        for _, source, status, reason, *_ in self.summary.rows():
            if status != "done":
                print(f"{status}: {naming(source, reason)}")

    def row_on_disk(self, name: str) -> dict | None:
        """The line of a part that an earlier run did with these flags, from its record, or None."""
        record = Artifacts(self.folder, name, self.flags["outputFormat"]).finished(self.flags)
        if record is None:
            return None
        return summary_row(name, record["input"], record, "failed" if record["failure"] else "done", record["failure"])

    @property
    def exit_code(self) -> int:
        return 1 if self.progress.counts["refused"] + self.progress.counts["failed"] or self.progress.left else 0


class SharedFolder:
    """How a job reaches a cluster that shares the folders: by absolute paths."""

    worker = None

    def send(self, job: dict) -> dict:
        return job | {"source": os.path.abspath(job["input"]), "outputDir": os.path.abspath(job["flags"]["outputDir"])}

    def receive(self, job: dict, result: dict) -> dict:
        return result


class Sender:
    """How a job reaches a cluster that shares no folder: its files travel with it, its lock is held here."""

    worker = "neuralparts.job:fit_sent"

    def __init__(self):
        self.locks = {}

    def send(self, job: dict) -> dict:
        """The job with its files; or its result where there is nothing to send."""
        artifacts, source = artifacts_of(job), Path(job["input"])
        result = {"name": job["name"], "input": job["input"], "status": "failed", "reason": "", "record": None}
        lock = artifacts.lock()
        try:
            lock.__enter__()
        except BusyError as error:
            return result | {"status": "busy", "reason": str(error)}
        except OSError as error:
            return result | {"reason": one_line(error)}
        self.locks[job["name"]] = lock
        try:
            overwrite = job["flags"]["overwrite"]
            record = None if overwrite else artifacts.finished(job["flags"], source)
            if record is not None:
                return self.release(job, result | ended(record) | {"skipped": True})
            artifacts.check_free(source)
            checkpoint = artifacts.checkpoint
            kept = checkpoint.read_bytes() if checkpoint.is_file() and not overwrite else None
            return job | {"content": source.read_bytes(), "beside": read_beside(source), "checkpoint": kept}
        except (OSError, ValueError) as error:
            return self.release(job, result | {"reason": one_line(error)})

    def receive(self, job: dict, result: dict) -> dict:
        """Write the files that came back, the model first and the record last; returns the result without them."""
        files, artifacts = result.pop("files", {}), artifacts_of(job)
        complete = artifacts.record.name in files
        try:
            # Those of an earlier fit would be taken for this one's; what is done again is not done once it was begun.
            if files.keys() - {artifacts.checkpoint.name} or (files and job["flags"]["overwrite"]):
                artifacts.discard()
            order = {artifacts.model.name: -1, artifacts.record.name: 1}
            for name in sorted(files, key=lambda name: order.get(name, 0)):
                (artifacts.folder / name).parent.mkdir(exist_ok=True)
                write_whole(artifacts.folder / name, files[name])
            if complete:
                artifacts.checkpoint.unlink(missing_ok=True)
        except OSError as error:
            result |= {"status": "failed", "reason": one_line(error), "again": False}
        return self.release(job, result)

    def release(self, job: dict, result: dict) -> dict:
        """Give the lock back and the result on."""
        self.locks.pop(job["name"]).__exit__()
        return result


def read_beside(source: Path) -> dict[str, bytes]:
    """The files that belong to an input, by their names relative to its folder. Raises OSError, ValueError."""
    names = files_beside(source)
    if any(os.path.isabs(name) or ".." in Path(name).parts for name in names):
        raise UserError(f"{source}: its buffers lie outside its folder and cannot travel; use --rayTransfer paths")
    return {name: (source.parent / name).read_bytes() for name in names}


def artifacts_of(job: dict):
    """The files of a job on this machine."""
    return Artifacts(Path(job["flags"]["outputDir"]), job["name"], job["flags"]["outputFormat"])
