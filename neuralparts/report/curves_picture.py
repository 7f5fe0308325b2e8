"""The curves of a fit drawn on a canvas: errors over the samples seen, and below them the learning rate."""

from collections.abc import Mapping

import numpy as np

from neuralparts.report.canvas import Box, Canvas
from neuralparts.report.curves import COLOURS, ERROR_LABELS, Curve
from neuralparts.report.plotly_figures import FAINT
from neuralparts.report.ticks import linear_ticks, log_ticks, short

# Curves of so few points have dots, because a line alone would hide where they are; `validation` always has.
FEW_POINTS = 12
RATE_FRACTION = 0.22  # of the height: the learning rate
LINE_HEIGHT = 16  # pixels from one number of an axis to the next, at least
LABEL_ROOM, GAP = 64, 16  # pixels for numbers at the left, and between the two axes


def draw_curves(canvas: Canvas, box: Box, curves: Mapping[str, Curve]) -> None:
    """Draw the curves into a box, whose left LABEL_ROOM and lowest 40 pixels are for labels."""
    left, top, right, bottom = box[0] + LABEL_ROOM, box[1], box[2], box[3] - 40
    split = round(bottom - RATE_FRACTION * (bottom - top))
    last = max((curve.samples[-1] for curve in curves.values()), default=1.0)
    _draw_axes(
        canvas, (left, top, right, split - GAP), {key: curves[key] for key in ERROR_LABELS if key in curves}, last
    )
    rate = {key: curves[key] for key in ("learning_rate",) if key in curves}
    _draw_axes(canvas, (left, split, right, bottom), rate, last)
    for tick in linear_ticks(last):
        x = left + tick / last * (right - left)
        canvas.text((x, bottom + 4), short(tick), colour=FAINT, anchor="ra" if tick == last else "ma")
    canvas.text((right, bottom + 22), "samples seen", colour=FAINT, anchor="ra")
    canvas.text((right - 8, split + 4), "learning rate", colour=COLOURS["learning_rate"], anchor="ra")
    _draw_legend(canvas, right, top, [key for key in ERROR_LABELS if key in curves])


def _draw_axes(canvas: Canvas, box: Box, curves: Mapping[str, Curve], last: float) -> None:
    """The ticks of a log axis, and the curves on it. last: samples at the right end."""
    left, top, right, bottom = box
    canvas.ruler((left, top), (left, bottom))
    canvas.ruler((left, bottom), (right, bottom))
    if not curves:
        canvas.lines_of_text(box, "none was recorded")
        return
    values = np.concatenate([curve.values for curve in curves.values()])
    # A twentieth of the range is free above and below; a range of one value gets a factor of 2.
    low, high = np.log10(values.min()), np.log10(values.max())
    room = max((high - low) / 20, 0.15 * (high == low))
    low, high = low - room, high + room
    labelled = bottom + LINE_HEIGHT
    for tick in log_ticks(10**low, 10**high):
        y = bottom - (np.log10(tick) - low) / (high - low) * (bottom - top)
        canvas.ruler((left, y), (right, y))
        if labelled - y >= LINE_HEIGHT:
            canvas.text((left - 8, y), f"{tick:g}", colour=FAINT, anchor="rm")
            labelled = y
    for key, curve in curves.items():
        x = left + curve.samples / last * (right - left)
        y = bottom - (np.log10(curve.values) - low) / (high - low) * (bottom - top)
        points = np.stack([x, y], axis=1)
        canvas.polylines(box, [points], COLOURS[key])
        if key == "validation" or len(points) <= FEW_POINTS:
            canvas.dots((left, top, right + 4, bottom), points, COLOURS[key])


def _draw_legend(canvas: Canvas, right: int, top: int, keys: list[str]) -> None:
    """The names of the error curves in their colours, one below the other, in the upper right corner."""
    for index, key in enumerate(keys):
        canvas.text((right - 8, top + 6 + 18 * index), ERROR_LABELS[key], colour=COLOURS[key], anchor="ra")
