"""Optimisers of a fit: Adam, and Adam in the eigenbasis of Shampoo's preconditioner (SOAP).

In: a list of parameters, then gradients and a learning rate at every step. Out: the parameters, changed in place. All
state is a flat dict of tensors on the parameters' device, so that a checkpoint holds it exactly; nothing here reads a
value back from the device, so a GPU is never waited for.

SOAP (Vyas et al., 2024; Shampoo: Gupta et al., 2018) keeps, for every weight matrix, running means of G G^T and G^T G,
and runs Adam on the gradient turned into their eigenvectors. The turn costs four small matrix products a step and
saves far more steps than it costs. The eigenvectors are followed by one orthogonal iteration every REFRESH steps.
These products are in the dtype that `products` chooses; everything else is float32.
"""

import torch

from neuralparts.choices import OPTIMIZERS
from neuralparts.network import gradient_dtype

# Decay rates of the running means of gradients and of their squares, and Adam's guard against division by zero.
ADAM_MEANS = (0.9, 0.999)
# With a hash grid, as in Müller et al., 2022: a row that is seldom met forgets its start sooner.
TABLE_MEANS = (0.9, 0.99)
SOAP_MEANS = (0.95, 0.95)
EPSILON = 1e-8
# The preconditioner's means take every STATISTICS_EVERY-th gradient with this weight left to the past, and its
# eigenvectors are followed every REFRESH steps, more often at the start when they still turn fast.
STATISTICS_EVERY = 5
STATISTICS_MEAN = 0.95
REFRESH = 100
EARLY_REFRESHES = (1, 5, 20)
EVERY_GRADIENT_UNTIL = 40
# Smaller matrices gain nothing from a basis of their own: the input layer, and the output.
SMALLEST_SIDE = 8
# Larger ones, such as a hash grid's table, would need bases of gigabytes.
LARGEST_SIDE = 2048


class Adam:
    """Adam (Kingma and Ba, 2015) without weight decay, on the CPU in torch's fused kernel, which reads memory once.

    parameters: list of float32 tensors of one device, changed in place by `step`.
    """

    # The rate that suits this optimiser, as a multiple of the rate that a user gives.
    rate = 1.0

    def __init__(
        self,
        parameters: list[torch.Tensor],
        means: tuple[float, float] = ADAM_MEANS,
        epsilon: float = EPSILON,
    ):
        self.parameters = parameters
        self.means, self.epsilon = means, epsilon
        self.first = [torch.zeros_like(parameter) for parameter in parameters]
        self.second = [torch.zeros_like(parameter) for parameter in parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor], learning_rate: float) -> None:
        """One step along `gradients`, shaped like the parameters, at `learning_rate`."""
        self.steps += 1
        if not self.parameters:
            return
        first_mean, second_mean = self.means
        if self.parameters[0].device.type == "cpu":
            return self.fused_step(gradients, learning_rate)
        torch._foreach_lerp_(self.first, gradients, 1 - first_mean)
        torch._foreach_mul_(self.second, second_mean)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - second_mean)
        denominators = torch._foreach_sqrt(self.second)
        torch._foreach_div_(denominators, (1 - second_mean**self.steps) ** 0.5)
        torch._foreach_add_(denominators, self.epsilon)
        rate = learning_rate / (1 - first_mean**self.steps)
        torch._foreach_addcdiv_(self.parameters, self.first, denominators, -rate)

    def fused_step(self, gradients: list[torch.Tensor], learning_rate: float) -> None:
        """The same step in torch's kernel for the CPU."""
        torch._fused_adam_(
            self.parameters,
            gradients,
            self.first,
            self.second,
            [],
            [torch.tensor(float(self.steps))] * len(self.parameters),
            lr=learning_rate,
            beta1=self.means[0],
            beta2=self.means[1],
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that the next step depends on, beside the parameters, by name."""
        tensors = {"steps": torch.tensor(self.steps)}
        for index, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            tensors[f"{index}.first"], tensors[f"{index}.second"] = first, second
        return tensors

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over what `state` gave. Raises KeyError or RuntimeError if it belongs to other parameters."""
        self.steps = int(tensors["steps"])
        for name, tensor in self.state().items():
            if name != "steps":
                tensor.copy_(tensors[name])


class Soap:
    """SOAP (Vyas et al., 2024) on weight matrices; Adam on everything else.

    parameters: list of float32 tensors of one device, changed in place by `step`. rounded: whether their gradients are
    (`products.is_rounded`), so that they may be turned by rounded bases.
    """

    rate = 5.0

    def __init__(self, parameters: list[torch.Tensor], rounded: bool = False):
        matrices = [parameter for parameter in parameters if is_preconditioned(parameter)]
        others = [parameter for parameter in parameters if not is_preconditioned(parameter)]
        self.is_matrix = [is_preconditioned(parameter) for parameter in parameters]
        self.bases = [Bases(matrix, rounded) for matrix in matrices]
        # One Adam for all: of a matrix it moves, from zero, the step in the bases.
        self.turned_steps = [torch.zeros_like(matrix) for matrix in matrices]
        self.matrices = matrices
        self.adam = Adam(self.turned_steps + others, SOAP_MEANS)

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor], learning_rate: float) -> None:
        """One step along `gradients`, shaped like the parameters, at `learning_rate`."""
        steps = self.adam.steps + 1
        of_matrices = [g for g, flag in zip(gradients, self.is_matrix, strict=True) if flag]
        of_others = [g for g, flag in zip(gradients, self.is_matrix, strict=True) if not flag]
        if steps <= EVERY_GRADIENT_UNTIL or steps % STATISTICS_EVERY == 0:
            for bases, gradient in zip(self.bases, of_matrices, strict=True):
                bases.add_statistics(gradient)
        for turned_step in self.turned_steps:
            turned_step.zero_()
        turned = [bases.turn(gradient) for bases, gradient in zip(self.bases, of_matrices, strict=True)]
        self.adam.step(turned + of_others, learning_rate)
        for matrix, bases, turned_step in zip(self.matrices, self.bases, self.turned_steps, strict=True):
            matrix.add_(bases.turn_back(turned_step))
        if steps in EARLY_REFRESHES or steps % REFRESH == 0:
            self.refresh(first=steps == 1)

    def refresh(self, first: bool) -> None:
        """Follow the eigenvectors, and turn Adam's means of gradients along; the squares stay as they are."""
        for index, bases in enumerate(self.bases):
            bases.refresh(self.adam.first[index], first)
            if first:  # these squares belong to another basis
                self.adam.second[index].zero_()

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that the next step depends on, beside the parameters, by name."""
        tensors = {f"adam.{name}": tensor for name, tensor in self.adam.state().items()}
        for index, bases in enumerate(self.bases):
            tensors |= {f"bases.{index}.{name}": tensor for name, tensor in bases.state.items()}
        return tensors

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over what `state` gave. Raises KeyError or RuntimeError if it belongs to other parameters."""
        prefix = "adam."
        self.adam.load({key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)})
        for index, bases in enumerate(self.bases):
            for name, tensor in bases.state.items():
                tensor.copy_(tensors[f"bases.{index}.{name}"])
            bases.round()


def is_preconditioned(parameter: torch.Tensor) -> bool:
    """Whether a parameter is a weight matrix of a hidden layer, which SOAP turns."""
    return parameter.ndim == 2 and min(parameter.shape) >= SMALLEST_SIDE and max(parameter.shape) <= LARGEST_SIDE


class Bases:
    """The two bases of one weight matrix (rows, columns), and the running means that they are the eigenvectors of.

    A rounded step is as good as an exact one. A gradient that is exact is turned exactly: what leaks from its large
    components into its small ones would be magnified there; in one that is rounded itself that has happened already.
    """

    def __init__(self, matrix: torch.Tensor, rounded: bool):
        rows, columns = matrix.shape
        self.state = {
            "left_mean": matrix.new_zeros(rows, rows),
            "right_mean": matrix.new_zeros(columns, columns),
            "left": torch.eye(rows, device=matrix.device, dtype=matrix.dtype),
            "right": torch.eye(columns, device=matrix.device, dtype=matrix.dtype),
        }
        self.step_dtype = gradient_dtype(matrix)
        self.turn_dtype = self.step_dtype if rounded else matrix.dtype
        self.round()

    def round(self) -> None:
        """Keep the bases in the dtypes of their products, until they change."""
        left, right = self.state["left"], self.state["right"]
        self.to_bases = left.T.to(self.turn_dtype), right.to(self.turn_dtype)
        self.from_bases = left.to(self.step_dtype), right.T.to(self.step_dtype)

    def add_statistics(self, gradient: torch.Tensor) -> None:
        """Take a gradient into the running means of G G^T and G^T G."""
        weight = 1 - STATISTICS_MEAN
        self.state["left_mean"].addmm_(gradient, gradient.T, beta=STATISTICS_MEAN, alpha=weight)
        self.state["right_mean"].addmm_(gradient.T, gradient, beta=STATISTICS_MEAN, alpha=weight)

    def turn(self, gradient: torch.Tensor) -> torch.Tensor:
        """A gradient (rows, columns) in the bases."""
        left, right = self.to_bases
        return (left @ gradient.to(self.turn_dtype) @ right).to(gradient.dtype)

    def turn_back(self, step: torch.Tensor) -> torch.Tensor:
        """A step (rows, columns) in the bases, in the matrix's own coordinates; in the dtype of its products."""
        left, right = self.from_bases
        return left @ step.to(self.step_dtype) @ right

    def refresh(self, turned_mean: torch.Tensor, first: bool) -> None:
        """Follow the eigenvectors: exactly the first time, then by one step of orthogonal iteration; `turned_mean`
        (rows, columns), which lies in the bases, is turned along in place."""
        left, right = self.state["left"], self.state["right"]
        new_left = following_basis(self.state["left_mean"], left, first)
        new_right = following_basis(self.state["right_mean"], right, first)
        turned_mean.copy_((new_left.T @ left) @ turned_mean @ (right.T @ new_right))
        left.copy_(new_left)
        right.copy_(new_right)
        self.round()


def following_basis(mean: torch.Tensor, basis: torch.Tensor, first: bool) -> torch.Tensor:
    """Orthonormal eigenvectors of `mean` (n, n): by eigh the first time, else improved from `basis` by one QR.

    eigh is the CPU's also on a GPU: of the mean of one gradient, most of whose eigenvalues vanish in float32, a GPU's
    is known to fail.
    """
    if first:
        on_cpu = mean.cpu() if mean.is_cuda else mean
        return torch.linalg.eigh(on_cpu).eigenvectors.flip(-1).to(mean.device)
    return torch.linalg.qr(mean @ basis).Q


def make_optimizer(
    name: str, parameters: list[torch.Tensor], encoded: bool = False, rounded: bool = False
) -> Adam | Soap:
    """The optimiser `name` of `parameters`, an encoding's among them where `encoded`, their gradients maybe `rounded`.

    Raises ValueError for an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; one of {', '.join(OPTIMIZERS)}")
    return Soap(parameters, rounded) if name == "soap" else Adam(parameters, TABLE_MEANS if encoded else ADAM_MEANS)
