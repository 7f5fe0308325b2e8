"""How fast the function can come nearer to the level: measured on the function itself, by block size and by region.

The *fall* from a block's centre to another node is by how much |f| decreases on the way, per distance. If |f| at the
centre is more than the steepest fall times the distance to the block's farthest node, the block holds no surface. The
steepest fall is measured on a sample, so it may be too small. *Caution* is the factor by which measured falls are
multiplied: 1 at first, larger each time that surface was found where it should not be. The larger it is, the fewer
blocks are skipped.
"""

from collections.abc import Callable

import numpy as np

from neuralparts.marching.bricks import BRICK, row_keys
from neuralparts.marching.node_kernels import FARTHEST_SQUARE

# Measured falls are multiplied by this margin. Of 400 marches of small random networks, half of them with walls
# about as thin as a cell, 7 miss a crumb with it.
MARGIN = 1.25
# The steepest fall of all samples is not taken for less than this fraction of the largest fall known before.
LEAST_FALL = 0.5
# Below the size of a brick, a region with samples has a steepest fall of its own, to which LEAST_FALL does not apply.
# It has few samples, so the fall is not taken for less than this percentile of the samples of all regions.
LEAST_PERCENTILE = 99.9
# Falls are measured in blocks whose |f| is under this many times the largest fall known before, times their reach.
NEAR = 3.0
# One in this many of all blocks is measured, or FEWEST_SAMPLES if that is more; never more than are near.
BLOCKS_PER_SAMPLE, FEWEST_SAMPLES = 16, 512
# Divides the fall of a block that the border cuts down to one node: its reach and its fall are both 0.
LEAST_REACH = 1e-30
# Each time, caution is multiplied by this.
CAUTION_FACTOR = 1.5
# Below this squared distance in cells the falls over one cell are taken, from there on those over the root of 3 cells,
# and at FARTHEST_SQUARE those over the root of 12 cells.
ONE_CELL_BELOW = 9
# Blocks along an edge of the grid, at most, when the search begins.
LARGEST_SIDE = 16


def largest_block(resolution: int) -> int:
    """Cells along the edge of the blocks with which the search begins: a power of 2, at least a brick's."""
    size = BRICK
    while (resolution + 1) / size > LARGEST_SIDE:
        size *= 2
    return size


class Falls:
    """The steepest falls of a function at the nodes of a grid, as they are measured, and the caution in using them.

    by_size: block size in cells -> (regions^3,) steepest fall, per domain unit. Regions are cubes of two largest blocks
    along each edge. slope: a first guess, the steepest slope known. lipschitz: a bound of all slopes that is certain;
    nothing is measured then.
    """

    def __init__(self, resolution: int, slope: float, generator: np.random.Generator, lipschitz: float | None = None):
        self.resolution, self.slope, self.generator = resolution, slope, generator
        self.region_size = 2 * largest_block(resolution)
        self.regions = -(-(resolution + 2) // self.region_size)
        self.by_size: dict[int, np.ndarray] = {}
        self.lipschitz = lipschitz
        self.caution = 1.0

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
        steepest = self.lipschitz
        if steepest is None:
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
        near = np.flatnonzero(np.abs(values) < NEAR * guess * reach)
        count = min(len(near), max(FEWEST_SAMPLES, len(centers) // BLOCKS_PER_SAMPLE))
        chosen = self.generator.choice(near, count, replace=False)
        # (count, 3): from each centre one of the steps. Blocks share ends, and each end is evaluated once.
        ends = centers[chosen] + steps[self.generator.integers(0, len(steps), count)]
        ends = np.clip(ends, 1, self.resolution)
        _, first, each = np.unique(row_keys(ends, self.resolution + 1), return_index=True, return_inverse=True)
        # (count,): how far |f| falls towards the level, and beyond it, by distance; 0 where it rises. An end that the
        # border clips lies nearer than `reach`, which divides its fall all the same: such a fall comes out too small.
        falls = np.abs(values[chosen]) - np.sign(values[chosen]) * values_at(ends[first])[each]
        falls = np.maximum(falls / np.maximum(reach[chosen], LEAST_REACH), 0.0)
        steepest = np.full(self.regions**3, falls.max(initial=LEAST_FALL * guess))
        if size < BRICK and count:
            # Regions that have samples take their own steepest instead of that of all, whatever LEAST_FALL says.
            region = self.region_of(centers[chosen])
            steepest[region] = np.percentile(falls, LEAST_PERCENTILE)
            np.maximum.at(steepest, region, falls)
        return MARGIN * steepest

    def region_of(self, nodes: np.ndarray) -> np.ndarray:
        """(n, 3) nodes -> (n,) index of the region that each lies in."""
        first, second, third = (nodes // self.region_size).astype(np.intp).T
        return (first * self.regions + second) * self.regions + third

    def largest_fall(self, size: int, origins: np.ndarray, reach: np.ndarray, factor: float = 1.0) -> np.ndarray:
        """(n,): `factor` times how far the function may fall, with the caution of now, from the centre of each block
        of `size` cells to its farthest node. origins (n, 3): first nodes of the blocks; reach (n,): that distance."""
        return factor * self.caution * self.by_size[size][self.region_of(origins)] * reach

    def bounds(self, cell: float) -> np.ndarray:
        """(regions^3, FARTHEST_SQUARE + 1) float32: how far the function may fall, with the caution of now, by region
        and by the squared distance in cells. cell: edge of a cell, domain units."""
        squares = np.arange(FARTHEST_SQUARE + 1)
        # The falls were measured over steps of 1 cell (size 1), the root of 3 (size 2) and the root of 12 (size 4).
        # Those of shorter steps, as a rule the steeper ones, also hold somewhat farther: this is on the safe side.
        falls = np.stack([self.by_size[_size_at(square)] for square in squares], axis=1)
        bounds = self.caution * cell * falls * np.sqrt(squares)
        # What may be lost over a distance may be lost over a longer one.
        return np.maximum.accumulate(bounds, axis=1).astype(np.float32)

    def be_more_cautious(self) -> None:
        """Multiply the measured falls by CAUTION_FACTOR more."""
        self.caution *= CAUTION_FACTOR


def _size_at(square: int) -> int:
    """The block size whose falls are taken to hold over a squared distance in cells."""
    if square < ONE_CELL_BELOW:
        return 1
    return 2 if square < FARTHEST_SQUARE else 4
