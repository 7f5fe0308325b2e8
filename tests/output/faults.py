"""File operations that fail, or kill their process, at the n-th of them: a program for the tests.

    python -m tests.output.faults HOW FOLDER RUNS

HOW is fail or kill. For every n from 1, a child process runs the action of RUNS in a copy of FOLDER, and its n-th file
operation fails with "No space left on device", or its process is killed in front of it. Another child process does the
same without a fault. What is found in between and afterwards is printed as JSON, a line for each n, until a run ends
before its n-th operation.
"""

import builtins
import functools
import io
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from neuralparts.commands import fit as commands_fit
from neuralparts.flags import parse_fit_flags
from neuralparts.job import fit_one
from neuralparts.output import verify_folder
from tests import fleet_stubs

OPERATIONS = ("open", "replace", "rename", "unlink", "mkdir", "rmdir", "fsync")


class Counted:
    """A file whose writes are counted, and so is its closing, which writes what is left."""

    def __init__(self, file, count):
        self._file, self._count = file, count

    def write(self, data):
        self._count()
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._count()
        finally:
            self._file.close()


def inject(n, how):
    """From now on, count the file operations of this process, and fail or kill at the n-th."""
    seen = 0

    def count():
        nonlocal seen
        seen += 1
        if seen == n:
            os.utime(os.environ["FAULT_MARK"])
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(28, "No space left on device")

    def counted(function):
        @functools.wraps(function)
        def call(path, *arguments, **options):
            if path != os.devnull:
                count()
            return function(path, *arguments, **options)

        return call

    plain_open, fdopen = builtins.open, os.fdopen
    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    io.open = builtins.open = counted(plain_open)
    os.fdopen = lambda *arguments, **options: Counted(fdopen(*arguments, **options), count)


def child(action, folder):
    """Run action(folder) in a child process; returns its exit code, negative for a signal."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 70
    try:
        os.chdir(folder)
        devnull = os.open(os.devnull, os.O_WRONLY)
        if not os.environ.get("FAULT_SHOW"):
            os.dup2(devnull, 1)
            os.dup2(devnull, 2)
        time.sleep = os.fsync = lambda _: None  # the disk itself does not fail here
        code = action()
    finally:
        sys.stdout.flush()
        os._exit(code)


def fit_part_here(epochs):
    """Fit in/part.stl; returns 0 for done, 1 for failed."""
    flags = vars(parse_fit_flags(["in/part.stl", "--outputDir", "out", "--epochs", str(epochs)]))
    flags.pop("input")
    job = {"input": "in/part.stl", "name": "part", "flags": flags, "folder": True}
    return 0 if fit_one(job, None, fleet_stubs.light_fit)["status"] == "done" else 1


def fit_folder_here(epochs):
    """The command of a folder run over `in`, in this process; returns its exit code."""
    commands_fit.fit_folder = functools.partial(commands_fit.fit_folder, worker="tests.fleet_stubs:light")
    return commands_fit.main(["in", "--outputDir", "out", "--workers", "0", "--epochs", str(epochs)])


ACTIONS = {"part": fit_part_here, "folder": fit_folder_here}


def state(folder):
    """(faults by part, whole parts by their epochs, every file) of the output folder."""
    out = folder / "out"
    faults = {name: found for name, found, _ in verify_folder(out)}
    epochs = {}
    for name in faults:
        try:
            epochs[name] = json.loads((out / f"{name}.json").read_text())["flags"]["epochs"]
        except OSError:
            epochs[name] = None
    return {"faults": faults, "epochs": epochs, "files": sorted(str(path.relative_to(out)) for path in out.rglob("*"))}


def main(how, folder, action):
    """Print a line of JSON for each n: what is there after the fault, and after the same command without one."""
    copy, mark = folder.with_name(f"{folder.name}_copy"), folder.with_name(f"{folder.name}_mark")
    os.environ["FAULT_MARK"] = str(mark)
    n = 0
    while True:
        n += 1
        shutil.copytree(folder, copy)
        mark.touch()
        os.utime(mark, (0, 0))

        def faulty(n=n):
            inject(n, how)
            return ACTIONS[action](2)

        code = child(faulty, copy)
        if mark.stat().st_mtime == 0:  # it ended before its n-th operation
            print(json.dumps({"n": n, "end": code, "after": state(copy)}))
            return
        between = state(copy)
        again = child(lambda: ACTIONS[action](2), copy)
        print(json.dumps({"n": n, "code": code, "between": between, "again": again, "after": state(copy)}))
        shutil.rmtree(copy)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
