"""The search for widths in one part of a folder, as a job that runs in this process or in a worker.

In: a job as `job.py` has it. Out: its result, with status and reason as there, and `widths` if it is done.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from neuralparts.foreign_files import check_link
from neuralparts.job import outcome_of, places_of
from neuralparts.watch import Watch
from neuralparts.widths import widths_text


def find_one(job: dict, should_stop: Callable[[], bool] | None = None) -> dict:
    """Read and label a part, and search for the widths of its network; nothing is written. Raises nothing of the part.

    `widths` is as --widths takes them.
    """
    source, files = places_of(job)
    return outcome_of(lambda: _find(source, SimpleNamespace(**job["flags"]), should_stop), files, job["input"])


def _find(source: Path, flags: SimpleNamespace, should_stop: Callable[[], bool] | None) -> dict:
    """The result of a search that comes to its end. Raises as `part.fit_part`."""
    # Imported here: they bring torch, which a driver without workers imports only if it searches.
    from neuralparts.device import choose_device
    from neuralparts.part import gpu_for_labels, prepare
    from neuralparts.steps import searched_network

    check_link(source)
    watch = Watch(should_stop, in_folder=True)
    device = choose_device(flags.gpu, watch)
    _, data = prepare(source, flags, watch, lambda: gpu_for_labels(flags.gpu, lambda: device))
    network, _ = searched_network(data, device, flags, None, watch)
    return {"status": "done", "reason": "", "widths": widths_text(network.widths)}
