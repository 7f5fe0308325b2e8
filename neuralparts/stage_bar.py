"""The sign of life of a stage: a bar on a terminal, a line now and then in a log file.

A thread draws it, so that a person sees the seconds go on while the stage computes.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from neuralparts import wording

# Seconds between two looks at the clock, between two drawings of a bar that moves, and between two lines in a log file.
BEAT_SECONDS, DRAWING_SECONDS, LOG_SECONDS = 0.5, 0.1, 30.0


class Heartbeat:
    """Calls `beat` every BEAT_SECONDS from a thread of its own, from `start` to `stop`."""

    def __init__(self, beat: Callable[[], None]):
        self.beat, self._ended = beat, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; afterwards `beat` is not called any more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self.beat()


class StageBar:
    """How far a stage is: its fraction done, 0 to 1, its loss, and its seconds; shown for a `with` block.

    quiet: in a log file nothing is written, because the program that started this one says how far it is.
    """

    def __init__(self, title: str, quiet: bool = False):
        self.title, self.quiet = title, quiet
        self.fraction, self.loss = 0.0, None
        self.start, self._drawn = time.monotonic(), 0.0
        # Where the first fraction was reported: a fit that resumes does not begin at 0.
        self._first: tuple[float, float] | None = None
        self._moved = self.start  # when the fraction was reported last
        # disable=None: no bar unless standard error is a terminal.
        self._bar = tqdm(total=1.0, disable=None, leave=False, dynamic_ncols=True, bar_format="{desc}")
        self._heartbeat = Heartbeat(self.beat)

    def __enter__(self) -> "StageBar":
        self.beat()
        self._heartbeat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._heartbeat.stop()
        self._bar.close()

    def show(self, fraction: float, loss: float | None = None) -> None:
        """Note the fraction done, and the present loss of a fit."""
        self.fraction, self.loss, self._moved = fraction, loss, time.monotonic()
        if self._first is None:
            self._first = time.monotonic(), fraction
            self._bar.bar_format = "{bar}| {desc}"
        if time.monotonic() - self._drawn > DRAWING_SECONDS:
            self.beat()

    def line(self) -> str:
        """The line to show, such as `fit 34%, 02:10, 04:00 to go, loss 0.0012`."""
        words = [self.title, tqdm.format_interval(time.monotonic() - self.start)]
        if self._first is not None:
            words[0] += f" {self.fraction:.0%}"
            since, before = self._moved - self._first[0], self.fraction - self._first[1]
            # As of the last report; since then it counts down.
            left = since / before * (1 - self.fraction) - (time.monotonic() - self._moved) if before > 0 else 0.0
            words += [f"{tqdm.format_interval(left)} to go"] if left > 0 else []
        if self.loss is not None:
            words.append(f"loss {self.loss:.3g}")
        return ", ".join(words)

    def beat(self) -> None:
        """Draw the bar, or write a line into a log file if one is due."""
        self._drawn = now = time.monotonic()
        if not self._bar.disable:
            self._bar.n = self.fraction
            self._bar.set_description_str(self.line())
        elif not self.quiet and now - wording.last_said >= LOG_SECONDS - 2 * BEAT_SECONDS:  # the next beat may be late
            wording.say(f"{time.strftime('%H:%M:%S')} {self.line()}")


@contextmanager
def stage_bar(title: str, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """Show that a stage runs. Yields a function of the fraction done, 0 to 1, and perhaps the present loss."""
    with StageBar(title, quiet) as bar:
        yield bar.show


@contextmanager
def count_bar(title: str, total: int, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """As `stage_bar`. Yields a function that takes the number newly finished, of `total`."""
    finished = 0

    def add(count: int) -> None:
        nonlocal finished
        finished += count
        show(finished / total)

    with stage_bar(title, quiet) as show:
        yield add
