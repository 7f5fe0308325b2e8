"""The losses against values computed by hand."""

import pytest
import torch

from neuralparts.fitting import FitSettings
from neuralparts.fitting.losses import batch_loss, clamp_limits, sample_weights
from neuralparts.network import fit_scaler
from tests import shapes


def test_losses_of_two_values():
    values, targets = torch.tensor([0.3, -0.2]), torch.tensor([0.2, 0.1])
    limits = torch.tensor(-0.1), torch.tensor(0.1)
    assert float(batch_loss(values, targets, None, "l1", limits)) == pytest.approx(0.2)
    assert float(batch_loss(values, targets, None, "l2", limits)) == pytest.approx(0.05)
    assert float(batch_loss(values, targets, None, "clamp", limits)) == pytest.approx(0.1)
    assert float(batch_loss(values, targets, torch.tensor([2.0, 0.0]), "weighted", limits)) == pytest.approx(0.1)


def test_clamp_limits_are_the_images_of_a_tenth_on_either_side():
    scaler = fit_scaler("StandardScaler", shapes.samples(shapes.box, 500)[1])
    low, high = clamp_limits(scaler, torch.device("cpu"))
    assert [float(scaler.inverse(limit)) for limit in (low, high)] == pytest.approx([-0.1, 0.1])


def test_weights_of_samples_fall_with_the_distance_on_either_side():
    distances = torch.tensor([0.0, 0.05, -0.05, 0.95])
    weights = sample_weights(distances, FitSettings(loss="relative"))
    assert torch.allclose(weights / weights[0], torch.tensor([1.0, 0.5, 0.5, 0.05]))
    assert float(weights.mean()) == pytest.approx(1)
    weights = sample_weights(distances, FitSettings(loss="relative", importance_weight=180.0))
    assert torch.allclose(weights / weights[0], torch.tensor([1.0, 0.25, 0.25, 1 / 58]))
    weights = sample_weights(distances, FitSettings(loss="weighted", importance_weight=10.0))
    assert torch.allclose(weights / weights[0], (1 + 3 * torch.exp(-10 * distances.abs())) / 4)
    assert sample_weights(distances, FitSettings()) is None
