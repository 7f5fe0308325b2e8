"""The program of a worker process: it takes jobs from the driver's pipe and sends results back.

The driver's side is `worker_processes.py`. Messages are JSON: {"ready": true} once the worker function is imported,
{"job": ...} and {"stop": true} from the driver, a result for each job.
"""

import contextlib
import faulthandler
import gc
import json
import os
import queue
import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from neuralparts.fleet.loop import call, resolve
from neuralparts.machine import give_memory_back, map_large_arrays

# Every thread pool of the numerical libraries, by the variable that limits it.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
# Seconds that a worker has to stop its part after its driver is gone; then it ends itself.
ORPHAN_SECONDS = 120.0
# When memory runs out, the kernel kills a process with a higher score first: a worker rather than its driver.
OOM_SCORE = 500


def work(function: str, descriptor: str, *processors: str) -> None:
    """Run jobs until the driver closes the pipe, then end the process.

    function: the worker function, "module:function". descriptor: number of the pipe's file descriptor. processors:
    numbers of the CPUs to run on.
    """
    # Ctrl-C in the terminal is for the driver, which asks its workers to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    faulthandler.enable()
    _settle([int(number) for number in processors])
    map_large_arrays()
    pipe, jobs = Connection(int(descriptor)), queue.SimpleQueue()
    worker_function = resolve(function)
    pipe.send_bytes(b'{"ready": true}')
    threading.Thread(target=_listen, args=(pipe, jobs, stop), daemon=True).start()
    while (job := jobs.get()) is not None:
        result = json.dumps(call(worker_function, job, stop.is_set)).encode()
        # Loading machine code leaves cycles that hold some 50 MiB. What is left after a part stays, and is not searched
        # again: a search of everything takes a tenth of a second.
        gc.collect()
        gc.freeze()
        give_memory_back()
        with contextlib.suppress(OSError):  # the driver is gone: the part's files are on the disk all the same
            pipe.send_bytes(result)
    os._exit(0)


def _settle(processors: list[int]) -> None:
    """Keep this process on its CPUs, which also limits thread pools without a variable, and set its OOM_SCORE."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)
    with contextlib.suppress(OSError):  # this file is Linux's
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))


def _listen(pipe: Connection, jobs: queue.SimpleQueue, stop: threading.Event) -> None:
    """Take messages from the driver. When it is gone, stop the part, and end the process if that does not help."""
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
