"""A first look at the function before it is marched: a coarse lattice of nodes, the same for every march of it."""

from typing import NamedTuple

import numpy as np

from neuralparts.marching.explain import NoSurfaceError
from neuralparts.marching.probe import Probe

# Nodes along an edge of the lattice, at most.
SIDE = 12
# Points at which a function is asked that has one value on the whole lattice.
RANDOM_POINTS = 4096


class Survey(NamedTuple):
    """nodes (n, 3) int32 of the lattice, their values (n,) float32 less the level, and the steepest slope between
    neighbours: the difference of two values by their distance."""

    nodes: np.ndarray
    values: np.ndarray
    slope: float


def survey(probe: Probe) -> Survey:
    """Evaluate the lattice. Raises NoSurfaceError if the function is constant, there and at random points."""
    # (n, 3) nodes, evenly spread over the grid.
    line = np.unique(np.linspace(1, probe.resolution, min(probe.resolution, SIDE)).round().astype(np.int32))
    nodes = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    values = probe.at_nodes(nodes)
    if values.min() == values.max():
        points = np.random.default_rng(0).uniform(-1.0, 1.0, (RANDOM_POINTS, 3)).astype(np.float32)
        if (probe.at_points(points) == values[0]).all():
            value = float(values[0] + probe.level)
            raise NoSurfaceError(f"no surface: the function is {value:.6g} everywhere; the fit has collapsed")
    # The largest difference between neighbours along an axis, by the shortest step between two of them.
    lattice = values.reshape((len(line),) * 3)
    rise = max(np.abs(np.diff(lattice, axis=axis)).max() for axis in range(3))
    return Survey(nodes, values, float(rise / (np.diff(line).min() * probe.cell)))
