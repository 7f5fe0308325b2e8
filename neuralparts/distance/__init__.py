"""The oracle: exact distance to a mesh, closest points, winding number and sign."""

from neuralparts.distance.blocks import in_blocks
from neuralparts.distance.gpu_choice import may_label_on_gpu
from neuralparts.distance.oracle import DistanceOracle
from neuralparts.distance.run_search import RunSearch

__all__ = ["DistanceOracle", "RunSearch", "in_blocks", "may_label_on_gpu"]
