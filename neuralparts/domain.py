"""The domain: the cube [-1, 1]^3 in which a part is sampled, fitted and marched, and the map to the file's own units.

A mesh's bounding sphere has radius DOMAIN_RADIUS about the origin of the domain.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

# Radius of the bounding sphere in the domain. It leaves a margin of a tenth to the border of the cube.
DOMAIN_RADIUS = 0.9


@dataclass(frozen=True)
class Transform:
    """The map between file units and the domain: domain = (file - center) * scale.

    center: (3,) float64, file units. scale: domain units per file unit. Raises ValueError unless the center is finite
    and the scale positive and finite.
    """

    center: np.ndarray
    scale: float

    def __post_init__(self):
        center, scale = np.asarray(self.center, dtype=np.float64), float(self.scale)
        if center.shape != (3,) or not np.isfinite(center).all() or not 0 < scale < np.inf:
            raise ValueError(f"a transform needs a finite center (3,) and a scale > 0; got {self.center}, {self.scale}")
        object.__setattr__(self, "center", center)
        object.__setattr__(self, "scale", scale)

    def to_domain(self, points: Any) -> Any:
        """(N, 3) points in file units -> (N, 3) float64 in the domain; an array or a tensor, and the same kind back.

        Computed in float64, because a part may lie far from the origin in its file.
        """
        if hasattr(points, "new_tensor"):  # a torch tensor
            points = points.double()
            return (points - points.new_tensor(self.center)) * self.scale
        return (np.asarray(points, dtype=np.float64) - self.center) * self.scale

    def to_file(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points in the domain -> (N, 3) float64 in file units."""
        return np.asarray(points, dtype=np.float64) / self.scale + self.center

    def length_to_file(self, length: Any) -> Any:
        """A length (or array of lengths) in domain units -> the same in file units."""
        return length / self.scale


def grid_cell(resolution: int) -> float:
    """Edge of a cell, in domain units, of the grid of resolution^3 nodes that spans the domain; resolution >= 2."""
    return 2.0 / (resolution - 1)
