"""Fits to a target error: the mean of the weights, the rates that it asks for, and how such fits end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralparts.errors import Interrupted
from neuralparts.fitting import FitHooks, FitSettings, Member, fit, fit_batch
from neuralparts.fitting.adam import Adam
from neuralparts.fitting.averaged_weights import (
    FALL_POWER,
    FORGETTING,
    LARGEST_RATIO,
    MEAN_EVERY,
    AveragedWeights,
)
from neuralparts.fitting.soap import Soap
from neuralparts.network import NeuralSDF
from tests import shapes
from tests.fitting.cases import INSTANT, a_hash_grid, a_network, interrupted_after, ticking, weights_of

POINTS, SDF = shapes.samples(shapes.sphere, 8_000)
SURFACE = 0.6 * POINTS[:512] / np.linalg.norm(POINTS[:512], axis=1, keepdims=True)
PLAIN = FitSettings(epochs=40, batch_size=128, optimizer="adam", learning_rate=0.004)
GRID = replace(INSTANT, epochs=12, batch_size=128)
# No fit of these reaches it.
NEVER = 1e-9


def small() -> NeuralSDF:
    """The network of most tests here."""
    return a_network(SDF, widths=(24, 24))


def test_the_mean_is_the_sum_of_all_weights_by_their_fractions():
    network = small()
    network.initialise("he_uniform", torch.Generator().manual_seed(0))
    average, weights, fractions = AveragedWeights(network), [], []
    for steps in range(1, 40 * MEAN_EVERY + 1):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(steps))
        average.follow(network, steps)
        if steps % MEAN_EVERY == 0:
            fraction = min(1.0, (FORGETTING + 1) / (FORGETTING + steps // MEAN_EVERY))
            fractions = [(1 - fraction) * other for other in fractions] + [fraction]
            weights.append(weights_of(network).clone())
    expected = sum(fraction * own for fraction, own in zip(fractions, weights, strict=True))
    assert torch.allclose(weights_of(average.network), expected, atol=1e-6)
    assert sum(fractions) == pytest.approx(1) and fractions[0] < 1e-6  # the first weights are forgotten


def test_the_rate_falls_only_if_the_weights_are_much_worse_than_their_mean():
    average = AveragedWeights(small())
    for error in (0.5, 1.0, 0.99 * LARGEST_RATIO, float("nan")):
        average.adapt_rate(error, 1.0, steps=110, steps_before=100)
    average.adapt_rate(9.0, 1.0, steps=16, steps_before=0)  # the first check
    assert float(average.rate_factor) == 1
    for before, steps in ((100, 110), (110, 200)):
        average.adapt_rate(1.01 * LARGEST_RATIO, 1.0, steps, before)
    assert float(average.rate_factor) == pytest.approx(0.5**FALL_POWER)  # two falls make that of both spans


# SOAP's bases are the same in a stack and alone before the first step only.
@pytest.mark.parametrize(("make", "steps"), [(Adam, 4), (Soap, 1)])
def test_each_of_stacked_networks_is_moved_at_its_own_rate(make, steps):
    rates, generator = [0.01, 0.0, 0.1], torch.Generator().manual_seed(1)
    whole = [torch.randn(3, 9, 8, generator=generator), torch.randn(3, 1, 9, generator=generator)]
    parts = [[tensor[place].clone() for tensor in whole] for place in range(3)]
    start = [tensor.clone() for tensor in whole]
    stacked, alone = make(whole, rates=3), [make(part) for part in parts]
    for _ in range(steps):
        gradients = [torch.randn(tensor.shape, generator=generator) for tensor in whole]
        stacked.step(gradients, rates)
        for place, optimizer in enumerate(alone):
            optimizer.step([gradient[place] for gradient in gradients], rates[place])
    for index, tensor in enumerate(whole):
        for place, part in enumerate(parts):
            torch.testing.assert_close(tensor[place], part[index], rtol=1e-4, atol=1e-6)
        assert torch.equal(tensor[1], start[index][1]) and not torch.equal(tensor[0], start[index][0])


def test_a_target_is_reached_long_before_the_schedule_reaches_it():
    hooks, target, settings = FitHooks(held_out=SURFACE), 0.0008, replace(GRID, epochs=40)
    history = fit(a_hash_grid(), POINTS, SDF, settings, hooks).history
    reached = next(place for place, error in enumerate(history["held_out"]) if error <= target)
    network = a_hash_grid()
    result = fit(network, POINTS, SDF, replace(settings, target_error=target), hooks)
    assert result.ended_by == "targetError" and result.samples < 0.5 * history["samples"][reached]
    assert np.abs(network.domain(SURFACE)).mean() <= target and network.level_distance(SURFACE).mean() <= target


def test_a_fit_that_misses_its_target_ends_as_well_as_one_without():
    hooks, errors = FitHooks(held_out=SURFACE), []
    for target in (0.0, NEVER):
        network = small()
        result = fit(network, POINTS, SDF, replace(PLAIN, epochs=15, target_error=target), hooks)
        errors.append(float(np.abs(network.domain(SURFACE)).mean()))
        assert result.ended_by == "epochs" and result.history["learning_rate"][-1] < 0.1 * PLAIN.learning_rate
    assert errors[1] < 1.2 * errors[0]


def test_a_time_budget_and_a_target_end_the_fit_at_whichever_comes_first():
    """A time budget of 300 steps by a clock that counts its readings, of which a step takes some."""
    ends = {}
    for target in (0.02, NEVER):
        settings = replace(PLAIN, time_budget=20.0, target_error=target)
        ends[target] = fit(small(), POINTS, SDF, settings, FitHooks(held_out=SURFACE, clock=ticking(0.01)))
    assert (ends[0.02].ended_by, ends[NEVER].ended_by) == ("targetError", "timeBudget")
    assert ends[0.02].seconds < 20 <= ends[NEVER].seconds < 20.5
    assert ends[NEVER].history["learning_rate"][-1] < 0.1 * PLAIN.learning_rate


def test_a_constant_rate_stays_constant():
    settings = replace(PLAIN, epochs=4, schedule="constant", target_error=NEVER)
    rates = fit(small(), POINTS, SDF, settings, FitHooks(held_out=SURFACE)).history["learning_rate"]
    assert set(rates) == {PLAIN.learning_rate}


CASES = {
    "plain": (small, replace(PLAIN, epochs=6)),
    "soap": (small, replace(PLAIN, epochs=6, optimizer="soap")),
    "hash grid": (a_hash_grid, replace(GRID, epochs=6)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fit_resumes_to_the_same_bits_while_the_mean_and_the_rate_move(tmp_path, name):
    make, settings = CASES[name]
    settings, hooks = replace(settings, target_error=NEVER), FitHooks(held_out=SURFACE)
    whole = make()
    history = fit(whole, POINTS, SDF, settings, hooks).history
    steps = np.array(history["samples"]) // 128
    rates = dict(zip(steps.tolist(), history["learning_rate"], strict=True))
    assert min(rates[step] for step in rates if step < 270) < 0.9 * max(
        rates.values()
    )  # it fell before the last quarter
    for index, stop in enumerate((203, 300, 350)):  # between two values of the mean, and in the last fall
        checkpoint = replace(hooks, checkpoint=tmp_path / f"{index}.checkpoint")
        with pytest.raises(Interrupted):
            fit(make(), POINTS, SDF, settings, replace(checkpoint, should_stop=interrupted_after(stop - 1)))
        again = make()
        result = fit(again, POINTS, SDF, settings, checkpoint, resume=True)
        assert result.resumed_at == stop * 128 and torch.equal(weights_of(again), weights_of(whole))
        assert result.history["learning_rate"] == history["learning_rate"]


def test_members_of_a_batch_have_rates_of_their_own_and_end_on_their_own():
    """The same samples for all, but held-out points on other levels, so that each judges differently."""
    settings = replace(PLAIN, epochs=8, target_error=0.02)
    surfaces = [SURFACE, SURFACE[:32], (1.02 * SURFACE).astype(np.float32)]
    alone = [small() for _ in surfaces]
    results = [
        fit(network, POINTS, SDF, settings, FitHooks(held_out=own))
        for network, own in zip(alone, surfaces, strict=True)
    ]
    together = [Member(small(), POINTS, SDF, hooks=FitHooks(held_out=own)) for own in surfaces]
    outcomes = fit_batch(together, settings)
    assert [outcome.ended_by for outcome in outcomes] == [result.ended_by for result in results]
    assert len({outcome.samples for outcome in outcomes}) > 1
    for member, network, outcome, result in zip(together, alone, outcomes, results, strict=True):
        assert outcome.samples == pytest.approx(result.samples, rel=0.25)
        errors = [np.abs(own.domain(POINTS) - SDF).mean() for own in (member.network, network)]
        assert errors[0] == pytest.approx(errors[1], rel=0.3)
