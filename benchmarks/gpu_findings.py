"""Findings of `benchmarks/gpu.py`, printed when they are known and kept in a JSON file; clocks that wait for a GPU."""

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

# How the measured text of a row begins whose limit was asked for.
MET, MISSED = "met: ", "MISSED: "
# Characters of an error that a table shows.
MOST_OF_AN_ERROR = 240


class Findings:
    """Rows of the table: what was asked, and what was measured.

    path: the JSON file; rows that it has already are kept. until: when the check must end, in seconds of the epoch.
    """

    def __init__(self, path: Path, until: float):
        self._path, self._until, self._part = path, until, ""
        self._started = time.perf_counter()
        kept = json.loads(path.read_text()) if path.exists() else {"rows": [], "ended": []}
        self._rows, self._ended = kept["rows"], kept["ended"]

    def seconds_left(self) -> float:
        """Seconds until the check must end."""
        return self._until - time.time()

    def tell(self, name: str, measured: object, asked: str = "") -> None:
        """Print and keep a finding."""
        measured = f"{measured:.4g}" if isinstance(measured, float) else str(measured)
        text = " ".join(measured.split()).replace("|", "/")
        self._rows.append({"part": self._part, "name": name, "asked": asked, "measured": text})
        print(
            f"{time.perf_counter() - self._started:6.1f} s  {name}: {text}{f' (asked: {asked})' * bool(asked)}",
            flush=True,
        )
        self._keep()

    def attempt(self, name: str, work: Callable[[], object], asked: str = "") -> object | None:
        """Call `work` and print what it returns, unless that is None; an exception is printed and goes no further."""
        try:
            measured = work()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(str(error).split())[:MOST_OF_AN_ERROR]
            measured = f"FAILED: {type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno})"
        if measured is not None:
            self.tell(name, measured, asked)
        return measured

    def run(self, part: str, work: Callable[[], None]) -> None:
        """Call a part's function, and note its seconds."""
        self._part = part
        start = time.perf_counter()
        self.attempt(part, work)
        self._ended.append(part)
        print(f"part {part}: {time.perf_counter() - start:.1f} s", flush=True)
        self._keep()

    def _keep(self) -> None:
        self._path.write_text(json.dumps({"rows": self._rows, "ended": self._ended}, indent=1))


def judged(is_met: bool, text: str) -> str:
    """A measured text that says first whether the asked limit is met."""
    return (MET if is_met else MISSED) + text


def wait_for(device: str) -> None:
    """Wait until a device has done everything."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: str, repeats: int = 5) -> float:
    """Median seconds of work(), the device's included, after one that does not count."""
    taken = []
    for _ in range(repeats + 1):
        wait_for(device)
        start = time.perf_counter()
        work()
        wait_for(device)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:]))
