"""One step of many plain networks at once, by hand-written gradients of stacked tensors; on a GPU also of one network.

In: the states of the fits and their samples. Out: the states, changed in place, each as if it had been alone but for
rounding; and at checks the values of all networks. `torch_step.py` has its slow twin, which a test compares with it.
"""

import torch

from neuralparts.fitting.batches import Batches
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.loss_gradients import Limits, loss_and_gradient, slope_loss_and_gradient
from neuralparts.fitting.losses import clamp_limits
from neuralparts.fitting.schedule import Schedule
from neuralparts.fitting.settings import FitSettings
from neuralparts.fitting.stack import Stack
from neuralparts.fitting.step_frame import StepFrame
from neuralparts.network import continue_outside, inverse_of_each

# Points that are evaluated at once, those of all networks together: 0.2 GB of activations of the DAM network.
_POINTS_AT_ONCE = 2**17


class StackedStep(StepFrame):
    """Steps of P networks: called with a learning rate, it takes one step of each.

    states, batches: of the P members, the latter slices of one `SampleStack`. stack: of those states.
    """

    def __init__(
        self, states: list[FitState], batches: list[Batches], settings: FitSettings, schedule: Schedule, stack: Stack
    ):
        super().__init__(states, batches[0].order, stack.optimizer, settings, schedule)
        self.changed = stack.changed
        self._stack, self._loss, self._size = stack, settings.loss, schedule.batch_size
        rows = batches[0].stack.rows
        self._rows = rows.flatten(0, 1)  # (all members' rows, 4 or 5)
        # (P, 1): number of each member's first row.
        self._starts = torch.tensor([[member.place * rows.shape[1]] for member in batches], device=rows.device)
        self._inverse = inverse_of_each([state.network.scaler for state in states])
        self._limits = _all_limits(states, rows.device) if settings.loss == "clamp" else None

    @torch.no_grad()
    def body(self, with_statistics: bool) -> None:
        """The part of a step that the device does."""
        numbers = (self._starts + self.numbers).flatten()  # (P * B,)
        rows = self._rows.index_select(0, numbers).unflatten(0, (len(self._starts), -1))  # (P, B, 4 or 5)
        layers, size = self._stack.layers, self._size
        values = layers.values(rows[..., :3])  # (P, B)
        losses, gradient = loss_and_gradient(values, rows, self._loss, self._limits)
        if rows.shape[1] > size:  # pairs follow the samples
            of_slopes, by_pairs = slope_loss_and_gradient(values[:, size:], rows[:, size:])
            losses += of_slopes
            gradient[:, size:] += by_pairs
        self.optimizer.move(layers.gradients(gradient), with_statistics)
        self._stack.loss_sum += losses

    @torch.no_grad()
    def domain(self, points: torch.Tensor) -> torch.Tensor:
        """points (P, M, 3), domain, on the device -> (P, M): each network's own signed distances, domain units.

        As `NeuralSDF.domain`, but for rounding.
        """
        batch = max(1, _POINTS_AT_ONCE // len(points))
        inside = points.clamp(-1, 1).split(batch, dim=1)
        scaled = torch.cat([self._stack.layers.values(part, has_gradients=False) for part in inside], dim=1)  # (P, M)
        return continue_outside(points, self._inverse(scaled))


def _all_limits(states: list[FitState], device: torch.device) -> Limits:
    """The limits of the clamp loss of each network, as `loss_and_gradient` takes them."""
    limits = [clamp_limits(state.network.scaler, device) for state in states]
    low, high = zip(*limits, strict=True)
    return torch.stack(low)[:, None], torch.stack(high)[:, None]
