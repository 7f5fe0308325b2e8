"""The optimisers of a fit by name."""

import torch

from neuralparts.choices import OPTIMIZERS
from neuralparts.fitting.adam import ADAM_BETAS, TABLE_BETAS, Adam
from neuralparts.fitting.soap import Soap


def make_optimizer(
    name: str, parameters: list[torch.Tensor], has_encoding: bool = False, rounded: bool = False, rates: int = 1
) -> Adam | Soap:
    """The optimiser `name` of these parameters.

    has_encoding: True if an encoding's are among them. rounded: True if their gradients are rounded
    (`network.is_rounded`). rates: as for `Adam`. Raises ValueError for an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; one of {', '.join(OPTIMIZERS)}")
    if name == "soap":
        return Soap(parameters, rounded, rates)
    return Adam(parameters, TABLE_BETAS if has_encoding else ADAM_BETAS, rates)
