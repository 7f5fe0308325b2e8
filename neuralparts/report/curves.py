"""The curves of a fit: loss, held-out error and learning rate over the samples seen, thinned, and as a figure.

In: a history, a dict of arrays: `samples (N,)`, `loss (N,)`, perhaps `held_out (N,)`, `learning_rate (N,)` and
`validation (M,)`, one value an epoch. Values that a log axis cannot show (NaN, infinity, zero or less) are left out.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from neuralparts.report.plotly_figures import packed, plain_layout

# Points of a curve: more than a screen has columns of pixels.
CURVE_POINTS = 2_000
# Dark enough to print well.
COLOURS = {
    "loss": "#2b6cb0",
    "held_out": "#d9622b",
    "validation": "#2f855a",
    "learning_rate": "#8894a3",
}
# Curves on the axis of errors, by key of the history. The learning rate has its own axis.
ERROR_LABELS = {"loss": "training loss", "held_out": "held-out error", "validation": "validation grid"}


class Curve(NamedTuple):
    """samples (K,), values (K,), float64: finite, values above zero, K between 1 and CURVE_POINTS."""

    samples: np.ndarray
    values: np.ndarray


def curves_figure(history: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """The curves as a figure of plotly, or None if there is nothing to draw."""
    curves = drawable_curves(history)
    if not curves:
        return None
    labels = {**ERROR_LABELS, "learning_rate": "learning rate"}
    traces = [_trace(key, label, curves[key]) for key, label in labels.items() if key in curves]
    return {"data": traces, "layout": {**plain_layout(), **_axes_layout(curves)}}


def thinned_note(history: Mapping[str, np.ndarray]) -> str:
    """`2,000 of 30,000 points.` if the curves show fewer points than the history has, else ''."""
    count = max(len(np.atleast_1d(history.get(key, ()))) for key in ERROR_LABELS)
    return f"{CURVE_POINTS:,} of {count:,} points." if count > CURVE_POINTS else ""


def drawable_curves(history: Mapping[str, np.ndarray]) -> dict[str, Curve]:
    """The curves of a history that have a point to draw, by key, in the order of COLOURS."""
    curves = {key: _curve(history, key) for key in COLOURS}
    return {key: curve for key, curve in curves.items() if curve is not None}


def _curve(history: Mapping[str, np.ndarray], key: str) -> Curve | None:
    """One curve of a history, thinned to CURVE_POINTS; None without a point to draw.

    A value belongs to the entry of `samples` with its index. An array of another length (`validation`) is spread
    evenly, its last value at the last sample.
    """
    values = np.asarray(history.get(key, ()), np.float64).reshape(-1)  # (N,) or (M,)
    samples = np.asarray(history.get("samples", ()), np.float64).reshape(-1)  # (N,)
    if not len(values):
        return None
    if len(samples) != len(values):
        last = samples[-1] if len(samples) else len(values)
        samples = np.linspace(0, last, len(values) + 1)[1:]  # (M,), without the start at 0
    # Only the points that a log axis can show: (K,).
    usable = np.isfinite(values) & np.isfinite(samples) & (values > 0)
    samples, values = samples[usable], values[usable]
    # Every stride-th point counted from the end, so that the last one is kept.
    stride = max(1, math.ceil(len(values) / CURVE_POINTS))
    return Curve(samples[::-stride][::-1], values[::-stride][::-1]) if len(values) else None


def _trace(key: str, label: str, curve: Curve) -> dict[str, Any]:
    """One curve as a trace of plotly; the learning rate is dotted and has the axis on the right."""
    is_rate = key == "learning_rate"
    return {
        "type": "scatter",
        "mode": "lines+markers" if key == "validation" else "lines",
        "name": label,
        "line": {"color": COLOURS[key], "width": 1.5, "dash": "dot" if is_rate else "solid"},
        "yaxis": "y2" if is_rate else "y",
        "x": packed(curve.samples, "f8"),
        "y": packed(curve.values, "f8"),
    }


def _axes_layout(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """plotly's axes: samples seen below, errors on the left, the learning rate on the right."""
    axis = {"type": "log", "gridcolor": "#e6ebf1", "exponentformat": "power", "zeroline": False}
    right = {"overlaying": "y", "side": "right", "showgrid": False, "title": {"text": "learning rate"}}
    return {
        # The legend lies below the axis, because the tool bar is above; on a phone it has three lines.
        "margin": {"l": 64, "r": 64, "t": 28, "b": 104},
        "legend": {"orientation": "h", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom"},
        "xaxis": {"title": {"text": "samples seen"}, "gridcolor": "#e6ebf1", "zeroline": False},
        "yaxis": {**axis, **_log_ticks(curves, ERROR_LABELS), "title": {"text": "error"}},
        "yaxis2": {**axis, **right, **_log_ticks(curves, ["learning_rate"])},
        "hovermode": "x unified",
    }


def _log_ticks(curves: Mapping[str, Curve], keys: Iterable[str]) -> dict[str, Any]:
    """Ticks of a log axis for some curves: powers of ten; 2 and 5 as well where the values span less than 1 to 100."""
    values = [curves[key].values for key in keys if key in curves]
    low, high = (min(map(np.min, values)), max(map(np.max, values))) if values else (1, 1)
    return {"dtick": 1 if high > 100 * low else "D2"}
