"""Masks over units: the formula, its gradients and the pruned network against slow twins."""

import math

import numpy as np
import pytest
import torch

from neuralparts.network import NeuralSDF, UnitMasks

WIDTHS = (7, 12, 9)


def a_masked_network(offsets, activation="relu"):
    network = NeuralSDF(WIDTHS, activation)
    network.initialise("siren" if activation == "sine" else "he_uniform", torch.Generator().manual_seed(3))
    masks = UnitMasks(network)
    masks.offsets.copy_(torch.tensor(offsets))
    masks.apply()
    return network, masks


def slow_values(masks, weights, offsets, points):
    """(N,) values of the network, the output of every unit multiplied by its mask; differentiable."""
    values = points
    for index, weight in enumerate(weights[::2]):
        values = values @ weight.T + weights[2 * index + 1]
        if index < len(WIDTHS):
            values = masks.network.layers[1](values)
            places = torch.tensor([5 * unit / WIDTHS[index] for unit in range(WIDTHS[index])])
            values = values * torch.relu(torch.tanh(places + offsets[index]))
    return values.squeeze(1)


@pytest.mark.parametrize("offset", [1.0, 0.0, -0.3, -2.5, -4.9, -5.0, -7.0])
def test_masks_are_those_of_the_paper(offset):
    _, masks = a_masked_network([offset] * 3)
    for width, mask in zip(WIDTHS, masks.masks(), strict=True):
        expected = [max(0.0, math.tanh(5 * unit / width + offset)) for unit in range(width)]
        np.testing.assert_allclose(mask.numpy(), expected, atol=1e-6)


def test_a_falling_offset_takes_units_away_until_one_is_left():
    _, masks = a_masked_network([1.0] * 3)
    assert masks.widths() == WIDTHS
    before = WIDTHS
    for offset in np.arange(0.9, -6, -0.07):
        masks.offsets.fill_(float(offset))
        counted = tuple(max(1, int((mask > 0).sum())) for mask in masks.masks())
        assert masks.widths() == counted and all(now <= then for now, then in zip(counted, before, strict=True))
        smooth = masks.smooth_widths(masks.offsets)
        assert all(width <= bound <= width + 1 + 1e-5 for width, bound in zip(counted, smooth, strict=True))
        before = counted
    assert before == (1, 1, 1)


@pytest.mark.parametrize("activation", ["relu", "elu", "sine"])
def test_masked_columns_are_masked_units_and_their_gradients_those_of_autograd(activation):
    network, masks = a_masked_network([0.4, -1.3, -3.0], activation)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    values = network.scaled(points)
    of_masked = torch.autograd.grad(values.square().mean(), masks.parameters)
    found = [*masks.gradients(list(of_masked))[0], masks.gradients(list(of_masked))[1]]
    weights = [weight.clone().requires_grad_() for weight in masks.weights]
    offsets = masks.offsets.clone().requires_grad_()
    slow = slow_values(masks, weights, offsets, points)
    torch.testing.assert_close(values, slow, atol=1e-5, rtol=1e-5)
    expected = torch.autograd.grad(slow.square().mean(), [*weights, offsets])
    for gradient, of_slow in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, of_slow, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("offsets", [[1.0, 1.0, 1.0], [0.4, -1.3, -3.0], [-4.9, -2.0, -6.0]])
def test_the_pruned_network_is_the_masked_one(offsets):
    network, masks = a_masked_network(offsets)
    pruned = masks.pruned()
    assert pruned.widths == masks.widths() and pruned.parameter_count <= network.parameter_count
    points = np.random.default_rng(2).uniform(-1, 1, (200, 3))
    np.testing.assert_allclose(pruned.domain(points), network.domain(points), atol=1e-5)
