"""Helpers of the tests of sampling: shapes, an oracle that counts, and densities known without the samplers."""

import numpy as np
from scipy.stats import chi2

from tests.distance.brute import box, joined, rotated, without

BETA = 60.0
# Probability that a chi-square test rejects a right sampler. With fixed seeds it does so always or never.
FALSE_ALARM = 1e-3


def part():
    """Two overlapping bodies with a void: walls from 0.1 to 0.6 thick."""
    return joined(box((-0.6, -0.3, -0.1), (0.2, 0.3, 0.1)), box((-0.1, -0.4, -0.3), (0.5, 0.4, 0.5)),
                  box((0.05, -0.2, 0.0), (0.35, 0.2, 0.4), inward=True))  # fmt: skip


def open_box():
    return without(rotated(box(), np.random.default_rng(1)), [3, 4])


class Counting:
    """An oracle that counts the points whose distance and whose sign are queried."""

    def __init__(self, oracle):
        self.oracle, self.mesh, self.distances, self.signs = oracle, oracle.mesh, 0, 0

    def distance(self, points, *limit):
        self.distances += len(points)
        return self.oracle.distance(points, *limit)

    def inside(self, points):
        self.signs += len(points)
        return self.oracle.inside(points)

    def signed_distance(self, points):
        return np.where(self.inside(points), -self.distance(points), self.distance(points))


def assert_same_histogram(counts, fractions, fraction_variances=0.0):
    """Chi-square of counts against expected fractions (sum 1), which may be estimates with variances of their own."""
    total = counts.sum()
    enough = fractions * total >= 10
    expected, seen = fractions[enough] * total, counts[enough]
    variance = expected + np.broadcast_to(fraction_variances, fractions.shape)[enough] * total**2
    statistic = ((seen - expected) ** 2 / variance).sum()
    assert enough.sum() > 10
    assert chi2.sf(statistic, enough.sum() - 1) > FALSE_ALARM


def reference_fractions(mesh, values, bins, ratio, count=400_000):
    """Fractions of the wanted density in bins of values(points, distances), by weighing uniform points of the cube.

    Also returns their variances. The distances come from libigl in float64, not from the search of the sampler.
    """
    import igl

    points = np.random.default_rng(99).uniform(-1, 1, (count, 3))
    distances = np.sqrt(igl.point_mesh_squared_distance(points, mesh.vertices, mesh.faces)[0])
    importance = np.exp(-BETA * distances)
    weight = (1 - ratio) * importance / importance.sum() + ratio / count
    return weighed_fractions(weight, np.digitize(values(points, distances), bins), len(bins) + 1)


def weighed_fractions(weight, number, bins):
    """Sums of weights (N,) by bin number (N,), and their variances: (bins,) each."""
    fractions = np.bincount(number, weight, bins)
    squares = np.bincount(number, weight**2, bins)
    return fractions, squares - fractions**2 / len(weight)
