"""A command whose n-th file operation fails, or kills its process: a program for the tests.

    LD_PRELOAD=SHIM FAULT_STATE=FILE python -m tests.faults.injector PLACE COMMAND FAULT NUMBERS

PLACE holds the inputs in `in` and perhaps an earlier result in `out`. COMMAND is one of COMMANDS, FAULT one of FAULTS,
NUMBERS a list of n in JSON, or "all". For each n, a child process runs the command over a copy of PLACE, and its n-th
operation on a file below `out` fails, or its process is killed in front of it; so does one of its workers if that is
who comes to the n-th. Another child process runs the same command without a fault. What is found in between and
afterwards is printed as JSON, a line for each n, until a command ends before its n-th operation.

The program is small in memory and forks, so a run takes some tens of milliseconds. The light fits of `fleet_stubs`
stand for the real ones, with the same writers in the same order.
"""

import contextlib
import csv
import ctypes
import errno
import functools
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from neuralparts.commands import fit as commands_fit
from neuralparts.output import verify_folder
from neuralparts.whole_file import write_whole
from tests import fleet_stubs

SOURCE = Path(__file__).with_name("file_faults.c")
# The classes of operations, and the layout of the state, as `file_faults.c` has them.
READS, WRITES, NAMES, REMOVES = 1, 2, 4, 8
STATE, STATE_BYTES = struct.Struct("7l4000s"), 4096
# (classes that count, whether every later one fails too, errno or 0 to kill), by name.
FAULTS = {
    "EIO": (READS | WRITES | NAMES | REMOVES, False, errno.EIO),
    "EIO lasting": (READS | WRITES | NAMES | REMOVES, True, errno.EIO),
    "ENOSPC": (WRITES | NAMES, False, errno.ENOSPC),
    "ENOSPC lasting": (WRITES | NAMES, True, errno.ENOSPC),
    "EROFS lasting": (NAMES | REMOVES, True, errno.EROFS),
    "SIGKILL": (WRITES | NAMES | REMOVES, False, 0),
}
# The flags of each command, beside its input, the output folder and the epochs.
COMMANDS = {
    "single": ["in/a.stl"],
    "single --overwrite": ["in/a.stl", "--overwrite", "1"],
    "folder": ["in", "--workers", "0"],
    "folder --overwrite": ["in", "--workers", "0", "--overwrite", "1"],
    "folder with a worker": ["in", "--workers", "1", "--partsPerBatch", "1"],
    "folder in stages": ["in", "--workers", "1", "--partsPerBatch", "2"],
}
PR_SET_CHILD_SUBREAPER = 36


def compile_shim(folder: Path) -> Path | None:
    """The shared library of `file_faults.c`; None without Linux and a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    shim = folder / "file_faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, SOURCE, "-ldl"], check=True)
    return shim


def preloading(shim: Path, state: Path) -> dict[str, str]:
    """Variables of a process that can be struck; makes the file of its state, which strikes nothing yet."""
    state.write_bytes(bytes(STATE_BYTES))
    return {"LD_PRELOAD": str(shim), "FAULT_STATE": str(state)}


def set_state(state: Path, folder: Path | None = None, fault: str = "", number: int = 0) -> None:
    """From now on, the operations below a folder count, and the one of this number fails; without a folder, none."""
    classes, lasting, error = FAULTS.get(fault, (0, False, 0))
    words = STATE.pack(folder is not None, classes, number, lasting, error, 0, 0, os.fsencode(folder or b""))
    with open(state, "r+b") as file, mmap.mmap(file.fileno(), STATE_BYTES) as memory:
        memory[: len(words)] = words


def read_state(state: Path) -> tuple[int, bool]:
    """(operations that were counted, whether one of them was struck)."""
    *_, operations, struck, _ = STATE.unpack_from(state.read_bytes())
    return operations, bool(struck)


def command_words(command: str, epochs: int) -> list[str]:
    return [*COMMANDS[command], "--outputDir", "out", "--epochs", str(epochs)]


def fit_with_checkpoint(source, flags, files, watch, name):
    """The light fit, with a checkpoint before it; as in a real fit, one that cannot be written ends nothing."""
    with contextlib.suppress(OSError):
        write_whole(files.checkpoint, fleet_stubs.CHECKPOINT_HEAD + b"state")
    return fleet_stubs.light_fit(source, flags, files, watch, name)


def run_child(command: str, epochs: int, place: Path, output: Path) -> int:
    """`forked` a command of COMMANDS, with light fits and no sleep."""

    def run() -> int:
        time.sleep = lambda _: None
        fleet_stubs.replace_fit(fit_with_checkpoint)
        whole = "neuralparts.job:fit_one" if "worker" not in command else "tests.fleet_stubs:light"
        workers = commands_fit.Workers(whole, stage="tests.fleet_stubs:light_stage")
        commands_fit.fit_folder = functools.partial(commands_fit.fit_folder, workers=workers)
        return commands_fit.main(command_words(command, epochs))

    return forked(run, place, output)


def forked(run: Callable[[], int], place: Path, output: Path) -> int:
    """Run a command in a child process, in a folder, and wait for all children of this process.

    Returns its exit code, negative for a signal. What it prints goes to the file `output`.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.chdir(place)
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(file, 1)
            os.dup2(file, 2)
            code = run()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            sys.stdout.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(ChildProcessError):
        while True:  # workers whose driver is gone
            os.wait()
    return code


def found_in(out: Path) -> dict:
    """What is in an output folder: faults by part, the epochs of each record, lines of the summary, every file."""
    if not out.is_dir():
        return {"faults": {}, "epochs": {}, "summary": {}, "files": []}
    faults, epochs, rows = {name: found for name, found, _ in verify_folder(out)}, {}, {}
    for path in out.glob("*.json"):
        epochs[path.stem] = json.loads(path.read_text())["flags"]["epochs"]
    if (out / "summary.csv").exists():
        with open(out / "summary.csv", newline="") as file:
            rows = {row["name"]: row["status"] for row in csv.DictReader(file)}
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    return {"faults": faults, "epochs": epochs, "summary": rows, "files": files}


def strike(place: Path, command: str, fault: str, number: int) -> dict:
    """Run a command with a fault at its operation of this number, then without; returns what is found."""
    copy, output = place.with_name(f"{place.name}_copy"), place.with_name(f"{place.name}_output")
    state = Path(os.environ["FAULT_STATE"])
    shutil.copytree(place, copy)
    set_state(state, copy / "out", fault, number)
    code = run_child(command, 2, copy, output)
    operations, struck = read_state(state)
    set_state(state)
    result = {"n": number, "struck": struck, "operations": operations, "code": code}
    result |= {"printed": output.read_text(), "between": found_in(copy / "out")}
    result |= {"again": run_child(command, 2, copy, output), "printed again": output.read_text()}
    result["after"] = found_in(copy / "out")
    shutil.rmtree(copy)
    return result


def main(place: Path, command: str, fault: str, numbers: str, earlier: str) -> None:
    """Print a line for each n, the last one that of a command that ended before its n-th operation.

    earlier: "earlier" if every strike meets the result of a fit of one epoch, else "nothing".
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphaned workers become this process's children
    output = place.with_name("printed")
    if earlier == "earlier" and run_child(command, 1, place, output):
        sys.exit(output.read_text())
    for number in count(1) if numbers == "all" else json.loads(numbers):
        result = strike(place, command, fault, number)
        print(json.dumps(result), flush=True)
        if not result["struck"]:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
