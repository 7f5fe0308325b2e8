"""The loop of a fleet: jobs handed to a place to run, as it has room, until all have ended.

In: jobs, dictionaries of JSON values with `name` and `input`. Out: their results, each handed to a callback as the job
ends. A place runs a worker function, named "module:function" and called as function(job, should_stop). It returns a
dictionary with `status` and `reason`, and does not know where it runs:

    done, refused, failed    the part has ended; a failed one with `again` set is tried once more, with job["attempt"] 2
    stopped                  should_stop() was True; the part can be resumed
    busy                     another process has this part; the loop submits it again later

A result with `fatal` set means that its process can fit no more. The second attempt is the same fit once more, in the
hope that memory is free by then. Nothing in this folder imports the worker function before it runs.
"""

import importlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from neuralparts.errors import UserError, with_place

# Seconds between two looks at the clock, the signals and the workers' memory while no part ends.
POLL_SECONDS = 0.2
# Seconds until a part that another run has is submitted again.
BUSY_SECONDS = 2.0
# The status of a part that has ended.
ENDED = ("done", "refused", "failed")


class FleetError(UserError):
    """The place cannot run any part; the message is one line for the user."""


class Place(Protocol):
    """Where jobs run. Its constructor starts nothing."""

    @property
    def running(self) -> int:
        """The number of jobs that were submitted and that `wait` has not returned."""

    @property
    def room(self) -> bool:
        """True if another job can be submitted."""

    def submit(self, job: dict) -> None:
        """Begin a job. Raises FleetError."""

    def wait(self, seconds: float) -> list[tuple[dict, dict]]:
        """The (job, result) pairs of the jobs that ended within so many seconds. Raises FleetError."""

    def stop(self) -> None:
        """Ask the running jobs to stop; they end as `stopped`, or as `done` if they are nearly done."""

    def kill(self) -> None:
        """End all workers at once."""

    def close(self) -> None:
        """End the workers, which have no job left."""


def run(
    jobs: Iterable[dict],
    place: Place,
    finished: Callable[[dict, dict], None],
    tick: Callable[[int, int], None] = lambda running, waiting: None,
    should_stop: Callable[[], bool] = lambda: False,
    busy_seconds: float = BUSY_SECONDS,
) -> None:
    """Run all jobs; if should_stop() becomes True, begin no more and return when the running ones have ended.

    finished(job, result): called once for each job that ended (ENDED). tick(running, waiting): called every
    POLL_SECONDS or more often; `waiting` counts the parts that wait for another attempt or for another run. Only the
    jobs that run or wait are kept in memory. Raises FleetError.
    """
    jobs, waiting, left = iter(jobs), deque(), True
    while True:
        stopping = should_stop()
        if stopping:
            place.stop()
        else:
            left = _fill(place, jobs, waiting, left)
        if place.running == 0 and (stopping or not (left or waiting)):
            return
        for job, result in place.wait(POLL_SECONDS):
            if result["status"] in ENDED and not _is_tried_again(job, result):
                finished(job, result)
            elif not should_stop():
                delay = busy_seconds if result["status"] == "busy" else 0.0
                waiting.append((time.monotonic() + delay, _next_attempt(job, result)))
        tick(place.running, len(waiting))


def _fill(place: Place, jobs: Iterator[dict], waiting: deque[tuple[float, dict]], left: bool) -> bool:
    """Submit jobs until the place has no room or none is due; returns True if `jobs` may have more.

    waiting: (time from which it is due, job) of jobs to submit again, in the order of their times.
    """
    while place.room:
        if waiting and waiting[0][0] <= time.monotonic():
            place.submit(waiting.popleft()[1])
        elif left and (job := next(jobs, None)) is not None:
            place.submit(job)
        else:
            return False
    return left


def _is_tried_again(job: dict, result: dict) -> bool:
    """True if a failed part is tried once more."""
    return result["status"] == "failed" and bool(result.get("again")) and job.get("attempt", 1) == 1


def _next_attempt(job: dict, result: dict) -> dict:
    """The job to submit again: unchanged if another run has the part, else its next attempt."""
    return job if result["status"] == "busy" else job | {"attempt": job.get("attempt", 1) + 1}


def call(function: Callable[[dict, Callable[[], bool]], dict], job: dict, should_stop: Callable[[], bool]) -> dict:
    """The worker function's result; if it raises an exception, which is a fault of the program, the part has failed."""
    try:
        return function(job, should_stop)
    except MemoryError:
        return {"status": "failed", "reason": f"{job['input']}: out of memory", "again": True}
    except Exception as error:  # it concerns this part alone; the others go on
        return {"status": "failed", "reason": f"{job['input']}: {with_place(error)}"}


def resolve(name: str) -> Callable[[dict, Callable[[], bool]], dict]:
    """The worker function that "module:function" names."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)
