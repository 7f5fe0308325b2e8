"""A function of space becomes the closed mesh of its zero level, sparsely."""

from neuralparts.marching.grid import MemoryBoundError, NoSurfaceError
from neuralparts.marching.surface import MarchResult, as_function, as_gradient, march, march_dense

__all__ = [
    "MarchResult",
    "MemoryBoundError",
    "NoSurfaceError",
    "as_function",
    "as_gradient",
    "march",
    "march_dense",
]
