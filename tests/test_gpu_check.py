"""The check of a GPU rehearses on the CPU: every part ends, and a device that is not there is one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def check(folder, *words):
    """The finished process of `python -m benchmarks.gpu`."""
    call = [sys.executable, "-m", "benchmarks.gpu", "--small", "1", "--out", str(folder), *words]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=900)


@pytest.mark.long
@pytest.mark.parametrize("parts", ["machine,evaluation,correct,steps,high,marching", "labels", "instant", "folder"])
def test_parts_of_the_check_end_without_a_failure(parts, tmp_path):
    done = check(tmp_path, "--device", "cpu", "--only", parts)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert done.returncode == 0 and found["ended"] == parts.split(","), done.stderr
    assert [row for row in found["rows"] if "FAILED" in row["measured"]] == []
    table = done.stdout[done.stdout.index("| part | finding | asked | measured |") :].splitlines()
    rows, (empty, summary) = table[2:-2], table[-2:]
    assert len(rows) == len(found["rows"]) > 1 and empty == ""
    counted = [row for row in found["rows"] if row["measured"].startswith(("met: ", "MISSED: "))]
    met, missed = (int(part.split(": ")[1].split(" ")[0]) for part in summary.split("; ")[:2])
    assert met + missed == len(counted)


@pytest.mark.long
def test_a_device_that_is_not_there_is_one_line(tmp_path):
    done = check(tmp_path, "--device", "cuda:63", "--only", "machine,steps")
    assert done.returncode == 1 and done.stdout.startswith("cuda:63 cannot be used: ")
