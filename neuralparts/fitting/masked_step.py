"""One step of a fit whose hidden layers are masked: the ordinary step of the weights, and one of the masks' offsets.

In: the state of a fit, its samples, its masks, and how many parameters may be left. Out: the state and the offsets,
changed in place.
"""

from collections.abc import Sequence

import torch

from neuralparts.fitting.batches import Batches
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.schedule import Schedule
from neuralparts.fitting.settings import FitSettings
from neuralparts.fitting.torch_step import TorchStep
from neuralparts.network import FIRST_OFFSET, SPREAD, UnitMasks, exact_products
from neuralparts.widths import parameters_of

# Most that one step moves an offset: half of a layer's units are gone after 90 steps at the soonest. 0.15 found worse
# widths (docs/log.md).
OFFSET_STEP = 0.04
# Decay rate of the running mean of the offsets' gradients: a batch alone says little about the worth of a unit.
OFFSET_DECAY = 0.9
# Halvings of an interval until the multiplier is exact enough: a unit more or less is decided by 2^-30 of the interval.
BISECTIONS = 30


class MaskedStep(TorchStep):
    """Steps by torch of a masked network: called with a learning rate, it takes one.

    state: of the masked network; its optimiser moves `masks.weights`.
    """

    def __init__(self, state: FitState, batches: Batches, settings: FitSettings, schedule: Schedule, masks: UnitMasks):
        super().__init__(state, batches, settings, schedule)
        self._masks = masks
        self._slopes = torch.zeros_like(masks.offsets)  # (hidden layers,): mean gradient of the loss by the offsets

    def body(self, with_statistics: bool) -> None:
        """The part of a step that the device does."""
        self._masks.apply()
        with exact_products(self._state.loss_sum.device):
            loss, of_masked = self.loss_and_gradients()
        of_weights, of_offsets = self._masks.gradients(of_masked)
        with torch.no_grad():
            self.optimizer.move(of_weights, with_statistics)
            self._slopes.lerp_(of_offsets, 1 - OFFSET_DECAY)
        self._state.loss_sum += loss

    def shrink(self, most_parameters: int) -> None:
        """Move the offsets towards at most so many parameters (`shrunk_offsets`)."""
        self._masks.offsets.copy_(shrunk_offsets(self._masks, self._slopes, most_parameters))


def shrunk_offsets(masks: UnitMasks, slopes: torch.Tensor, most_parameters: int) -> torch.Tensor:
    """Offsets (hidden layers,) with which at most so many parameters are left, or as few as one step can leave.

    slopes: (hidden layers,) gradient of the loss by the offsets. It is a step of gradient descent on loss + multiplier
    * parameters, each offset measured in the parameters that it takes away. A layer is worth what the loss gains by one
    more parameter. Below the multiplier its offset falls, above it rises. The multiplier is the smallest that leaves
    few enough parameters, so nobody has to choose it. Parameters are counted by `smooth_widths`, an upper bound.
    """
    offsets = masks.offsets
    widths = masks.smooth_widths(offsets)
    if parameters_of(widths) <= most_parameters:
        return offsets
    worth = -slopes / parameters_by_offset(masks.network.widths, widths)
    scale = worth.abs().median()
    is_finite = bool(worth.isfinite().all())  # else the slopes say nothing
    worth = worth / scale if is_finite and scale > 0 else torch.zeros_like(worth)
    low, high = float(worth.min()) - 1, float(worth.max()) + 1
    for _ in range(BISECTIONS):
        multiplier = (low + high) / 2
        widths = masks.smooth_widths(_moved(offsets, multiplier - worth))
        low, high = (low, multiplier) if parameters_of(widths) <= most_parameters else (multiplier, high)
    return _moved(offsets, high - worth)


def _moved(offsets: torch.Tensor, falls: torch.Tensor) -> torch.Tensor:
    """Offsets (hidden layers,) after a step along -falls, at most OFFSET_STEP long for each and not above the first."""
    return (offsets - OFFSET_STEP * falls.clamp(-1, 1)).clamp(max=FIRST_OFFSET)


def parameters_by_offset(full: Sequence[float], widths: Sequence[float]) -> torch.Tensor:
    """How many parameters a layer's offset takes away if it falls by 1: (hidden layers,) float32.

    full: hidden widths without masks. widths: hidden widths that are left. A unit has a weight for each unit before it,
    a bias, and a weight in each unit after it.
    """
    of_unit = [before + 1 + after for before, after in zip((3, *widths[:-1]), (*widths[1:], 1), strict=True)]
    return torch.tensor([units / SPREAD * each for units, each in zip(full, of_unit, strict=True)])
