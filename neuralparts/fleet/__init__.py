"""Many parts: in this process, in worker processes, on a Ray cluster."""

from neuralparts.fleet.fleet import FleetError, Here, Processes, Ray, Stop, default_workers, run, work
from neuralparts.fleet.folders import FolderBook, Sender, SharedFolder

__all__ = [
    "FleetError",
    "FolderBook",
    "Here",
    "Processes",
    "Ray",
    "Sender",
    "SharedFolder",
    "Stop",
    "default_workers",
    "run",
    "work",
]
