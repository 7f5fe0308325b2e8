"""Collapsed fits: repeated once, reported if they collapse again, an error if they give no numbers."""

import pytest
import torch

from neuralparts.fitting import CollapseError, FitSettings, fit
from neuralparts.network import NeuralSDF
from tests import shapes
from tests.fitting.cases import a_network


def collapsing(monkeypatch: pytest.MonkeyPatch, attempts: int) -> None:
    """Make the first `attempts` initialisations give a dead network."""
    original, calls = NeuralSDF.initialise, []

    def initialise(self, init, generator):
        original(self, init, generator)
        calls.append(init)
        if len(calls) <= attempts:
            with torch.no_grad():
                for layer in list(self.layers)[:-1]:
                    if hasattr(layer, "bias"):
                        layer.weight.zero_()
                        layer.bias.fill_(-1.0)

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
