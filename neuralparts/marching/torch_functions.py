"""A torch module or callable as the numpy functions that `march` takes: its values, and its gradient by autograd."""

from collections.abc import Callable

import numpy as np
import torch

from neuralparts.marching.probe import Function

# In a matrix product of a multiple of so many rows, torch gives each row the same bits whatever the others are.
ROWS = 64


def as_function(
    call: Callable[[torch.Tensor], torch.Tensor], device: str | torch.device = "cpu", batch: int = 2048
) -> Function:
    """`call`, (N, 3) float32 tensor -> (N,) or (N, 1), as a function of arrays: (N, 3) -> (N,) float32.

    batch: points a call; with 2048 the activations of a layer stay in the processor's cache, which for the DAM widths
    is half as fast again as 16384 on two cores. Each call is filled up to a multiple of 64 points: a point then gets
    the same bits whatever other points are asked with it.
    """

    def evaluate(points: np.ndarray) -> np.ndarray:
        filled = np.zeros((-(-len(points) // ROWS) * ROWS, 3), dtype=np.float32)
        filled[: len(points)] = points
        with torch.inference_mode():
            parts = torch.from_numpy(filled).split(batch)
            values = [call(part.to(device)).reshape(-1).float().cpu() for part in parts]
        return torch.cat(values)[: len(points)].numpy()

    return evaluate


def as_gradient(
    call: Callable[[torch.Tensor], torch.Tensor], device: str | torch.device = "cpu", batch: int = 2048
) -> Function:
    """The gradient of such a callable by autograd, as a function of arrays: (N, 3) -> (N, 3) float32."""

    def evaluate(points: np.ndarray) -> np.ndarray:
        parts = []
        for part in torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32)).split(batch):
            part = part.to(device).requires_grad_(True)
            # The values of points are independent, so the gradient of their sum is the gradient at each of them.
            parts.append(torch.autograd.grad(call(part).sum(), part)[0].cpu())
        return torch.cat(parts).numpy()

    return evaluate
