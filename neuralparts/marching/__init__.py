"""A function of space becomes the closed mesh of its zero level, sparsely."""

from neuralparts.marching.explain import NoSurfaceError
from neuralparts.marching.memory_bound import MemoryBoundError
from neuralparts.marching.node_signs import NodeSigns, SideCounts, count_sides
from neuralparts.marching.surface import MarchResult, march, march_dense
from neuralparts.marching.torch_functions import as_function, as_gradient

__all__ = [
    "MarchResult",
    "MemoryBoundError",
    "NoSurfaceError",
    "NodeSigns",
    "SideCounts",
    "as_function",
    "as_gradient",
    "count_sides",
    "march",
    "march_dense",
]
