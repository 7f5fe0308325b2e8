"""A command that is struck at its n-th file operation: the disk fails, is full or read-only, or the process is killed.

Afterwards the earlier or the new result is whole, no mixture is called done, and the same command ends right.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
import trimesh

from tests.faults import injector
from tests.fleet.runs import REAL, ROOT

SUFFIXES = ("html", "json", "png", "safetensors", "stl")
# One command of every kind, and whether it runs over an earlier result.
CASES = [(command, earlier) for command in injector.COMMANDS for earlier in (False, True)]
BETWEEN_FOLDERS = "a process was killed while it replaced this part"


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    library = injector.compile_shim(tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip("file operations are made to fail on Linux only, with a C compiler (cc)")
    return library


def a_place(tmp_path, command):
    """A folder with inputs in `in`."""
    place = tmp_path / "place"
    (place / "in").mkdir(parents=True)
    for name in "a" if command.startswith("single") else "abc":
        (place / "in" / f"{name}.stl").write_bytes(b"good" + name.encode())
    return place


def strike_all(tmp_path, shim, command, earlier, fault, numbers="all"):
    """Strike a command at each number, or at all its operations, and check each outcome.

    Returns how many outcomes there were, and the last one.
    """
    place = a_place(tmp_path, command)
    environment = os.environ | injector.preloading(shim, tmp_path / "state")
    listed = numbers if numbers == "all" else json.dumps(numbers)
    words = [sys.executable, "-m", "tests.faults.injector", str(place), command, fault, listed]
    words.append("earlier" if earlier else "nothing")
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    parts = sorted(path.stem for path in (place / "in").iterdir())
    for outcome in outcomes:
        check_between(outcome, parts, earlier, fault, command)
        check_afterwards(outcome, parts, command)
    shutil.rmtree(place)
    return len(outcomes), outcomes[-1]


def check_between(outcome, parts, earlier, fault, command):
    """Check the folder after the fault: earlier or new results that are whole, and nothing else that is called done."""
    between, code = outcome["between"], outcome["code"]
    codes = (0, 1, -9) if fault == "SIGKILL" else (0, 1)
    assert code in codes and (outcome["struck"] or code == 0), outcome
    for word in ("Traceback", "a fault of this program"):
        assert word not in outcome["printed"], outcome
    assert not [name for name in between["files"] if name.endswith(".log")], outcome
    for part in parts:
        faults = between["faults"].get(part, [])
        # A new result that is whole, but divided between two folders: `verify` says so, and no run calls it done.
        divided = bool(faults) and faults[0].startswith(BETWEEN_FOLDERS)
        assert not faults or divided, outcome
        if code == 0 or between["summary"].get(part) == "done":
            assert not faults and between["epochs"][part] in ([2] if code == 0 else [1, 2]), outcome
        if earlier:
            assert part in between["epochs"], outcome
    if code == 1 and command.startswith("single"):
        assert outcome["printed"].strip().splitlines()[-1].startswith("trainer.py: "), outcome


def check_afterwards(outcome, parts, command):
    """Check the folder after the same command without a fault: all done, and no file that should not be there."""
    after = outcome["after"]
    names = [f"{part}.{suffix}" for part in parts for suffix in SUFFIXES]
    if command.startswith("folder"):
        names += ["index.html", "summary.csv", "thumbnails", *(f"thumbnails/{part}.png" for part in parts)]
        assert after["summary"] == dict.fromkeys(parts, "done"), outcome
    elif "thumbnails" in after["files"]:
        names += ["thumbnails", *(f"thumbnails/{part}.png" for part in parts)]
    assert outcome["again"] == 0 and after["files"] == sorted(names), outcome
    assert after["faults"] == {part: [] for part in parts} and after["epochs"] == dict.fromkeys(parts, 2), outcome


@pytest.mark.parametrize("fault", injector.FAULTS)
def test_a_fault_at_a_few_file_operations(tmp_path, shim, fault):
    count, _ = strike_all(tmp_path, shim, "single", True, fault, [2, 25, 34, 10**6])
    assert count == 4


def test_a_disk_that_stays_broken_during_a_folder_run(tmp_path, shim):
    count, _ = strike_all(tmp_path, shim, "folder --overwrite", True, "EIO lasting", [86, 700])
    assert count == 2


@pytest.mark.long
@pytest.mark.parametrize("fault", injector.FAULTS)
@pytest.mark.parametrize(("command", "earlier"), CASES)
def test_a_fault_at_every_file_operation(tmp_path, shim, command, earlier, fault):
    count, last = strike_all(tmp_path, shim, command, earlier, fault)
    assert count > last["operations"] > 30


@pytest.mark.long
@pytest.mark.parametrize("fault", injector.FAULTS)
def test_a_real_fit_that_is_struck_at_a_sample_of_its_operations(tmp_path, shim, fault):
    """The trainer's own command with its checkpoints, over an earlier result."""
    (tmp_path / "in").mkdir()
    trimesh.creation.box((20, 16, 12)).export(tmp_path / "in/a.stl")
    state, out = tmp_path / "state", tmp_path / "out"
    environment = os.environ | injector.preloading(shim, state)

    def fit(epochs):
        words = [sys.executable, "trainer.py", tmp_path / "in/a.stl", "--outputDir", out, "--epochs", epochs]
        words += [*REAL, "--checkpointSeconds", 0.05, "--overwrite", 1]
        done = subprocess.run(list(map(str, words)), cwd=ROOT, env=environment, capture_output=True, text=True)
        return done.returncode, done.stderr

    assert fit(1)[0] == 0
    for number in (3, 20, 45, 60, 75, 95):
        injector.set_state(state, out, fault, number)
        code, printed = fit(2)
        operations, struck = injector.read_state(state)
        injector.set_state(state)
        outcome = {"struck": struck, "operations": operations, "code": code, "printed": printed}
        outcome["between"] = injector.found_in(out)
        check_between(outcome, ["a"], True, fault, "single")
        outcome |= {"again": fit(2)[0], "after": injector.found_in(out)}
        check_afterwards(outcome, ["a"], "single")
