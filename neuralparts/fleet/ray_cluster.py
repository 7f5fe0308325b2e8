"""Parts as tasks of a Ray cluster: the driver's side, and what runs on the cluster.

Ray (https://ray.io) is optional: requirements-cluster.txt. Nothing else imports it.
"""

import faulthandler
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from neuralparts.fleet.carriers import Carrier
from neuralparts.fleet.loop import FleetError, call, resolve
from neuralparts.fleet.worker import THREAD_VARIABLES
from neuralparts.machine import usable_processors

# The folder of this package.
PACKAGE = Path(__file__).resolve().parents[1]
# Times in a row that Ray's raylet on this machine may die, and be started again, without a part ending in between.
MOST_RAYLETS_LOST = 3
# Bytes of shared memory for objects with --ray local; jobs and results are small.
LOCAL_OBJECT_STORE = 256 * 2**20
# Seconds to wait for the monitor's answer.
MONITOR_SECONDS = 10
# Seconds between two questions of a task whether to stop.
STOP_POLL_SECONDS = 1.0


class Ray:
    """A place on a Ray cluster. `connect` must be called before a job is submitted.

    address: of a running cluster, or "local" for one on this machine that ends with this process. function: the worker
    function, "module:function". count: parts at a time, None for as many as the cluster has CPUs, or GPUs if it has any
    and `gpu` is True; `begin_stages` changes both. part_timeout: seconds after which a part counts as hung, 0 for no
    limit. memory: bytes that Ray reserves for a part on its node, 0 for none. carrier: brings jobs to the cluster and
    results back.
    """

    def __init__(
        self,
        address: str,
        function: str,
        count: int | None,
        gpu: bool,
        part_timeout: float,
        memory: int,
        carrier: Carrier,
    ):
        self.address, self.function, self.part_timeout, self.carrier = address, function, part_timeout, carrier
        self.asked, self.gpu, self.memory = count, gpu, memory
        # By task: the job, and the number under which the monitor knows the task.
        self.tasks: dict[Any, tuple[dict, int]] = {}
        self.ended: list[tuple[dict, dict]] = []  # jobs that needed no task
        self.connected, self.stopping, self.raylets_lost, self.submitted, self.count = False, False, 0, 0, 0
        self.gpus, self.in_stages = 0, False

    def connect(self) -> None:
        """Connect to the cluster, or start one. Raises FleetError."""
        self.ray, self.connected = start_ray(self.address), True
        resources = self.ray.cluster_resources()
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        self.gpus = int(resources.get("GPU", 0)) if self.gpu else 0
        self.cpus = max(1, int(resources.get("CPU", 1)))
        self.count = self._count()
        if self.memory > max((node.get("memory", 0) for node in nodes), default=0):
            self.ray.shutdown()
            raise FleetError(f"no node of the cluster has the {self.memory / 2**20:,.0f} MiB of --workerMemory")
        self.monitor = self.ray.remote(num_cpus=0)(TaskMonitor).remote()
        self._make_tasks(nodes)

    def _make_tasks(self, nodes: list[dict]) -> None:
        """Make the two kinds of tasks: of a part or one of its stages, and of a batch. nodes: their resources."""
        options = _task_options(nodes, bool(self.gpus) and not self.in_stages, self.memory)
        self.task = self.ray.remote(**options)(work_on_ray)
        # Its process is kept for further batches, so that imports are paid once.
        self.trainer = self.ray.remote(**options | {"num_gpus": int(bool(self.gpus)), "max_calls": 0})(work_on_ray)

    @property
    def trainer_count(self) -> int:
        """Batches that are trained at a time, if the jobs are stages: one a GPU, else one a part at a time."""
        return self.gpus or self.asked or self.cpus

    def _count(self) -> int:
        """Jobs at a time."""
        if not self.in_stages:
            return self.asked or self.gpus or self.cpus
        return (self.asked or max(1, self.cpus - self.gpus)) + self.gpus

    def begin_stages(self, function: str) -> None:
        """From now on, the jobs are stages of parts, and only the stage `train` gets a GPU. function: runs them."""
        self.function, self.in_stages = function, True
        self.count = self._count()
        self._make_tasks([])

    def _connect_again(self) -> None:
        """Start again after this machine's raylet died, and the tasks with it. Raises FleetError."""
        self._end_tasks()
        self.raylets_lost += 1
        if self.raylets_lost > MOST_RAYLETS_LOST:
            raise FleetError(f"Ray's raylet on this machine died {self.raylets_lost} times and no part ended")
        self.ray.shutdown()
        self.connect()

    def _end_tasks(self) -> None:
        """Take the results that have arrived, and submit the other jobs again: their tasks die with the session."""
        if not self.tasks:
            return
        arrived, lost = self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)
        self.ended += [self._result(task) for task in arrived]
        for job, _ in [self.tasks.pop(task) for task in lost]:
            self.ended.append((job, self.carrier.receive(job, {"status": "busy", "reason": "Ray's raylet died"})))

    @property
    def running(self) -> int:
        return len(self.tasks) + len(self.ended)

    @property
    def room(self) -> bool:
        return self.running < self.count

    def submit(self, job: dict) -> None:
        """Begin a job as a task of the cluster. Raises FleetError."""
        package = self.carrier.send(job)
        if not self.connected:
            self._connect_again()
        if "status" in package:  # already a result
            self.ended.append((job, package))
        else:
            self.submitted += 1
            kind = self.trainer if job.get("stage") == "train" else self.task
            task = kind.remote(self.function, package, self.monitor, self._seconds_left(job), self.submitted)
            self.tasks[task] = job, self.submitted

    def wait(self, seconds: float) -> list[tuple[dict, dict]]:
        """The (job, result) pairs that ended within so many seconds."""
        ended, self.ended = self.ended, []
        if ended or not self.tasks:
            time.sleep(0 if ended else seconds)
            return ended
        ready, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=seconds)
        return [self._result(task) for task in ready]

    def _result(self, task: Any) -> tuple[dict, dict]:
        """The (job, result) pair of a task that has ended."""
        job, number = self.tasks.pop(task)
        try:
            result, self.raylets_lost = self.ray.get(task), 0
        except self.ray.exceptions.RayError as error:
            result = self._failure(job, error, number)
        return job, self.carrier.receive(job, result)

    def _failure(self, job: dict, error: Exception, number: int) -> dict:
        """The result of a job whose task returned none."""
        if self.stopping:
            return {"status": "stopped", "reason": _ray_reason(error)}
        if type(error).__name__ == "LocalRayletDiedError":  # not this part's fault: it is submitted again
            self.connected = False
            return {"status": "busy", "reason": _ray_reason(error)}
        hung = bool(self.part_timeout) and self._seconds_of(number) > self._seconds_left(job)
        reason = f"timed out after {self.part_timeout:g} s (--partTimeout)" if hung else _ray_reason(error)
        return {"status": "failed", "reason": f"{job['input']}: {reason}", "again": not hung}

    def _seconds_left(self, job: dict) -> float:
        """Seconds after which a job counts as hung, without those that earlier stages of its part spent; 0: never."""
        return max(0.001, self.part_timeout - job.get("spent", 0.0)) if self.part_timeout else 0.0

    def _seconds_of(self, number: int) -> float:
        """Seconds since a task began, without its wait for a CPU; 0 if unknown."""
        try:
            return self.ray.get(self.monitor.seconds_of.remote(number), timeout=MONITOR_SECONDS)
        except self.ray.exceptions.RayError:
            return 0.0

    def stop(self) -> None:
        """Ask all tasks to stop their parts."""
        if not self.stopping:
            self.stopping = True
            if self.connected:
                self.monitor.stop.remote()

    def kill(self) -> None:
        """Nothing to do: Ray ends the tasks of a driver that is gone."""

    def close(self) -> None:
        """Leave the cluster."""
        if self.connected:
            self.ray.shutdown()


def start_ray(address: str) -> ModuleType:
    """Connect to a cluster, or start one; returns the module ray. Raises FleetError if either is missing."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no statistics are sent anywhere
    if address == "local":
        # Ray on Linux then does as on Windows and macOS: its processes listen on the loopback address alone.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise FleetError(
            "--ray needs Ray: pip install -r requirements-cluster.txt, or the extra neuralparts[cluster]"
        ) from error
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    variables = dict.fromkeys(THREAD_VARIABLES, "1") | {"OMP_WAIT_POLICY": "PASSIVE"}
    if address == "local":
        # The processes are on this machine and import the package from where it lies.
        variables["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
        options |= {"num_cpus": len(usable_processors()), "object_store_memory": LOCAL_OBJECT_STORE}
        options["runtime_env"] = {"env_vars": variables}
    else:
        options["runtime_env"] = {"env_vars": variables} | package_for_workers()
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise FleetError(f"--ray {address}: {str(error).strip().splitlines()[0]}") from error
    return ray


def package_for_workers() -> dict[str, Any]:
    """The keys of Ray's runtime_env that bring this package to the nodes: whole, with its templates, and nothing else.

    Numba's cache of machine code is left out: it is made for this machine's CPU.
    """
    return {"py_modules": [str(PACKAGE)], "excludes": ["__pycache__", "*.pyc", "*.nbi", "*.nbc"]}


def _task_options(nodes: list[dict], gpu: bool, memory: int) -> dict[str, Any]:
    """Ray's options of a task: its CPUs, its GPU, its memory in bytes. nodes: the resources of each node."""
    options = {"num_cpus": 1, "num_gpus": int(gpu), "max_retries": 0} | ({"memory": memory} if memory else {})
    if gpu:  # work other than the network's stays on CPUs: each part gets as many as a GPU has on the poorest node
        with_gpus = [node for node in nodes if node.get("GPU", 0)]
        threads = max(1, min(int(node.get("CPU", 1) // node["GPU"]) for node in with_gpus))
        variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
        options |= {"num_cpus": threads, "runtime_env": {"env_vars": variables}}
    return options


def _ray_reason(error: Exception) -> str:
    """Why a task of Ray returned nothing, as one line."""
    name = type(error).__name__
    known = {"OutOfMemoryError": "its node ran out of memory", "WorkerCrashedError": "its worker crashed or was killed"}
    return known.get(name) or f"Ray reports {name}: {' '.join(str(error).split())[:160]}"


# ----------------------------------------------------------------------------------------------------- on the cluster


class TaskMonitor:
    """An actor of the driver: whether the tasks are to stop, and since when each running one runs."""

    def __init__(self):
        self.stopped, self.begun = False, {}

    def begin(self, number: int) -> None:
        """Note that a task begins."""
        self.begun[number] = time.monotonic()

    def end(self, number: int) -> None:
        """Note that a task has ended by itself."""
        self.begun.pop(number, None)

    def seconds_of(self, number: int) -> float:
        """Seconds since a task began; 0 if it is unknown. The task is then forgotten."""
        return time.monotonic() - self.begun.pop(number, time.monotonic())

    def stop(self) -> None:
        """From now on, every task is to stop."""
        self.stopped = True

    def is_stopped(self) -> bool:
        return self.stopped


def work_on_ray(function: str, job: dict, monitor: Any, part_timeout: float, number: int) -> dict:
    """Run the worker function on one job, in a process of the cluster. number: the task's, for the monitor."""
    import ray

    monitor.begin.remote(number)
    if part_timeout:  # a C thread, which needs no interpreter, ends a process that hangs
        faulthandler.dump_traceback_later(part_timeout, exit=True)
    try:
        result = call(resolve(function), job, _stop_question(lambda: ray.get(monitor.is_stopped.remote())))
    finally:
        faulthandler.cancel_dump_traceback_later()
        monitor.end.remote(number)
    if result.get("fatal") and job.get("stage") == "train":  # else Ray keeps this process for further batches
        os._exit(1)
    return result


def _stop_question(ask: Callable[[], bool]) -> Callable[[], bool]:
    """should_stop() of a task: the monitor's answer, asked for every STOP_POLL_SECONDS."""
    asked_at, answer = time.monotonic(), False

    def should_stop() -> bool:
        nonlocal asked_at, answer
        if time.monotonic() - asked_at > STOP_POLL_SECONDS:
            asked_at, answer = time.monotonic(), ask()
        return answer

    return should_stop
