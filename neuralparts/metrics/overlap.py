"""Intersection over union of two insides, a function's and a mesh's, with its 95% confidence interval.

The insides of a good fit differ in a thin layer on the surface, so uniform points of the bounding box hardly meet it.
Here the box is divided into strata: the small cells that the surface may enter, and shells of larger cells around them.
Points are uniform within a stratum, so the estimate has no bias, whatever their number in each. Half of them go where
the insides were found to differ, in proportion to the standard deviation (Neyman 1934); the other half are uniform in
the box, so that wrong volumes far from the surface are found too (a defensive mixture, Hesterberg 1995).
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaincinv

from neuralparts.distance import DistanceOracle
from neuralparts.metrics.domain_function import DomainFunction

# Cells along the longest edge of the box on the coarsest level.
COARSEST = 8
# (8, 3) the corners of a cell, in edges of the cell.
CORNERS = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
# Fraction of the points that is uniform in the box.
UNIFORM_FRACTION = 0.5
# Points are drawn until half the width of the interval is at most this fraction of 1 - IoU.
WANTED_PRECISION = 0.1
# Probability below and above the interval.
TAIL = 0.025
# As multiples of `count`: cells of a level, at most; points in the first look at the strata; points drawn at a time;
# all points, at most. More cells mean fewer points, but the distance of a cell takes as long as two points.
MOST_CELLS, FIRST_LOOK, PORTION, MOST_POINTS = 2, 0.1, 0.5, 4


class Stratum(NamedTuple):
    """Equal cells. low (C, 3) float64: their lowest corners. edges (3,): their size. volume: fraction of the box."""

    low: np.ndarray
    edges: np.ndarray
    volume: float


class Overlap(NamedTuple):
    """Intersection over union with the ends of its 95% confidence interval, all in [0, 1]. points: how many it took."""

    iou: float
    low: float
    high: float
    points: int


def volume_overlap(
    domain_function: DomainFunction, oracle: DistanceOracle, count: int, generator: np.random.Generator
) -> Overlap:
    """The overlap of the insides of a function and of a mesh within the mesh's bounding box.

    Points are drawn until the interval is WANTED_PRECISION narrow, at most about MOST_POINTS * count. If none is inside
    either, the intersection over union is 1.0, with the interval [0, 1].
    """
    strata = distance_strata(oracle, MOST_CELLS * count)
    volumes = np.array([stratum.volume for stratum in strata])  # (H,)
    # The first look only decides where the points go: if the estimate had it too, it would be biased.
    first = np.full(len(strata), max(1, round(FIRST_LOOK * count / len(strata))))
    fractions = _allocation(volumes, first, _tally(domain_function, oracle, strata, first, generator))
    drawn, found = np.zeros(len(strata), dtype=np.int64), np.zeros((2, len(strata)), dtype=np.int64)
    while True:
        portion = np.maximum(1, np.round(fractions * PORTION * count)).astype(np.int64)
        found += _tally(domain_function, oracle, strata, portion, generator)
        drawn += portion
        overlap = _estimate(volumes, drawn, found)
        is_precise = (overlap.high - overlap.low) / 2 <= WANTED_PRECISION * (1 - overlap.iou)
        if is_precise or drawn.sum() + portion.sum() > MOST_POINTS * count:
            return overlap._replace(points=int(first.sum() + drawn.sum()))


def distance_strata(oracle: DistanceOracle, most_cells: int) -> list[Stratum]:
    """The strata of the bounding box of the oracle's mesh, a partition: the cells near the surface, then the others.

    A cell is near the surface if its centre is no farther from it than half its diagonal. Such cells are divided into
    eight as long as the next level has at most `most_cells`. Cells of one size are one stratum. The larger they are,
    the farther they lie from the surface.
    """
    vertices = oracle.mesh.vertices
    origin, extent = vertices.min(axis=0), np.ptp(vertices, axis=0)
    counts = np.maximum(1, np.round(COARSEST * extent / extent.max())).astype(np.int64)  # (3,) cells along the axes
    # (C, 3) lowest corners of the cells, (3,) their size.
    low = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3) * (extent / counts)
    low, edges, volume = low + origin, extent / counts, 1 / counts.prod()
    strata = []
    while True:
        is_near = oracle.distance(low + edges / 2) <= np.linalg.norm(edges) / 2
        strata.append(Stratum(low[~is_near], edges, volume * (~is_near).sum()))
        near = low[is_near]
        if len(near) == 0 or len(CORNERS) * len(near) > most_cells:
            break
        edges, volume = edges / 2, volume / len(CORNERS)
        low = (near[:, None] + CORNERS * edges).reshape(-1, 3)
    strata.append(Stratum(near, edges, volume * len(near)))
    return [stratum for stratum in reversed(strata) if len(stratum.low)]


def _tally(
    domain_function: DomainFunction,
    oracle: DistanceOracle,
    strata: list[Stratum],
    counts: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Of counts (H,) new points in each of the strata, how many lie (2, H): inside one only, inside either."""
    points = np.concatenate([_points_in(*pair, generator) for pair in zip(strata, counts, strict=True)])
    fitted, true = domain_function(points) < 0, oracle.inside(points)  # (P,) bool each
    starts = np.cumsum(counts) - counts
    return np.stack([np.add.reduceat(kind, starts, dtype=np.int64) for kind in (fitted != true, fitted | true)])


def _points_in(stratum: Stratum, count: int, generator: np.random.Generator) -> np.ndarray:
    """(count, 3) float32 points uniform in a stratum, one in each of `count` equal runs of its cells."""
    cells = len(stratum.low)
    cell = ((np.arange(count) + generator.random(count)) * (cells / count)).astype(np.int64)
    low = stratum.low[np.minimum(cell, cells - 1)]  # the product may be rounded up
    return (low + generator.random((count, 3)) * stratum.edges).astype(np.float32)


def _allocation(volumes: np.ndarray, drawn: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(H,) fractions of the points for strata of volumes (H,), from a first look: points drawn (H,), found (2, H)."""
    wrong = found[0] / drawn
    deviations = volumes * np.sqrt(wrong * (1 - wrong))
    if not deviations.any():
        deviations = np.eye(len(volumes))[0]  # where a difference is most likely: at the surface
    return UNIFORM_FRACTION * volumes / volumes.sum() + (1 - UNIFORM_FRACTION) * deviations / deviations.sum()


def _estimate(volumes: np.ndarray, drawn: np.ndarray, found: np.ndarray) -> Overlap:
    """The overlap and its interval, from drawn (H,) points in strata of volumes (H,), and found (2, H) as in `_tally`.

    `points` of the result is 0: the caller knows how many the first look took.

    1 - IoU is a ratio of two sums over the strata; its variance is that of the linearised ratio. The interval is that
    of Fay and Feuer (1997) for a weighted sum of counts: a gamma distribution at each end, the upper one with one more
    count of the largest weight. So it allows for wrong volumes in which no point happened to lie.
    """
    wrong, either = found / drawn  # (H,) each
    union = float(volumes @ either)
    if union == 0:
        return Overlap(1.0, 0.0, 1.0, 0)
    weights = volumes / union
    iou = float(volumes @ (either - wrong)) / union
    difference = 1 - iou
    # A point counts 1 - q if it is inside one only, -q if inside both, else 0, where q is 1 - IoU: the mean, (H,), and
    # the mean square.
    mean = wrong - difference * either
    square = wrong * (1 - difference) ** 2 + (either - wrong) * difference**2
    variance = float(weights**2 @ ((square - mean**2) / drawn))
    one_more = float((weights / drawn).max())
    low = _gamma_quantile(difference, variance, TAIL)
    high = _gamma_quantile(difference + one_more, variance + one_more**2, 1 - TAIL)
    return Overlap(iou, max(0.0, 1 - high), min(1.0, 1 - low), 0)


def _gamma_quantile(mean: float, variance: float, probability: float) -> float:
    """The quantile of the gamma distribution of this mean and variance; the mean itself where there is no variance."""
    if mean <= 0 or variance <= 0:
        return mean
    return float(gammaincinv(mean**2 / variance, probability)) * variance / mean
