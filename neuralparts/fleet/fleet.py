"""The same job over many inputs: in this process, in worker processes on this machine, on a Ray cluster.

In: jobs, dicts of JSON values with `name` and `input`, and the name of a worker function, "module:function". Out: its
results, each handed to a callback as it ends. The worker function is called as function(job, should_stop) and returns a
dict with `status` and `reason`; it does not know where it runs:

    done, refused, failed    the part has ended; a failed one with `again` set is tried once more, with job["attempt"] 2
    stopped                  should_stop() said so; the part can go on from what it left
    busy                     another process has this part; it is asked about again, later

A result with `fatal` set is the last that its process gives. A worker that dies, hangs or takes too much memory costs
its own part alone. Nothing of the project is imported here.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing import connection
from pathlib import Path

from neuralparts.errors import with_place
from neuralparts.machine import resident_memory, usable_memory, usable_processors

# The folder that holds the package.
ROOT = Path(__file__).resolve().parents[2]
# Every pool of threads that the numerical libraries keep, by the variable that bounds it.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
# Seconds between looks at the clock, the signals and the workers' memory while nothing ends.
POLL = 0.2
# Seconds until a part that another run has is asked about again.
BUSY_SECONDS = 2.0
# Seconds that a worker whose driver is gone has to end in order; then it ends itself.
ORPHAN_SECONDS = 120.0
# Seconds between progress lines in a log file, and between rewritings on a terminal.
LOG_SECONDS, TERMINAL_SECONDS = 30.0, 0.1
# The kernel takes a worker rather than its driver when memory runs out.
OOM_SCORE = 500
ENDED = ("done", "refused", "failed")
TRIED_TWICE = " (tried twice, the second time in smaller chunks)"
# Times that Ray's raylet may die, and be started anew, before a part ends.
RAYLETS_LOST = 3


class FleetError(RuntimeError):
    """The place to run cannot be had at all; the message is one line for the user."""


# ------------------------------------------------------------------------------------------ the loop


def run(
    jobs: Iterable[dict],
    place,
    finished: Callable[[dict, dict], None],
    tick: Callable[[int, int], None] = lambda running, waiting: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Hand jobs to a place as it has room until all have ended, or until should_stop() and what runs has ended.

    finished(job, result): once for each job that ended (ENDED). tick(running, waiting): at least every POLL seconds;
    waiting are the parts that another run has. Only the jobs that run or wait are kept. Raises FleetError.
    """
    jobs, waiting, left = iter(jobs), deque(), True
    while True:
        stopping = should_stop()
        if stopping:
            place.stop()
        else:
            left = fill(place, jobs, waiting, left)
        if place.running == 0 and (stopping or not (left or waiting)):
            return
        for job, result in place.wait(POLL):
            if result["status"] in ENDED and not goes_again(job, result):
                finished(job, result)
            elif not should_stop():
                delay = BUSY_SECONDS if result["status"] == "busy" else 0.0
                waiting.append((time.monotonic() + delay, next_attempt(job, result)))
        tick(place.running, len(waiting))


def fill(place, jobs, waiting: deque, left: bool) -> bool:
    """Submit what is due until the place has no room; returns whether fresh jobs are left."""
    while place.room:
        if waiting and waiting[0][0] <= time.monotonic():
            place.submit(waiting.popleft()[1])
        elif left and (job := next(jobs, None)) is not None:
            place.submit(job)
        else:
            return False
    return left


def goes_again(job: dict, result: dict) -> bool:
    """Whether a failed part is tried once more, in smaller chunks."""
    return result["status"] == "failed" and bool(result.get("again")) and job.get("attempt", 1) == 1


def next_attempt(job: dict, result: dict) -> dict:
    """The job to submit again: as it was where another run has it, else its next attempt."""
    return job if result["status"] == "busy" else job | {"attempt": job.get("attempt", 1) + 1}


def call(function: Callable, job: dict, should_stop: Callable[[], bool]) -> dict:
    """The worker function's result; an exception that it let through, a fault of the program, is a failed part."""
    try:
        return function(job, should_stop)
    except MemoryError:
        return {"status": "failed", "reason": f"{job['input']}: out of memory", "again": True}
    except Exception as error:  # whatever it is, it is this part's alone
        return {"status": "failed", "reason": f"{job['input']}: {with_place(error)}"}


def resolve(name: str) -> Callable:
    """The function that "module:function" names."""
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)


# ------------------------------------------------------------------------------------------ this process


class Here:
    """One part after the other in this process; a part that takes the process down takes the run down."""

    def __init__(self, function: str, should_stop: Callable[[], bool] = lambda: False):
        self.function, self.should_stop, self.jobs, self.lost = resolve(function), should_stop, [], False

    @property
    def running(self) -> int:
        return len(self.jobs)

    @property
    def room(self) -> bool:
        return not self.jobs

    def submit(self, job: dict) -> None:
        if self.lost:
            raise FleetError("this process can fit no more after an error of the GPU; the same command goes on")
        self.jobs.append(job)

    def wait(self, seconds: float) -> list[tuple[dict, dict]]:
        if not self.jobs:
            time.sleep(seconds)
            return []
        job = self.jobs.pop()
        result = call(self.function, job, self.should_stop)
        self.lost = bool(result.get("fatal"))
        return [(job, result)]

    def stop(self) -> None:
        """Nothing to tell: the part that runs asks should_stop itself."""

    def kill(self) -> None:
        """Nothing to kill."""

    close = kill


# ------------------------------------------------------------------------------------------ worker processes


class Processes:
    """`count` worker processes, each kept for many parts and replaced when it dies.

    The processors are dealt out, and the GPUs where there are any (`gpus`: names for CUDA_VISIBLE_DEVICES, one a
    worker). part_timeout: seconds that a part may take, 0 for any. memory: bytes that a worker may occupy, 0 for any.
    """

    def __init__(self, function: str, count: int, gpus=(), part_timeout: float = 0.0, memory: int = 0):
        self.function, self.part_timeout, self.memory = function, part_timeout, memory
        self.settings = [worker_settings(k, count, gpus) for k in range(count)]
        self.workers: list[Worker | None] = [None] * count
        self.stopping = False

    @property
    def busy(self) -> list["Worker"]:
        return [worker for worker in self.workers if worker is not None and worker.job is not None]

    @property
    def running(self) -> int:
        return len(self.busy)

    @property
    def room(self) -> bool:
        return self.running < len(self.workers)

    def submit(self, job: dict) -> None:
        """Give a job to a worker that is free, started where there is none. Raises FleetError."""
        free = [k for k, worker in enumerate(self.workers) if worker is None or worker.job is None]
        slot = next((k for k in free if self.workers[k] is not None), free[0])
        if self.workers[slot] is None:
            self.workers[slot] = Worker(self.function, *self.settings[slot])
        self.workers[slot].give(job)

    def wait(self, seconds: float) -> list[tuple[dict, dict]]:
        """What ended within so many seconds: (job, result) pairs."""
        busy = self.busy
        if not busy:
            time.sleep(seconds)
            return []
        ready = set(connection.wait([worker.pipe for worker in busy], seconds))
        ended = [self._look(worker, worker.pipe in ready) for worker in busy]
        return [pair for pair in ended if pair is not None]

    def _look(self, worker: "Worker", ready: bool) -> tuple[dict, dict] | None:
        """The job and the result of a worker that has ended its part or is ended now, else None."""
        if not ready:
            reason, again = self._excess(worker)
            return self._replace(worker, reason, again) if reason else None
        message = worker.read()
        if message is None:
            return self._replace(worker, *worker.cause_of_death())
        if "ready" in message:
            worker.ready, worker.since = True, time.monotonic()
            return None
        job, worker.job = worker.job, None
        told = message["status"] == "stopped" and not self.stopping  # someone stopped the worker itself
        if told or message.get("fatal"):
            worker.close()
            self.workers[self.workers.index(worker)] = None
        if told:
            message = {"status": "failed", "reason": f"{job['input']}: its worker was told to stop", "again": True}
        return job, message

    def _excess(self, worker: "Worker") -> tuple[str, bool]:
        """(why a worker must be ended now or '', whether smaller chunks could help)."""
        if self.part_timeout and time.monotonic() - worker.since > self.part_timeout:
            return f"no end after the {self.part_timeout:g} s of --partTimeout", False
        if self.memory and resident_memory(worker.process.pid) > self.memory:
            return f"its worker needed more than the {self.memory / 2**20:,.0f} MiB of --workerMemory", True
        return "", False

    def _replace(self, worker: "Worker", reason: str, again: bool) -> tuple[dict, dict]:
        """End a worker; its part has failed."""
        job = worker.job
        worker.kill()
        self.workers[self.workers.index(worker)] = None
        if self.stopping:
            return job, {"status": "stopped", "reason": reason}
        if job.get("attempt", 1) > 1:
            reason += TRIED_TWICE
        return job, {"status": "failed", "reason": f"{job['input']}: {reason}", "again": again}

    def stop(self) -> None:
        """Ask all workers to stop their parts in order; they end as `stopped`, or done if they are nearly so."""
        if not self.stopping:
            self.stopping = True
            for worker in self.busy:
                worker.send({"stop": True})

    def kill(self) -> None:
        """End all workers at once."""
        for worker in self.workers:
            if worker is not None:
                worker.kill()

    def close(self) -> None:
        """End all workers, which have no part left."""
        for worker in self.workers:
            if worker is not None:
                worker.close()


def worker_settings(index: int, count: int, gpus) -> tuple[dict, list[int]]:
    """(environment, processors) of a worker: its share of the processors, as many threads, one GPU."""
    processors = usable_processors()
    own = processors[index::count] or [processors[index % len(processors)]]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(len(own)))
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
    return environment, own


class Worker:
    """A process that runs the worker function, one part after the other, and the driver's end of its pipe."""

    def __init__(self, function: str, environment: dict, processors: list[int]):
        self.pipe, theirs = connection.Pipe()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        program = f"import sys; sys.path[:] = {sys.path!r}; from neuralparts.fleet import work; work(*sys.argv[1:])"
        command = [sys.executable, "-c", program, function, str(theirs.fileno())]
        try:
            # A session of its own: Ctrl-C in the terminal is for the driver, which then tells its workers.
            self.process = subprocess.Popen(
                command + [str(number) for number in processors],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise FleetError(f"cannot start a worker process: {error.strerror}") from error
        finally:
            theirs.close()
        self.job, self.since, self.ready = None, 0.0, False

    def give(self, job: dict) -> None:
        """Hand over a job."""
        self.job, self.since = job, time.monotonic()
        if self.log.tell() > 2**20:
            self.log.truncate(0)
        self.send({"job": job})

    def send(self, message: dict) -> None:
        """Send a message; a worker that is dead is found out by the next reading."""
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(json.dumps(message).encode())

    def read(self) -> dict | None:
        """The next message, or None from a dead worker."""
        try:
            return json.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            return None

    def cause_of_death(self) -> tuple[str, bool]:
        """(why this process ended by itself, whether smaller chunks could help). FleetError if it never began."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        code, last = self.process.returncode, self.last_words()
        if code is None or code >= 0:
            if not self.ready:
                raise FleetError(f"a worker process cannot start: {last or f'exit code {code}'}")
            return f"its worker ended with exit code {code}{last and f': {last}'}", True
        if code == -signal.SIGKILL:
            return "its worker was killed (SIGKILL): memory may have run out", True
        return f"its worker crashed ({signal.Signals(-code).name}){last and f': {last}'}", True

    def last_words(self) -> str:
        """The last line that the process wrote, of those that say something."""
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - 4096))
        lines = self.log.read().decode(errors="replace").splitlines()
        fatal = [line for line in lines if line.startswith(("Fatal Python error", "terminate called"))]
        return (fatal or [line.strip() for line in lines if line.strip()] or [""])[-1][:200]

    def kill(self) -> None:
        """End the process and what it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pipe.close()
        self.log.close()

    def close(self) -> None:
        """End the process in order; it has no part any more."""
        self.pipe.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        self.log.close()


def work(function: str, descriptor: str, *processors: str) -> None:
    """The main program of a worker process: jobs from the pipe, results back, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    faulthandler.enable()
    settle([int(number) for number in processors])
    pipe, jobs = connection.Connection(int(descriptor)), queue.SimpleQueue()
    function = resolve(function)
    pipe.send_bytes(b'{"ready": true}')
    threading.Thread(target=listen, args=(pipe, jobs, stop), daemon=True).start()
    while (job := jobs.get()) is not None:
        result = json.dumps(call(function, job, stop.is_set)).encode()
        with contextlib.suppress(OSError):  # the driver is gone: what is on the disk is what counts
            pipe.send_bytes(result)
    os._exit(0)


def settle(processors: list[int]) -> None:
    """Keep to these processors, which bounds thread pools that no variable does, and be the first to go for memory."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)
    with contextlib.suppress(OSError):  # there is no such file outside Linux
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def listen(pipe, jobs: queue.SimpleQueue, stop: threading.Event) -> None:
    """Take messages from the driver; when it is gone, stop in order, or end the process where that does not help."""
    try:
        while True:
            message = json.loads(pipe.recv_bytes())
            if "job" in message:
                jobs.put(message["job"])
            else:
                stop.set()
    except (EOFError, OSError):
        stop.set()
        jobs.put(None)
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)


# ------------------------------------------------------------------------------------------ a Ray cluster


class Ray:
    """A Ray cluster: `address` of a running one, or "local" for one on this machine that ends with this process.

    count: parts at a time, None for as many as the cluster has processors (GPUs, where it has any and gpu is set).
    memory: bytes that Ray sets aside for a part on its node, 0 for none. carrier: its send(job) makes of a job what
    travels, or a result where there is nothing to do; its receive(job, result) makes a result of what came back. Raises
    FleetError.
    """

    def __init__(self, address, function, count, gpu, part_timeout, memory, carrier):
        self.address, self.function, self.part_timeout, self.carrier = address, function, part_timeout, carrier
        self.asked, self.gpu, self.memory = count, gpu, memory
        self.tasks, self.ended, self.stopping, self.losses, self.submitted = {}, [], False, 0, 0
        self._connect()

    def _connect(self) -> None:
        self.ray, self.connected = start_ray(self.address), True
        resources = self.ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if self.gpu else 0
        self.count = self.asked or max(1, gpus or int(resources.get("CPU", 1)))
        needs = {"num_cpus": 1, "num_gpus": 1 if gpus else 0, "max_retries": 0}
        needs |= {"memory": self.memory} if self.memory else {}
        if gpus:  # what is not the network's stays on processors: a share of the poorest node's for each part
            nodes = [
                node["Resources"] for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0)
            ]
            threads = max(1, min(int(node.get("CPU", 1) // node["GPU"]) for node in nodes))
            variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
            needs |= {"num_cpus": threads, "runtime_env": {"env_vars": variables}}
        most = max((node["Resources"].get("memory", 0) for node in self.ray.nodes() if node["Alive"]), default=0)
        if self.memory > most:
            self.ray.shutdown()
            raise FleetError(f"no node of the cluster has the {self.memory / 2**20:,.0f} MiB of --workerMemory")
        self.task = self.ray.remote(**needs)(work_on_ray)
        self.switch = self.ray.remote(num_cpus=0)(Switch).remote()

    def _connect_again(self) -> None:
        """After this machine's raylet died, with what ran: the parts go on from what they left. Raises FleetError."""
        self.losses += 1
        if self.losses > RAYLETS_LOST:
            raise FleetError(f"Ray's raylet on this machine died {self.losses} times and no part ended in between")
        self.ray.shutdown()
        self._connect()

    @property
    def running(self) -> int:
        return len(self.tasks) + len(self.ended)

    @property
    def room(self) -> bool:
        return self.running < self.count

    def submit(self, job: dict) -> None:
        package = self.carrier.send(job)
        if not self.connected:
            self._connect_again()
        if "status" in package:
            self.ended.append((job, package))
        else:
            self.submitted += 1
            task = self.task.remote(self.function, package, self.switch, self.part_timeout, self.submitted)
            self.tasks[task] = job, self.submitted

    def wait(self, seconds: float) -> list[tuple[dict, dict]]:
        ended, self.ended = self.ended, []
        if ended or not self.tasks:
            time.sleep(0 if ended else seconds)
            return ended
        ready, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=seconds)
        return [self._result(task) for task in ready]

    def _result(self, task) -> tuple[dict, dict]:
        job, number = self.tasks.pop(task)
        try:
            result, self.losses = self.ray.get(task), 0
        except self.ray.exceptions.RayError as error:
            result = self._failure(job, error, number)
        return job, self.carrier.receive(job, result)

    def _failure(self, job: dict, error: Exception, number: int) -> dict:
        """The result of a part whose task did not end by itself."""
        if self.stopping:
            return {"status": "stopped", "reason": ray_reason(error)}
        if type(error).__name__ == "LocalRayletDiedError":  # not this part's fault: it is begun again
            self.connected = False
            return {"status": "busy", "reason": ray_reason(error)}
        hung = bool(self.part_timeout) and self._seconds_of(number) > self.part_timeout
        reason = f"no end after the {self.part_timeout:g} s of --partTimeout" if hung else ray_reason(error)
        if job.get("attempt", 1) > 1:
            reason += TRIED_TWICE
        return {"status": "failed", "reason": f"{job['input']}: {reason}", "again": not hung}

    def _seconds_of(self, number: int) -> float:
        """Seconds since a task was begun, its wait for a processor not counted; 0 where that is not known."""
        try:
            return self.ray.get(self.switch.seconds_of.remote(number), timeout=10)
        except self.ray.exceptions.RayError:
            return 0.0

    def stop(self) -> None:
        if not self.stopping:
            self.stopping = True
            self.switch.set.remote()

    def kill(self) -> None:
        """Leave the cluster at once; Ray ends the tasks of a driver that is gone."""

    def close(self) -> None:
        self.ray.shutdown()


class Switch:
    """On the cluster: whether to stop, and since when each task runs that has not ended by itself."""

    def __init__(self):
        self.on, self.begun = False, {}

    def begin(self, number):
        self.begun[number] = time.monotonic()

    def end(self, number):
        self.begun.pop(number, None)

    def seconds_of(self, number):
        return time.monotonic() - self.begun.pop(number, time.monotonic())

    def set(self):
        self.on = True

    def get(self):
        return self.on


def start_ray(address: str):
    """The module ray, connected. Raises FleetError where it is not installed or there is no cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError as error:
        raise FleetError("--ray needs Ray: .venv/bin/pip install -r requirements-cluster.txt") from error
    environment = {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1") | {"OMP_WAIT_POLICY": "PASSIVE"}}
    if address == "local":
        environment["env_vars"]["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        more = {"num_cpus": len(usable_processors()), "object_store_memory": 256 * 2**20}
    else:
        environment["working_dir"], more = str(ROOT), {}
        environment["excludes"] = ["*", "!*.py", "!*.html", "!*.css", "!*.js"]
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR", "runtime_env": environment}
    try:
        ray.init(address=address, **options, **more)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise FleetError(f"--ray {address}: {str(error).strip().splitlines()[0]}") from error
    return ray


def work_on_ray(function: str, job: dict, switch, part_timeout: float, number: int) -> dict:
    """One part, in a process of the cluster; `number` is the task's."""
    import ray

    switch.begin.remote(number)
    asked = {"at": time.monotonic(), "stop": False}

    def should_stop() -> bool:
        if time.monotonic() - asked["at"] > 1:
            asked.update(at=time.monotonic(), stop=ray.get(switch.get.remote()))
        return asked["stop"]

    if part_timeout:  # a thread that needs no interpreter ends a process that hangs
        faulthandler.dump_traceback_later(part_timeout, exit=True)
    try:
        return call(resolve(function), job, should_stop)
    finally:
        faulthandler.cancel_dump_traceback_later()
        switch.end.remote(number)


def ray_reason(error: Exception) -> str:
    """Why a task of Ray ended, as one line."""
    name = type(error).__name__
    known = {"OutOfMemoryError": "its node ran out of memory", "WorkerCrashedError": "its worker crashed or was killed"}
    return known.get(name) or f"Ray says {name}: {' '.join(str(error).split())[:160]}"


def default_workers(parts: int, memory_a_worker: int, gpus: list[str]) -> int:
    """One a GPU, else one a processor, which measures fastest; as many as memory holds and parts need."""
    count = len(gpus) or len(usable_processors())
    if free := usable_memory():
        count = min(count, free // memory_a_worker)
    return max(1, min(count, parts))


# ------------------------------------------------------------------------------------------ the person


class Stop:
    """Ctrl-C and SIGTERM as a question that loops ask; the second of them ends the process at once.

    at_once: called before that, to end what would stay. words: what is said at the first.
    """

    def __init__(self, words: str, at_once: Callable[[], None] = lambda: None):
        self.words, self.at_once, self.signal, self.before = words, at_once, 0, {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._heard) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return bool(self.signal)

    @property
    def exit_code(self) -> int:
        """As a shell reports a process that the signal ended."""
        return 128 + self.signal

    def _heard(self, number: int, frame) -> None:
        if self.signal:
            self.at_once()
            os._exit(128 + number)
        self.signal = number
        os.write(2, f"\n{self.words}\n".encode())  # print may be what was interrupted


class Seldom:
    """Says when something is due again: when it takes `share` of the time at most and `least` seconds have passed."""

    def __init__(self, share: float, least: float):
        self.share, self.least, self.at = share, least, 0.0

    def due(self) -> bool:
        return time.monotonic() >= self.at

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *_) -> None:
        now = time.monotonic()
        self.at = now + max(self.least, (now - self.start) / self.share)


class Progress:
    """One line for the whole run: rewritten in place on a terminal, one now and then in a log file."""

    def __init__(self, total: int, stream=None):
        self.total, self.stream = total, stream or sys.stderr
        self.counts = {"done": 0, "skipped": 0, "refused": 0, "failed": 0}
        self.terminal = self.stream.isatty()
        self.start = time.monotonic()
        self.seldom = Seldom(1.0, TERMINAL_SECONDS if self.terminal else LOG_SECONDS)
        self.shown = ""

    def count(self, status: str, skipped: bool) -> None:
        """Count a part that has ended; `skipped`: an earlier run had done it."""
        self.counts["skipped" if skipped else status] += 1

    @property
    def left(self) -> int:
        return self.total - sum(self.counts.values())

    def line(self, running: int, waiting: int) -> str:
        """Done, failed, left, and the time to go, from the pace of the parts that this run fitted."""
        counts = self.counts
        words = [f"{counts['done'] + counts['skipped']:,} of {self.total:,} done"]
        if counts["skipped"]:
            words[0] += f" ({counts['skipped']:,} before)"
        words += [f"{counts[name]:,} {name}" for name in ("refused", "failed") if counts[name]]
        words += [f"{self.left:,} left", f"{running} running"]
        if waiting:
            words.append(f"{waiting} with another run")
        fitted = sum(counts.values()) - counts["skipped"]
        if fitted and self.left:
            words.append(f"{duration((time.monotonic() - self.start) / fitted * self.left)} to go")
        return ", ".join(words)

    def show(self, running: int, waiting: int, force: bool = False) -> None:
        """Show the line where it is due and new."""
        if not (force or self.seldom.due()):
            return
        with self.seldom:
            line = self.line(running, waiting)
            if self.terminal:
                width = shutil.get_terminal_size().columns - 1
                self.stream.write(f"\r\033[K{line[:width]}")
            elif line != self.shown:
                self.stream.write(f"{time.strftime('%H:%M:%S')} {line}\n")
            self.stream.flush()
            self.shown = line

    def say(self, line: str) -> None:
        """A whole line above the progress line."""
        self.stream.write(f"\r\033[K{line}\n" if self.terminal else f"{line}\n")
        self.stream.flush()
        self.seldom.at = min(self.seldom.at, time.monotonic()) if self.terminal else self.seldom.at

    def close(self) -> None:
        """Leave the terminal's line as it is and go on below it."""
        if self.terminal and self.shown:
            self.stream.write("\n")
            self.stream.flush()


def duration(seconds: float) -> str:
    """h:mm:ss, or days in front."""
    days, rest = divmod(round(seconds), 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days} d {clock}" if days else clock
