"""The samples of a fit on its device, and the random order in which they are taken.

In: labelled points, and perhaps pairs of them, as arrays. Out: batches of points, scaled targets and weights. All
samples stay on the device for the whole fit.
"""

import numpy as np
import torch
from torch import nn

from neuralparts.fitting.losses import sample_weights
from neuralparts.fitting.settings import FitSettings

# A batch has one pair for so many samples: fewer pairs leave the gradient rough, more cost the surface (docs/log.md).
SAMPLES_PER_PAIR = 4
# Pairs of labelled points: points (P, 2, 3) and sdf (P, 2).
Pairs = tuple[np.ndarray, np.ndarray]


def check_pairs(points: np.ndarray, sdf: np.ndarray) -> None:
    """Raise ValueError unless points are (P, 2, 3), sdf (P, 2), P > 0, all finite."""
    if points.ndim != 3 or points.shape[1:] != (2, 3) or sdf.shape != points.shape[:2]:
        raise ValueError(f"pairs of samples need points (P, 2, 3) and sdf (P, 2); got {points.shape} and {sdf.shape}")
    check_samples(points.reshape(-1, 3), sdf.reshape(-1))


def check_samples(points: np.ndarray, sdf: np.ndarray) -> None:
    """Raise ValueError unless points are (N, 3), sdf (N,), N > 0, all finite."""
    if points.ndim != 2 or points.shape[1] != 3 or sdf.shape != (len(points),) or len(points) == 0:
        raise ValueError(f"samples need points (N, 3) and sdf (N,), N > 0; got {points.shape} and {sdf.shape}")
    if not (np.isfinite(points).all() and np.isfinite(sdf).all()):
        raise ValueError("samples hold values that are not finite")


def random_generator(seed: int) -> torch.Generator:
    """torch's generator of a seed of 0 or more, however large."""
    return torch.Generator().manual_seed(seed % 2**63)


class Batches:
    """Samples cut into batches, in a new random order each epoch, and pairs of samples beside them.

    points: (N, 3), domain. sdf: (N,), domain units. scaler: makes the targets. settings: for the weights of the loss.
    pairs: points (P, 2, 3) and sdf (P, 2), or None; they have epochs of their own, in a new random order each.
    rows: (N + 2 P, 4 or 5), x, y, z, target and perhaps weight of all samples, then of all pairs.
    """

    def __init__(
        self,
        points: np.ndarray,
        sdf: np.ndarray,
        scaler: nn.Module,
        settings: FitSettings,
        device: torch.device,
        pairs: Pairs | None = None,
    ):
        self._count = len(points)
        if pairs is not None:
            points, sdf = np.concatenate([points, pairs[0].reshape(-1, 3)]), np.concatenate([sdf, pairs[1].reshape(-1)])
        distances = torch.as_tensor(sdf, dtype=torch.float32, device=device)
        points = torch.as_tensor(points, dtype=torch.float32, device=device)
        with torch.no_grad():
            columns = [points, scaler(distances)[:, None]]
            weights = sample_weights(distances, settings)
            if weights is not None:
                columns.append(weights[:, None])
        # (N, 4 or 5): x, y, z, target, perhaps weight. Side by side, a batch reads one place in memory per sample.
        self.rows = torch.cat(columns, dim=1)
        self._rows = self.rows[: self._count]
        # (P, 2, 4 or 5): the same of the pairs.
        self._pairs = self.rows[self._count :].unflatten(0, (-1, 2))
        # Of the samples and of the pairs: which (seed, epoch) their order belongs to, and the order (N,) or (P,).
        self._orders: dict[str, tuple[tuple[int, int], torch.Tensor]] = {}

    def __len__(self) -> int:
        """Number of samples, pairs not counted."""
        return self._count

    def pairs_beside(self, size: int) -> int:
        """Number of pairs in a batch beside `size` samples."""
        return min(size // SAMPLES_PER_PAIR, len(self._pairs))

    def batch(self, steps: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Points (B, 3), targets (B,) and weights (B,) or None of the step after `steps` steps of `size` samples.

        The samples come first, then the pairs, the two points of each beside each other. The order of an epoch depends
        on the seed and the epoch's number alone.
        """
        samples, pairs = self.chosen(steps, size, seed)
        rows = self._rows.index_select(0, samples)  # (size, 4 or 5)
        if len(pairs):
            rows = torch.cat([rows, self._pairs.index_select(0, pairs).flatten(0, 1)])  # (B, 4 or 5)
        return rows[:, :3], rows[:, 3], rows[:, 4] if rows.shape[1] == 5 else None

    def chosen(self, steps: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers, int64, of the samples (size,) and of the pairs that the step after `steps` steps takes."""
        samples = self._chosen("samples", len(self._rows), steps, size, seed)
        if beside := self.pairs_beside(size):
            return samples, self._chosen("pairs", len(self._pairs), steps, beside, seed)
        return samples, samples[:0]

    def _chosen(self, kind: str, count: int, steps: int, size: int, seed: int) -> torch.Tensor:
        """Those `size` of `count` numbers that the step after `steps` steps takes. kind: "samples" or "pairs"."""
        epoch, index = divmod(steps, count // size)
        order_of, order = self._orders.get(kind, (None, None))
        if order_of != (seed, epoch):
            order = torch.randperm(count, generator=random_generator(seed * 1_000_003 + epoch)).to(self.rows.device)
            self._orders[kind] = (seed, epoch), order
        return order[index * size : (index + 1) * size]

    def first(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Points (B, 3) and targets (B,) of the first `count` samples."""
        return self._rows[:count, :3], self._rows[:count, 3]
