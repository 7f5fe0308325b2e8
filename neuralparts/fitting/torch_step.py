"""One step of one fit by torch and autograd: for every network, loss, optimiser and device.

In: the state of a fit and its samples. Out: the state, changed in place.
"""

import torch

from neuralparts.fitting.batches import Batches
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.losses import SLOPE_WEIGHT, batch_loss, clamp_limits, slope_loss
from neuralparts.fitting.schedule import Schedule
from neuralparts.fitting.settings import FitSettings
from neuralparts.fitting.step_frame import StepFrame
from neuralparts.network import exact_products


class TorchStep(StepFrame):
    """Steps by torch: called with a learning rate, it takes one."""

    def __init__(self, state: FitState, batches: Batches, settings: FitSettings, schedule: Schedule):
        super().__init__([state], batches.order, state.optimizer, settings, schedule)
        self._state, self._rows, self._loss, self._size = state, batches.rows, settings.loss, schedule.batch_size
        self._parameters = list(state.network.parameters())
        self._limits = clamp_limits(state.network.scaler, batches.rows.device)
        self.changed = [*self._parameters, *state.optimizer.changed, state.loss_sum]

    def body(self, with_statistics: bool) -> None:
        """The part of a step that the device does."""
        with exact_products(self._rows.device):
            loss, gradients = self.loss_and_gradients()
        with torch.no_grad():
            self.optimizer.move(gradients, with_statistics)
        self._state.loss_sum += loss  # on the device: the loop reads it at a check only

    def loss_and_gradients(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The loss (), and its gradients by the parameters as a list: `.grad` is never filled, so it need not be
        cleared."""
        size = self._size
        rows = self._rows.index_select(0, self.numbers)  # (B, 4 or 5)
        points, targets, weights = rows[:, :3], rows[:, 3], rows[:, 4] if rows.shape[1] == 5 else None
        values = self._state.network.scaled(points)
        loss = batch_loss(values, targets, weights, self._loss, self._limits)
        if len(points) > size:  # pairs follow the samples
            loss = loss + SLOPE_WEIGHT * slope_loss(points[size:], values[size:], targets[size:])
        return loss.detach(), list(torch.autograd.grad(loss, self._parameters))
