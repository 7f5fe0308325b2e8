"""The states of many fits as one: tensors (P, ...) of which each state's own tensors are views.

In: P states of one network shape and one kind of optimiser, all after the same number of steps. Out: one optimiser of
the stacked parameters, whose steps are all states' steps. Each state can be read, saved and evaluated meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from neuralparts.fitting.adam import Adam
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.fitting.soap import Soap
from neuralparts.network import NeuralSDF, StackedLayers

# A GPU multiplies matrices faster whose sides are multiples of this many numbers.
GPU_MULTIPLE = 8


class Stack:
    """P states as one.

    multiple: the sides of hidden weights are padded by zeros to multiples of this number. Padding stays zero: every
    activation gives 0 for 0, so the gradients of its weights are 0. own_rates: True if each state has its own learning
    rate.

    layers: of all networks. optimizer: of all parameters. loss_sum: (P,). changed: all tensors that a step changes.
    """

    def __init__(self, states: list[FitState], optimizer: str, multiple: int, own_rates: bool = False):
        self._states = states
        networks = [state.network for state in states]
        # For each parameter of a network, its P versions.
        versions = list(zip(*(network.parameters() for network in networks), strict=True))
        self._parameters = [_stacked(list(same), multiple) for same in versions]
        self.layers = StackedLayers(self._parameters, type(networks[0].layers[1]))
        rates = len(states) if own_rates else 1
        self.optimizer = make_optimizer(optimizer, self._parameters, rounded=self.layers.is_rounded, rates=rates)
        self.loss_sum = torch.stack([state.loss_sum for state in states])
        _load_stacked(self.optimizer, [state.optimizer for state in states])
        self._shapes = {name: tensor.shape for name, tensor in states[0].optimizer.state().items()}
        self.changed = [*self._parameters, *self.optimizer.changed, self.loss_sum]

    def lend(self) -> None:
        """Make all tensors of the states views of the stack."""
        for place, state in enumerate(self._states):
            self._hand_out(state, place, are_copies=False)

    def give_back(self) -> None:
        """Give each state copies of its slices, which keep no stack in memory."""
        for place, state in enumerate(self._states):
            self._hand_out(state, place, are_copies=True)

    def _hand_out(self, state: FitState, place: int, are_copies: bool) -> None:
        """Replace all tensors of a state by its slices of the stack, or by copies of them."""

        def slice_of(whole: torch.Tensor, shape: torch.Size) -> torch.Tensor:
            part = _part_of(whole, place, shape)
            return part.clone(memory_format=torch.contiguous_format) if are_copies else part

        old = list(state.network.parameters())
        new = [slice_of(whole, was.shape) for whole, was in zip(self._parameters, old, strict=True)]
        _replace_parameters(state.network, new)
        parts = {name: slice_of(whole, self._shapes[name]) for name, whole in self.optimizer.state().items()}
        steps = self.optimizer.steps
        state.optimizer.use(list(state.network.parameters()), parts, steps, counts_itself=are_copies)
        state.loss_sum = slice_of(self.loss_sum, torch.Size())


@contextmanager
def stacked(states: list[FitState], optimizer: str, multiple: int, own_rates: bool = False) -> Iterator[Stack]:
    """The stack of states, whose tensors are views of it inside the block. optimizer: their optimiser's name. multiple,
    own_rates: as for `Stack`."""
    stack = Stack(states, optimizer, multiple, own_rates)
    stack.lend()
    try:
        yield stack
    finally:
        stack.give_back()


def _stacked(tensors: list[torch.Tensor], multiple: int) -> torch.Tensor:
    """P weights (rows, columns) or biases (rows,) as (P, rows, columns) or (P, 1, rows), sides padded by zeros.

    The coordinates of the points and the one output are not padded.
    """
    shape = tensors[0].shape if tensors[0].ndim == 2 else (1, *tensors[0].shape)
    sides = [side if side <= 3 else -(-side // multiple) * multiple for side in shape]
    whole = tensors[0].new_zeros(len(tensors), *sides).detach()
    for place, tensor in enumerate(tensors):
        _part_of(whole, place, tensor.shape).copy_(tensor.detach())
    return whole


def _load_stacked(optimizer: Adam | Soap, members: list[Adam | Soap]) -> None:
    """Let the optimiser of a stack take over the states of its members' own."""
    states = [member.state() for member in members]
    wholes = {name: torch.zeros_like(whole) for name, whole in optimizer.state().items()}
    for place, state in enumerate(states):
        for name, tensor in state.items():
            _part_of(wholes[name], place, tensor.shape).copy_(tensor)
    optimizer.load(wholes)


def _part_of(whole: torch.Tensor, place: int, shape: torch.Size) -> torch.Tensor:
    """The view, of this shape, of one network's part of a stacked tensor (P, ...). A tensor () belongs to all."""
    if whole.ndim == 0:
        return whole
    part = whole[place]
    if part.ndim > len(shape):  # a bias (1, rows)
        part = part[0]
    for axis, side in enumerate(shape):
        part = part.narrow(axis, 0, side)
    return part


def _replace_parameters(network: NeuralSDF, tensors: list[torch.Tensor]) -> None:
    """Make these tensors a network's parameters, in the order of `network.parameters()`."""
    for (name, _), tensor in zip(list(network.named_parameters()), tensors, strict=True):
        owner, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(owner), attribute, nn.Parameter(tensor))
