"""Many networks stepped as one stack against each stepped alone by torch, and what passes between the two."""

import itertools
import math
from copy import deepcopy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from neuralparts.choices import ACTIVATIONS, LOSSES, OPTIMIZERS, SCALERS
from neuralparts.fitting import FitSettings
from neuralparts.fitting.batches import Batches, SampleStack, random_generator
from neuralparts.fitting.checkpoint import FitState, restore_checkpoint, write_checkpoint
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.fitting.schedule import Schedule, make_schedule
from neuralparts.fitting.stack import stacked
from neuralparts.fitting.stacked_step import StackedStep
from neuralparts.fitting.step import StepsInTurn, are_stacked, steps_of, values_at_once
from neuralparts.fitting.torch_step import TorchStep
from neuralparts.network import NeuralSDF, fit_scaler
from tests import shapes
from tests.fitting.cases import a_hash_grid, a_network, weights_of
from tests.fitting.test_pairs import some_pairs

CPU = torch.device("cpu")
SHAPES = (shapes.torus, shapes.box, shapes.sphere)
SAMPLES, PAIRS, BATCH, RATE = 600, 200, 100, 2e-3
WIDTHS = (12, 9, 17)


@cache
def labelled(place: int, scaler: str) -> tuple:
    """Points, distances, pairs and a scaler of one of SHAPES."""
    points, sdf = shapes.samples(SHAPES[place], SAMPLES, seed=place)
    return points, sdf, some_pairs(SHAPES[place], PAIRS), fit_scaler(scaler, sdf)


def some_fits(
    settings: FitSettings, scaler: str = "none", activation: str = "relu", pairs: int = 0, count: int = 3
) -> tuple[list[FitState], list[Batches], Schedule]:
    """Fits of different shapes before their first step, the same ones at every call, and their samples in a stack."""
    stack = SampleStack.empty(count, SAMPLES, pairs, settings, CPU)
    states, batches = [], []
    for place in range(count):
        points, sdf, own_pairs, own_scaler = labelled(place, scaler)
        network = NeuralSDF(WIDTHS, activation, None, deepcopy(own_scaler)).train()
        network.initialise("siren" if activation == "sine" else "he_uniform", random_generator(place))
        own_pairs = own_pairs if pairs else None
        batches.append(Batches(points, sdf, own_scaler, settings, CPU, own_pairs, stack, place))
        optimizer = make_optimizer(settings.optimizer, list(network.parameters()))
        states.append(FitState(network, optimizer, torch.zeros(())))
    return states, batches, make_schedule(settings, SAMPLES, 1.0, has_encoding=False, has_sines=False)


def tensors_of(state: FitState) -> dict[str, torch.Tensor]:
    """All tensors of a state."""
    return dict(state.network.named_parameters()) | state.optimizer.state() | {"loss_sum": state.loss_sum}


def largest_difference(one: FitState, other: FitState) -> float:
    """Of all parameters and of the sums of losses, absolute."""
    differences = [weights_of(one.network) - weights_of(other.network), one.loss_sum - other.loss_sum]
    return max(float(difference.abs().max()) for difference in differences)


def assert_same(one: FitState, other: FitState, case: object = None) -> None:
    """Equal but for rounding. Adam divides a gradient by its own size: where that is rounding, so is the step."""
    differences = (weights_of(one.network) - weights_of(other.network)).abs()
    assert (differences > 1e-6).float().mean() < 0.03 and float(differences.max()) < RATE / 10, case
    assert float(one.loss_sum) == pytest.approx(float(other.loss_sum), rel=1e-5), case


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_stack_takes_the_steps_that_each_network_takes_alone(activation, optimizer):
    for loss, scaler in itertools.product(LOSSES, SCALERS):
        pairs = PAIRS if (LOSSES.index(loss) + SCALERS.index(scaler)) % 2 else 0
        settings = FitSettings(batch_size=BATCH, loss=loss, optimizer=optimizer)
        states, batches, schedule = some_fits(settings, scaler, activation, pairs)
        alone, _, _ = some_fits(settings, scaler, activation, pairs)
        # SOAP has the same bases in both before the first step; its first ones then differ.
        steps = 3 if optimizer == "adam" else 1
        with steps_of(states, batches, settings, schedule) as take_step:
            assert isinstance(take_step, StackedStep)
            for _ in range(steps):
                take_step(RATE)
        for state, single, own in zip(states, alone, batches, strict=True):
            take_single = TorchStep(single, own, settings, schedule)
            for _ in range(steps):
                take_single(RATE)
            assert_same(state, single, (loss, scaler))
            assert (state.steps, state.loss_steps, state.optimizer.steps) == (steps, steps, steps)


def test_pairs_and_both_points_of_each_are_taken():
    settings = FitSettings(batch_size=BATCH, optimizer="adam")
    with_pairs, without = (some_fits(settings, pairs=pairs)[0] for pairs in (PAIRS, 0))
    for states, pairs in ((with_pairs, PAIRS), (without, 0)):
        _, batches, schedule = some_fits(settings, pairs=pairs)
        with steps_of(states, batches, settings, schedule) as take_step:
            take_step(RATE)
    assert all(largest_difference(*states) > 1e-4 for states in zip(with_pairs, without, strict=True))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_stack_goes_on_to_the_same_bits_when_it_is_left_and_entered_again(optimizer):
    """Left after a step with which SOAP has just refreshed its bases, and after one with which it has not."""
    settings = FitSettings(batch_size=BATCH, optimizer=optimizer)
    states, batches, schedule = some_fits(settings)
    again, _, _ = some_fits(settings)
    for fits, parts in ((states, [30]), (again, [5, 2, 23])):
        for steps in parts:
            with steps_of(fits, batches, settings, schedule) as take_step:
                for _ in range(steps):
                    take_step(RATE)
    for one, other in zip(map(tensors_of, states), map(tensors_of, again), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
        # A state that has left keeps no stack in memory.
        assert all(t.untyped_storage().nbytes() == 4 * t.numel() for name, t in one.items() if "steps" not in name)


def test_the_rest_go_on_when_one_has_left():
    settings = FitSettings(batch_size=BATCH, optimizer="adam")
    states, batches, schedule = some_fits(settings)
    whole, _, _ = some_fits(settings)
    with steps_of(whole, batches, settings, schedule) as take_step:
        for _ in range(10):
            take_step(RATE)
    for places in ((0, 1, 2), (0, 2)):
        chosen = [states[place] for place in places], [batches[place] for place in places]
        with steps_of(*chosen, settings, schedule) as take_step:
            for _ in range(5):
                take_step(RATE)
    # Rounding depends on the place in a stack.
    assert largest_difference(states[0], whole[0]) < 1e-5 and largest_difference(states[2], whole[2]) < 1e-5
    assert states[1].steps == 5 and largest_difference(states[1], whole[1]) > 1e-3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_checkpoint_of_a_member_is_one_of_a_single_fit(tmp_path, optimizer):
    settings = FitSettings(batch_size=BATCH, optimizer=optimizer)
    states, batches, schedule = some_fits(settings)
    with steps_of(states, batches, settings, schedule) as take_step:
        for _ in range(22):
            take_step(RATE)
        write_checkpoint(tmp_path / "inside", states[1], {})
    write_checkpoint(tmp_path / "after", states[1], {})
    assert (tmp_path / "inside").read_bytes() == (tmp_path / "after").read_bytes()
    (_, single, _), _, _ = some_fits(settings)
    restore_checkpoint(tmp_path / "inside", single, {})
    assert single.optimizer.steps == single.steps == 22
    # A single fit goes on from it as from its own state ...
    for state in (single, states[1]):
        take_step = TorchStep(state, batches[1], settings, schedule)
        for _ in range(9):
            take_step(RATE)
    assert torch.equal(weights_of(single.network), weights_of(states[1].network))
    # ... and a stack from a single fit's.
    write_checkpoint(tmp_path / "single", single, {})
    found, _, _ = some_fits(settings)
    for state in found:
        restore_checkpoint(tmp_path / "single", state, {})
    with steps_of(found, [batches[1]] * 3, settings, schedule) as take_step:
        take_step(RATE)
    take_single = TorchStep(single, batches[1], settings, schedule)
    take_single(RATE)
    for state in found:
        assert_same(state, single)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_network_that_is_not_finite_changes_no_other_one(optimizer):
    settings = FitSettings(batch_size=BATCH, optimizer=optimizer)
    states, batches, schedule = some_fits(settings, pairs=PAIRS)
    sound, _, _ = some_fits(settings, pairs=PAIRS)
    with torch.no_grad():
        states[1].network.layers[2].weight[3, 4] = torch.nan
    for fits in (states, sound):
        with steps_of(fits, batches, settings, schedule) as take_step:
            for _ in range(23):
                take_step(RATE)
    assert math.isnan(float(states[1].loss_sum))
    for place in (0, 2):
        one, other = tensors_of(states[place]), tensors_of(sound[place])
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_padding_stays_zero_and_changes_nothing(activation, optimizer):
    settings = FitSettings(batch_size=BATCH, optimizer=optimizer)
    plain, batches, schedule = some_fits(settings, activation=activation, count=1)
    padded, _, _ = some_fits(settings, activation=activation, count=1)
    for states, multiple in ((plain, 1), (padded, 8)):
        with stacked(states, optimizer, multiple) as stack:
            StackedStep(states, batches, settings, schedule, stack)(RATE)
    assert largest_difference(plain[0], padded[0]) < 1e-6
    with stacked(padded, optimizer, 8) as stack:
        take_step = StackedStep(padded, batches, settings, schedule, stack)
        for _ in range(24):
            take_step(RATE)
    sides = {side for weight in stack.layers.parameters[::2] for side in weight.shape[1:]}
    assert sides == {3, 16, 24, 1}
    # Whatever is not zero in the stack is in the state, but for the count of steps.
    wholes = [*stack.layers.parameters, *stack.optimizer.state().values(), stack.loss_sum]
    parts = tensors_of(padded[0]).values()
    assert len(wholes) == len(parts)
    assert sum(map(torch.count_nonzero, wholes)) == sum(map(torch.count_nonzero, parts)) > 100


@pytest.mark.parametrize("scalers", [*((name,) * 3 for name in SCALERS), ("none", "StandardScaler", "none")], ids=str)
def test_values_of_a_stack_are_those_of_each_network(scalers, monkeypatch):
    monkeypatch.setattr("neuralparts.fitting.stacked_step._POINTS_AT_ONCE", 100)
    settings = FitSettings(batch_size=BATCH)
    states, batches, schedule = some_fits(settings, activation="elu")
    for place, (state, name) in enumerate(zip(states, scalers, strict=True)):
        state.network.scaler = deepcopy(labelled(place, name)[3])
    # Some lie outside of the cube.
    points = torch.from_numpy(np.random.default_rng(0).uniform(-1.1, 1.1, (3, 70, 3)).astype(np.float32))
    with steps_of(states, batches, settings, schedule) as take_step:
        for _ in range(2):
            take_step(RATE)
        values = values_at_once(take_step)(points)
        take_step(RATE)
        expected = torch.stack([state.network.domain(own) for state, own in zip(states, points, strict=True)])
        assert torch.allclose(values_at_once(take_step)(points), expected, atol=1e-6)
        assert not torch.allclose(values, expected, atol=1e-4)
    with steps_of(states[:1], batches[:1], settings, schedule) as take_step:
        assert values_at_once(take_step) is None


def test_who_takes_the_steps_on_the_cpu():
    settings = FitSettings(batch_size=BATCH)
    states, batches, schedule = some_fits(settings)
    assert are_stacked(states) and not are_stacked(states[:1])
    with steps_of(states[:1], batches[:1], settings, schedule) as take_step:
        assert isinstance(take_step, TorchStep)
    for network in (a_network(shapes.samples(shapes.box, 9)[1], widths=(300, 300)), a_hash_grid()):
        assert not are_stacked([replace(state, network=network) for state in states])
    doubles, _, _ = some_fits(settings)
    for state in doubles:
        state.network.double()
    assert not are_stacked(doubles)


def test_steps_in_turn_are_those_of_each_alone():
    settings = FitSettings(batch_size=BATCH, optimizer="soap")
    states, batches, schedule = some_fits(settings, count=2)
    alone, _, _ = some_fits(settings, count=2)
    take_steps = [TorchStep(*pair, settings, schedule) for pair in zip(states, batches, strict=True)]
    take_step = StepsInTurn(states, take_steps)
    with torch.no_grad():
        states[1].network.layers[0].weight.fill_(torch.nan)
    single = TorchStep(alone[0], batches[0], settings, schedule)
    for _ in range(4):
        take_step(RATE)
        single(RATE)
    assert torch.equal(weights_of(states[0].network), weights_of(alone[0].network))
    assert states[0].steps == states[1].steps == 4 and math.isnan(float(states[1].loss_sum))
