"""The curves of a fit: loss, held-out error and learning rate over the samples seen, as a PNG and as a figure.

In: a history, a dict of arrays: `samples (N,)`, `loss (N,)`, perhaps `held_out (N,)`, `learning_rate (N,)` and
`validation (M,)`, one value an epoch. Values that a log axis cannot show (NaN, infinity, zero or less) are left out.
"""

import io
import math
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neuralparts.metric_names import METRIC_NAMES
from neuralparts.report.formatting import DOT, is_finite, number, readable
from neuralparts.report.plotly_figures import INK, packed, plain_layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
# Metrics under the title of the PNG; the others are on the page.
CAPTION_METRICS = ("surface_error", "iou", "chamfer")
# Characters of a name that fit above the PNG.
TITLE_LENGTH = 80


class Curve(NamedTuple):
    """samples (K,), values (K,), float64: finite, values above zero, K between 1 and CURVE_POINTS."""

    samples: np.ndarray
    values: np.ndarray


def curves_png(name: str, history: Mapping[str, np.ndarray], record: dict[str, Any]) -> bytes:
    """Loss and errors over samples, and below them the learning rate, as the bytes of a PNG.

    name: title, any text. history: see the module. record: the dict of NAME.json, for the metrics under the title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    # Neither pyplot nor a window: the canvas only makes pixels.
    figure = Figure(figsize=(9, 5), dpi=110)
    FigureCanvasAgg(figure)
    errors, rate = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    # Fixed margins, with room for a caption of two lines and ticks such as 2 x 10^-4: a layout engine draws twice.
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.1, top=0.9, hspace=0.12)
    curves = _drawable_curves(history)
    for key, label in ERROR_LABELS.items():
        _draw(errors, curves.get(key), COLOURS[key], label, "o" if key == "validation" else None)
    _draw(rate, curves.get("learning_rate"), COLOURS["learning_rate"], None, None)
    errors.set_ylabel("error")
    rate.set(ylabel="learning rate", xlabel="samples seen")
    rate.xaxis.set_major_formatter(EngFormatter(sep=""))
    errors.set_title(_caption(name, record), loc="left", fontsize=11, color=INK, parse_math=False)
    if errors.lines:
        errors.legend(frameon=False)
    else:
        errors.text(0.5, 0.5, "no loss was recorded", transform=errors.transAxes, ha="center", color="grey")
    picture = io.BytesIO()
    with warnings.catch_warnings():  # characters that the font lacks show as boxes, and the user need not know
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(picture, format="png")
    return picture.getvalue()


def curves_figure(history: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """The curves as a figure of plotly, or None if there is nothing to draw."""
    curves = _drawable_curves(history)
    if not curves:
        return None
    labels = {**ERROR_LABELS, "learning_rate": "learning rate"}
    traces = [_trace(key, label, curves[key]) for key, label in labels.items() if key in curves]
    return {"data": traces, "layout": {**plain_layout(), **_axes_layout(curves)}}


def thinned_note(history: Mapping[str, np.ndarray]) -> str:
    """`2,000 of 30,000 points.` if the curves show fewer points than the history has, else ''."""
    count = max(len(np.atleast_1d(history.get(key, ()))) for key in ERROR_LABELS)
    return f"{CURVE_POINTS:,} of {count:,} points." if count > CURVE_POINTS else ""


def _drawable_curves(history: Mapping[str, np.ndarray]) -> dict[str, Curve]:
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


def _draw(axes: "Axes", curve: Curve | None, colour: str, label: str | None, marker: str | None) -> None:
    """Draw one curve, if there is one, on matplotlib's axes."""
    axes.grid(True, which="major", color="#e3e8ee")
    axes.spines[["top", "right"]].set_visible(False)
    if curve is not None:
        axes.plot(*curve, color=colour, label=label, marker=marker, linewidth=1.4, markersize=4)
        axes.set_yscale("log")


def _caption(name: str, record: dict[str, Any]) -> str:
    """The title of the PNG: the name, and on a second line the main metrics that are known."""
    metrics = record.get("metrics") or {}
    parts = [
        f"{METRIC_NAMES[key].label if key == 'iou' else METRIC_NAMES[key].label.lower()} {number(metrics[key])}"
        for key in CAPTION_METRICS
        if is_finite(metrics.get(key))
    ]
    title = readable(str(name)).replace("\n", " ")[:TITLE_LENGTH]
    return f"{title}\n{DOT.join(parts)}" if parts else title


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
