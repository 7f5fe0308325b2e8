"""The samples of a fit, or of several at once, on their device, and the random order in which they are taken.

In: labelled points, and perhaps pairs of them, as arrays. Out: batches of points, scaled targets and weights. All
samples stay on the device for the whole fit. Those of several fits lie in one stack and are taken in one order, so that
one gather takes a batch for all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from neuralparts.fitting.losses import WEIGHTED_LOSSES, sample_weights
from neuralparts.fitting.settings import FitSettings

# A batch has one pair for so many samples: fewer pairs leave the gradient rough, more cost the surface (docs/log.md).
SAMPLES_PER_PAIR = 4
# Pairs of labelled points: points (Q, 2, 3) and sdf (Q, 2).
Pairs = tuple[np.ndarray, np.ndarray]


def count_pairs(pairs: Pairs | None) -> int:
    """Number of pairs."""
    return 0 if pairs is None else len(pairs[0])


def check_pairs(points: np.ndarray, sdf: np.ndarray) -> None:
    """Raise ValueError unless points are (Q, 2, 3), sdf (Q, 2), Q > 0, all finite."""
    if points.ndim != 3 or points.shape[1:] != (2, 3) or sdf.shape != points.shape[:2]:
        raise ValueError(f"pairs of samples need points (Q, 2, 3) and sdf (Q, 2); got {points.shape} and {sdf.shape}")
    check_samples(points.reshape(-1, 3), sdf.reshape(-1))


def check_samples(points: np.ndarray, sdf: np.ndarray) -> None:
    """Raise ValueError unless points are (N, 3), sdf (N,), N > 0, all finite."""
    if points.ndim != 2 or points.shape[1] != 3 or sdf.shape != (len(points),) or len(points) == 0:
        raise ValueError(f"samples need points (N, 3) and sdf (N,), N > 0; got {points.shape} and {sdf.shape}")
    if not (np.isfinite(points).all() and np.isfinite(sdf).all()):
        raise ValueError("samples hold values that are not finite")


def random_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """torch's generator of a seed of 0 or more, however large, for draws on `device`."""
    return torch.Generator(device).manual_seed(seed % 2**63)


class SampleOrder:
    """The random order in which all members of a batch take their samples and pairs: a new one each epoch.

    samples, pairs: how many of each a member has, pairs possibly none; they have epochs of their own. The order of an
    epoch depends on the seed, the epoch's number and the kind of device alone: a GPU draws it itself.
    """

    def __init__(self, samples: int, pairs: int, device: torch.device):
        self._counts, self._device = {"samples": samples, "pairs": pairs}, device
        # Of the samples and of the pairs: which (seed, epoch) their order belongs to, and the order (N,) or (Q,).
        self._orders: dict[str, tuple[tuple[int, int], torch.Tensor]] = {}

    def __len__(self) -> int:
        """Number of samples, pairs not counted."""
        return self._counts["samples"]

    def pairs_beside(self, size: int) -> int:
        """Number of pairs in a batch beside `size` samples."""
        return min(size // SAMPLES_PER_PAIR, self._counts["pairs"])

    def rows(self, steps: int, size: int, seed: int) -> torch.Tensor:
        """Numbers (B,) int64 of the rows that the step after `steps` steps takes: samples, then both of each pair."""
        samples, beside = self._chosen("samples", steps, size, seed).long(), self.pairs_beside(size)
        if not beside:
            return samples
        # (pairs,): row of the first of each pair
        first = len(self) + 2 * self._chosen("pairs", steps, beside, seed).long()
        return torch.cat([samples, torch.stack([first, first + 1], dim=1).flatten()])

    def batches(self, kind: str, size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
        """Numbers (size,) of those that the step after `steps` steps takes, then of each further step, without end.

        kind: "samples" or "pairs". size: 1 or more. For an order on the CPU.
        """
        steps_of_epoch = self._counts[kind] // size
        epoch, first = divmod(steps, steps_of_epoch)
        while True:
            order = self.of_epoch(kind, epoch, seed).numpy()
            yield from order[: steps_of_epoch * size].reshape(steps_of_epoch, size)[first:]
            epoch, first = epoch + 1, 0

    def _chosen(self, kind: str, steps: int, size: int, seed: int) -> torch.Tensor:
        """Those `size` numbers that the step after `steps` steps takes. kind: "samples" or "pairs"."""
        epoch, index = divmod(steps, self._counts[kind] // size)
        return self.of_epoch(kind, epoch, seed)[index * size : (index + 1) * size]

    def of_epoch(self, kind: str, epoch: int, seed: int) -> torch.Tensor:
        """All numbers of "samples" (N,) or "pairs" (Q,) on the device, int64 or int32, in the order of an epoch."""
        order_of, order = self._orders.get(kind, (None, None))
        if order_of != (seed, epoch):
            count, on_gpu = self._counts[kind], self._device.type == "cuda"
            rows = self._counts["samples"] + 2 * self._counts["pairs"]
            drawn_on = self._device if on_gpu else torch.device("cpu")
            generator = random_generator(seed * 1_000_003 + epoch, drawn_on)
            # On the CPU the order is the same in both dtypes, and the smaller one is drawn sooner.
            dtype = torch.int64 if on_gpu or rows >= 2**31 else torch.int32
            order = torch.randperm(count, generator=generator, device=drawn_on, dtype=dtype).to(self._device)
            self._orders[kind] = (seed, epoch), order
        return order


@dataclass(frozen=True)
class SampleStack:
    """The samples and pairs of all members of a batch, and the order in which all of them take theirs.

    rows: (members, N + 2 Q, 4 or 5) float32, x, y, z, target and perhaps weight of all samples, then of all pairs.
    """

    rows: torch.Tensor
    order: SampleOrder

    @classmethod
    def empty(
        cls, members: int, samples: int, pairs: int, settings: FitSettings, device: torch.device
    ) -> "SampleStack":
        """Memory for so many members, each with so many samples and pairs; `Batches` fill it."""
        columns = 5 if settings.loss in WEIGHTED_LOSSES else 4
        rows = torch.empty(members, samples + 2 * pairs, columns, device=device)
        return cls(rows, SampleOrder(samples, pairs, device))


class Batches:
    """Samples of one member cut into batches, in a new random order each epoch, and pairs of samples beside them.

    points: (N, 3), domain. sdf: (N,), domain units. scaler: makes the targets. settings: for the weights of the loss.
    pairs: points (Q, 2, 3) and sdf (Q, 2), or None. stack: that of all members, in which this one's samples are copied
    to the slice number `place`; by default one of its own. rows: that slice, (N + 2 Q, 4 or 5).
    """

    def __init__(
        self,
        points: np.ndarray,
        sdf: np.ndarray,
        scaler: nn.Module,
        settings: FitSettings,
        device: torch.device,
        pairs: Pairs | None = None,
        stack: SampleStack | None = None,
        place: int = 0,
    ):
        if stack is None:
            stack = SampleStack.empty(1, len(points), count_pairs(pairs), settings, device)
        self.stack, self.place = stack, place
        self.order, self.rows = stack.order, stack.rows[place]
        count = len(points)
        # x, y, z, target, perhaps weight side by side: so a batch reads one place in memory per sample.
        distances = torch.empty(len(self.rows), device=device)  # (N + 2 Q,)
        self.rows[:count, :3] = torch.as_tensor(points)
        distances[:count] = torch.as_tensor(sdf)
        if pairs is not None:
            self.rows[count:, :3] = torch.as_tensor(pairs[0]).reshape(-1, 3)
            distances[count:] = torch.as_tensor(pairs[1]).reshape(-1)
        with torch.no_grad():
            self.rows[:, 3] = scaler(distances)
            if self.rows.shape[1] == 5:
                self.rows[:, 4] = sample_weights(distances, settings)

    def __len__(self) -> int:
        """Number of samples, pairs not counted."""
        return len(self.order)

    def pairs_beside(self, size: int) -> int:
        """As `SampleOrder.pairs_beside`."""
        return self.order.pairs_beside(size)

    def batch(self, steps: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Points (B, 3), targets (B,) and weights (B,) or None of the step after `steps` steps of `size` samples.

        The samples come first, then the pairs, the two points of each beside each other.
        """
        rows = self.rows.index_select(0, self.order.rows(steps, size, seed))  # (B, 4 or 5)
        return rows[:, :3], rows[:, 3], rows[:, 4] if rows.shape[1] == 5 else None

    def first(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Points (B, 3) and targets (B,) of the first `count` samples."""
        rows = self.rows[: min(count, len(self))]
        return rows[:, :3], rows[:, 3]
