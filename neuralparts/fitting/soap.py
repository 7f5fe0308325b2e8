"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas et al., 2024; Shampoo: Gupta et al., 2018).

In: a list of parameters, then gradients and a learning rate at every step. Out: the parameters, changed in place.

For every weight matrix it keeps running means of G G^T and G^T G of its gradients G, and runs Adam on the gradient
rotated into their eigenvectors. The rotation costs four small matrix products a step and saves far more steps than it
costs. One orthogonal iteration every REFRESH steps keeps the bases near the eigenvectors. These products are in the
dtype that `gradient_dtype` chooses; everything else is float32. Nothing here waits for a GPU, but for the first step,
whose eigenvectors the CPU computes.
"""

import torch

from neuralparts.fitting.adam import Adam
from neuralparts.fitting.collapse import CollapseError
from neuralparts.network import gradient_dtype

# Decay rates of Adam's means of gradients and of their squares.
SOAP_BETAS = (0.95, 0.95)
# The preconditioner's means take every STATISTICS_EVERY-th gradient and keep STATISTICS_DECAY of the past. At the start
# they take every gradient.
STATISTICS_EVERY = 5
STATISTICS_DECAY = 0.95
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

    parameters: float32 tensors of one device, changed in place by `step`. rounded: True if their gradients are rounded
    (`network.is_rounded`), so that rounded bases may rotate them.
    """

    # The learning rate that suits this optimiser, as a multiple of the one that the user gives.
    rate_multiple = 5.0

    def __init__(self, parameters: list[torch.Tensor], rounded: bool = False):
        self._is_matrix = [is_preconditioned(parameter) for parameter in parameters]
        self._matrices, others = self._split(parameters)
        self.bases = [Bases(matrix, rounded) for matrix in self._matrices]
        # One Adam moves everything. For a matrix, Adam is given a zero tensor; how far Adam moves it is the step, in
        # the bases.
        self._rotated_steps = [torch.zeros_like(matrix) for matrix in self._matrices]
        self._adam = Adam(self._rotated_steps + others, SOAP_BETAS)

    def _split(self, tensors: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """(those of the matrices, those of the others) of one tensor for each parameter."""
        pairs = list(zip(tensors, self._is_matrix, strict=True))
        return [tensor for tensor, flag in pairs if flag], [tensor for tensor, flag in pairs if not flag]

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor], learning_rate: float) -> None:
        """One step along `gradients`, shaped like the parameters, at `learning_rate`.

        Raises CollapseError if those of the first step are not finite, unless eigh lets them pass: the weights are then
        not finite either.
        """
        step = self._adam.steps + 1
        of_matrices, of_others = self._split(gradients)
        if step <= EVERY_GRADIENT_UNTIL or step % STATISTICS_EVERY == 0:
            for bases, gradient in zip(self.bases, of_matrices, strict=True):
                bases.add_statistics(gradient)
        # Adam's step from zero in the bases, (rows, columns) for each matrix, rotated back and added.
        for rotated_step in self._rotated_steps:
            rotated_step.zero_()
        rotated = [bases.rotate(gradient) for bases, gradient in zip(self.bases, of_matrices, strict=True)]
        self._adam.step(rotated + of_others, learning_rate)
        for matrix, bases, rotated_step in zip(self._matrices, self.bases, self._rotated_steps, strict=True):
            matrix.add_(bases.rotate_back(rotated_step))
        if step in EARLY_REFRESHES or step % REFRESH == 0:
            self._refresh(is_first=step == 1)

    def _refresh(self, is_first: bool) -> None:
        """Bring the bases nearer to the eigenvectors, and rotate Adam's means of gradients with them.

        Adam's means of squares stay as they are, except the first time: those belong to no basis.
        """
        for index, bases in enumerate(self.bases):
            # The matrices come first in Adam's list, so `index` is theirs there too.
            bases.refresh(self._adam.first[index], is_first)
            if is_first:
                self._adam.second[index].zero_()

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


def is_preconditioned(parameter: torch.Tensor) -> bool:
    """True for a weight matrix of a hidden layer, whose gradients SOAP rotates."""
    return parameter.ndim == 2 and min(parameter.shape) >= SMALLEST_SIDE and max(parameter.shape) <= LARGEST_SIDE


class Bases:
    """The two bases of one weight matrix (rows, columns), and the running means whose eigenvectors they follow.

    state: left_mean and left (rows, rows), right_mean and right (columns, columns); basis vectors are columns. rounded:
    True if the matrix's gradients are rounded.

    A rounded step is as good as an exact one. An exact gradient is rotated exactly: rounding would leak from its large
    components into its small ones, which Adam then magnifies. In a rounded gradient that has happened already.
    """

    def __init__(self, matrix: torch.Tensor, rounded: bool):
        rows, columns = matrix.shape
        self.state = {
            "left_mean": matrix.new_zeros(rows, rows),
            "right_mean": matrix.new_zeros(columns, columns),
            "left": torch.eye(rows, device=matrix.device, dtype=matrix.dtype),
            "right": torch.eye(columns, device=matrix.device, dtype=matrix.dtype),
        }
        self._step_dtype = gradient_dtype(matrix)
        self._gradient_dtype = self._step_dtype if rounded else matrix.dtype
        self.cache_casts()

    def cache_casts(self) -> None:
        """Keep copies of the bases in the dtypes of their products. To be called whenever `state` changes."""
        left, right = self.state["left"], self.state["right"]
        self._to_bases = left.T.to(self._gradient_dtype), right.to(self._gradient_dtype)
        self._from_bases = left.to(self._step_dtype), right.T.to(self._step_dtype)

    def add_statistics(self, gradient: torch.Tensor) -> None:
        """Take a gradient G (rows, columns) into the running means of G G^T and G^T G."""
        weight = 1 - STATISTICS_DECAY
        self.state["left_mean"].addmm_(gradient, gradient.T, beta=STATISTICS_DECAY, alpha=weight)
        self.state["right_mean"].addmm_(gradient.T, gradient, beta=STATISTICS_DECAY, alpha=weight)

    def rotate(self, gradient: torch.Tensor) -> torch.Tensor:
        """A gradient (rows, columns) in the bases, in its own dtype."""
        left, right = self._to_bases
        return (left @ gradient.to(self._gradient_dtype) @ right).to(gradient.dtype)

    def rotate_back(self, step: torch.Tensor) -> torch.Tensor:
        """A step (rows, columns), given in the bases, in the matrix's own coordinates; in the dtype of its products."""
        left, right = self._from_bases
        return left @ step.to(self._step_dtype) @ right

    def refresh(self, rotated_mean: torch.Tensor, is_first: bool) -> None:
        """Bring the bases nearer to the eigenvectors: exactly to them the first time, else by `following_basis`.

        rotated_mean: (rows, columns), in the bases; it is rotated into the new ones in place.
        """
        left, right = self.state["left"], self.state["right"]
        new_left = following_basis(self.state["left_mean"], left, is_first)
        new_right = following_basis(self.state["right_mean"], right, is_first)
        rotated_mean.copy_((new_left.T @ left) @ rotated_mean @ (right.T @ new_right))
        left.copy_(new_left)
        right.copy_(new_right)
        self.cache_casts()


def following_basis(mean: torch.Tensor, basis: torch.Tensor, is_first: bool) -> torch.Tensor:
    """Orthonormal basis (n, n) near the eigenvectors of `mean` (n, n), symmetric.

    The first time by eigh, largest eigenvalue first; then from `basis` by one orthogonal iteration: a product and a QR.
    The CPU computes eigh also for a GPU's tensors, because a GPU's is known to fail for the mean of one gradient, most
    of whose eigenvalues vanish in float32. Raises CollapseError where eigh finds that `mean` is not finite.
    """
    if is_first:
        on_cpu = mean.cpu() if mean.is_cuda else mean
        try:
            return torch.linalg.eigh(on_cpu).eigenvectors.flip(-1).to(mean.device)
        except torch.linalg.LinAlgError as error:
            raise CollapseError("the first step's gradient is not finite: try another --init or --seed") from error
    return torch.linalg.qr(mean @ basis).Q
