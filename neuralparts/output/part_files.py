"""The files of one part: their names, the order in which they are written, and whether they are complete.

In: what a fit made. Out: NAME.safetensors, NAME.stl (or another format), NAME.html, NAME.png, in a folder run
thumbnails/NAME.png, and last of them NAME.json; while a fit runs, NAME.checkpoint and .NAME.lock; after a fault of the
program, NAME.log.

Every file is written whole under another name and then renamed, so a file that exists is whole. NAME.json lists the
other files with their sizes; a part is complete when NAME.json exists and the sizes agree.

A fit replaces only files that an earlier fit left. They are known by NAME.json, or by a model of this program's under
the same name. The model is written first and never removed, so that files of a killed fit are known too. Any other file
is a user's own and is never overwritten.
"""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from neuralparts.errors import UserError
from neuralparts.mesh_files import hash_source
from neuralparts.output.json_values import plain
from neuralparts.output.locks import OutputError, locked
from neuralparts.whole_file import write_whole

if TYPE_CHECKING:  # torch takes seconds to import, which a finished part need not wait for
    from neuralparts.network import NeuralSDF

# The first line of every NAME.log; a file without it is a user's own.
LOG_HEAD = b"A fault of the program, as it was raised:\n\n"
# Flags that change how a fit runs and where its files are, not its result.
NEUTRAL_FLAGS = {
    "outputDir",
    "maxMemory",
    "showVis",
    "resume",
    "overwrite",
    "checkpointSeconds",
    "gpu",
    "workers",
    "partTimeout",
    "workerMemory",
    "ray",
    "rayTransfer",
}


class PartFiles:
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
    def thumbnail(self) -> Path:
        return self.folder / "thumbnails" / f"{self.name}.png"

    @property
    def checkpoint(self) -> Path:
        return self._path("checkpoint")

    @property
    def log(self) -> Path:
        return self._path("log")

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.name}.{suffix}"

    def _results(self) -> tuple[Path, ...]:
        """The files that the record lists."""
        return self.model, self.reconstruction, self.page, self.curves, self.thumbnail

    def in_writing_order(self) -> dict[str, Path]:
        """Every file that a fit may leave, the model first and the record last, by its name relative to the folder."""
        ordered = (*self._results(), self.checkpoint, self.log, self.record)
        return {path.relative_to(self.folder).as_posix(): path for path in ordered}

    def lock(self) -> AbstractContextManager[None]:
        """The right to write this part's files, for a `with` block.

        It raises BusyError if another process has it, OutputError or OSError if the lock file cannot be used.
        """
        return locked(self.folder / f".{self.name}.lock")

    # ------------------------------------------------------------------------------------- files of an earlier fit

    def check_free(self, source: Path) -> None:
        """Raise UserError if a fit of `source` would remove or overwrite that file, or one that no fit left."""
        left = self._left_by_a_fit()
        for path in sorted({self.record, *self._results(), *left}):
            if not path.exists():
                continue
            if path.samefile(source):
                raise UserError(f"{source}: the result would overwrite it; give --suffix or another --outputDir")
            if path not in left:
                raise UserError(
                    f"{path}: no fit left this file, and the result would overwrite it; move it, or give --suffix or "
                    "another --outputDir"
                )

    def discard(self) -> None:
        """Remove the files of an earlier fit except its model, also a surface in another format; the record last."""
        for path in self._left_by_a_fit() - {self.model, self.record}:
            path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def _left_by_a_fit(self) -> set[Path]:
        """The files that an earlier fit of this name left, according to its record.

        A killed fit leaves a model and no record; then all files of this name are its files.
        """
        record = self.read_record()
        if record is not None and isinstance(record.get("files"), dict):
            named = {self.folder / file for file in record["files"]}
            return {self.record} | {path for path in named if self._has_name(path)}
        if record is not None:  # a user's own
            return {self.model} if is_model(self.model) else set()
        return {self.record, *self._results()} if is_model(self.model) else set()

    def _has_name(self, path: Path) -> bool:
        """True if a path is named as the files of this part are, whatever the format of the surface."""
        return path == self.thumbnail or path == self._path(path.suffix.removeprefix("."))

    # ------------------------------------------------------------------------------------------------------- writing

    def write_model(self, network: "NeuralSDF") -> None:
        """Write NAME.safetensors, after removing the other files of an earlier fit. Raises OSError."""
        self.discard()
        network.save(self.model)

    def write_report(self, page: str, curves: bytes) -> None:
        """Write NAME.html and NAME.png (`curves`). Raises OSError."""
        write_whole(self.page, page.encode())
        write_whole(self.curves, curves)

    def write_thumbnail(self, picture: bytes) -> None:
        """Write thumbnails/NAME.png. Raises OSError."""
        self.thumbnail.parent.mkdir(exist_ok=True)
        write_whole(self.thumbnail, picture)

    def write_record(self, record: dict) -> None:
        """Write NAME.json, the last of the files, and add the sizes of the others as `files`. Raises OSError.

        Numbers that are not finite become null.
        """
        record = record | {"files": self.sizes()}
        write_whole(self.record, (json.dumps(plain(record), indent=1) + "\n").encode())

    def write_log(self, traceback: str) -> None:
        """Write NAME.log, the traceback of a fault of the program. Raises OSError; OutputError for a user's file."""
        self.replace_log(LOG_HEAD + traceback.encode(errors="backslashreplace"))

    def replace_log(self, content: bytes) -> None:
        """Write NAME.log with the bytes of another NAME.log. Raises OSError; OutputError for a user's file."""
        if self.log.exists() and not self._log_is_own():
            raise OutputError(f"{self.log}: no fit left this file, so it is not replaced")
        write_whole(self.log, content)

    def remove_log(self) -> None:
        """Remove the NAME.log of an earlier fit; a user's own stays. Raises OSError."""
        if self._log_is_own():
            self.log.unlink(missing_ok=True)

    def _log_is_own(self) -> bool:
        return self.log.is_file() and _first_bytes(self.log, len(LOG_HEAD)) == LOG_HEAD

    # ------------------------------------------------------------------------------------------------------- reading

    def sizes(self) -> dict[str, int]:
        """Bytes of the files beside the record, by their names relative to the folder."""
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in self._results() if path.is_file()}

    def read_record(self) -> dict | None:
        """The content of NAME.json, or None if there is no whole one."""
        try:
            record = json.loads(self.record.read_bytes())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def finished(self, flags: dict, source: Path | None = None) -> dict | None:
        """The record of a complete fit with these flags and the content of `source`, or None.

        source: None to compare the flags alone. Raises OSError for a source that cannot be read.
        """
        record = self.read_record()
        if record is None or not isinstance(record.get("flags"), dict):
            return None
        if _decisive(record["flags"]) != _decisive(plain(flags)):
            return None
        if "files" not in record or self.sizes() != record["files"]:
            return None
        if record.get("failure") and record["flags"].get("maxMemory") != flags.get("maxMemory"):
            return None  # another memory limit may be enough
        return record if source is None or content_of(source) == record.get("content") else None


def is_model(path: Path) -> bool:
    """True if a file begins as this program's models do."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return b'"neural-sdf"' in file.read(min(size, 2**20))
    except OSError:
        return False


def content_of(source: Path) -> str:
    """SHA-256, in hexadecimal, of a file and of the files beside it that belong to its shape. Raises OSError, and
    UserError for what is not a regular file."""
    return hash_source(source)


def outcome(record: dict) -> dict:
    """The keys status, reason and record of a job's result, for a part that left a record."""
    status = "failed" if record["failure"] else "done"
    return {"record": record, "reason": record["failure"], "status": status}


def _decisive(flags: dict) -> dict:
    """The flags that change the result."""
    return {name: value for name, value in flags.items() if name not in NEUTRAL_FLAGS}


def _first_bytes(path: Path, count: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(count)
