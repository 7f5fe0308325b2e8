"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., 2024; Shampoo: Gupta et al., 2018).

In: a list of parameters, then gradients and a learning rate at every step. Out: the parameters, changed in place. The
parameters of several networks may be stacked, (P, ...).

For every weight matrix it keeps running means of G G^T and G^T G of its gradients G, and runs Adam on the gradient
rotated into their eigenvectors. The rotation costs four small matrix products a step and saves far more steps than it
costs. One orthogonal iteration every REFRESH steps keeps the bases near the eigenvectors (`bases.py`). Products with
the bases may be rounded (`network.matrix_products`); everything else is float32. Nothing here waits for a GPU.
"""

from contextlib import AbstractContextManager

import torch

from neuralparts.fitting.adam import Adam
from neuralparts.fitting.bases import Bases, first_basis, following_bases, following_basis
from neuralparts.network import SideStreams, exact_products, gradient_products

# Decay rates of Adam's means of gradients and of their squares.
SOAP_BETAS = (0.95, 0.95)
# The preconditioner's means take every STATISTICS_EVERY-th gradient. At the start they take every gradient.
STATISTICS_EVERY = 5
EVERY_GRADIENT_UNTIL = 40
# Steps between refreshes of the bases, and the steps of more refreshes at the start, when the eigenvectors still move
# fast.
REFRESH = 100
EARLY_REFRESHES = (1, 5, 20)
# Smaller matrices, those of the input layer and of the output, gain nothing from bases of their own.
SMALLEST_SIDE = 8
# Larger ones, such as a hash grid's table, would need bases of gigabytes.
LARGEST_SIDE = 2048


class Soap:
    """SOAP on weight matrices, Adam on everything else.

    parameters: float32 tensors of one device, changed in place by `step`; all of one network, or all of P stacked ones,
    a weight (P, rows, columns) and a bias (P, 1, rows). rounded: True if their gradients are rounded
    (`network.is_rounded`), so that rounded bases may rotate them. rates: as for `Adam`.
    """

    # The learning rate that suits this optimiser, as a multiple of the one that the user gives.
    rate_multiple = 5.0

    def __init__(self, parameters: list[torch.Tensor], rounded: bool = False, rates: int = 1):
        self._is_matrix = [is_preconditioned(parameter) for parameter in parameters]
        self._matrices, others = self._split(parameters)
        self._rounded, self._device = rounded, parameters[0].device
        self._streams = SideStreams(self._device)
        self._is_stacked = any(matrix.ndim == 3 for matrix in self._matrices)
        self.bases = [Bases(matrix, rounded) for matrix in self._matrices]
        # One Adam moves everything. For a matrix, Adam is given a zero tensor; how far Adam moves it is the step, in
        # the bases.
        self._rotated_steps = [torch.zeros_like(matrix) for matrix in self._matrices]
        self._adam = Adam(self._rotated_steps + others, SOAP_BETAS, rates)

    def _split(self, tensors: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """(those of the matrices, those of the others) of one tensor for each parameter."""
        pairs = list(zip(tensors, self._is_matrix, strict=True))
        return [tensor for tensor, flag in pairs if flag], [tensor for tensor, flag in pairs if not flag]

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return self._adam.steps

    @property
    def statistics_are_due(self) -> bool:
        """True if the means take the next step's gradients."""
        step = self.steps + 1
        return step <= EVERY_GRADIENT_UNTIL or step % STATISTICS_EVERY == 0

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor], learning_rate: float) -> None:
        """One step along `gradients`, shaped like the parameters, at `learning_rate`. Raises as `advance`."""
        self.set_rate(learning_rate)
        self.move(gradients, self.statistics_are_due)
        self.advance()

    def set_rate(self, learning_rate: float | list[float]) -> None:
        """Choose the learning rate of the following `move`, or all rates."""
        self._adam.set_rate(learning_rate)

    def move(self, gradients: list[torch.Tensor], with_statistics: bool) -> None:
        """The part of a step that is the same in most steps; it can be captured as a CUDA graph.

        with_statistics: True if the means take these gradients (`statistics_are_due`).
        """
        of_matrices, of_others = self._split(gradients)
        if with_statistics:
            with exact_products(self._device):
                for place, (bases, gradient) in enumerate(zip(self.bases, of_matrices, strict=True)):
                    with self._streams.branch(place):
                        bases.add_statistics(gradient)
        # Adam's step from zero in the bases, (rows, columns) for each matrix, rotated back and added.
        if self._rotated_steps:
            torch._foreach_zero_(self._rotated_steps)
        rotated = []
        with self._products(self._rounded):
            for place, (bases, gradient) in enumerate(zip(self.bases, of_matrices, strict=True)):
                with self._streams.branch(place):
                    rotated.append(bases.rotate(gradient))
        self._streams.join()
        self._adam.move(rotated + of_others)
        with self._products(rounded=True):
            for place, (matrix, bases) in enumerate(zip(self._matrices, self.bases, strict=True)):
                with self._streams.branch(place):
                    bases.add_step(matrix, self._rotated_steps[place])
        self._streams.join()

    def _products(self, rounded: bool) -> AbstractContextManager[None]:
        """How a GPU multiplies inside the block: for stacked networks it may round, if `rounded`."""
        products = gradient_products if rounded and self._is_stacked else exact_products
        return products(self._device)

    @torch.no_grad()
    def advance(self) -> None:
        """The rest of a step, after `move`: count it, and refresh the bases if that is due.

        Raises CollapseError if the gradients of one network's first step on the CPU are not finite, unless eigh lets
        them pass: the weights are then not finite either.
        """
        self._adam.advance()
        if self.steps in EARLY_REFRESHES or self.steps % REFRESH == 0:
            self.refresh(is_first=self.steps == 1)

    @torch.no_grad()
    def refresh(self, is_first: bool = False) -> None:
        """Bring the bases nearer to the eigenvectors, and rotate Adam's means of gradients with them.

        Adam's means of squares stay as they are, except the first time: those belong to no basis.
        """
        means = [bases.state[name] for bases in self.bases for name in ("left_mean", "right_mean")]
        old = [bases.state[name] for bases in self.bases for name in ("left", "right")]
        with exact_products(self._device):
            if self._is_stacked or self._device.type != "cpu":
                new = following_bases(means, old)
            elif is_first:
                new = [first_basis(mean) for mean in means]
            else:
                new = [following_basis(mean, basis) for mean, basis in zip(means, old, strict=True)]
            for index, bases in enumerate(self.bases):
                # The matrices come first in Adam's list, so `index` is theirs there too.
                bases.replace(new[2 * index], new[2 * index + 1], self._adam.first[index])
        if is_first:
            for second in self._adam.second[: len(self.bases)]:
                second.zero_()

    @property
    def changed(self) -> list[torch.Tensor]:
        """All tensors that `move` changes, beside the parameters."""
        return [*self._adam.changed, *(tensor for bases in self.bases for tensor in bases.state.values())]

    def state(self) -> dict[str, torch.Tensor]:
        """All that the next step depends on, beside the parameters, by name."""
        tensors = {f"adam.{name}": tensor for name, tensor in self._adam.state().items()}
        for index, bases in enumerate(self.bases):
            tensors |= {f"bases.{index}.{name}": tensor for name, tensor in bases.state.items()}
        return tensors

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over the tensors of `state`. Raises KeyError or RuntimeError if they belong to other parameters."""
        self._adam.load({name.removeprefix("adam."): tensor for name, tensor in tensors.items()})
        for index, bases in enumerate(self.bases):
            for name, tensor in bases.state.items():
                tensor.copy_(tensors[f"bases.{index}.{name}"])
            bases.cache_casts()

    def use(
        self, parameters: list[torch.Tensor], tensors: dict[str, torch.Tensor], steps: int, counts_itself: bool
    ) -> None:
        """As `Adam.use`."""
        self._matrices, others = self._split(parameters)
        of_adam = {name.removeprefix("adam."): tensor for name, tensor in tensors.items()}
        self._adam.use(self._rotated_steps + others, of_adam, steps, counts_itself)
        for index, bases in enumerate(self.bases):
            bases.state = {name: tensors[f"bases.{index}.{name}"] for name in bases.state}
            bases.cache_casts()


def is_preconditioned(parameter: torch.Tensor) -> bool:
    """True for a weight matrix of a hidden layer, or a stack of them, whose gradients SOAP rotates."""
    sides = parameter.shape[-2:]
    return len(sides) == 2 and min(sides) >= SMALLEST_SIDE and max(sides) <= LARGEST_SIDE
