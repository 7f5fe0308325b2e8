"""Closed, full and broken standard streams end no command; real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trimesh

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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
