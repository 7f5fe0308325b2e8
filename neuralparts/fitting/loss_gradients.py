"""The losses of many networks at once, with their gradients by hand; `losses.py` has the same for one, for autograd.

In: values, targets and perhaps weights of a batch of each network. Out: the loss of each network, and the gradient of
their sum by the values.
"""

import torch

from neuralparts.fitting.losses import SLOPE_WEIGHT

# Lowest and highest scaled value of each network, (P, 1) both, to which the clamp loss clamps.
Limits = tuple[torch.Tensor, torch.Tensor]


def loss_and_gradient(
    values: torch.Tensor, rows: torch.Tensor, loss: str, limits: Limits | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(losses (P,), gradient (P, B)) of values (P, B), as `losses.batch_loss` has it for each network.

    rows: (P, B, 4 or 5): x, y, z, target and perhaps weight. limits: of the clamp loss, else not read.
    """
    targets, count = rows[..., 3], values.shape[1]
    if loss == "l2":
        errors = values - targets
        return (errors * errors).mean(1), errors * (2 / count)
    if loss == "clamp":
        low, high = limits
        errors = values.clamp(low, high) - targets.clamp(low, high)
        gradient = errors.sign() * ((values >= low) & (values <= high))
        return errors.abs().mean(1), gradient.mul_(1 / count)
    errors = values - targets
    if rows.shape[-1] == 4:
        return errors.abs().mean(1), errors.sign().mul_(1 / count)
    weights = rows[..., 4]
    return (errors.abs() * weights).mean(1), errors.sign().mul_(weights).mul_(1 / count)


def slope_loss_and_gradient(values: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(SLOPE_WEIGHT times losses (P,), gradient (P, 2 Q)) of the slopes between pairs, as `losses.slope_loss` has them.

    values: (P, 2 Q), the two of a pair beside each other. rows: (P, 2 Q, 4 or 5), as in `loss_and_gradient`.
    """
    pairs = rows.unflatten(1, (-1, 2))  # (P, Q, 2, 4 or 5)
    errors = values.unflatten(1, (-1, 2)) - pairs[..., 3]  # (P, Q, 2)
    differences = errors[..., 1] - errors[..., 0]  # (P, Q)
    # Each pair's part of the loss over the size of its difference.
    factors = (pairs[:, :, 1, :3] - pairs[:, :, 0, :3]).norm(dim=-1).reciprocal().mul_(SLOPE_WEIGHT / pairs.shape[1])
    of_second = differences.sign().mul_(factors)
    return (differences.abs() * factors).sum(1), torch.stack([-of_second, of_second], dim=-1).flatten(1)
