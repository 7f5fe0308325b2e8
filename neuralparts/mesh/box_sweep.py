"""Boxes within a box: found among the boxes that begin within it along one axis, so that not all pairs are compared.

In: the lowest and highest corners (S, 3) of S boxes. The boxes are added one by one, and only those added are found.
"""

import numpy as np

# Boxes of a range above which a compiled loop compares them.
MANY = 1000


class BoxSweep:
    """low, high: (S, 3) float64. The boxes are sorted along the axis along which the fewest overlap."""

    def __init__(self, low: np.ndarray, high: np.ndarray):
        length = np.maximum((high - low).sum(axis=0), np.finfo(float).tiny)  # (3,)
        axis = int(np.argmax((high.max(axis=0) - low.min(axis=0)) / length))
        self._order = np.argsort(low[:, axis], kind="stable")
        self._place = np.argsort(self._order)  # (S,) of each box in the order
        self._low, self._high = low[self._order], high[self._order]
        # (S,) along the axis, each in memory of its own: to compare a range of them is quick.
        self._begin, self._end = (np.ascontiguousarray(side[:, axis]) for side in (self._low, self._high))
        self._added = np.zeros(len(low), dtype=bool)

    def add(self, boxes: np.ndarray | int) -> None:
        """Have these numbers of boxes found from now on."""
        self._added[self._place[boxes]] = True

    def within(self, box: int) -> np.ndarray:
        """(K,) numbers of the boxes added that lie within a box."""
        place = self._place[box]
        first = np.searchsorted(self._begin, self._begin[place], side="left")
        last = np.searchsorted(self._begin, self._end[place], side="right")
        if last - first > MANY:
            from neuralparts.mesh.containment_kernels import boxes_within

            return self._order[boxes_within(self._low, self._high, self._added, place, first, last)]
        near = first + np.flatnonzero(self._added[first:last] & (self._end[first:last] <= self._end[place]))
        fits = (self._low[near] >= self._low[place]).all(axis=1) & (self._high[near] <= self._high[place]).all(axis=1)
        return self._order[near[fits]]
