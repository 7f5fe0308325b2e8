"""How one fit is watched: its notes, its clock, and who may stop it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from neuralparts.wording import say


@dataclass
class Watch:
    """How a fit is watched: its notes, its clock, and who may stop it.

    in_folder: it is one of many parts, so the driver prints the notes. scratch: a folder that is gone afterwards; notes
    leave it out of paths. notes: lines for a person that the record keeps. timings: seconds by stage.
    """

    should_stop: Callable[[], bool] | None = None
    in_folder: bool = False
    scratch: str = ""
    notes: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)

    def note(self, line: str) -> None:
        """Keep a line for the record, and print it unless the driver will."""
        line = line.replace(self.scratch, "") if self.scratch else line
        self.notes.append(line)
        if not self.in_folder:
            say(line)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds of a block to `timings[stage]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - start
