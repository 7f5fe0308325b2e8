"""The function that is marched, asked at nodes of the grid: in batches, counted, its answers checked."""

from collections.abc import Callable

import numpy as np

from neuralparts.domain import grid_cell
from neuralparts.marching.bricks import OUTSIDE

# (N, 3) float32 points of the domain -> (N,) values.
Function = Callable[[np.ndarray], np.ndarray]
# Takes the estimated fraction done, 0 to 1.
Progress = Callable[[float], None]


class Probe:
    """A function at the nodes of a grid, less the level, and the count of its evaluations.

    cell: edge of a cell, domain units. axis (R,) float32: coordinates of the nodes 1 to R, the same along each axis.
    evaluated: nodes so far. expected: estimate of their final number, for the progress. lowest, highest: of the values
    so far. Nodes (N, 3) are integers from 0 to R + 1 and more; see `bricks.py`.
    """

    def __init__(
        self,
        function: Function,
        resolution: int,
        level: float = 0.0,
        progress: Progress | None = None,
        batch: int = 65536,
    ):
        """batch: points that the function is given at a time. Raises ValueError unless resolution is a whole number of
        at least 2."""
        if int(resolution) != resolution or resolution < 2:
            raise ValueError(f"a grid needs a whole number of at least 2 nodes along an edge, got {resolution}")
        self.function, self.resolution, self.level = function, int(resolution), np.float32(level)
        self.progress, self.batch = progress, batch
        self.cell = grid_cell(self.resolution)
        self.axis = np.linspace(-1.0, 1.0, self.resolution).astype(np.float32)
        self.evaluated, self.expected, self.fraction_done = 0, self.resolution**3, 0.0
        self.lowest, self.highest = np.inf, -np.inf

    @property
    def one_sided(self) -> bool:
        """True if no sign has changed among the nodes evaluated so far; a value on the level counts as inside."""
        return not self.lowest <= 0.0 < self.highest

    def at_nodes(self, nodes: np.ndarray) -> np.ndarray:
        """(N, 3) integer nodes -> (N,) float32 values less the level; OUTSIDE, without asking, beyond the border."""
        values = np.full(len(nodes), OUTSIDE, dtype=np.float32)
        domain = np.flatnonzero(((nodes >= 1) & (nodes <= self.resolution)).all(axis=1))
        values[domain] = self.at_node_points(self.axis[nodes[domain] - 1])
        return values

    def at_node_points(self, points: np.ndarray) -> np.ndarray:
        """As `at_nodes`, for the coordinates (N, 3) float32 of nodes of the domain."""
        values = np.empty(len(points), dtype=np.float32)
        for start in range(0, len(points), self.batch):
            part = slice(start, start + self.batch)
            values[part] = self.at_points(points[part])
            self._count(values[part])
        return values

    def at_points(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) float32 points, anywhere in the domain -> (N,) float32 values less the level.

        The function is called once, and the points are not counted. Raises ValueError for an answer of a wrong shape, a
        NaN or an infinity.
        """
        values = np.asarray(self.function(points))
        if values.shape != (len(points),):
            raise ValueError(f"the function gave an array of shape {values.shape} for {len(points)} points")
        values = values.astype(np.float32) - self.level
        if not np.isfinite(values).all():
            bad = points[np.flatnonzero(~np.isfinite(values))[0]]
            raise ValueError(f"the function is not finite at {np.array2string(bad, precision=3)}")
        return values

    def position(self, nodes: np.ndarray) -> np.ndarray:
        """(N, 3) nodes, fractions allowed -> (N, 3) float64 coordinates in the domain."""
        return (nodes - 1.0) * self.cell - 1.0

    def _count(self, values: np.ndarray) -> None:
        """Count values of nodes, keep their range, and report the progress, which never goes back."""
        self.evaluated += len(values)
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        if self.progress is not None:
            self.fraction_done = max(self.fraction_done, min(1.0, self.evaluated / self.expected))
            self.progress(self.fraction_done)
