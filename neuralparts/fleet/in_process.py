"""One part after the other in this process."""

import time
from collections.abc import Callable

from neuralparts.fleet.loop import FleetError, call, resolve


class Here:
    """A place in this process: one part at a time. A part that crashes the process ends the run.

    function: the worker function, "module:function". should_stop: asked by the running part.
    """

    def __init__(self, function: str, should_stop: Callable[[], bool] = lambda: False):
        self.function, self.should_stop, self.jobs, self.lost = resolve(function), should_stop, [], False

    @property
    def running(self) -> int:
        return len(self.jobs)

    @property
    def room(self) -> bool:
        return not self.jobs

    def submit(self, job: dict) -> None:
        """Keep a job for `wait`, which runs it. Raises FleetError after a fatal error of the GPU."""
        if self.lost:
            raise FleetError("this process can fit no more after an error of the GPU; the same command resumes")
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[tuple[dict, dict]]:
        """Run the job that was submitted; returns its (job, result) pair."""
        if not self.jobs:
            time.sleep(seconds)
            return []
        job = self.jobs.pop()
        result = call(self.function, job, self.should_stop)
        self.lost = bool(result.get("fatal"))
        return [(job, result)]

    def stop(self) -> None:
        """Nothing to do: the running part asks should_stop itself."""

    def kill(self) -> None:
        """Nothing to end."""

    close = kill
