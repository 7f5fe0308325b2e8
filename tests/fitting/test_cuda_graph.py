"""What surrounds the capture of steps: no state changes by it, and a step that cannot be captured stays as it is.

A stand-in for the graphs of a GPU runs the step itself.
"""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from neuralparts.choices import OPTIMIZERS
from neuralparts.fitting import FitSettings, cuda_graph
from neuralparts.fitting.stack import Stack
from neuralparts.fitting.stacked_step import StackedStep
from neuralparts.fitting.torch_step import TorchStep
from tests.fitting.test_stacked_step import BATCH, PAIRS, RATE, some_fits

STEPS = 43  # SOAP meets both kinds of steps, and refreshes


def replaying(log, body, kind, device):
    """A graph that replays `body(kind)`, as `graph_of` makes it: after steps that warm up."""
    body(kind)
    log.append(kind)
    return SimpleNamespace(replay=partial(body, kind))


def failing(log, body, kind, device):
    body(kind)
    raise RuntimeError("operation not permitted\nwhen capturing")


def taken(optimizer: str, is_stack: bool, graph_of, monkeypatch) -> tuple[dict[str, torch.Tensor], list[bool]]:
    """(tensors of a state after some steps by `graph_of`, or without a capture if it is None; kinds captured)."""
    settings, kinds = FitSettings(batch_size=BATCH, optimizer=optimizer), []
    states, batches, schedule = some_fits(settings, pairs=PAIRS, count=1)
    if is_stack:
        step = StackedStep(states, batches, settings, schedule, Stack(states, optimizer, 8))
    else:
        step = TorchStep(states[0], batches[0], settings, schedule)
    if graph_of is not None:
        monkeypatch.setattr(cuda_graph, "graph_of", partial(graph_of, kinds))
        before = [tensor.detach().clone() for tensor in step.changed]
        cuda_graph.capture(step, (False, True))
        assert all(torch.equal(*pair) for pair in zip(before, step.changed, strict=True))
    for _ in range(STEPS):
        step(RATE)
    return {str(place): tensor for place, tensor in enumerate(step.changed)}, kinds


@pytest.mark.parametrize("is_stack", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_capture_changes_no_state_and_the_steps_are_the_same(optimizer, is_stack, monkeypatch, capsys):
    expected, _ = taken(optimizer, is_stack, None, monkeypatch)
    for graph_of, kinds, lines in ((replaying, [False, True], 0), (failing, [], 1)):
        found, captured = taken(optimizer, is_stack, graph_of, monkeypatch)
        assert captured == kinds
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        said = capsys.readouterr().err
        assert said.count("\n") == lines and said.count("operation not permitted") == lines
