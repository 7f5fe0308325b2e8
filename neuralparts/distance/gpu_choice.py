"""Whether a GPU computes large calls of an oracle: it needs numba-cuda, and its labels must agree with the CPU's."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from neuralparts.distance.search import TriangleSearch
from neuralparts.distance.winding import WindingNumber
from neuralparts.errors import one_line
from neuralparts.machine import may_have_gpus
from neuralparts.wording import say

if TYPE_CHECKING:
    from neuralparts.distance.device_labels import DeviceSearch, DeviceWinding


def on_gpu(
    labeller: TriangleSearch | WindingNumber, gpu: int | None, vertices: np.ndarray
) -> "TriangleSearch | WindingNumber | DeviceSearch | DeviceWinding":
    """The twin of a search or winding number on a GPU, or the labeller itself if there is none; a line says why.

    gpu: number of the GPU; None for GPU 0 if there is one; -1 for none. vertices: (V, 3) of the mesh, float64.
    """
    if gpu == -1 or find_spec("numba_cuda") is None or (gpu is None and not may_have_gpus()):
        return labeller
    try:
        # Heavy, and only there if the user installed it.
        from neuralparts.distance.device_labels import checked_twin, gpu_count

        return labeller if gpu is None and gpu_count() == 0 else checked_twin(labeller, gpu or 0, vertices)
    except Exception as error:  # the driver, the compiler and numba-cuda each have their own
        say_cpu_takes_over("signs" if isinstance(labeller, WindingNumber) else "distances", error)
        return labeller


def say_cpu_takes_over(labels: str, error: Exception) -> None:
    """Say why the CPU computes distances or signs."""
    say(f"{labels} are computed on the CPU, not on the GPU: {one_line(error)}")
