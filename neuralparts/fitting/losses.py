"""The losses of a fit: l1, l2, clamp, weighted, relative; and that of the slopes between pairs of samples.

In: signed distances in domain units once, for the samples' weights; then a batch's values and targets in the scaler's
units. Out: weights of the samples, and the loss of a batch.
"""

from typing import TypeVar

import numpy as np
import torch
from torch import nn

from neuralparts.fitting.settings import FitSettings

Distances = TypeVar("Distances", np.ndarray, torch.Tensor)
# The losses that weigh their samples.
WEIGHTED_LOSSES = ("weighted", "relative")
# DeepSDF's clamping distance (Park et al., 2019), domain units.
CLAMP_DISTANCE = 0.1
# Weight of a sample on the surface over that of one far away, for the weighted loss.
SURFACE_WEIGHT = 4.0
# Distance at which a sample weighs half as much as on the surface, for the relative loss, in units of
# 1 / importance_weight: 0.05 at the default weight. The nearer the samples lie, the sooner they weigh less.
HALF_WEIGHT_AT = 3.0
# Weight of the error of the slopes, which has no unit, beside that of the values.
SLOPE_WEIGHT = 0.002


def sample_weights(distances: torch.Tensor, settings: FitSettings) -> torch.Tensor | None:
    """Weights (N,) of mean 1 for signed distances (N,), domain units; None for a loss that is not in WEIGHTED_LOSSES.

    They fall with |d|: exponentially for the weighted loss, as 1 / (3 + importance_weight |d|) for the relative loss.
    """
    if settings.loss not in WEIGHTED_LOSSES:
        return None
    if settings.loss == "weighted":
        weights = 1 + (SURFACE_WEIGHT - 1) * torch.exp(-settings.importance_weight * distances.abs())
    else:
        weights = relative_weights(distances, settings.importance_weight)
    return weights / weights.mean()


def relative_weights(distances: Distances, importance_weight: float) -> Distances:
    """The relative loss's weights (N,) of signed distances (N,), domain units: 1 on the surface."""
    half_at = HALF_WEIGHT_AT / importance_weight
    return half_at / (half_at + abs(distances))


@torch.no_grad()
def clamp_limits(scaler: nn.Module, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(low, high), each of shape (): the scaled values of distances -0.1 and 0.1, to which the clamp loss clamps."""
    low, high = (scaler(torch.tensor(sign * CLAMP_DISTANCE, dtype=torch.float32, device=device)) for sign in (-1, 1))
    return low, high


def batch_loss(
    values: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None,
    loss: str,
    limits: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Loss, shape (), of values (B,) against targets (B,), both in the scaler's units. Differentiable.

    l2: mean square. clamp: mean absolute error of both clamped to `limits`. Others: mean absolute error, each sample's
    times its weight if there are weights (B,).
    """
    if loss == "clamp":
        values, targets = torch.clamp(values, *limits), torch.clamp(targets, *limits)
    errors = values - targets
    if loss == "l2":
        return (errors * errors).mean()
    return errors.abs().mean() if weights is None else (errors.abs() * weights).mean()


def slope_loss(points: torch.Tensor, values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean |error|, shape (), of the slopes between pairs, in the scaler's units per domain unit. Differentiable.

    points (2 P, 3), domain; values (2 P,) and targets (2 P,): the two of a pair are beside each other. Sobolev
    training (Czarnecki et al., 2017) by differences, which cost no second derivatives.
    """
    lengths = points.unflatten(0, (-1, 2)).diff(dim=1).norm(dim=2).squeeze(1)  # (P,)
    differences = (values - targets).unflatten(0, (-1, 2)).diff(dim=1).squeeze(1)  # (P,)
    return (differences.abs() / lengths).mean()
