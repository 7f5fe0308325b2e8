"""Worker functions for the tests of fleets: each does what the name of its part says."""

import ctypes
import functools
import gc
import os
import signal
import sys
import time
import types
import weakref
from pathlib import Path

from neuralparts.commands import fit, run
from neuralparts.errors import Interrupted, UserError
from neuralparts.job import fit_one, fit_sent
from neuralparts.mesh_files import MeshError
from neuralparts.output import content_of, outputs_of
from neuralparts.staged_job import run_stage
from neuralparts.whole_file import write_whole


def act(job, should_stop):
    """Do what the first word of the part's name says, after a line in `log` (a path in the job)."""
    word = job["name"].split("_")[0]
    if "log" in job:
        with open(job["log"], "a") as log:
            log.write(f"{job['name']} {job.get('attempt', 1)} {os.getpid()}\n")
    result = {"name": job["name"], "status": "done", "reason": "", "pid": os.getpid()}
    return result | (ACTIONS[word](job, should_stop) or {})


def segfault(job, should_stop):
    ctypes.string_at(0)


def killed_once(job, should_stop):
    if job.get("attempt", 1) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def hang(job, should_stop):
    time.sleep(3600)


def greedy(job, should_stop):
    """Needs 256 MiB at the first attempt, 1 MiB at the second."""
    hoard = bytearray(2**28 if job.get("attempt", 1) == 1 else 2**20)
    hoard[::4096] = b"1" * len(hoard[::4096])
    time.sleep(1.0)


def gluttonous(job, should_stop):
    """Needs 256 MiB at every attempt."""
    hoard = bytearray(2**28)
    hoard[::4096] = b"1" * len(hoard[::4096])
    time.sleep(5.0)


def raises(job, should_stop):
    return {}["no such key"]


def exhausted(job, should_stop):
    if job.get("attempt", 1) == 1:
        raise MemoryError


def refused(job, should_stop):
    return {"status": "refused", "reason": f"{job['input']}: not a mesh"}


def waits(job, should_stop):
    """Runs until it is asked to stop."""
    Path(job["input"]).touch()
    while not should_stop():
        time.sleep(0.01)
    return {"status": "stopped"}


def terminated(job, should_stop):
    """At the first attempt its process receives SIGTERM from somebody else."""
    if job.get("attempt", 1) == 1:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
    return {"status": "stopped"} if should_stop() else {}


def busy(job, should_stop):
    """Another run has it until the file of its input exists."""
    return {} if Path(job["input"]).exists() else {"status": "busy", "reason": "held"}


class Cycle:
    """An object that only itself refers to, in the end; `last` finds the last one while it is not freed."""

    last = None

    def __init__(self):
        self.itself, Cycle.last = self, weakref.ref(self)


def cycle(job, should_stop):
    """Leave a cycle behind, with the collection of garbage off; found: that of the part before is still there."""
    gc.disable()
    found = Cycle.last is not None and Cycle.last() is not None
    Cycle()
    return {"found": found}


def shows(job, should_stop):
    """Returns the threads, the GPU and the CPUs that the worker was given."""
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    found = {name: os.environ.get(name) for name in names} | {"processors": sorted(os.sched_getaffinity(0))}
    time.sleep(0.3)
    return {"found": found}


ACTIONS = {
    "good": lambda job, should_stop: None,
    "slow": lambda job, should_stop: time.sleep(0.3),
    "segfault": segfault,
    "oom": killed_once,
    "hang": hang,
    "greedy": greedy,
    "gluttonous": gluttonous,
    "raises": raises,
    "exhausted": exhausted,
    "refused": refused,
    "waits": waits,
    "terminated": terminated,
    "busy": busy,
    "cycle": cycle,
    "shows": shows,
    "fatal": lambda job, should_stop: {"status": "failed", "reason": "no more", "fatal": True},
}


def safetensors_head(metadata):
    """How a safetensors file with these metadata (JSON) begins."""
    head = b'{"__metadata__":%b}' % metadata
    return len(head).to_bytes(8, "little") + head


# How model files and checkpoints begin.
MODEL_HEAD = safetensors_head(b'{"neural-sdf":""}')
CHECKPOINT_HEAD = safetensors_head(b'{"fit":"neural-sdf-checkpoint"}')


def light_fit(source, flags, files, watch, name):
    """Like part.fit_part, with the same writers in the same order, but without a network: 60 ms.

    The files depend on the content of the source and on the epochs.
    """
    content = read_light(source, name)
    for _ in range(6000 if content == b"long" else 5):
        time.sleep(0.01)
        if watch.should_stop is not None and watch.should_stop():
            write_whole(files.checkpoint, CHECKPOINT_HEAD + content)
            raise Interrupted
    return write_light(source, flags, files, watch, name, content)


def read_light(source, name):
    content = source.read_bytes()
    if content == b"bad":
        raise MeshError(f"{name}: not a mesh")
    return {}["a key that is missing"] if content == b"fault" else content


def write_light(source, flags, files, watch, name, content):
    """Write the files of a light fit; returns the record."""
    epochs = b"%d" % getattr(flags, "epochs", 0)
    outputs = outputs_of(vars(flags))
    for path in (files.model, files.reconstruction, files.page, files.sheet):
        if files.output_of(path) not in outputs:
            continue
        write_whole(path, (MODEL_HEAD if path == files.model else b"") + content * 10_000 + epochs)
        time.sleep(0.002)
    if "page" in outputs:
        files.write_thumbnail(content + epochs)
    number = float(int.from_bytes(content[:4].ljust(4), "little"))
    record = {"input": name, "content": content_of(source), "flags": vars(flags), "failure": ""}
    record |= {"metrics": {"surface_error": number}, "fit": {"ended_by": "epochs"}, "timings": {"total": 0.06}}
    files.write_record(record)
    return record


class LightStages:
    """Like the module part_stages, with a light fit. A part whose content is odd fails in training."""

    @staticmethod
    def prepare_part(source, flags, files, watch):
        write_whole(files.labelled, read_light(source, source))
        time.sleep(0.01)
        return {"content": content_of(source), "kind": f"{source.stat().st_size} samples"}

    @staticmethod
    def train_parts(trainees, processes):
        contents = [trainee.files.labelled.read_bytes() for trainee in trainees]
        for _ in range(6000 if b"long" in contents else 10):
            time.sleep(0.01)
            if trainees[0].watch.should_stop():
                for trainee, content in zip(trainees, contents, strict=True):
                    write_whole(trainee.files.checkpoint, CHECKPOINT_HEAD + content)
                raise Interrupted
        if b"poison" in contents:  # the whole batch fails, whose part ever it is
            raise RuntimeError("a kernel failed")
        return [trained_lightly(*pair, len(trainees)) for pair in zip(trainees, contents, strict=True)]

    @staticmethod
    def finish_part(source, flags, files, watch, name, handed):
        assert handed["content"] == content_of(source)
        return write_light(source, flags, files, watch, name, files.fitted.read_bytes())


def trained_lightly(trainee, content, members):
    """What train_parts returns for one part."""
    if content == b"collapse":
        return UserError("the network is constant")
    write_whole(trainee.files.fitted, content)
    return {"result": {}, "device": "cpu", "members": members}


def light_stage(job, should_stop):
    """run_stage with light stages. A part named STAGE-ACTION_... does the action of ACTIONS in that stage first."""
    for part in job.get("parts", [job]):
        stage, _, action = part["name"].partition("-")
        if stage == job["stage"]:
            ACTIONS[action.split("_")[0]](part, should_stop)
    return noted_stage(job, run_stage(job, should_stop, LightStages))


def real_stage(job, should_stop):
    """The program's own worker function of a stage."""
    return noted_stage(job, run_stage(job, should_stop))


def noted_stage(job, result):
    """Write lines to the logs: of parts that ended, and of batches with their parts and their process."""
    if job["stage"] == "train" and "BATCH_LOG" in os.environ:
        with open(os.environ["BATCH_LOG"], "a") as log:
            log.write(" ".join([str(os.getpid()), *(part["name"] for part in job["parts"])]) + "\n")
    return noted(job, result) if job["stage"] == "finish" else result


def light(job, should_stop):
    """The program's worker function with a light fit; for names that ACTIONS has, the action."""
    if job["name"].split("_")[0] in ACTIONS:
        return act(job, should_stop)
    return noted(job, fit_one(job, should_stop, light_fit))


def light_sent(job, should_stop):
    """The same for a job that carries its files."""
    if job["name"].split("_")[0] in ACTIONS:
        return act(job, should_stop)
    return noted(job, fit_sent(job, should_stop, light_fit))


def real(job, should_stop):
    """The program's own worker function."""
    return noted(job, fit_one(job, should_stop))


def noted(job, result):
    """Write a line to the log for a part that was fitted, not for one that was skipped."""
    if result["status"] == "done" and not result.get("skipped") and "FLEET_LOG" in os.environ:
        with open(os.environ["FLEET_LOG"], "a") as log:
            log.write(f"{job['name']} {os.getpid()}\n")
    return result


def replace_fit(fit):
    """Have this process fit with another function; the real one, and torch, are not imported."""
    sys.modules["neuralparts.part"] = types.ModuleType("neuralparts.part")
    sys.modules["neuralparts.part"].fit_part = fit


def main(worker, *arguments):
    """The trainer's command line with one of these worker functions."""
    if worker == "light":
        replace_fit(light_fit)
    sent = "light_sent" if worker == "light" else "real"
    stage = "light_stage" if worker == "light" else "real_stage"
    workers = fit.Workers(*(f"tests.fleet_stubs:{name}" for name in (worker, sent, stage)))
    fit.fit_folder = functools.partial(fit.fit_folder, workers=workers)
    return fit.main(list(arguments))


if __name__ == "__main__":
    run(functools.partial(main, *sys.argv[1:]))
