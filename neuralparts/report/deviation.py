"""The signed deviation of a reconstruction as the page shows it: its tolerance, colours, histogram, and fractions.

The deviation of a vertex is its signed distance to the input: negative where it lies inside the input. Lengths in file
units. Each vertex counts by the area about it, a third of each of its triangles.
"""

import math
from typing import NamedTuple

import numpy as np

from neuralparts.report.formatting import number
from neuralparts.triangles import triangle_areas

# Colours from -tolerance, inside the input, to +tolerance, outside. They become lighter steadily, so that they read
# without colour vision; blue against yellow reads with the usual kinds of it.
SCALE = [[0.0, "#0d2a66"], [0.25, "#4a6699"], [0.5, "#a3a6a8"], [0.75, "#d9bd52"], [1.0, "#fff08a"]]
# The tolerance is at first a round number near this fraction of the diameter of the sphere about the part.
TOLERANCE_FRACTION = 1 / 1000
# Steps in which the page knows the distribution of |deviation|: a quarter of a percent.
QUANTILES = 401
# The histogram shows this fraction of the surface, or twice the tolerance; the bars at its ends hold the rest.
HISTOGRAM_FRACTION = 0.995
BARS = 61  # odd: the middle one is about zero
# Size of the drawing of the histogram, in its own units.
WIDTH, HEIGHT = 640, 120


class Deviation(NamedTuple):
    """Signed deviations of vertices (W,), file units, and the fraction of the area that each stands for (W,)."""

    values: np.ndarray
    fractions: np.ndarray


class Bar(NamedTuple):
    """A bar of the histogram in the units of the drawing; its foot is at HEIGHT. text: for the pointer."""

    x: float
    width: float
    height: float
    text: str


class Histogram(NamedTuple):
    """bars, from the left. end: the deviation at the right end of the drawing; at the left one it is the negative."""

    bars: list[Bar]
    end: float


def deviation_of(vertices: np.ndarray, faces: np.ndarray, values: np.ndarray) -> Deviation:
    """The deviation of a mesh, vertices (W, 3) and faces (F, 3), whose vertices deviate by values (W,)."""
    areas = np.repeat(triangle_areas(vertices[faces]) / 3, 3)  # (3 F,), a third for each corner
    weights = np.bincount(faces.reshape(-1), areas, len(vertices))
    total = weights.sum()
    return Deviation(values, weights / total if total > 0 else np.full(len(vertices), 1 / len(vertices)))


def default_tolerance(diameter: float) -> float:
    """The number 1, 2 or 5 times a power of ten that is nearest to TOLERANCE_FRACTION of a diameter, by ratio."""
    wanted = math.log10(max(diameter, 1e-300) * TOLERANCE_FRACTION)
    power = math.floor(wanted)
    digit, power = min(
        ((digit, power + up) for up in (0, 1) for digit in (1, 2, 5)),
        key=lambda pair: abs(math.log10(pair[0]) + pair[1] - wanted),
    )
    return float(f"{digit}e{power}")


def absolute_quantiles(deviation: Deviation) -> np.ndarray:
    """(QUANTILES,) values of |deviation|: k / (QUANTILES - 1) of the area deviates by less than the k-th."""
    order = np.argsort(np.abs(deviation.values), kind="stable")
    below = np.cumsum(deviation.fractions[order])
    return np.interp(np.linspace(0, 1, QUANTILES), below, np.abs(deviation.values[order]))


def fraction_within(deviation: Deviation, tolerance: float) -> float:
    """The fraction of the area that deviates by at most a tolerance, in either direction."""
    return float(deviation.fractions[np.abs(deviation.values) <= tolerance].sum())


def histogram(deviation: Deviation, tolerance: float) -> Histogram:
    """The histogram of the signed deviation, by area. Its ends are at a round number."""
    order = np.argsort(np.abs(deviation.values), kind="stable")
    most = np.searchsorted(np.cumsum(deviation.fractions[order]), HISTOGRAM_FRACTION)
    reached = np.abs(deviation.values[order])[min(most, len(order) - 1)]
    end = _round_up(max(2 * tolerance, float(reached)))
    edges = np.linspace(-end, end, BARS + 1)
    counted, _ = np.histogram(np.clip(deviation.values, -end, end), edges, weights=deviation.fractions)
    width, highest = WIDTH / BARS, counted.max()
    bars = [
        Bar(
            round(k * width, 2),
            round(width - 1, 2),
            round(HEIGHT * fraction / highest, 2),
            _bar_text(edges, k, fraction),
        )
        for k, fraction in enumerate(counted)
        if fraction > 0
    ]
    return Histogram(bars, end)


def colour_of(ratios: np.ndarray) -> np.ndarray:
    """Deviations over the tolerance (N,) -> colours (N, 3), red, green, blue from 0 to 255, as SCALE has them."""
    places = np.clip(np.asarray(ratios) / 2 + 0.5, 0, 1)
    stops = np.array([place for place, _ in SCALE])
    colours = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for _, colour in SCALE])
    return np.stack([np.interp(places, stops, colours[:, k]) for k in range(3)], axis=-1)


def signed(value: float) -> str:
    """A number with its sign, which a zero has not."""
    return number(0) if abs(value) < 1e-300 else f"{'+' if value > 0 else chr(0x2212)}{abs(value):.3g}"


def _round_up(value: float) -> float:
    """The smallest number of at least `value` that is 1, 2 or 5 times a power of ten."""
    power = math.floor(math.log10(value))
    # A little less is enough: a value that is such a number already may be rounded up in its last digit.
    return next(
        float(f"{digit}e{power}") for digit in (1, 2, 5, 10) if float(f"{digit}e{power}") >= value * (1 - 1e-12)
    )


def _bar_text(edges: np.ndarray, k: int, fraction: float) -> str:
    """Between which deviations a bar lies, and the percentage of the surface in it."""
    low = "" if k == 0 else signed(edges[k])
    high = "" if k == len(edges) - 2 else signed(edges[k + 1])
    between = f"{low} to {high}" if low and high else f"below {high}" if high else f"above {low}"
    return f"{between}: {100 * fraction:.3g}% of the surface"
