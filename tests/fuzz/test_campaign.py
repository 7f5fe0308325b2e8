"""Mutants of every kind of file: each is read, or refused in one line (see `__main__`)."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from tests.fuzz.campaign import KINDS, fuzz

# Mutants in the short form. A model or a checkpoint takes longer than a mesh.
SHORT = dict.fromkeys(KINDS, 120) | {"model": 20, "checkpoint": 20}
# All kinds in one child: its start would take longer than the mutants of one kind.
PROGRAM = """
import sys
from tests.fuzz.campaign import run_here
for kind, count in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    print(f'"kind {kind}"')
    run_here(kind, 0, 0, count)
"""


def test_some_mutants_of_every_kind():
    words = [str(word) for pair in SHORT.items() for word in pair]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    outcomes, kind = {}, ""
    for line in map(json.loads, done.stdout.splitlines()):
        if line.startswith("kind "):
            kind = line.removeprefix("kind ")
            outcomes[kind] = Counter()
        else:
            outcomes[kind][line] += 1
    assert {kind: counts.keys() for kind, counts in outcomes.items()} == {key: {"read", "refused"} for key in KINDS}
    assert {kind: counts.total() for kind, counts in outcomes.items()} == SHORT


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutants(kind):
    count = 100 * SHORT[kind]
    counts, faults = fuzz((kind,), count, seed=1)
    assert faults == [] and sum(counts.values()) == count
