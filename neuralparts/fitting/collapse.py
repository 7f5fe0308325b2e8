"""Networks that represent no surface: no numbers, a constant, one sign everywhere, or signs that are not learnt yet."""

import math

import torch

from neuralparts.errors import UserError
from neuralparts.network import NeuralSDF

# A fit has collapsed when the spread of its values is less than this fraction of the targets' spread.
COLLAPSED_SPREAD = 1e-3
# Signs are learnt if at most this fraction of the samples off the surface have the wrong one.
LARGEST_WRONG_FRACTION = 0.01


class CollapseError(UserError):
    """The network gives values that are not numbers. The message is one line for the user."""


@torch.no_grad()
def collapse_reason(network: NeuralSDF, points: torch.Tensor, targets: torch.Tensor, is_fitted: bool = True) -> str:
    """Why a network represents no surface, in one line for the user, or ''.

    points (N, 3), domain; targets (N,) in the scaler's units. is_fitted: False in the middle of a fit, when one sign
    everywhere is no collapse yet. Raises CollapseError for values that are not numbers.
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
    if is_fitted and _has_both_signs(distances) and not _has_both_signs(values):
        return "the network has one sign everywhere: try more --epochs or another --seed"
    return ""


@torch.no_grad()
def signs_are_learnt(network: NeuralSDF, points: torch.Tensor, targets: torch.Tensor, beyond: float) -> bool:
    """True if nearly all samples farther than `beyond` (domain units) from the surface have the right sign.

    points (N, 3), domain; targets (N,) in the scaler's units. A small error on the surface does not say so: a network
    that is nearly 0 everywhere has one.
    """
    distances = network.scaler.inverse(targets)
    values = network.domain(points)
    far = distances.abs() > beyond  # (N,)
    wrong = ((values < 0) != (distances < 0)) & far
    return bool(wrong.sum() <= LARGEST_WRONG_FRACTION * far.sum()) and bool(far.any())


def _has_both_signs(values: torch.Tensor) -> bool:
    """True if some values (N,) are negative and some positive."""
    return bool((values < 0).any()) and bool((values > 0).any())
