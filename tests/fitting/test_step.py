"""The compiled step of a hash grid against torch's step, and what must not change its bits."""

import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from neuralparts.errors import Interrupted
from neuralparts.fitting import CollapseError, FitHooks, FitSettings, fit
from neuralparts.fitting.batches import Batches, random_generator
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.fitting.schedule import make_schedule
from neuralparts.fitting.step import TorchStep, compiled_steps
from neuralparts.network import HashGrid, NeuralSDF, fit_scaler
from neuralparts.network.hash_grid_step import MOST_THREADS
from tests import shapes
from tests.fitting.cases import INSTANT, a_hash_grid, interrupted_after, weights_of
from tests.fitting.test_pairs import some_pairs

# Sums of some hundreds of float32 terms in another order, relative to the largest of their kind.
SAME = 4e-6
CASES = {
    "the preset's recipe": ({}, (64,), 1024, 2000, "none"),
    "sizes that fill no register": ({"loss": "weighted"}, (13,), 203, 777, "StandardScaler"),
    "without weights or pairs": ({"loss": "l1"}, (32,), 100, 0, "none"),
    "one sample": ({}, (8,), 1, 0, "none"),
}


@pytest.fixture
def set_torch_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def a_state(network: NeuralSDF, settings: FitSettings) -> FitState:
    network.train()
    network.initialise(settings.init, random_generator(3))
    with torch.no_grad():  # as after some steps, so that all gradients are of their usual size
        network.encoding.table.uniform_(-0.05, 0.05, generator=random_generator(4))
    optimizer = make_optimizer(settings.optimizer, list(network.parameters()), has_encoding=True)
    return FitState(network, optimizer, torch.zeros(()))


def copy_state(source: FitState, target: FitState) -> None:
    target.network.load_state_dict(source.network.state_dict())
    target.optimizer.load(source.optimizer.state())
    target.loss_sum.copy_(source.loss_sum)


def relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).detach().abs().max() / one.detach().abs().max())


@pytest.mark.parametrize("case", CASES)
def test_each_step_is_torchs_step(case):
    changes, widths, batch_size, pair_count, scaler = CASES[case]
    points, sdf = shapes.samples(shapes.torus, 20_000 if batch_size > 1 else 30)
    pairs = some_pairs(shapes.torus, pair_count) if pair_count else None
    settings = replace(INSTANT, batch_size=batch_size, **changes)
    states = []
    for _ in range(2):
        grid = HashGrid(5, 4, 3, 80, 11)
        states.append(a_state(NeuralSDF(widths, "relu", grid, fit_scaler(scaler, sdf)), settings))
    plain, compiled = states
    batches = Batches(points, sdf, plain.network.scaler, settings, torch.device("cpu"), pairs)
    schedule = make_schedule(settings, len(points), 1.0, has_encoding=True, has_sines=False)
    torch_step = TorchStep(plain, batches, settings, schedule)
    before = weights_of(plain.network)
    with compiled_steps(compiled, batches, settings, schedule) as compiled_step:
        for _ in range(12):
            torch_step(0.003)
            compiled_step(0.003)
            assert relative_difference(plain.loss_sum, compiled.loss_sum) < SAME
            for means in ("first", "second"):
                kinds = zip(getattr(plain.optimizer, means), getattr(compiled.optimizer, means), strict=True)
                assert max(relative_difference(one, other) for one, other in kinds) < SAME
            # Adam divides a gradient by its own size: where that is nothing but rounding, so is the step.
            clear = torch.cat([square.flatten() for square in plain.optimizer.second]) > 1e-16
            difference = (weights_of(plain.network) - weights_of(compiled.network)).abs()
            assert difference[clear].max() < 1e-6 and difference.max() < 0.003
            assert plain.optimizer.steps == compiled.optimizer.steps == plain.steps == compiled.steps
            copy_state(compiled, plain)  # not the other way: the next batch has been read already
    assert (weights_of(plain.network) != before).any()


def instant_fit(settings: FitSettings = INSTANT, **options) -> tuple[NeuralSDF, list[float]]:
    """A fit as the preset's, smaller: the network and its curve of losses."""
    points, sdf = shapes.samples(shapes.torus, 20_000)
    network = a_hash_grid()
    result = fit(network, points, sdf, settings, pairs=some_pairs(shapes.torus, 3_000), **options)
    return network, result.history["loss"]


def test_the_same_bits_with_any_number_of_threads_and_no_thread_is_left(set_torch_threads, monkeypatch):
    monkeypatch.setattr("neuralparts.fitting.step.thread_count", lambda: 8)  # processors
    weights, before = [], threading.active_count()
    for threads in (1, 2, 5):
        set_torch_threads(threads)
        helpers = set()
        progress = partial(lambda seen, *_: seen.add(threading.active_count() - before), helpers)
        network, losses = instant_fit(hooks=FitHooks(progress=progress))
        weights.append((weights_of(network), losses))
        assert helpers == {min(threads, MOST_THREADS) - 1}
        assert threading.active_count() == before and torch.get_num_threads() == threads
    assert all(torch.equal(weights[0][0], other) and losses == weights[0][1] for other, losses in weights[1:])


@pytest.mark.parametrize("steps", [1, 19, 27])
def test_an_interrupted_fit_resumes_to_the_same_bits(tmp_path, steps):
    """After the first step, at the end of an epoch, and within the second."""
    hooks = FitHooks(checkpoint=tmp_path / "a.checkpoint", should_stop=interrupted_after(steps - 1))
    with pytest.raises(Interrupted):
        instant_fit(hooks=hooks)
    network, _ = instant_fit(hooks=FitHooks(checkpoint=tmp_path / "a.checkpoint"), resume=True)
    assert torch.equal(weights_of(network), weights_of(instant_fit()[0]))


def test_a_fit_by_compiled_steps_is_as_good_as_one_by_torch(monkeypatch):
    fresh, distances = shapes.samples(shapes.torus, 20_000, seed=9)
    near, errors = np.abs(distances) < 0.05, []
    for is_compiled in (True, False):
        if not is_compiled:
            monkeypatch.setattr("neuralparts.fitting.step.has_compiled_step", lambda network: False)
        network, _ = instant_fit(replace(INSTANT, epochs=6))
        errors.append(np.abs(network.domain(fresh) - distances)[near].mean())
    assert errors[0] < 1.1 * errors[1] < 0.002


def test_values_that_are_not_numbers_are_a_collapse_and_no_thread_is_left(set_torch_threads):
    set_torch_threads(2)
    before = threading.active_count()
    with pytest.raises(CollapseError):
        instant_fit(replace(INSTANT, learning_rate=1e30))
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "network, settings",
    [
        (a_hash_grid((64, 64)), INSTANT),
        (NeuralSDF((16,), "elu", HashGrid(3, 4, 4, 16, 10)), INSTANT),
        (NeuralSDF((16,)), INSTANT),
        (a_hash_grid().double(), INSTANT),
        (a_hash_grid().to("meta"), INSTANT),
        (a_hash_grid(), replace(INSTANT, loss="l2")),
        (a_hash_grid(), replace(INSTANT, loss="clamp")),
        (a_hash_grid(), replace(INSTANT, optimizer="soap")),
    ],
)
def test_all_other_fits_are_torchs(network, settings):
    state = FitState(network, make_optimizer(settings.optimizer, list(network.parameters())), torch.zeros(()))
    with compiled_steps(state, None, settings, None) as steps:
        assert steps is None
