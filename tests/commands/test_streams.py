"""Closed, full and broken standard streams end no command; real processes."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trimesh

from neuralparts.output import PartFiles, StagedFiles, verify_folder
from tests.fleet.runs import a_folder, wait_for

ROOT = Path(__file__).resolve().parents[2]
# Prints and says more than a pipe holds, then leaves a file, as a fit does last.
PROGRAM = """
import sys
import time
from neuralparts.commands import run
from neuralparts.wording import say
def main():
    for k in range(2000):
        print("result", k, "x" * 50)
        say(f"line {k} " + "x" * 50)
    with open(sys.argv[1], "w") as file:
        file.write("whole")
    return 0
run(main)
"""
MISHAPS = {
    "stdout closed": ">&-",
    "stderr closed": "2>&-",
    "both closed": ">&- 2>&-",
    "stdin closed": "<&-",
    "all closed": "<&- >&- 2>&-",
    "stdout full": ">/dev/full",
    "stderr full": "2>/dev/full",
    "both full": ">/dev/full 2>&1",
    "reader of stdout gone": "| head -1",
    "reader of stderr gone": "2>&1 >/dev/null | head -1",
    "reader of both gone": "2>&1 | head -1",
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_a_command_goes_on(tmp_path, mishap):
    script = f'set -o pipefail; "{sys.executable}" -c "$PROGRAM" "{tmp_path}/left" {MISHAPS[mishap]}'
    environment = os.environ | {"PROGRAM": PROGRAM, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert (tmp_path / "left").read_text() == "whole"


def test_what_is_printed_arrives_where_nothing_is_wrong(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "left")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.stdout.count("result") == done.stderr.count("line") == 2000


# ------------------------------------------------------------------------------------------- single and folder runs

# The forms of a run over the inputs of `a_folder`.
FORMS = {
    "single": ["parts/part_00.stl"],
    "folder": ["parts", "--workers", "0"],
    "folder with a worker": ["parts", "--workers", "1"],
}
FORM = ["single", pytest.param("folder", marks=pytest.mark.long), "folder with a worker"]
OF_RUNS = ["all closed", "stdout closed", "stderr closed", "stdout full", "both full", "stderr full",
           "reader of stdout gone", "reader of stderr gone", "another encoding"]  # fmt: skip


@pytest.mark.parametrize("form", FORM)
@pytest.mark.parametrize(
    "mishap", [pytest.param(m, marks=[pytest.mark.long] * (k % 3 != 2)) for k, m in enumerate(OF_RUNS)]
)
def test_a_run_goes_on(tmp_path, mishap, form):
    a_folder(tmp_path / "parts", 2)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if mishap == "another encoding":
        (tmp_path / "parts" / os.fsdecode(b"d\xc3\xbcse \xff.stl")).write_bytes(b"good")
        environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = shlex.join([sys.executable, "-m", "tests.fleet_stubs", "light", *FORMS[form], "--outputDir", "out"])
    script = f"set -o pipefail; {words} {MISHAPS.get(mishap, '')}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    found = {name: faults for name, faults, _ in verify_folder(tmp_path / "out")}
    count = 1 if form == "single" else len(os.listdir(tmp_path / "parts"))
    assert len(found) == count and not any(found.values())
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".")]


@pytest.mark.parametrize("form", FORM)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_checkpoint_of_a_run_that_nobody_listens_to(tmp_path, number, form):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/part_00.stl").write_bytes(b"long")
    words = [sys.executable, "-m", "tests.fleet_stubs", "light", *FORMS[form], "--outputDir", "out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    fit = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    fit.stdout.close()
    fit.stderr.close()
    try:
        hidden = StagedFiles(PartFiles(tmp_path / "out", "part_00")).folder
        wait_for(lambda: hidden.exists() or fit.poll() is not None, "the fit to begin")
        fit.send_signal(number)
        assert fit.wait(60) == 128 + number
    finally:
        fit.kill()
    assert (tmp_path / "out/part_00.checkpoint").exists() and not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.long) for n in (signal.SIGINT, signal.SIGHUP))]
)
def test_a_signal_leaves_a_checkpoint_though_nobody_reads_what_the_fit_prints(tmp_path, number):
    trimesh.creation.box((20, 16, 12)).export(tmp_path / "box.stl")
    flags = [
        "--num_points",
        "4000",
        "--epochs",
        "100000",
        "--batchSize",
        "128",
        "--checkpointSeconds",
        "0.2",
        "--outputDir",
        "out",
    ]
    words = [sys.executable, str(ROOT / "trainer.py"), "box.stl", *flags]
    fit = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    fit.stdout.close()
    fit.stderr.close()
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out/box.checkpoint").exists():
            assert fit.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        (tmp_path / "out/box.checkpoint").unlink()
        fit.send_signal(number)
        assert fit.wait(60) == 128 + number
    finally:
        fit.kill()
    assert (tmp_path / "out/box.checkpoint").exists()
