"""How fast the function can come nearer to the level: measured on the function itself, by block size and by region.

The *fall* from a block's centre to another node is by how much |f| decreases on the way, per distance. If |f| at the
centre is more than the steepest fall times the distance to the block's farthest node, the block holds no surface. The
steepest fall is measured on a sample, so it may be too small. *Trust* is the factor by which measured falls are
multiplied: 1 at first, more each time that surface was found where it should not be. The larger the factor, the less
the measured falls are trusted.
"""

from collections.abc import Callable

import numpy as np

from neuralparts.marching.bricks import BRICK, row_keys
from neuralparts.marching.node_kernels import FARTHEST_SQUARE

# Measured falls are multiplied by this margin. Of 400 marches of small random networks, half of them with walls
# about as thin as a cell, 7 miss a crumb with it.
MARGIN = 1.25
# A region has few samples of its own, so its fall is not taken for less than this percentile of all samples; and none
# for less than this fraction of what it was at larger blocks.
LEAST_PERCENTILE = 99.9
LEAST_FALL = 0.5
# Each time, the trust factor is multiplied by this.
DISTRUST = 1.5
# Blocks along an edge of the grid, at most, when the search begins.
LARGEST_SIDE = 16


def largest_block(resolution: int) -> int:
    """Cells along the edge of the blocks with which the search begins: a power of 2, at least a brick's."""
    size = BRICK
    while (resolution + 1) / size > LARGEST_SIDE:
        size *= 2
    return size


class Falls:
    """The steepest falls of a function at the nodes of a grid, as they are measured, and the trust in them.

    by_size: block size in cells -> (regions^3,) steepest fall, per domain unit. Regions are cubes of two largest blocks
    along each edge. slope: a first guess, the steepest slope known.
    """

    def __init__(self, resolution: int, slope: float, generator: np.random.Generator):
        self.resolution, self.slope, self.generator = resolution, slope, generator
        self.region_size = 2 * largest_block(resolution)
        self.regions = -(-(resolution + 2) // self.region_size)
        self.by_size: dict[int, np.ndarray] = {}
        self.trust = 1.0

    def measure(
        self,
        size: int,
        centers: np.ndarray,
        values: np.ndarray,
        steps: np.ndarray,
        reach: np.ndarray,
        values_at: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """Measure the steepest falls for blocks of `size` cells, and keep them in `by_size`.

        centers (n, 3): nodes, values (n,): at them. steps (k, 3): to the nodes whose falls count. reach (n,) float32:
        how long the steps are, domain units. values_at: nodes (m, 3) -> values (m,).
        """
        steepest = self.steepest(size, centers, values, steps, reach, values_at)
        self.by_size[size] = np.broadcast_to(steepest, self.regions**3)

    def steepest(
        self,
        size: int,
        centers: np.ndarray,
        values: np.ndarray,
        steps: np.ndarray,
        reach: np.ndarray,
        values_at: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray | float:
        """By region (regions^3,), or one for all: the steepest fall in a sample of the centres, times MARGIN.

        It is the Lipschitz constant that matters at this size: the mean slope over the block. The largest gradient is
        two to four times as large for fitted networks, at creases much smaller than the block, and would open as
        many times more blocks. From bricks up one sample serves all regions; below, a region's own counts.
        """
        guess = max((float(falls.max()) for falls in self.by_size.values()), default=self.slope)
        # The sample is taken where it decides: in blocks whose value is near to what would be skipped.
        near = np.flatnonzero(np.abs(values) < 3.0 * guess * reach)
        count = min(len(near), max(512, len(centers) // 16))
        chosen = self.generator.choice(near, count, replace=False)
        # (count, 3): from each centre one of the steps. Blocks share ends, and each end is evaluated once.
        ends = centers[chosen] + steps[self.generator.integers(0, len(steps), count)]
        ends = np.clip(ends, 1, self.resolution)
        _, first, each = np.unique(row_keys(ends, self.resolution + 1), return_index=True, return_inverse=True)
        # (count,): how far |f| falls towards the level, and beyond it, by distance; 0 where it rises.
        falls = np.abs(values[chosen]) - np.sign(values[chosen]) * values_at(ends[first])[each]
        falls = np.maximum(falls / np.maximum(reach[chosen], 1e-30), 0.0)
        steepest = np.full(self.regions**3, falls.max(initial=LEAST_FALL * guess))
        if size < BRICK and count:
            # Regions that have samples take their own steepest instead of that of all.
            region = self.region_of(centers[chosen])
            steepest[region] = np.percentile(falls, LEAST_PERCENTILE)
            np.maximum.at(steepest, region, falls)
        return MARGIN * steepest

    def region_of(self, nodes: np.ndarray) -> np.ndarray:
        """(n, 3) nodes -> (n,) index of the region that each lies in."""
        first, second, third = (nodes // self.region_size).astype(np.intp).T
        return (first * self.regions + second) * self.regions + third

    def within(self, size: int, origins: np.ndarray, reach: np.ndarray, factor: float = 1.0) -> np.ndarray:
        """(n,): `factor` times how far the function may fall, with the trust of now, from the centre of each block of
        `size` cells to its farthest node. origins (n, 3): first nodes of the blocks; reach (n,): that distance."""
        return factor * self.trust * self.by_size[size][self.region_of(origins)] * reach

    def bounds(self, cell: float) -> np.ndarray:
        """(regions^3, FARTHEST_SQUARE + 1) float32: how far the function may fall, with the trust of now, by region and
        by the squared distance in cells. cell: edge of a cell, domain units."""
        squares = np.arange(FARTHEST_SQUARE + 1)
        # The falls were measured over steps of 1 cell (size 1), the root of 3 (size 2) and the root of 12 (size 4).
        # Those of shorter steps, as a rule the steeper ones, also hold somewhat farther: this is on the safe side.
        falls = np.stack([self.by_size[_size_at(square)] for square in squares], axis=1)
        bounds = self.trust * cell * falls * np.sqrt(squares)
        # What may be lost over a distance may be lost over a longer one.
        return np.maximum.accumulate(bounds, axis=1).astype(np.float32)

    def distrust(self) -> None:
        """Trust the measured falls less: multiply them by DISTRUST more."""
        self.trust *= DISTRUST


def _size_at(square: int) -> int:
    """The block size whose falls are taken to hold over a squared distance in cells."""
    if square < 9:
        return 1
    return 2 if square < 12 else 4
