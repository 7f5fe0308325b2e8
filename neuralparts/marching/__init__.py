"""A function of space becomes the closed mesh of its zero level, sparsely."""

from neuralparts.marching.explain import NoSurfaceError
from neuralparts.marching.memory_bound import MemoryBoundError
from neuralparts.marching.surface import MarchResult, march, march_dense
from neuralparts.marching.torch_functions import as_function, as_gradient

__all__ = [
    "MarchResult",
    "MemoryBoundError",
    "NoSurfaceError",
    "as_function",
    "as_gradient",
    "march",
    "march_dense",
]
