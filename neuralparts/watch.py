"""`Watch`: what a fit reports to, and what may stop it. Light, so that a job needs no torch before it fits."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from neuralparts.stage_bar import count_bar, stage_bar
from neuralparts.wording import say


@dataclass
class Watch:
    """How a fit is watched: its notes, its clock, and who may stop it.

    in_folder: it is one of many parts, so the driver prints the notes. scratch: a folder that is gone afterwards; notes
    leave it out of paths. notes: lines for a person that the record keeps. timings: seconds by stage. device_lost: True
    once a GPU has failed so that this process cannot use it any more, though the part may end on the CPU.
    """

    should_stop: Callable[[], bool] | None = None
    in_folder: bool = False
    scratch: str = ""
    notes: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    device_lost: bool = False

    def note(self, line: str) -> None:
        """Keep a line for the record, and print it unless the driver will."""
        line = line.replace(self.scratch, "") if self.scratch else line
        self.notes.append(line)
        if not self.in_folder:
            say(line)

    def bar(self, title: str) -> AbstractContextManager[Callable[..., None]]:
        """`stage_bar` for a stage of this fit. Of one of many parts, a log file gets no lines: the driver counts."""
        return stage_bar(title, quiet=self.in_folder)

    def count_bar(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """`count_bar` for a stage of this fit."""
        return count_bar(title, total, quiet=self.in_folder)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds of a block to `timings[stage]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - start
