"""Points as users have them, and answers of the same kind.

In: arrays, lists or tensors (..., 3), and a function of a tensor (B, 3). Out: its values (..., ...), an array for an
array or a list, a tensor on the points' device for a tensor.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from neuralparts.errors import lacks_memory

# What numpy can make an array of, or a tensor.
Points = np.ndarray | torch.Tensor | Sequence
# A batch is halved where memory runs out, but not to fewer points: it is not the batch then that takes the memory.
_SMALLEST_HALF = 256
# Dtypes that float32 holds.
NARROW = {torch.float32, torch.float16, torch.bfloat16, np.dtype(np.float32), np.dtype(np.float16)}


def result_dtype(dtype: np.dtype | torch.dtype) -> torch.dtype:
    """The dtype of values at points of this dtype: float32 for float32 and narrower floats, else float64."""
    return torch.float32 if dtype in NARROW else torch.float64


def check_points(points: np.ndarray | torch.Tensor) -> None:
    """Raise ValueError unless points have shape (..., 3)."""
    if points.shape[-1:] != (3,):
        raise ValueError(f"points must have shape (..., 3); got {tuple(points.shape)}")


def answer(
    points: np.ndarray | torch.Tensor,
    function: Callable[[torch.Tensor], torch.Tensor],
    batch_size: int,
    dtype: torch.dtype,
) -> np.ndarray | torch.Tensor:
    """function(points), points (..., 3), for `batch_size` points at a time, as `dtype`.

    function: (B, 3) tensor of the points' dtype, on their device -> (B, ...). It may answer on another device. Returns
    (..., ...), an array for an array, else a tensor on the points' device. The points must have passed `check_points`.
    Where memory runs out, the batches are halved from there on. Raises the error if it runs out for a few points too.
    """
    shape, is_array = points.shape, not isinstance(points, torch.Tensor)
    rows = (torch.from_numpy(np.ascontiguousarray(points)) if is_array else points).reshape(-1, 3)
    # One batch on the network's device at a time; its values come back at once.
    parts, done = [], 0
    while done < len(rows) or not parts:
        batch = rows[done : done + batch_size] if len(rows) > batch_size else rows
        try:
            parts.append(function(batch).to(device=rows.device, dtype=dtype))
            done += len(batch)
        except RuntimeError as error:
            if not lacks_memory(error) or len(batch) < 2 * _SMALLEST_HALF:
                raise
            batch_size = len(batch) // 2
    values = torch.cat(parts) if len(parts) > 1 else parts[0]
    values = values.reshape((*shape[:-1], *values.shape[1:]))
    return values.numpy() if is_array else values
