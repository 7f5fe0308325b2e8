"""The oracle: exact distance to a mesh, closest points, winding number and sign."""

from neuralparts.distance.blocks import in_blocks
from neuralparts.distance.oracle import DistanceOracle

__all__ = ["DistanceOracle", "in_blocks"]
