"""Whether a GPU computes large calls of an oracle: it needs numba-cuda, and its labels must agree with the CPU's.

Which GPU is decided elsewhere, by torch for the whole command (`device.py`).
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from neuralparts.distance.search import TriangleSearch
from neuralparts.distance.winding import WindingNumber
from neuralparts.errors import one_line
from neuralparts.machine import may_have_gpus

if TYPE_CHECKING:
    from neuralparts.distance.device_labels import DeviceSearch, DeviceWinding


def on_gpu(
    labeller: TriangleSearch | WindingNumber, gpu: int, vertices: np.ndarray, note: Callable[[str], None]
) -> "TriangleSearch | WindingNumber | DeviceSearch | DeviceWinding":
    """The twin of a search or winding number on a GPU, or the labeller itself if there is none; a line says why.

    gpu: number of the GPU; -1 for none. vertices: (V, 3) of the mesh, float64. note: gets the line.
    """
    if gpu == -1 or find_spec("numba_cuda") is None:
        return labeller
    try:
        # Heavy, and only there if the user installed it.
        from neuralparts.distance.device_labels import checked_twin

        return checked_twin(labeller, gpu, vertices, note)
    except Exception as error:  # the driver, the compiler and numba-cuda each have their own
        note(cpu_takes_over("signs" if isinstance(labeller, WindingNumber) else "distances", error))
        return labeller


def may_label_on_gpu() -> bool:
    """False if numba-cuda is not installed, or this machine has no GPU for sure."""
    return find_spec("numba_cuda") is not None and may_have_gpus()


def cpu_takes_over(labels: str, error: Exception) -> str:
    """The line that says why the CPU computes distances or signs."""
    return f"{labels} are computed on the CPU, not on the GPU: {one_line(error)}"
