"""Parts in three stages: prepared and finished one by one, trained in batches in between.

The stages are jobs of the worker function `staged_job.run_stage`. They hand over by files in the part's hidden folder,
so any of them can be tried again, and a worker that dies costs one stage of its part.
"""

import contextlib
import time
from collections import deque
from dataclasses import dataclass, field

from neuralparts.errors import UserError
from neuralparts.fleet.loop import Place
from neuralparts.fleet.part_locks import PartLocks, files_of
from neuralparts.output import BusyError, StagedFiles, failure_line
from neuralparts.wording import visible

# A batch of fewer than enough parts begins if no further part has been prepared for so many seconds and a trainer is
# idle.
PATIENCE_SECONDS = 3.0
# Seconds of waiting for one of two places before the other has its turn.
TURN_SECONDS = 0.02
# Attempts at one stage of a part.
ATTEMPTS = 2
# Parts at a time. The lock of each is an open file (`machine.allow_open_files`).
MOST_PARTS = 600


@dataclass
class _Part:
    """A part on its way. job: as it was submitted. handed: what its last stage handed on. attempts: by stage."""

    job: dict
    handed: dict = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.job["name"]

    def begin(self, stage: str) -> dict:
        """The job of a stage."""
        self.attempts[stage] = attempt = self.attempts.get(stage, 0) + 1
        spent = sum(self.handed.get("timings", {}).get(name, 0.0) for name in ("load", "label"))
        return self.job | {"stage": stage, "attempt": attempt, "handed": self.handed, "spent": spent}


class Staged:
    """A place (`loop.Place`) that takes each part through the stages, of which two other places run the jobs.

    processors: for the stages `prepare` and `finish`. trainers: for the stage `train`; it may be the same place.
    trainer_count: jobs that it runs at a time. batch: parts that are trained at once, at most. enough: prepared parts
    with which an idle trainer begins, by default a whole batch. The lock of a part is held from the first stage to the
    last. At most 2 batches of parts a trainer wait with their labelled points on the disk, or 1 if a trainer begins
    with less, and no batch begins while another one waits to be finished.
    """

    def __init__(self, processors: Place, trainers: Place, trainer_count: int, batch: int, enough: int | None = None):
        self.processors, self.trainers, self.batch = processors, trainers, batch
        self.enough = min(batch, enough or batch)
        self.trainer_count, self.training = trainer_count, 0
        self.most_prepared = (1 if self.enough < batch else 2) * batch * trainer_count
        self.locks, self.stopping = PartLocks(), False
        self.parts: dict[str, _Part] = {}
        self.preparing: set[str] = set()
        self.ready: dict[str, list[_Part]] = {}  # by kind: the parts of a batch are of one kind
        self.ready_since = 0.0  # when the last part became ready, on the monotonic clock
        self.halves: deque[list[_Part]] = deque()  # batches to train once more
        self.trained: deque[_Part] = deque()
        self.ended: list[tuple[dict, dict]] = []

    @property
    def running(self) -> int:
        return len(self.parts) + len(self.ended)

    @property
    def room(self) -> bool:
        prepared = len(self.preparing) + sum(map(len, self.ready.values()))
        return self.processors.room and prepared < self.most_prepared and self.running < MOST_PARTS

    def submit(self, job: dict) -> None:
        """Lock a part and begin its first stage. Raises FleetError."""
        try:
            self.locks.hold(job)
        except BusyError as error:
            self.ended.append((job, {"status": "busy", "reason": visible(str(error))}))
        except (OSError, UserError) as error:
            reason = failure_line(error, files_of(job), job["input"])
            self.ended.append((job, {"status": "failed", "reason": reason}))
        else:
            self.parts[job["name"]] = part = _Part(job)
            self._prepare(part)

    def wait(self, seconds: float) -> list[tuple[dict, dict]]:
        """The (job, result) pairs of the parts that ended within so many seconds. Raises FleetError."""
        self._begin_stages(partial=True)
        for job, result in [] if self.ended else self._stages_that_ended(seconds):
            if job["stage"] == "train":
                self.training -= 1
                self._take_batch([self.parts[one["name"]] for one in job["parts"]], job["input"], result)
            else:
                self.preparing.discard(job["name"])
                self._take(self.parts[job["name"]], job["stage"], result)
        self._begin_stages(partial=False)
        ended, self.ended = self.ended, []
        return ended

    @property
    def _places(self) -> list[Place]:
        return [self.processors] if self.trainers is self.processors else [self.trainers, self.processors]

    def _stages_that_ended(self, seconds: float) -> list[tuple[dict, dict]]:
        """The (job, result) pairs of stages that ended within so many seconds."""
        busy = [place for place in self._places if place.running] or self._places[:1]
        if len(busy) == 1:
            return busy[0].wait(seconds)
        deadline = time.monotonic() + seconds
        while not (ended := [pair for place in busy for pair in place.wait(TURN_SECONDS)]):
            if time.monotonic() >= deadline:
                break
        return ended

    # ---------------------------------------------------------------------------------------------- stages that begin

    def _begin_stages(self, partial: bool) -> None:
        """Begin stages of the parts that wait: what is nearest to its end first. partial: also batches of too few."""
        while self.trained and self.processors.room:
            self.processors.submit(self.trained.popleft().begin("finish"))
        while self.training < self.trainer_count and self.trainers.room and (batch := self._next_batch(partial)):
            self.training += 1
            jobs = [part.begin("train") for part in batch]
            named = {"name": batch[0].name, "input": f"a batch of {len(batch)} parts", "parts": jobs}
            self.trainers.submit(named | {"stage": "train", "processes": self.trainer_count})

    def _prepare(self, part: _Part) -> None:
        self.preparing.add(part.name)
        self.processors.submit(part.begin("prepare"))

    def _next_batch(self, partial: bool) -> list[_Part]:
        """The parts to train next; [] if it is better to wait for more of them, or for those that were trained."""
        if self.halves:
            return self.halves.popleft()
        if not self.ready or len(self.trained) > self.batch:
            return []
        kind = max(self.ready, key=lambda kind: len(self.ready[kind]))
        no_more = not self.preparing and self.processors.room
        nothing_comes = no_more or time.monotonic() - self.ready_since > PATIENCE_SECONDS
        if len(self.ready[kind]) < self.enough and not (partial and nothing_comes):
            return []
        parts, idle = self.ready.pop(kind), self.trainer_count - self.training
        size = min(self.batch, max(self.enough, -(-len(parts) // idle)))  # idle trainers divide what is ready
        if rest := parts[size:]:
            self.ready[kind] = rest
        return parts[:size]

    # ------------------------------------------------------------------------------------------------ stages that end

    def _take(self, part: _Part, stage: str, result: dict) -> None:
        """Send a part on after a stage, try the stage again, or end the part."""
        status = result["status"]
        if status == "trained":
            part.handed = result["handed"]
            # Removed here, not by the trainer: one that dies before its result has come is followed by another.
            with contextlib.suppress(OSError):
                StagedFiles(files_of(part.job)).labelled.unlink(missing_ok=True)
            self.trained.append(part)
        elif self.stopping and (status == "prepared" or result.get("again")):
            self._end(part, {"status": "stopped", "reason": "stopped on request"})
        elif status == "prepared":
            part.handed = result["handed"]
            self.ready.setdefault(part.handed["kind"], []).append(part)
            self.ready_since = time.monotonic()
        elif status == "failed" and result.get("again") and part.attempts[stage] < ATTEMPTS:
            self._try_again(part, stage)
        else:
            self._end(part, result | {"again": False})

    def _try_again(self, part: _Part, stage: str) -> None:
        """Begin a stage of a part once more; the others keep their place in the queue."""
        if stage == "train":
            self.halves.append([part])
        elif stage == "finish":
            self.trained.appendleft(part)
        else:
            self._prepare(part)

    def _take_batch(self, parts: list[_Part], input: str, result: dict) -> None:
        """Take the results of a batch, or train each half of it again if it failed as a whole.

        One part alone is trained again only if it has failed in no larger batch before. input: how the reason of a
        place calls the batch.
        """
        if "results" in result:
            for part in parts:
                self._take(part, "train", result["results"][part.name])
            return
        if len(parts) > 1 and result["status"] == "failed" and not self.stopping:
            half = len(parts) // 2
            self.halves += [parts[:half], parts[half:]]
            return
        for part in parts:
            reason = f"{part.job['input']}: {result['reason'].removeprefix(f'{input}: ')}"
            self._take(part, "train", result | {"reason": reason})

    def _end(self, part: _Part, result: dict) -> None:
        """Remove what the stages handed over, and unlock the part."""
        files = files_of(part.job)
        with contextlib.suppress(OSError, UserError), files.stage():  # not while a lost worker still writes
            StagedFiles(files).remove_if_incomplete()
        self.locks.release(part.job)
        del self.parts[part.name]
        self.ended.append((part.job, {"name": part.name, "input": part.job["input"]} | result))

    # ----------------------------------------------------------------------------------------------------- the end

    def stop(self) -> None:
        """Ask the running stages to stop. Parts that are trained are finished; those that wait to be trained stop."""
        if self.stopping:
            return
        self.stopping = True
        for place in self._places:
            place.stop()
        waiting = [part for batch in (*self.ready.values(), *self.halves) for part in batch]
        self.ready.clear()
        self.halves.clear()
        for part in waiting:
            self._end(part, {"status": "stopped", "reason": "stopped on request"})

    def kill(self) -> None:
        """End all workers at once."""
        for place in self._places:
            place.kill()

    def close(self) -> None:
        """End the workers, which have no part left."""
        for place in self._places:
            place.close()
