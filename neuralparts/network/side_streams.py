"""Work of a GPU that does not depend on each other, side by side: the branches of a CUDA graph.

In: blocks of launches, each marked as a branch, while a graph is being captured. Out: a graph that runs the branches at
the same time. One small launch after the other leaves a GPU nearly idle. Without a capture nothing changes.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch

# More streams than a graph of small launches can keep busy gain nothing.
_STREAMS = 8
_NOTHING = nullcontext()


@cache
def _streams_of(device: torch.device) -> list[torch.cuda.Stream]:
    """The same for all graphs of a device: cuBLAS sets memory aside for each stream that it meets."""
    return [torch.cuda.Stream(device) for _ in range(_STREAMS)]


class SideStreams:
    """The streams of one device.

    Tensors that a branch reads must live until `join`, and those that it makes are read by others after `join` only.
    """

    def __init__(self, device: torch.device):
        self._streams = _streams_of(device) if device.type == "cuda" else []
        self._used: set[int] = set()

    def branch(self, number: int) -> AbstractContextManager:
        """The launches inside the block need what came before, beside other branches, and those of equal numbers."""
        if not (self._streams and torch.cuda.is_current_stream_capturing()):
            return _NOTHING
        place = number % len(self._streams)
        self._used.add(place)
        self._streams[place].wait_stream(torch.cuda.current_stream())
        return torch.cuda.stream(self._streams[place])

    def join(self) -> None:
        """What comes next needs all branches."""
        for place in self._used:
            torch.cuda.current_stream().wait_stream(self._streams[place])
        self._used.clear()
