"""How far a folder run is: a bar on a terminal, one line now and then in a log file."""

import sys
import threading
import time
from typing import TextIO

from tqdm import tqdm

from neuralparts.fleet.rate_limit import RateLimiter
from neuralparts.stage_bar import BEAT_SECONDS, LOG_SECONDS, Heartbeat
from neuralparts.wording import say

# Seconds between two drawings on a terminal.
TERMINAL_SECONDS = 0.1


class Progress:
    """Counts the parts that have ended, and shows how many are done, failed and left, and the time to go.

    counts: parts by how they ended; `skipped` were finished by an earlier run. The time to go comes from the parts that
    this run fitted. In a `with` block a thread shows the line again, also while a part is fitted in this process.
    """

    def __init__(self, total: int, stream: TextIO | None = None):
        self.total, self.stream = total, stream or sys.stderr
        self.counts = {"done": 0, "skipped": 0, "refused": 0, "failed": 0}
        self.start = self.ended = time.monotonic()  # of the run, and of the last part that ended
        # disable=None: no bar unless the stream is a terminal
        form = "{bar}| {elapsed} {desc}"
        self.bar = tqdm(total=total, file=self.stream, disable=None, dynamic_ncols=True, bar_format=form)
        # A beat may be late, so the line of a log file is due a little earlier.
        self.limiter = RateLimiter(1.0, LOG_SECONDS - 2 * BEAT_SECONDS if self.bar.disable else TERMINAL_SECONDS)
        self.shown, self.running, self.waiting = "", 0, 0
        self.lock, self.heartbeat = threading.Lock(), Heartbeat(lambda: self.show(self.running, self.waiting))

    def __enter__(self) -> "Progress":
        self.heartbeat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.heartbeat.stop()

    def count(self, status: str, skipped: bool) -> None:
        """Count a part that has ended; skipped: an earlier run had finished it."""
        self.counts["skipped" if skipped else status] += 1
        self.ended = time.monotonic()

    @property
    def left(self) -> int:
        return self.total - sum(self.counts.values())

    def line(self, running: int, waiting: int) -> str:
        """The line to show, such as `12 of 50 done (10 before), 1 failed, 37 left, 2 running, 03:10 to go`."""
        counts = self.counts
        words = [f"{counts['done'] + counts['skipped']:,} of {self.total:,} done"]
        if counts["skipped"]:
            words[0] += f" ({counts['skipped']:,} before)"
        words += [f"{counts[name]:,} {name}" for name in ("refused", "failed") if counts[name]]
        words += [f"{self.left:,} left", f"{running} running"]
        if waiting:
            words.append(f"{waiting} waiting")
        fitted = sum(counts.values()) - counts["skipped"]
        if fitted and self.left:
            # As of the last part that ended; since then it counts down.
            seconds = (self.ended - self.start) / fitted * self.left - (time.monotonic() - self.ended)
            words += [f"{tqdm.format_interval(seconds)} to go"] if seconds > 0 else []
        return ", ".join(words)

    def show(self, running: int, waiting: int, force: bool = False) -> None:
        """Show the line if it is due, or at once with `force`, unless a log file has it already."""
        with self.lock:
            self.running, self.waiting = running, waiting
            if not (force or self.limiter.is_due()):
                return
            with self.limiter:
                line = self.line(running, waiting)
                if not self.bar.disable:
                    self.bar.n = self.total - self.left
                    self.bar.set_description_str(line)
                elif not (force and line == self.shown):
                    print(time.strftime("%H:%M:%S"), line, file=self.stream, flush=True)
                self.shown = line

    def say(self, line: str) -> None:
        """Print a line, on a terminal above the bar."""
        say(line, self.stream)

    def close(self) -> None:
        """Leave the bar as it is, and go on below it."""
        self.bar.close()
