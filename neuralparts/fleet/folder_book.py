"""The books of a folder run: counts, summary.csv, index.html, and the lines for a person.

In: jobs and results as `run` hands them on. A part's own files belong to `PartFiles`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from neuralparts.errors import UserError, one_line
from neuralparts.fleet.progress import Progress
from neuralparts.fleet.rate_limit import RateLimiter
from neuralparts.output import (
    PartFiles,
    Summary,
    has_sizes_alone,
    outcome,
    outputs_of,
    remove_leavings,
    summary_row,
    text,
    write_gallery,
)
from neuralparts.stage_bar import stage_bar
from neuralparts.wording import counted, listed, say, visible

# Seconds until the first gallery: until then the page of an earlier run stays, as it shows more.
FIRST_PAGE_SECONDS = 20.0

# Of a part that is done by an earlier run, if the run was stopped before it came to it.
NOT_READ = "not reached by the stopped run: the sizes of its files agree, their contents were not read"


class FolderBook:
    """Keeps the books of a folder run; a part's record is dropped as soon as it is noted.

    names: of all parts, in order. flags: those of the run. fresh: begin summary.csv anew, as no other run writes to it.
    Raises OSError, BusyError.
    """

    def __init__(
        self,
        folder: Path,
        names: list[str],
        flags: dict,
        fresh: bool,
        first_page_seconds: float = FIRST_PAGE_SECONDS,
    ):
        self.folder, self.names, self.flags = folder, names, flags
        self.summary, self.progress = Summary(folder), Progress(len(names))
        # At most 2% of the time for summary.csv, 1% for index.html.
        self.lines, self.pages = RateLimiter(0.02, 1.0), RateLimiter(0.01, 60.0, first=first_page_seconds)
        self.page_is_old = False
        self.complaint, self.by_size, self.with_more = "", 0, 0
        self.spelled = {text(name): name for name in names if text(name) != name}
        if fresh:
            self.summary.start()

    def take(self, job: dict, result: dict) -> None:
        """Note a part that has ended."""
        files = PartFiles(self.folder, job["name"], self.flags["outputFormat"])
        status, reason, record = result["status"], result["reason"], result.get("record")
        reason += "" if status == "done" else files.says_that_it_stays(result)
        self.progress.count(status, result.get("skipped", False) and status == "done")
        self.summary.add(summary_row(job["name"], job["input"], record, status, reason))
        for line in result.get("notes", []):
            self.progress.say(visible(_with_source(job["input"], line)))
        if status != "done":
            self.progress.say(visible(f"{status}: {_with_source(job['input'], reason)}"))
        self.by_size += bool(result.get("skipped") and record and has_sizes_alone(record))
        if record is not None and not result.get("skipped"):
            self.with_more += bool(outputs_of(record.get("flags", {})) - outputs_of(self.flags))
        self.page_is_old = True
        self._write_if_due()

    def tick(self, running: int, waiting: int) -> None:
        """Show the progress, and write the lines and the page that wait."""
        self.progress.show(running, waiting)
        self._write_if_due()

    def _write_if_due(self) -> None:
        if self.summary.pending:
            self._write(self.lines, self.summary.flush)
        if self.page_is_old:
            self._write(self.pages, self.write_gallery)

    def _write(self, limiter: RateLimiter, action: Callable[[], None]) -> None:
        """Write a file if it is due. If that fails, say so once and go on: the next time may succeed."""
        if not limiter.is_due():
            return
        try:
            with limiter:
                action()
        except (OSError, UserError) as error:
            complaint = visible(f"not written: {one_line(error)}")
            if complaint != self.complaint:
                self.progress.say(complaint)
            self.complaint = complaint

    def write_gallery(self) -> None:
        """Write index.html from the lines so far. Raises OSError, BusyError."""
        write_gallery(self.folder, self.summary.rows(), self.spelled)
        self.page_is_old = False

    def close(self, stopped: bool) -> None:
        """Write everything, and print how the run ended; the parts that are not done come last."""
        self.progress.show(0, 0, force=True)
        self.progress.close()
        with stage_bar("write the summary"):
            remove_leavings(self.folder, self.names)
            self._write(RateLimiter(1.0, 0.0), lambda: self.summary.finish(self.names, self._row_on_disk))
            self._write(RateLimiter(1.0, 0.0), self.write_gallery)
        counts = self.progress.counts
        done = counts["done"] + counts["skipped"]
        before = f" ({counts['skipped']} of them before)" if counts["skipped"] else ""
        files = visible(f"{self.folder / 'summary.csv'}, {self.folder / 'index.html'}")
        lines = [f"{done} of {len(self.names)} done{before}; {files}"]
        if self.by_size:
            records = counted(self.by_size, "record")
            lines.append(f"{records} of an earlier version: the sizes of the files were compared, not their contents")
        if self.with_more:
            files = f"{counted(self.with_more, 'part')} had more files from an earlier fit than --outputs asks for"
            lines.append(f"{files}: they were made again too; remove them to leave them out")
        if stopped and self.flags["overwrite"]:
            lines.append(
                "stopped; the same command without --overwrite 1 resumes; other parts keep their earlier result"
            )
        elif stopped and self.progress.left:
            lines.append("stopped; the same command resumes")
        say("\n".join(lines), sys.stdout)
        self._print_bad_parts()

    def _print_bad_parts(self) -> None:
        """Print how many parts are poor, with names, and a line for each part that is not done."""
        try:
            rows = [row[:5] for row in self.summary.rows() if row[2] != "done" or row[4] == "poor"]
        except OSError as error:  # each was said when its part ended
            self.progress.say(visible(f"not read: {self.summary.path}: {error.strerror}"))
            return
        if poor := [name for name, _, status, _, grade in rows if status == "done" and grade == "poor"]:
            say(f"{len(poor):,} poor: {listed(poor)}", sys.stdout)
        for _, source, status, reason, _ in rows:
            if status != "done":
                say(f"{status}: {_with_source(source, reason)}", sys.stdout)

    def _row_on_disk(self, name: str) -> dict | None:
        """The line of a part that an earlier run finished with these flags, from its record, or None.

        Its reason says that the files were not read: for 10,000 parts that would take minutes.
        """
        files = PartFiles(self.folder, name, self.flags["outputFormat"])
        try:
            record = files.finished(self.flags, by_size=True)
        except OSError:
            return None
        if record is None:
            return None
        ended = outcome(record)
        return summary_row(name, record["input"], record, ended["status"], ended["reason"] or NOT_READ)

    @property
    def exit_code(self) -> int:
        """0 if every part is done, else 1."""
        return 1 if self.progress.counts["refused"] + self.progress.counts["failed"] or self.progress.left else 0


def _with_source(source: str, reason: str) -> str:
    """A reason that names the input it is about."""
    return reason if source in reason or visible(source) in reason else f"{source}: {reason}"
