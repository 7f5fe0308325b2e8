"""Worker processes on this machine, seen from the driver. Their program is `worker.py`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import connection

from neuralparts.fleet.loop import FleetError
from neuralparts.fleet.worker import THREAD_VARIABLES
from neuralparts.machine import resident_memory, usable_memory, usable_processors

# The command of a worker: it imports modules from where the driver does, whatever the current folder is. The first
# argument is the driver's module path (JSON), the others are those of `work`.
PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from neuralparts.fleet import work
work(*sys.argv[2:])
"""
# Bytes of a worker's output that are kept before it is emptied.
LARGEST_OUTPUT = 2**20
# Seconds that a worker has to start, imports included; some seconds are usual, a minute on a busy network file system.
STARTING_SECONDS = 600.0
# Seconds that a worker has to end after its pipe was closed.
CLOSING_SECONDS = 5.0


def default_workers(parts: int, memory_per_worker: int) -> int:
    """The number of workers: one per CPU, limited by the free memory and by the number of parts.

    memory_per_worker: bytes set aside for each.
    """
    count = len(usable_processors())
    if free := usable_memory():
        count = min(count, free // memory_per_worker)
    return max(1, min(count, parts))


class Processes:
    """A place to run (`loop.Place`): `count` worker processes, each kept for many parts and replaced when it dies.

    function: the worker function, "module:function". gpus: names for CUDA_VISIBLE_DEVICES, one per worker, or none.
    part_timeout: seconds after which a part counts as hung, 0 for no limit. memory: bytes of resident memory above
    which a worker is killed, 0 for no limit. The CPUs are divided among the workers.
    """

    def __init__(self, function: str, count: int, gpus: Sequence[str] = (), part_timeout: float = 0.0, memory: int = 0):
        self.function, self.part_timeout, self.memory = function, part_timeout, memory
        self.settings = [_worker_settings(k, count, gpus) for k in range(count)]
        self.workers: list[_Worker | None] = [None] * count
        self.stopping = self.has_started = False

    @property
    def _busy(self) -> list["_Worker"]:
        return [worker for worker in self.workers if worker is not None and worker.job is not None]

    @property
    def running(self) -> int:
        return len(self._busy)

    @property
    def room(self) -> bool:
        return self.running < len(self.workers)

    def submit(self, job: dict) -> None:
        """Give a job to a free worker; start one if there is none. Raises FleetError."""
        free = [k for k, worker in enumerate(self.workers) if worker is None or worker.job is None]
        slot = next((k for k in free if self.workers[k] is not None), free[0])
        if self.workers[slot] is None:
            self.workers[slot] = _Worker(self.function, *self.settings[slot])
        self.workers[slot].give(job)

    def wait(self, seconds: float) -> list[tuple[dict, dict]]:
        """The (job, result) pairs that ended within so many seconds. Raises FleetError if a worker cannot start."""
        busy = self._busy
        if not busy:
            time.sleep(seconds)
            return []
        ready = set(connection.wait([worker.pipe for worker in busy], seconds))
        ended = [self._look(worker, worker.pipe in ready) for worker in busy]
        return [pair for pair in ended if pair is not None]

    def _look(self, worker: "_Worker", has_message: bool) -> tuple[dict, dict] | None:
        """The job and result of a worker whose part has ended, or whom this method ends; else None.

        has_message: the worker has sent a message, or has died.
        """
        if not has_message:
            reason, again = self._excess(worker)
            # A result that arrived since is taken by the next look: a part that is done does not fail.
            return self._replace(worker, reason, again) if reason and not worker.pipe.poll() else None
        message = worker.read()
        if message is None:
            reason, again = worker.cause_of_death()
            exited = (worker.process.returncode or 0) >= 0  # not killed by a signal
            if exited and not worker.ready and not self.has_started:
                raise FleetError(f"a worker process cannot start: {reason}")
            return self._replace(worker, reason, again)
        if "ready" in message:
            worker.ready = self.has_started = True
            worker.start_clock()
            return None
        job, worker.job = worker.job, None
        # A part that stopped although the driver did not ask for it: someone sent SIGTERM to the worker itself.
        terminated = message["status"] == "stopped" and not self.stopping
        if terminated or message.get("fatal"):
            worker.close()
            self._forget(worker)
        if terminated:
            message = {"status": "failed", "reason": f"{job['input']}: its worker received SIGTERM", "again": True}
        return job, message

    def _excess(self, worker: "_Worker") -> tuple[str, bool]:
        """(why a worker must be killed now, or ''; whether another attempt may succeed)."""
        seconds = time.monotonic() - worker.since
        if not worker.ready and seconds > STARTING_SECONDS:
            return f"its worker did not start within {STARTING_SECONDS:g} s", True
        if self.part_timeout and worker.ready and seconds > self.part_timeout:
            return f"timed out after {self.part_timeout:g} s (--partTimeout)", False
        if self.memory and resident_memory(worker.process.pid) > self.memory:
            return f"its worker exceeded the {self.memory / 2**20:,.0f} MiB of --workerMemory", True
        return "", False

    def _replace(self, worker: "_Worker", reason: str, again: bool) -> tuple[dict, dict]:
        """Kill a worker, if it lives; its part has failed, or has stopped if all parts are to stop."""
        job = worker.job
        worker.kill()
        self._forget(worker)
        if self.stopping:
            return job, {"status": "stopped", "reason": reason}
        return job, {"status": "failed", "reason": f"{job['input']}: {reason}", "again": again}

    def _forget(self, worker: "_Worker") -> None:
        """Free the slot of a worker that has ended; `submit` starts another."""
        self.workers[self.workers.index(worker)] = None

    def stop(self) -> None:
        """Ask all workers to stop their parts."""
        if not self.stopping:
            self.stopping = True
            for worker in self._busy:
                worker.send({"stop": True})

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.workers:
            if worker is not None:
                worker.kill()

    def close(self) -> None:
        """End all workers, which have no part left."""
        workers = [worker for worker in self.workers if worker is not None]
        for worker in workers:
            worker.pipe.close()  # first all of them, so that they end at the same time
        for worker in workers:
            worker.close()


def _worker_settings(index: int, count: int, gpus: Sequence[str]) -> tuple[dict[str, str], list[int]]:
    """(environment, CPUs) of a worker: every count-th CPU, as many threads, one GPU."""
    processors = usable_processors()
    own = processors[index::count] or [processors[index % len(processors)]]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(len(own)))
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
    return environment, own


class _Worker:
    """A worker process and the driver's end of its pipe.

    job: the job that it runs, or None. ready: it has imported the worker function. since: when the job began on the
    monotonic clock, or when the worker became ready, if that was later (`start_clock`). output: a file of all that it
    prints, for the reason if it crashes.
    """

    def __init__(self, function: str, environment: dict[str, str], processors: list[int]):
        self.pipe, theirs = connection.Pipe()
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self.job, self.since, self.ready = None, 0.0, False
        module_path = json.dumps([os.path.abspath(folder) for folder in sys.path])
        # -P: no module of the current folder takes the place of one of the standard library.
        command = [sys.executable, "-P", "-c", PROGRAM, module_path, function, str(theirs.fileno())]
        try:
            self.process = subprocess.Popen(
                command + [str(number) for number in processors],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.output,
                env=environment,
                start_new_session=True,  # so that Ctrl-C in the terminal reaches the driver alone
            )
        except OSError as error:
            raise FleetError(f"cannot start a worker process: {error.strerror}") from error
        finally:
            theirs.close()

    def give(self, job: dict) -> None:
        """Begin a job."""
        self.job = job
        self.start_clock()
        if self.output.tell() > LARGEST_OUTPUT:
            self.output.seek(0)
            self.output.truncate()
        self.send({"job": job})

    def start_clock(self) -> None:
        """Count the seconds of the job from now on, added to those that earlier stages of its part `spent`."""
        self.since = time.monotonic() - self.job.get("spent", 0.0)

    def send(self, message: dict) -> None:
        """Send a message. If the worker is dead, the next `read` finds out."""
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(json.dumps(message).encode())

    def read(self) -> dict | None:
        """The next message, or None from a dead worker."""
        try:
            return json.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            return None

    def cause_of_death(self) -> tuple[str, bool]:
        """(why this process ended by itself; True, as another attempt may succeed)."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(CLOSING_SECONDS)
        code, last = self.process.returncode, self._last_line()
        if code is None or code >= 0:
            return f"its worker ended with exit code {code}{last and f': {last}'}", True
        if code == -signal.SIGKILL:
            return "its worker was killed (SIGKILL): memory may have run out", True
        return f"its worker crashed ({signal.Signals(-code).name}){last and f': {last}'}", True

    def _last_line(self) -> str:
        """The last line that the process printed, or the line that names a fatal error; at most 200 characters."""
        self.output.seek(max(0, self.output.seek(0, os.SEEK_END) - 4096))
        lines = self.output.read().decode(errors="replace").splitlines()
        fatal = [line for line in lines if line.startswith(("Fatal Python error", "terminate called"))]
        return (fatal or [line.strip() for line in lines if line.strip()] or [""])[-1][:200]

    def kill(self) -> None:
        """End the process, and those that it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pipe.close()
        self.output.close()

    def close(self) -> None:
        """End the process, which has no part any more."""
        self.pipe.close()
        try:
            self.process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.output.close()
