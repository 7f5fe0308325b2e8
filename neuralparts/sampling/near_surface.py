"""Labelled points very near to a mesh's surface, displaced from points of it.

Importance samples as near as these would be drawn from many small cells. Here a point's triangle bounds its distance,
so its label takes less time than theirs.
"""

import numpy as np

from neuralparts.distance import DistanceOracle
from neuralparts.sampling.cube import ROUNDING
from neuralparts.sampling.surface import surface_normals

# The density of the displacements falls off so many times as steeply as that of importance samples (docs/log.md).
TIMES_STEEPER = 3.0


def near_surface_samples(
    oracle: DistanceOracle, count: int, generator: np.random.Generator, importance_weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """count labelled points, in random order: points (count, 3) float32, domain, and sdf (count,) float32.

    Each is a point uniform on the surface, moved along its triangle's normal to either side. How far has the density
    b exp(-b t), b = TIMES_STEEPER * importance_weight, per domain unit. A coordinate outside the cube is set to its
    side.
    """
    points, normals = surface_normals(oracle.mesh, count, generator)
    # (count,) lengths of the moves, then with signs.
    length = generator.exponential(1 / (TIMES_STEEPER * importance_weight), count).astype(np.float32)
    signed = length * (2 * generator.integers(0, 2, count) - 1).astype(np.float32)
    points = (points + signed[:, None] * normals).clip(-1, 1)
    # No point is farther from the mesh than from the point that it was moved from.
    distance = oracle.distance(points, length + np.float32(ROUNDING))
    return points, np.where(oracle.inside(points), -distance, distance)
