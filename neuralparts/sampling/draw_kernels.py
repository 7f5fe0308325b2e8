"""Compiled loops that draw random points: proposals for importance samples, the second points of pairs.

The random numbers are counter-based (Salmon et al. 2011): those of point k are a function of a key and k. So a point is
the same whichever thread draws it, and in whichever block. All functions of single numbers are plain enough for a GPU's
compiler (numba-cuda) too.
"""

import math

import numpy as np

from neuralparts.compiled import cached_njit

compiled = cached_njit(nogil=True)

# The constants of splitmix64. All operands must be uint64: with an int64, Numba computes in float64.
STEP, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S24, S27, S30, S31, S40 = (np.uint64(bits) for bits in (24, 27, 30, 31, 40))
TWO, ONE = np.uint64(2), np.uint64(1)
LOW_24 = np.uint64(2**24 - 1)
# Proposals that are tested at once, at most; and what rounding may do to the test, with a large margin.
RUN, MARGIN = 256, 1e-6


@compiled
def random_bits(key, counter):
    """64 random bits, a function of a key and a counter, all uint64: splitmix64 (Steele, Lea, Flood 2014)."""
    bits = key + counter * STEP
    bits = (bits ^ (bits >> S30)) * FIRST
    bits = (bits ^ (bits >> S27)) * SECOND
    return bits ^ (bits >> S31)


@compiled
def uniform_numbers(key, k):
    """The four random numbers of point k (uint64): three uniform in [-1, 1) in steps of 2^-23, one in (0, 1)."""
    bits, more = random_bits(key, TWO * k), random_bits(key, TWO * k + ONE)
    x, y = float(bits & LOW_24), float((bits >> S24) & LOW_24)
    z, fraction = float(more & LOW_24), float(more >> S24)
    return x * 2.0**-23 - 1, y * 2.0**-23 - 1, z * 2.0**-23 - 1, (fraction + 0.5) * 2.0**-40


@compiled
def random_numbers(key, k):
    """As `uniform_numbers`, but the fourth number is an exponential one of mean 1."""
    x, y, z, fraction = uniform_numbers(key, k)
    return x, y, z, -math.log(fraction)


@compiled
def unit_vector(key, k):
    """A random vector of length 1 for point k (uint64), uniform over the sphere."""
    # Archimedes: the height of a point of the sphere is uniform, and so is its angle.
    angle, _, height, _ = random_numbers(key, k)
    across = math.sqrt((1 - height) * (1 + height))
    return across * math.cos(math.pi * angle), across * math.sin(math.pi * angle), height


@compiled
def propose_block(
    start: int,
    key: np.uint64,
    leaf: int,
    ends: np.ndarray,
    leaves: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    mean: float,
    rounding: float,
    points: np.ndarray,
    limit: np.ndarray,
    cell: np.ndarray,
    on_side: np.ndarray,
) -> int:
    """Propose len(limit) points from number `start` on, and keep those that may be near enough; returns their number K.

    leaf: that of the first proposal; ends (M,) int64: numbers of the proposals at which each leaf ends. leaves: centre
    (M, 3), half (M,), distance (M,), nearest (M,) of `ImportanceCells`. mean: of the exponential variable in the
    limit, nearest plus that variable. Fills the first K of points (B, 3) float32, limit (B,) float32 of their distance,
    cell (B,) int32 their leaf, and on_side (B,) bool: the surface does not pass between the point and its leaf's
    centre, with a margin of `rounding`.
    """
    centre, half, distance, nearest = leaves
    kept, k, end, may_be_kept = 0, start, start + len(limit), np.empty(RUN, dtype=np.bool_)
    while k < end:
        while ends[leaf] <= k:
            leaf += 1
        run = min(ends[leaf], end, k + RUN) - k
        side = half[leaf]
        gap = np.float64(distance[leaf]) - np.float64(nearest[leaf])
        _fill_may_be_kept(k, key, run, side, gap, 1 / mean, may_be_kept)
        for j in range(run):
            if not may_be_kept[j]:
                continue
            x, y, z, extra = random_numbers(key, np.uint64(k + j))
            x, y, z = x * side, y * side, z * side
            radius, reach = math.sqrt(x * x + y * y + z * z), nearest[leaf] + mean * extra
            # The distance is at least that of the centre minus the radius.
            if distance[leaf] - radius < reach:
                points[kept, 0], points[kept, 1], points[kept, 2] = (
                    centre[leaf, 0] + x,
                    centre[leaf, 1] + y,
                    centre[leaf, 2] + z,
                )
                limit[kept], cell[kept], on_side[kept] = reach, leaf, radius < distance[leaf] - rounding
                kept += 1
        k += run
    return kept


@compiled
def _fill_may_be_kept(start, key, run, side, gap, beta, may_be_kept):
    """Fill the first `run` of may_be_kept for the proposals from number `start` on: False is a certain refusal.

    gap: distance at the centre of their leaf less the least distance in the leaf; side: half the side of the leaf. A
    proposal is refused if -log(fraction) is at most t = beta (gap - radius). This is certain where t > 0 and the
    fraction times the first terms of exp(t) is above 1. It takes no logarithm, so the compiler vectorises the loop.
    """
    for j in range(run):
        x, y, z, fraction = uniform_numbers(key, np.uint64(start + j))
        t = beta * (gap - side * math.sqrt(x * x + y * y + z * z))
        terms = 1 + t * (1 + t * (1 / 2 + t * (1 / 6 + t * (1 / 24))))
        may_be_kept[j] = (t <= 0) | (fraction * terms < 1 + MARGIN)


@compiled
def step_block(start: int, key: np.uint64, length: float, first: np.ndarray, second: np.ndarray) -> None:
    """Fill second (N, 3): points at a distance `length` from first (N, 3), both float32, in random directions.

    start: number of the first point. A coordinate that would leave the cube [-1, 1]^3 goes the other way.
    """
    for i in range(len(first)):
        step = unit_vector(key, np.uint64(start + i))
        for axis in range(3):
            there = np.float32(first[i, axis] + length * step[axis])
            if abs(there) > 1:
                there = np.float32(first[i, axis] - length * step[axis])
            second[i, axis] = there
