"""The search for widths: what it finds, what it costs of the fit, and how it ends."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralparts.errors import CheckpointError, Interrupted
from neuralparts.fitting import (
    FitHooks,
    FitSettings,
    HeadStart,
    Member,
    checkpoint_widths,
    enough_parameters,
    find_widths,
    fit_batch,
)
from neuralparts.fitting.masked_step import OFFSET_STEP, shrunk_offsets
from neuralparts.network import UnitMasks
from neuralparts.widths import parameters_of, rectangle
from tests import shapes
from tests.fitting.cases import a_network, interrupted_after, ticking, weights_of

START, MOST = (24, 24, 24), 800
SETTINGS = FitSettings(epochs=2, batch_size=128)


def a_member(hooks=None, count=20_000):
    points, sdf = shapes.samples(shapes.torus, count)
    return Member(a_network(sdf, widths=START), points, sdf, hooks=hooks or FitHooks())


def test_the_search_is_the_first_part_of_the_fit(tmp_path):
    one, other = (find_widths(a_member(), SETTINGS, MOST) for _ in range(2))
    assert one.network.widths == other.network.widths
    assert torch.equal(weights_of(one.network), weights_of(other.network))
    assert 0.85 * MOST < parameters_of(one.network.widths) == one.network.parameter_count <= MOST
    steps = 2 * (20_000 // 128)
    assert one.head_start.steps == round(0.2 * steps)
    searched, checkpoint = weights_of(one.network), tmp_path / "part.checkpoint"
    member = replace(a_member(), network=one.network, head_start=one.head_start)
    stopped = replace(member, hooks=FitHooks(checkpoint=checkpoint, should_stop=interrupted_after(0)))
    with pytest.raises(Interrupted):
        fit_batch([stopped], SETTINGS)
    assert 0 < (weights_of(one.network) - searched).abs().max() < 0.1  # after one step: the weights were kept
    assert checkpoint_widths(checkpoint) == one.network.widths
    (result,) = fit_batch([replace(member, network=other.network)], SETTINGS)
    assert result.samples == steps * 128 and result.resumed_at == 0 and not result.collapsed
    assert result.seconds > one.head_start.seconds
    points, sdf = shapes.samples(shapes.torus, 5_000, seed=9)
    assert np.abs(other.network.domain(points) - sdf).mean() < 0.04  # a constant is off by 0.08


def test_layers_that_are_worth_less_lose_more_units():
    masks = UnitMasks(a_network(np.array([-1.0, 1.0]), widths=(40, 40, 40)))
    full = parameters_of((40, 40, 40))

    def shrink(slopes):
        masks.offsets.fill_(0.0)
        for most in range(full, full - 1000, -10):
            before = masks.offsets.clone()
            masks.offsets.copy_(shrunk_offsets(masks, slopes, most))
            assert (masks.offsets - before).abs().max() <= OFFSET_STEP + 1e-6
            assert most - 250 <= parameters_of(masks.widths()) <= most
        return masks.widths()

    # The loss gains by every unit, least by those of the second layer.
    first, second, third = shrink(torch.tensor([-1.0, -0.1, -1.0]))
    assert second < min(first, third) - 5
    for slopes in (torch.full((3,), torch.nan), torch.tensor([-1.0, -torch.inf, -1.0])):  # they say nothing
        alike = shrink(slopes)
        assert max(alike) - min(alike) <= 1


def test_a_time_budget_ends_the_search(tmp_path):
    found = find_widths(a_member(FitHooks(clock=ticking(0.5))), replace(SETTINGS, time_budget=100.0), MOST)
    assert parameters_of(found.network.widths) <= MOST
    assert 20 <= found.head_start.seconds < 21 and found.head_start.steps == 40


def test_the_smallest_size_whose_short_fit_is_good_enough_is_taken():
    points, sdf = shapes.samples(shapes.sphere, 20_000)
    directions = np.random.default_rng(1).normal(size=(300, 3))
    surface = 0.6 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    tried = []

    def make_member(parameters):
        tried.append(parameters)
        network = a_network(sdf, widths=rectangle(2, parameters))
        return Member(network, points, sdf, hooks=FitHooks(held_out=surface))

    settings = FitSettings(epochs=20, batch_size=128)  # a trial is one epoch
    found, used = enough_parameters(make_member, settings, 0.02, [20, 6000, 30_000], 90_000)
    assert found == 6000 and tried == [20, 6000] and 156 < used.steps <= 312 and used.seconds > 0
    found, used = enough_parameters(make_member, replace(settings, epochs=2), 1e-9, [20, 1500], 9000)
    assert found == 9000 and used.steps == 2 * (2_000 // 128)
    found, used = enough_parameters(make_member, replace(settings, time_budget=4.0), 1e-9, [1500], 9000)
    assert found == 9000 and used.seconds >= 0.2


def test_the_seconds_of_a_trial_that_collapses_count():
    settings = replace(SETTINGS, learning_rate=1e30, epochs=40)
    held_out = np.zeros((9, 3), np.float32)

    def make_member(parameters):
        return a_member(FitHooks(held_out=held_out, clock=ticking(0.5)), count=2_000)

    found, used = enough_parameters(make_member, settings, 0.02, [20, 30], 90)
    assert found == 90 and used.steps == 0 and used.seconds >= 2 * 0.5


def test_the_search_goes_on_where_the_trials_ended():
    found = find_widths(a_member(count=2_000), SETTINGS, MOST, HeadStart(5, 3.0))
    assert found.head_start.steps == 5 + round(0.2 * 2 * (2_000 // 128)) and found.head_start.seconds > 3


def test_the_search_shows_its_progress_and_stops_when_asked():
    shown = []
    hooks = FitHooks(progress=lambda fraction, loss: shown.append(fraction), should_stop=interrupted_after(30))
    with pytest.raises(Interrupted):
        find_widths(a_member(hooks), SETTINGS, MOST)
    assert shown == sorted(shown) and 0 < shown[-1] < 1


@pytest.mark.parametrize("optimizer", ["adam", "soap"])
def test_a_search_without_finite_values_leaves_equal_layers_to_a_fit_that_is_repeated(optimizer):
    settings = replace(SETTINGS, learning_rate=1e30, optimizer=optimizer)
    member = a_member(count=2_000)
    found = find_widths(member, settings, MOST)
    widths = found.network.widths
    assert max(widths) - min(widths) <= 1 and 0.8 * MOST < parameters_of(widths) <= MOST
    member = replace(member, network=found.network, head_start=found.head_start)
    (result,) = fit_batch([member], SETTINGS)
    assert result.restarts == 1 and not result.collapsed


def test_a_second_attempt_begins_from_the_next_seed():
    """The weights of a head start that has collapsed are not those of the second attempt."""
    member = replace(a_member(count=2_000), head_start=HeadStart(10, 0.0))
    with torch.no_grad():
        for parameter in member.network.parameters():
            parameter.zero_()
    (result,) = fit_batch([member], SETTINGS)
    assert result.restarts == 1 and result.samples == 2 * (2_000 // 128) * 128


def test_widths_of_no_checkpoint_are_refused(tmp_path):
    path = tmp_path / "part.checkpoint"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        checkpoint_widths(path)
