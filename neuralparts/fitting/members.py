"""The networks that are fitted together: which of them one batch can hold, and how many at once.

In: a network, its samples and what watches its fit. Out: a `Member` of a batch; a key that is equal for networks of one
batch; and a number of members that fit into memory, or that pay on a CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from neuralparts.choices import PARTS_OF_A_WORKER, WIDEST_STACKED_ON_A_CPU
from neuralparts.fitting.batches import SAMPLES_PER_PAIR, Pairs, check_pairs, check_samples, count_pairs
from neuralparts.fitting.losses import WEIGHTED_LOSSES
from neuralparts.fitting.settings import FitHooks, FitSettings
from neuralparts.fitting.soap import is_preconditioned
from neuralparts.machine import usable_memory
from neuralparts.network import NeuralSDF, can_be_stacked

# Fraction of a device's free memory that members may fill; the rest is for what the allocator cannot use.
_FILLED = 0.9
# Bytes that the device needs beside its members: evaluations in batches, the libraries' work space.
_BESIDE = 3 * 2**30
# Values of its size that a batch's activations take: inputs of the layers, gradients, and what the allocator keeps.
_ACTIVATIONS = 3


@dataclass(frozen=True)
class HeadStart:
    """How far a network is fitted before its fit begins: the first attempt goes on from its weights.

    steps, seconds: of the fit that it has taken.
    """

    steps: int
    seconds: float


NOT_BEGUN = HeadStart(0, 0.0)


@dataclass(frozen=True, eq=False)
class Member:
    """One network of a batch, fitted in place on its own device.

    points: (N, 3) float32, domain. sdf: (N,) float32, domain units, negative inside. pairs: points (Q, 2, 3) and sdf
    (Q, 2), or None. hooks: what watches this fit. resume: go on from `hooks.checkpoint` if that file exists.
    head_start: None if the weights are to be drawn.
    """

    network: NeuralSDF
    points: np.ndarray
    sdf: np.ndarray
    pairs: Pairs | None = None
    hooks: FitHooks = field(default_factory=FitHooks)
    resume: bool = False
    head_start: HeadStart | None = None

    @property
    def device(self) -> torch.device:
        """The device of the network's parameters."""
        return next(self.network.parameters()).device

    def check(self) -> None:
        """Raise ValueError for samples or pairs of other shapes, or with values that are not finite."""
        check_samples(self.points, self.sdf)
        if self.pairs is not None:
            check_pairs(*self.pairs)


def shape_key(network: NeuralSDF, sample_count: int, pair_count: int) -> tuple:
    """Hashable; equal for members that one batch can hold. Scalers and maps to file units may differ within one."""
    encoding = None if network.encoding is None else tuple(network.encoding.description().items())
    weight = network.layers[0].weight
    return network.widths, network.activation, encoding, weight.dtype, str(weight.device), sample_count, pair_count


def check_alike(members: Sequence[Member]) -> None:
    """Raise ValueError unless one batch can hold these: equal `shape_key`s, and a network of its own for each."""
    keys = {shape_key(member.network, len(member.points), count_pairs(member.pairs)) for member in members}
    if len(keys) > 1:
        shapes = ", ".join(sorted(map(str, keys)))
        raise ValueError(f"members of a batch need networks, samples and pairs of equal shapes; got {shapes}")
    if len({id(member.network) for member in members}) < len(members):
        raise ValueError("members of a batch need networks of their own")


def members_at_once(
    network: NeuralSDF,
    sample_count: int,
    pair_count: int,
    device: torch.device | str,
    settings: FitSettings | None = None,
    processes: int = 1,
) -> int:
    """How many members like this one a batch should hold, at least 1: as many as fit into the free memory of a GPU.

    On the CPU, in whose memory they must fit too, PARTS_OF_A_WORKER of a plain network that is narrow enough to be
    stacked, 1 of any other. settings: those of the fit, by default the flags'. processes: how many divide the machine's
    free memory among them.
    """
    device, settings = torch.device(device), settings or FitSettings()
    needed = _bytes_of_member(network, sample_count, pair_count, settings)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch's allocator holds and no tensor uses is free for this process.
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return max(1, int((_FILLED * free - _BESIDE) // needed))
    is_plain = network.encoding is None and can_be_stacked(network.layers)
    most = PARTS_OF_A_WORKER if is_plain and max(network.widths) <= WIDEST_STACKED_ON_A_CPU else 1
    free = usable_memory() // processes  # 0 if unknown
    return max(1, min(most, int(_FILLED * free // needed))) if free else most


def _bytes_of_member(network: NeuralSDF, sample_count: int, pair_count: int, settings: FitSettings) -> int:
    """Bytes that a member's samples, weights, optimiser and activations take on its device."""
    columns = 5 if settings.loss in WEIGHTED_LOSSES else 4
    samples = columns * (sample_count + 2 * pair_count)
    # A parameter, its gradient and Adam's two means; what stacking them copies, and SOAP's step in its bases.
    optimiser = (7 if settings.target_error else 6) * network.parameter_count  # with a target error, their mean too
    if settings.optimizer == "soap":
        matrices = [parameter.shape for parameter in network.parameters() if is_preconditioned(parameter)]
        # Two bases and two means of each matrix, and as much again while a refresh computes in float64.
        optimiser += sum(6 * (rows**2 + columns**2) for rows, columns in matrices)
    size = min(settings.batch_size, sample_count)
    points = size + 2 * min(size // SAMPLES_PER_PAIR, pair_count)
    activations = _ACTIVATIONS * points * sum(network.widths)
    of_encoding = 0 if network.encoding is None else points * network.encoding.bytes_per_point
    return 4 * (samples + optimiser + activations) + of_encoding
