"""The schedule: rates, warm-up, and when a fit is checked."""

import numpy as np
import pytest

from neuralparts.fitting import FitSettings
from neuralparts.fitting.schedule import Schedule, make_schedule, rate_factor


def a_schedule(samples: int = 8_000, has_encoding: bool = False, has_sines: bool = False, **settings) -> Schedule:
    """The schedule of a fit in batches of 128, of an optimiser with its user's rate."""
    return make_schedule(FitSettings(**{"batch_size": 128} | settings), samples, 1.0, has_encoding, has_sines)


def test_linear_and_cosine_fall_from_one_to_zero():
    assert [rate_factor("linear", fraction) for fraction in (0, 0.5, 1)] == [1, 0.5, 0]
    assert [rate_factor("cosine", fraction) for fraction in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert rate_factor("constant", 0.9) == 1


def test_the_rate_of_an_encoding_rises_for_30_steps_and_others_start_at_once():
    rates = [a_schedule(has_encoding=True, learning_rate=1.0).learning_rate(steps, 0.0) for steps in range(60)]
    assert rates[0] == pytest.approx(1 / 30) and rates[29:] == [1.0] * 31
    assert (np.diff(rates[:30]) > 0).all()
    assert a_schedule(learning_rate=1.0).learning_rate(0, 0.0) == 1.0


def test_sines_take_a_fifth_of_the_rate():
    assert a_schedule(has_sines=True, learning_rate=1.0).learning_rate(0, 0.0) == pytest.approx(0.2)


def test_a_fit_is_checked_100_times():
    schedule = a_schedule(samples=128_000, epochs=3)
    assert schedule.total_steps == 3000
    assert [steps for steps in range(1, 100) if schedule.check_is_due(steps, 1e9)] == [30, 60, 90]
    assert schedule.held_out_points == 30 * 128 // 10
    assert a_schedule(epochs=1, samples=200).held_out_points == 64


def test_a_time_budget_is_checked_every_50_steps_or_every_second():
    schedule = a_schedule(time_budget=30.0)
    assert schedule.total_steps is None
    assert [steps for steps in range(1, 120) if schedule.check_is_due(steps, 0.9)] == [50, 100]
    assert schedule.check_is_due(7, 1.0)
    assert [schedule.fraction_done(7, seconds) for seconds in (0, 15, 30, 31)] == [0, 0.5, 1, 1]


def test_a_target_error_is_checked_on_all_held_out_points():
    assert a_schedule(target_error=0.01).held_out_points is None
