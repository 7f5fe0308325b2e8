"""The limit of memory that a march keeps: refuse a surface that is too large before its nodes are evaluated."""

import numpy as np

from neuralparts.errors import UserError
from neuralparts.machine import resident_memory

# What a brick at the surface takes at the peak, its part of the mesh included: measured 4.9 KiB.
BRICK_BYTES = 5632
# What a stored brick takes already when it is checked: its 512 float32 values, the largest of its arrays.
STORED_BYTES = 2048
# For temporary arrays, whatever the size of the surface.
RESERVE = 64 * 2**20


class MemoryBoundError(UserError):
    """The surface at this resolution does not fit the memory bound; the message says which resolution would."""


def check_memory(max_memory: int | None, bricks: int, stored: int, resolution: int) -> None:
    """Raise MemoryBoundError if `bricks` bricks, of which `stored` exist already, and their mesh do not fit.

    max_memory: bytes that the whole process may occupy; None for no bound.
    """
    if max_memory is None:
        return
    # What the program takes without the bricks, then all that it would take with them.
    taken = resident_memory() + RESERVE - stored * STORED_BYTES
    needed = taken + bricks * BRICK_BYTES
    if needed <= max_memory:
        return
    message = (
        f"the surface at resolution {resolution} needs about {needed / 2**20:.0f} MiB, {taken / 2**20:.0f} of them for "
        f"this program itself, and the memory bound is {max_memory / 2**20:.0f} MiB: raise it"
    )
    if max_memory > taken:
        # The number of bricks at a surface grows with the square of the resolution.
        fitting = int(resolution * np.sqrt((max_memory - taken) / (bricks * BRICK_BYTES)))
        message += f", or march at a resolution of at most {fitting}"
    raise MemoryBoundError(message)
