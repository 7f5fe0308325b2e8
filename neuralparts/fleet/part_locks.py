"""The locks of parts that the driver holds itself, while a part is away: on a cluster, or between its stages."""

from contextlib import ExitStack
from pathlib import Path

from neuralparts.output import PartFiles


def files_of(job: dict) -> PartFiles:
    """The files of a job on this machine."""
    return PartFiles(Path(job["flags"]["outputDir"]), job["name"], job["flags"]["outputFormat"])


class PartLocks:
    """Locks by the names of parts."""

    def __init__(self):
        self._held: dict[str, ExitStack] = {}

    def hold(self, job: dict) -> None:
        """Lock a part. Raises as `PartFiles.lock` does."""
        held = ExitStack()
        held.enter_context(files_of(job).lock())
        self._held[job["name"]] = held

    def release(self, job: dict) -> None:
        """Unlock a part, if it is locked."""
        if (held := self._held.pop(job["name"], None)) is not None:
            held.close()
