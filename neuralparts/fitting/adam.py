"""Adam (Kingma and Ba, 2015), with its whole state at hand as a flat dictionary of tensors.

In: a list of parameters, then gradients and a learning rate at every step. Out: the parameters, changed in place. The
parameters of several networks may be stacked: all that happens here happens to each number on its own. Nothing here
reads a value back from the device, so a GPU is never waited for.
"""

import torch
from torch.optim.adam import adam as update

# Decay rates of the running means of gradients and of their squares, and Adam's guard against division by zero.
ADAM_BETAS = (0.9, 0.999)
# With a hash grid, as in Müller et al., 2022: a row that few samples reach forgets its start sooner.
TABLE_BETAS = (0.9, 0.99)
EPSILON = 1e-8


class Adam:
    """Adam without weight decay.

    parameters: float32 tensors of one device, at least one. betas: decay rates of the means of gradients and squares.
    rates: how many learning rates a step has. With more than 1, each is that of one network, whose parameters are
    stacked, (rates, ...). first, second: the means, shaped like the parameters; a caller may change them in place.
    steps: taken so far.
    """

    # The learning rate that suits this optimiser, as a multiple of the one that the user gives.
    rate_multiple = 1.0
    # Only SOAP keeps statistics of the gradients.
    statistics_are_due = False

    def __init__(self, parameters: list[torch.Tensor], betas: tuple[float, float] = ADAM_BETAS, rates: int = 1):
        self._parameters, self.betas, self.steps = parameters, betas, 0
        self.first = [torch.zeros_like(parameter) for parameter in parameters]
        self.second = [torch.zeros_like(parameter) for parameter in parameters]
        device = parameters[0].device
        # Steps taken, for each rate one for each parameter (rates * P,), and the same as tensors of shape (): `update`
        # counts them itself, on the device.
        self._all_counts = torch.zeros(rates * len(parameters), dtype=torch.float32, device=device)
        self._counts = list(self._all_counts)
        # The rates of the next step: on a GPU tensors of shape (), which captured steps read.
        self._rates = [0.0] * rates if device.type == "cpu" else list(torch.zeros(rates, device=device))

    @torch.no_grad()
    def step(self, gradients: list[torch.Tensor], learning_rate: float) -> None:
        """One step along `gradients`, shaped like the parameters, at `learning_rate`."""
        self.set_rate(learning_rate)
        self.move(gradients)
        self.advance()

    def set_rate(self, learning_rate: float | list[float]) -> None:
        """Choose the learning rate of the following `move`, or all rates."""
        chosen = learning_rate if isinstance(learning_rate, list) else [learning_rate] * len(self._rates)
        for place, (rate, value) in enumerate(zip(self._rates, chosen, strict=True)):
            if isinstance(rate, torch.Tensor):
                rate.fill_(value)
            else:
                self._rates[place] = value

    def move(self, gradients: list[torch.Tensor], with_statistics: bool = False) -> None:
        """The part of a step that the device does; it can be captured as a CUDA graph.

        By the function behind `torch.optim.Adam`, to the same bits. The class takes 0.2 ms longer, a tenth of a whole
        step of a hash grid or a small network. Its fused kernel reads memory once. With several rates it runs once for
        each, on slices.
        """
        changed = self._parameters, [gradient.contiguous() for gradient in gradients], self.first, self.second
        if len(self._rates) == 1:
            self._update(*changed, self._counts, self._rates[0])
            return
        for place, rate in enumerate(self._rates):
            slices = ([tensor[place] for tensor in tensors] for tensors in changed)
            self._update(*slices, self._counts[place :: len(self._rates)], rate)

    def _update(
        self,
        parameters: list[torch.Tensor],
        gradients: list[torch.Tensor],
        first: list[torch.Tensor],
        second: list[torch.Tensor],
        counts: list[torch.Tensor],
        rate: float | torch.Tensor,
    ) -> None:
        """One step of these parameters, whose gradients, means and counts are given."""
        update(
            parameters,
            gradients,
            first,
            second,
            [],
            counts,
            fused=True,
            foreach=False,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def advance(self) -> None:
        """The part of a step that the host does, after `move`."""
        self.steps += 1

    def count_step(self) -> None:
        """Count a step that the caller has taken itself."""
        self._all_counts += 1  # a twentieth of the time of `_foreach_add_` on the tensors one by one
        self.steps += 1

    @property
    def changed(self) -> list[torch.Tensor]:
        """All tensors that `move` changes, beside the parameters."""
        return [*self._counts, *self.first, *self.second]

    def state(self) -> dict[str, torch.Tensor]:
        """All that the next step depends on, beside the parameters, by name."""
        tensors = {"steps": self._counts[0]}
        for index, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            tensors |= {f"{index}.first": first, f"{index}.second": second}
        return tensors

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take over the tensors of `state`. Raises KeyError or RuntimeError if they belong to other parameters."""
        for index, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            first.copy_(tensors[f"{index}.first"])
            second.copy_(tensors[f"{index}.second"])
        for count in self._counts:
            count.copy_(tensors["steps"])
        self.steps = int(tensors["steps"])

    def use(
        self, parameters: list[torch.Tensor], tensors: dict[str, torch.Tensor], steps: int, counts_itself: bool
    ) -> None:
        """Keep these parameters and these tensors of `state`, of the present shapes, instead of the present ones.

        counts_itself: False if another optimiser takes the steps, and counts them in `tensors["steps"]`.
        """
        self._parameters, self.steps = parameters, steps
        for index in range(len(parameters)):
            self.first[index], self.second[index] = tensors[f"{index}.first"], tensors[f"{index}.second"]
        counts = tensors["steps"].expand(len(parameters))
        self._all_counts = counts.clone() if counts_itself else counts
        self._counts = list(self._all_counts)
