"""The curves on the page."""

import numpy as np

from neuralparts.report.curves import CURVE_POINTS
from tests.report.shown import array, figures_of, html_report, make_history, make_record


def curves_of_page(history):
    """The curves on a page by their label: (samples (K,), values (K,))."""
    figures = figures_of(html_report("part", make_record(), history, None, None))
    return {trace["name"]: (array(trace["x"]), array(trace["y"])) for trace in figures["curves"]["data"]}


def test_curve_keeps_what_can_be_drawn_and_the_last_point():
    count = 10 * CURVE_POINTS + 7
    samples = np.arange(1.0, count + 1)
    loss = 1 / samples
    loss[:5] = [np.nan, np.inf, 0.0, -1.0, 1.0]
    history = {"samples": samples, "loss": loss, "held_out": np.full(count, np.nan)}
    curves = curves_of_page(history)
    shown_samples, shown_loss = curves["training loss"]
    assert len(shown_samples) <= CURVE_POINTS and np.all(np.diff(shown_samples) > 0)
    assert shown_samples[-1] == count and shown_loss[-1] == loss[-1]
    assert set(shown_samples) <= set(samples[4:])
    assert curves.keys() == {"training loss"}
    assert "2,000 of 20,007 points." in html_report("part", make_record(), history, None, None)


def test_curve_of_one_value_an_epoch_is_spread_over_the_samples():
    samples, _ = curves_of_page(make_history())["validation grid"]
    assert np.allclose(samples, [1e6, 2e6, 3e6])


def test_curves_on_the_page_are_the_history():
    history = make_history()
    traces = {t["name"]: t for t in figures_of(html_report("p", make_record(), history, None, None))["curves"]["data"]}
    assert np.array_equal(array(traces["training loss"]["y"]), history["loss"])
    assert np.array_equal(array(traces["held-out error"]["x"]), history["samples"][::30])
    assert traces["learning rate"]["yaxis"] == "y2"
