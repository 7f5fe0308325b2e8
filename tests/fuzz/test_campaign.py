"""Mutants of healthy models, checkpoints and samples: each is read, or refused in one line (`fuzz_models`)."""

import pytest

from tests.fuzz_models import KINDS, fuzz


@pytest.mark.parametrize("kind, count", [("model", 40), ("checkpoint", 20), ("samples", 200)])
def test_some_mutants(kind, count):
    counts, faults = fuzz((kind,), count)
    assert faults == [] and sum(counts.values()) == count
    assert counts[kind, "refused"] > count / 4


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutants(kind):
    counts, faults = fuzz((kind,), 10_000, seed=1)
    assert faults == [] and sum(counts.values()) == 10_000
