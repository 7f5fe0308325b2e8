"""Importance sampling (Davies et al. 2020): labelled points of density exp(-beta |d|) over the cube.

The density is drawn exactly, by rejection from an octree. In a cell whose centre is |d| from the surface, a point at
distance r from the centre is at least |d| - r from the surface. That bounds the density of the whole cell; for a point
far from the centre, it bounds the density before the distance of the point is known. Cells are split as long as that
saves more distance queries than it costs.
"""

import math
from collections.abc import Callable

import numpy as np

from neuralparts.choices import IMPORTANCE_WEIGHT, LARGEST_IMPORTANCE_WEIGHT, UNIFORM_RATIO
from neuralparts.distance import DistanceOracle, in_blocks
from neuralparts.machine import thread_count
from neuralparts.sampling.collector import CHUNK, SampleCollector
from neuralparts.sampling.cube import CORNERS, HALF_DIAGONAL, ROUNDING, random_key
from neuralparts.sampling.draw_kernels import propose_block
from neuralparts.sampling.open_meshes import add_sign_changes
from neuralparts.sampling.uniform import add_uniform, draw_uniform_count

# Cells along an edge of the octree's coarsest level, and the largest number of levels below it (side 2^-12).
COARSEST = 8
MAX_LEVELS = 10
# Mean distance of a point from the centre of its cube, as a fraction of the half diagonal.
MEAN_RADIUS = 0.555
# A split is taken to save 1 - exp(-SPLIT_GAIN beta h) of the distance queries in a cell, where h is half its diagonal.
# Of 0.1, 0.2, 0.3 and 1, this one made the fewest queries on several parts, from 100,000 to 5 million points.
SPLIT_GAIN = 0.2
# (8, 3) float32 centres of the eight parts of a cell, from its centre in units of a quarter of its side.
CHILDREN = (2 * CORNERS - 1).astype(np.float32)
# The first round assumes that this times the expected fraction of the proposals is accepted: the density at the centre
# of a leaf is a little below the mean over the leaf.
MORE_ACCEPTANCE = 1.05
# Proposals at a time on one processor, such as a worker has. With CHUNK, which gives many processors or a GPU enough
# to do, 900,000 samples take 11 MiB more at the peak. The samples do not depend on it.
FEW = 2**17
# Least acceptance that is assumed for a round, so that its number of proposals is bounded.
LEAST_ACCEPTANCE = 0.01


def importance_samples(
    oracle: DistanceOracle,
    count: int,
    generator: np.random.Generator,
    importance_weight: float = IMPORTANCE_WEIGHT,
    uniform_ratio: float = UNIFORM_RATIO,
    progress: Callable[[int], None] | None = None,
    sign_change_fraction: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """count labelled points with density (1 - uniform_ratio) exp(-importance_weight |d|) / Z + uniform_ratio / 8.

    importance_weight: beta, per domain unit, above 0, at most LARGEST_IMPORTANCE_WEIGHT. uniform_ratio: in [0, 1].
    sign_change_fraction: in [0, 1], for open meshes. This fraction of the points that are not uniform over the cube is
    uniform over the `sign_change_cells` instead. Other arguments and result as for `draw_samples`.

    The points are independent; none is kept twice. Resident memory, the result included: 28 bytes a point and 60 MiB;
    with a sign_change_fraction at least 110 MiB. Raises ValueError for a value out of range.
    """
    if not 0 < importance_weight <= LARGEST_IMPORTANCE_WEIGHT:
        raise ValueError(
            f"importance_weight must be above 0 and at most {LARGEST_IMPORTANCE_WEIGHT:,}, got {importance_weight}"
        )
    if not 0 <= sign_change_fraction <= 1:
        raise ValueError(f"sign_change_fraction must lie between 0 and 1, got {sign_change_fraction}")
    uniform = draw_uniform_count(count, uniform_ratio, generator)
    samples = SampleCollector(count, progress)
    add_uniform(samples, uniform, oracle, generator)
    if uniform < count and sign_change_fraction:
        add_sign_changes(samples, generator.binomial(count - uniform, sign_change_fraction), oracle, generator)
    kept = samples.size  # the others may overshoot their number, and only they are thinned out
    if uniform < count:
        ImportanceCells(oracle, count - kept, importance_weight).fill(samples, generator)
    return samples.shuffled(generator, kept)


class ImportanceCells:
    """The octree of importance sampling: its leaves, each with a bound of the density; neighbours follow each other.

    oracle: DistanceOracle. count: number of points that will be drawn, which decides how fine the leaves get.
    importance_weight: beta. Of M leaves, all float32: centre (M, 3), half (M,) half the side, distance (M,) |d| at the
    centre, nearest (M,) the least |d| that a point of the leaf can have. weight (M,) float64: the probability of a leaf
    for a proposal, its volume times the bound exp(-beta nearest), scaled to sum 1. expected_acceptance: about the
    fraction of the proposals that become samples.
    """

    def __init__(self, oracle: DistanceOracle, count: int, importance_weight: float):
        self.oracle, self.importance_weight = oracle, importance_weight
        # (COARSEST^3, 3) centres of the coarsest level.
        axis = (np.arange(COARSEST, dtype=np.float32) + 0.5) * (2 / COARSEST) - 1
        centre = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        leaves, half, finished = [], 1 / COARSEST, 0.0
        for level in range(MAX_LEVELS + 1):
            # (C,) of this level: |d| at the centres, and which cells to split. The others are leaves.
            distance = oracle.distance(centre)
            split = self._worth_splitting(distance, half, count, finished) & (level < MAX_LEVELS)
            leaves.append((centre[~split], np.full((~split).sum(), half, dtype=np.float32), distance[~split]))
            # The integral of the density over the leaves so far, each by the value at its centre.
            finished += (2 * half) ** 3 * np.exp(-importance_weight * distance[~split].astype(np.float64)).sum()
            # (8 C', 3) the centres of the next level.
            half /= 2
            centre = (centre[split][:, None] + half * CHILDREN).reshape(-1, 3)
        self.centre, self.half, self.distance = (np.concatenate(parts) for parts in zip(*leaves, strict=True))
        self.nearest = np.maximum(self.distance - HALF_DIAGONAL * self.half, 0)
        self.weight = self.half.astype(np.float64) ** 3 * np.exp(-importance_weight * self.nearest)
        total = self.weight.sum()
        self.weight /= total
        # Fraction of the proposals that are accepted, if each leaf had the density of its centre throughout.
        density = np.exp(-importance_weight * self.distance.astype(np.float64))
        self.expected_acceptance = float((self.half.astype(np.float64) ** 3 * density).sum() / total)

    def _worth_splitting(self, distance: np.ndarray, half: float, count: int, finished: float) -> np.ndarray:
        """(C,) bool: the eight distance queries of a split cost less than the refused points that it saves.

        distance (C,): |d| at the centres of the cells of a level; finished: integral of the density over the leaves.
        """
        beta, radius = self.importance_weight, MEAN_RADIUS * HALF_DIAGONAL * half
        volume = (2 * half) ** 3
        # The integral of the density over the cube, about.
        total = finished + volume * np.exp(-beta * distance.astype(np.float64)).sum()
        # (C,) distance queries for proposals in each cell, and the fraction of them that a split saves.
        queries = volume * np.exp(-beta * np.maximum(distance.astype(np.float64) - radius, 0)) * count / total
        return queries * -np.expm1(-SPLIT_GAIN * beta * HALF_DIAGONAL * half) > 8

    def fill(self, samples: SampleCollector, generator: np.random.Generator, chunk: int | None = None) -> None:
        """Add points of the density until there are samples.count or a few more.

        chunk: proposals at a time, by default FEW or CHUNK.
        """
        chunk = chunk or (CHUNK if thread_count() > 1 else FEW)
        # The first round is to give a little less than all, and measures the acceptance for the others.
        acceptance = min(max(MORE_ACCEPTANCE * self.expected_acceptance, LEAST_ACCEPTANCE), 1.0)
        while samples.size < samples.count:
            # Two standard deviations more than are missing: a further round costs more than dropping a few.
            before, missing = samples.size, samples.count - samples.size
            proposals = int((missing + 2 * math.sqrt(missing)) / acceptance) + 1
            self._draw(samples, proposals, generator, chunk)
            acceptance = max((samples.size - before) / proposals, LEAST_ACCEPTANCE)

    def _draw(self, samples: SampleCollector, proposals: int, generator: np.random.Generator, chunk: int) -> None:
        """Propose points from the bound, and add those that the density accepts."""
        # (M,) numbers of the proposals at which each leaf ends: those of a leaf follow each other.
        ends = np.cumsum(generator.multinomial(proposals, self.weight))
        key = random_key(generator)
        for start in range(0, proposals, chunk):
            points, limit, cell, on_side = self._proposed(slice(start, min(start + chunk, proposals)), key, ends)
            distance = self.oracle.distance(points, limit)
            accepted = np.flatnonzero(distance < limit)
            points = points.take(accepted, axis=0)  # for rows `take` is faster than an index in brackets
            inside = self._inside(points, cell[accepted], on_side[accepted])
            distance = distance[accepted]
            samples.add(points, np.where(inside, -distance, distance))

    def _proposed(self, chunk: slice, key: np.uint64, ends: np.ndarray) -> list[np.ndarray]:
        """The proposals of a chunk, without those that are refused by their distance from the centre alone.

        Of K proposals point (K, 3), limit (K,) float32, leaf (K,) int32, and whether the surface does not pass between
        the point and the leaf's centre (K,) bool. A proposal is accepted with probability exp(-beta (|d| - nearest)):
        if |d| is below its limit, which is nearest plus an exponential variable of mean 1 / beta.
        """
        size = chunk.stop - chunk.start
        arrays = [np.empty((size, 3), np.float32), *(np.empty(size, kind) for kind in (np.float32, np.int32, bool))]
        kept = {}
        leaves = self.centre, self.half, self.distance, self.nearest

        def propose(block: slice) -> None:
            start = chunk.start + block.start
            leaf = int(np.searchsorted(ends, start, side="right"))
            mean, outputs = 1 / self.importance_weight, (array[block] for array in arrays)
            kept[block.start] = propose_block(start, key, leaf, ends, leaves, mean, ROUNDING, *outputs)

        in_blocks(propose, size)
        return [np.concatenate([array[start : start + kept[start]] for start in sorted(kept)]) for array in arrays]

    def _inside(self, points: np.ndarray, cell: np.ndarray, on_side: np.ndarray) -> np.ndarray:
        """(K,) bool: which of (K, 3) points of the leaves (K,) are inside. on_side (K,): as `_proposed` returns it.

        In a closed mesh the sign changes at the surface only, so a point before it has the sign of its leaf's centre.
        In an open mesh the winding number may pass one half without a surface, so each point is queried.
        """
        if not self.oracle.mesh.closed:
            return self.oracle.inside(points)
        # (M,) the leaves whose centre is asked, and (K,) their answers for all points; then the others.
        asked = np.zeros(len(self.centre), dtype=bool)
        asked[cell[on_side]] = True
        of_leaf = np.zeros(len(self.centre), dtype=bool)
        of_leaf[asked] = self.oracle.inside(self.centre[asked])
        inside = of_leaf[cell]
        inside[~on_side] = self.oracle.inside(points[~on_side])
        return inside
