"""Many parts: in this process, in worker processes, on a Ray cluster."""

from neuralparts.fleet.carriers import Sender, SharedFolder
from neuralparts.fleet.folder_book import FolderBook
from neuralparts.fleet.in_process import Here
from neuralparts.fleet.loop import FleetError, Place, run
from neuralparts.fleet.ray_cluster import Ray
from neuralparts.fleet.staged import Staged
from neuralparts.fleet.stop import Stop
from neuralparts.fleet.worker import work
from neuralparts.fleet.worker_processes import Processes, default_workers

__all__ = [
    "FleetError",
    "FolderBook",
    "Here",
    "Place",
    "Processes",
    "Ray",
    "Sender",
    "SharedFolder",
    "Staged",
    "Stop",
    "default_workers",
    "run",
    "work",
]
