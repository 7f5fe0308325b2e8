"""Any file under 1 MB is read and labelled, or refused, within 10 s of CPU time and 500 MiB + 50 x its size."""

import subprocess
import sys

import pytest

# A case of each kind that once took more.
WORST = ["doubled_tube", "one_inside_out", "many_joints", "open_cups_nested", "bodies_nested.3mf"]


def run_cases(names):
    """What `tests.hostile_meshes` prints for the cases with these words in their names, and its exit code."""
    words = [sys.executable, "-m", "tests.hostile_meshes", "--only", *names]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stdout + done.stderr[-500:], done.returncode


def test_worst_structures_stay_within_time_and_memory():
    printed, code = run_cases(WORST)
    assert code == 0 and printed.count(" MiB ") == len(WORST), printed


@pytest.mark.long
def test_all_structures_stay_within_time_and_memory():
    printed, code = run_cases([""])
    assert code == 0, printed
