"""Collapsed fits: networks that give no numbers, a constant, or one sign everywhere."""

import math

import torch

from neuralparts.errors import UserError
from neuralparts.network import NeuralSDF

# A fit has collapsed when the spread of its values is less than this fraction of the targets' spread.
COLLAPSED_SPREAD = 1e-3


class CollapseError(UserError):
    """The network gives values that are not numbers. The message is one line for the user."""


@torch.no_grad()
def collapse_reason(network: NeuralSDF, points: torch.Tensor, targets: torch.Tensor) -> str:
    """Why a fitted network represents no surface, in one line for the user, or ''.

    points (N, 3), domain; targets (N,) in the scaler's units. Raises CollapseError for values that are not numbers.
    """
    # A NaN in a weight need not show in the values: some layers hide it.
    if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
        raise CollapseError("the network's weights are not numbers: try a lower --learningRate")
    values = network.domain(points)
    distances = network.scaler.inverse(targets)
    spread, expected = float(values.std(correction=0)), float(distances.std(correction=0))
    if not math.isfinite(spread):
        raise CollapseError("the network's values are not numbers: try a lower --learningRate")
    if spread < COLLAPSED_SPREAD * expected:
        return "the network collapsed to a constant: try a lower --learningRate or another --seed"
    if _has_both_signs(distances) and not _has_both_signs(values):
        return "the network has one sign everywhere: try more --epochs or another --seed"
    return ""


def _has_both_signs(values: torch.Tensor) -> bool:
    """True if some values (N,) are negative and some positive."""
    return bool((values < 0).any()) and bool((values > 0).any())
