"""The check of single steps calls rounding what is rounding, and a wrong gradient a fault."""

import pytest

from benchmarks.gpu_steps import step_differences
from neuralparts.choices import OPTIMIZERS
from neuralparts.network import StackedLayers

WIDTHS = (16, 12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("count", [1, 2])
def test_steps_of_the_cpu_differ_from_exact_ones_by_rounding(optimizer, count):
    assert step_differences("cpu", WIDTHS, optimizer, count).startswith("rounding: step")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gradient_that_is_a_little_wrong_is_a_fault(optimizer, monkeypatch):
    right = StackedLayers.gradients

    def wrong(self, by_values):
        gradients = right(self, by_values)
        gradients[2][1] *= 0.9  # the second network's second weight
        return gradients

    monkeypatch.setattr(StackedLayers, "gradients", wrong)
    assert step_differences("cpu", WIDTHS, optimizer, 2).startswith("FAULT: step")
