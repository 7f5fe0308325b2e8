"""The one writer and reader of an output folder.

In: what a fit made. Out: NAME.safetensors, NAME.stl (or another format), NAME.json, NAME.html, NAME.png, for a folder
summary.csv, and while a fit runs NAME.checkpoint. Every file is written whole under another name in the same folder and
then renamed, so that a file that is there is whole.
"""

import csv
import io
import json
import math
import os
from pathlib import Path

import numpy as np

from network import NeuralSDF

OUTPUT_FORMATS = ("stl", "ply", "obj", "glb", "3mf", "off")
SUMMARY_COLUMNS = (
    "name",
    "input",
    "status",
    "reason",
    "ended_by",
    "surface_error",
    "surface_error_p99",
    "importance_error",
    "grid_error",
    "iou",
    "chamfer",
    "hausdorff",
    "normal_consistency",
    "seconds",
)


class OutputError(OSError):
    """An output folder or file that cannot be written; the message is one line for the user."""


class Artifacts:
    """The files of one fit in `folder`, all named `name`."""

    def __init__(self, folder: Path, name: str, output_format: str = "stl"):
        self.folder, self.name, self.output_format = Path(folder), name, output_format

    @property
    def model(self) -> Path:
        return self._path("safetensors")

    @property
    def reconstruction(self) -> Path:
        return self._path(self.output_format)

    @property
    def record(self) -> Path:
        return self._path("json")

    @property
    def page(self) -> Path:
        return self._path("html")

    @property
    def curves(self) -> Path:
        return self._path("png")

    @property
    def checkpoint(self) -> Path:
        return self._path("checkpoint")

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.name}.{suffix}"

    def write_model(self, network: NeuralSDF) -> None:
        """Write NAME.safetensors. Raises OSError."""
        network.save(self.model)

    def write_record(self, record: dict) -> None:
        """Write NAME.json; numbers that are not finite become null. Raises OSError."""
        write_bytes(self.record, (json.dumps(plain(record), indent=1) + "\n").encode())

    def write_report(self, page: str, curves: bytes) -> None:
        """Write NAME.html and NAME.png. Raises OSError."""
        write_bytes(self.page, page.encode())
        write_bytes(self.curves, curves)

    def read_record(self) -> dict | None:
        """What NAME.json holds, or None where there is none that is whole."""
        try:
            return json.loads(self.record.read_bytes())
        except (OSError, ValueError):
            return None


def prepare_folder(folder: Path) -> None:
    """Make an output folder and see that it can be written. Raises OutputError in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror}); choose another --outputDir") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole under another name in its folder, then rename it. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def summary_row(name: str, source: str, record: dict | None, status: str, reason: str = "") -> dict:
    """A line of summary.csv from a fit's record (None where it left none)."""
    record = record or {}
    row = dict.fromkeys(SUMMARY_COLUMNS, "")
    row |= {key: value for key, value in record.get("metrics", {}).items() if key in row}
    row |= {"name": name, "input": source, "status": status, "reason": reason}
    row["ended_by"] = record.get("fit", {}).get("ended_by", "")
    row["seconds"] = record.get("timings", {}).get("total", "")
    return row


def write_summary(folder: Path, rows: list[dict]) -> Path:
    """Write summary.csv, a line a part in the order given; returns its path. Raises OSError."""
    text = io.StringIO()
    writer = csv.DictWriter(text, SUMMARY_COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    path = folder / "summary.csv"
    write_bytes(path, text.getvalue().encode())
    return path


def plain(value):
    """`value` with numpy's numbers and arrays as Python's, paths as text, null for what is not finite: JSON-able."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
