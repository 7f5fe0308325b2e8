"""The collector of labelled points: takes them in portions, gives as many as are wanted, in random order."""

from collections.abc import Callable

import numpy as np

# Points that a sampler handles at a time, which bounds its temporary arrays (about 100 MiB).
CHUNK = 2**20


class SampleCollector:
    """Labelled points as they come in: the first `size` rows of points (., 3) and sdf (.,), both float32.

    count: the number wanted. progress: None, or called with the number of newly finished points.
    """

    def __init__(self, count: int, progress: Callable[[int], None] | None = None):
        self.count, self.size, self._progress = count, 0, progress
        # A sampler that cannot choose its number exactly overshoots by a few standard deviations, rarely by more.
        capacity = count + 4 * int(np.sqrt(count))
        self.points, self.sdf = np.empty((capacity, 3), dtype=np.float32), np.empty(capacity, dtype=np.float32)

    def add(self, points: np.ndarray, sdf: np.ndarray) -> None:
        """Take in points (N, 3) and sdf (N,)."""
        start, end = self.size, self.size + len(points)
        if end > len(self.sdf):
            self.points, self.sdf = np.resize(self.points, (end, 3)), np.resize(self.sdf, end)
        self.points[start:end], self.sdf[start:end] = points, sdf
        self.size = end
        if self._progress:
            self._progress(min(end, self.count) - min(start, self.count))

    def shuffled(self, generator: np.random.Generator, kept: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Points (count, 3) and sdf (count,), float32, in random order. Call it once, after at least count were added.

        Of more than count points, random ones are dropped, but none of the first `kept`.
        """
        order = np.arange(self.size, dtype=np.int64 if self.size > 2**31 else np.int32)
        if self.size > self.count:
            order = np.delete(order, kept + generator.choice(self.size - kept, self.size - self.count, replace=False))
        generator.shuffle(order)
        # One array after the other replaces its unordered self, so that only one exists twice at a time.
        self.points = self.points.take(order, axis=0)  # for rows three times as fast as an index in brackets
        self.sdf = self.sdf[order]
        return self.points, self.sdf
