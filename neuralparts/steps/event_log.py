"""The log of a fit for TensorBoard (--logDir): curves, the learning rate, and a section picture every tenth of the fit.

A step of the log is a sample visit. A fit that is resumed continues the log: its first event discards those that the
interrupted fit had written beyond its checkpoint. A log that cannot be written ends no fit.
"""

import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from neuralparts.errors import missing_package
from neuralparts.inputs import Labelled
from neuralparts.network import NeuralSDF
from neuralparts.report import section_png
from neuralparts.steps.sections import section_through
from neuralparts.watch import Watch

# Names in TensorBoard of the curves of `FitHooks.log`.
TAGS = {
    "loss": "loss/training",
    "held_out": "error/held-out surface",
    "validation": "error/validation grid",
    "learning_rate": "learning rate",
}
PICTURES = 10  # of the section in a whole fit
PICTURE_SIZE = 336  # pixels


def open_log(flags: SimpleNamespace, name: str, network: NeuralSDF, data: Labelled, watch: Watch) -> "EventLog | None":
    """The log that --logDir asks for, or None. A part of a folder has a subfolder of its own, named as the part.

    Raises UserError without the package tensorboard.
    """
    if not flags.logDir:
        return None
    folder = Path(flags.logDir) / name if watch.in_folder else Path(flags.logDir)

    def picture() -> bytes:
        return section_png(section_through(network, data.shown), PICTURE_SIZE)

    return EventLog(folder, picture, watch.note, resumed=bool(flags.resume))


class EventLog:
    """One file of events in a folder; both are made when the first event is written.

    picture: draws the section as the bytes of a PNG, PICTURE_SIZE pixels wide. warn: takes one line if the log cannot
    be written; nothing more is then logged. resumed: the fit continues that of an earlier file in the folder. Raises
    UserError without the package tensorboard.
    """

    def __init__(self, folder: Path, picture: Callable[[], bytes], warn: Callable[[str], None], resumed: bool):
        if importlib.util.find_spec("tensorboard") is None:
            raise missing_package("--logDir", "tensorboard", "log")
        self._folder, self._picture, self._warn = folder, picture, warn
        self._file = folder / f"events.out.tfevents.{time.time():017.6f}.neuralparts"
        self._is_dead, self._resumed = False, resumed
        self._last_step, self._pictures = -1, 0

    def write(self, values: dict[str, float], fraction: float) -> None:
        """Log the values of a check, as `FitHooks.log` gets them. Raises nothing for a log that cannot be written."""
        if self._is_dead:
            return
        events = self._events(int(values["samples"]), values, fraction)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._append(events)
        except OSError as error:
            self._is_dead = True
            self._warn(f"--logDir {self._folder}: {error.strerror or error}; nothing more is logged")

    def _events(self, step: int, values: dict[str, float], fraction: float) -> list[dict[str, Any]]:
        """What is to be logged, as fields of TensorBoard's Event."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        events: list[dict[str, Any]] = []
        if self._last_step < 0:
            events.append({"file_version": "brain.Event:2"})
        if step < self._last_step or self._last_step < 0:
            # Discard what the folder's files say of this step and later ones. A step before the last one is a second
            # attempt, after a collapse.
            first = step if self._resumed and self._last_step < 0 else 0
            events.append({"step": first, "session_log": SessionLog(status=SessionLog.START)})
            self._pictures = 0
        self._last_step = step
        shown = [Summary.Value(tag=tag, simple_value=values[key]) for key, tag in TAGS.items() if key in values]
        shown = [value for value in shown if math.isfinite(value.simple_value)]
        if int(PICTURES * fraction) > self._pictures:
            self._pictures = int(PICTURES * fraction)
            size = {"height": PICTURE_SIZE, "width": PICTURE_SIZE, "colorspace": 3}
            picture = Summary.Image(encoded_image_string=self._picture(), **size)
            shown.append(Summary.Value(tag="section", image=picture))
        return [*events, {"step": step, "summary": Summary(value=shown)}]

    def _append(self, events: list[dict[str, Any]]) -> None:
        """Add events, given by their fields, to the file. Raises OSError."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        with open(self._file, "ab") as file:
            for fields in events:
                RecordWriter(file).write(Event(wall_time=time.time(), **fields).SerializeToString())
