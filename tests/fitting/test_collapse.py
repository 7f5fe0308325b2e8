"""Collapsed fits: repeated once, reported if they collapse again, an error if they give no numbers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from neuralparts.choices import OPTIMIZERS
from neuralparts.fitting import CollapseError, FitHooks, FitSettings, fit
from neuralparts.network import NeuralSDF
from tests import shapes
from tests.fitting.cases import a_network, ticking


def dead(network: NeuralSDF) -> None:
    """Give a network weights with which it is constant, and stays so."""
    for layer in list(network.layers)[:-1]:
        if hasattr(layer, "bias"):
            layer.weight.zero_()
            layer.bias.fill_(-1.0)


def not_finite(network: NeuralSDF) -> None:
    """Give a network a last layer of NaN, so that all its gradients are NaN."""
    network.layers[-1].weight.fill_(math.nan)


def collapsing(monkeypatch: pytest.MonkeyPatch, attempts: int, fault: Callable[[NeuralSDF], None] = dead) -> None:
    """Give the network a fault after the first `attempts` initialisations."""
    original, calls = NeuralSDF.initialise, []

    def initialise(self, init, generator):
        original(self, init, generator)
        calls.append(init)
        if len(calls) <= attempts:
            with torch.no_grad():
                fault(self)

    monkeypatch.setattr(NeuralSDF, "initialise", initialise)


def test_a_collapsed_fit_is_repeated_once(monkeypatch):
    points, sdf = shapes.samples(shapes.box, 8_000)
    collapsing(monkeypatch, 1)
    network = a_network(sdf)
    result = fit(network, points, sdf, FitSettings(epochs=2, batch_size=128))
    assert result.restarts == 1
    assert network.domain(points).std() > 0.01


def test_a_second_collapse_is_reported_and_the_network_kept(monkeypatch):
    points, sdf = shapes.samples(shapes.box, 8_000)
    collapsing(monkeypatch, 2)
    network = a_network(sdf)
    result = fit(network, points, sdf, FitSettings(epochs=2, batch_size=128))
    assert "constant" in result.collapsed and result.restarts == 1
    assert network.domain(points).std() < 1e-6 and not network.training


@pytest.mark.filterwarnings("ignore")
def test_values_that_are_not_numbers_are_a_collapse():
    points, sdf = shapes.samples(shapes.box, 8_000)
    with pytest.raises(CollapseError):
        fit(a_network(sdf), points, sdf, FitSettings(epochs=3, batch_size=128, learning_rate=1e30, optimizer="adam"))


@pytest.mark.parametrize("width", [16, 96])  # eigh refuses NaN in small matrices, and passes it on in large ones
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gradient_that_is_not_finite_at_the_first_step_is_a_collapse(monkeypatch, optimizer, width):
    points, sdf = shapes.samples(shapes.box, 4_000)
    settings = FitSettings(epochs=2, batch_size=128, optimizer=optimizer)
    collapsing(monkeypatch, 1, not_finite)
    network = a_network(sdf, widths=(width, width))
    result = fit(network, points, sdf, settings)
    assert result.restarts == 1 and result.collapsed == "" and np.isfinite(network.domain(points)).all()
    collapsing(monkeypatch, 2, not_finite)
    with pytest.raises(CollapseError, match="try"):
        fit(a_network(sdf, widths=(width, width)), points, sdf, settings)


@pytest.mark.parametrize("fault, begins", [(not_finite, 1), (dead, 15)])
def test_the_second_attempt_has_the_rest_of_the_time_budget(monkeypatch, fault, begins):
    """A network that is not finite is found out at the first check, a constant one when half of the budget is over."""
    points, sdf = shapes.samples(shapes.box, 4_000)
    collapsing(monkeypatch, 1, fault)
    settings, hooks = FitSettings(batch_size=128, time_budget=30.0), FitHooks(clock=ticking(0.02))
    result = fit(a_network(sdf), points, sdf, settings, hooks)
    assert result.restarts == 1 and result.ended_by == "timeBudget" and result.collapsed == ""
    # Nothing but the fit reads the test's clock, so it has gone on by the seconds of the whole fit.
    assert 30 <= result.seconds <= hooks.clock() < 31
    seconds, rates = (result.history[name] for name in ("seconds", "learning_rate"))
    assert begins < seconds[0] < begins + 4 and rates[-1] < 0.1 * rates[0]


def test_a_fit_that_collapsed_when_its_time_was_over_is_not_repeated(monkeypatch):
    points, sdf = shapes.samples(shapes.box, 4_000)
    collapsing(monkeypatch, 1)
    settings, hooks = FitSettings(batch_size=128, time_budget=10.0), FitHooks(clock=ticking(3.0))
    result = fit(a_network(sdf), points, sdf, settings, hooks)
    assert "constant" in result.collapsed and result.restarts == 0
