"""The one writer and reader of an output folder.

In: what a fit made. Out: NAME.safetensors, NAME.stl (or another format), NAME.html, NAME.png and last of them
NAME.json, for a folder thumbnails/NAME.png, summary.csv and index.html, and while a fit runs NAME.checkpoint and
.NAME.lock. Every file is written whole under another name in the same folder and then renamed, so that a file that is
there is whole; NAME.json names the others and their sizes, so that a part is complete when it is there and they are as
it says. The model is the first of them to be written and the only one that a fit never removes: where it is this
program's, or the record is, what has its name is a fit's and may be replaced; everything else is a user's own.
"""

import contextlib
import csv
import errno
import fcntl
import hashlib
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuralparts.errors import UserError
from neuralparts.mesh_files import files_beside
from neuralparts.metric_names import METRIC_NAMES
from neuralparts.report import gallery_html
from neuralparts.whole_file import whole_file, write_whole

if TYPE_CHECKING:  # torch takes seconds to import, which a part that is done already need not pay
    from neuralparts.network import NeuralSDF

SUMMARY_COLUMNS = (
    "name",
    "input",
    "status",
    "reason",
    "ended_by",
    *METRIC_NAMES,
    "seconds",
)
# The end of every gallery's title, by which it is known.
GALLERY_TITLE = ": fitted parts"
# How every NAME.log begins, by which it is known.
LOG_HEAD = b"A fault of the program, as it was raised:\n\n"
# Flags that change how a fit runs and where its files are, not what comes out.
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
# Seconds between the signs of life of a lock, and after which one of another machine counts as dead.
HEARTBEAT_SECONDS, DEAD_SECONDS = 20.0, 180.0
# Seconds in which processes that take a lock without flock see each other's names in it.
SETTLING_SECONDS = 0.5
# Seconds that a run waits for another one to have written summary.csv, which takes it milliseconds.
SUMMARY_PATIENCE = 10.0


class OutputError(OSError):
    """An output folder or file that cannot be written; the message is one line for the user."""


class BusyError(RuntimeError):
    """Another process holds the lock; the message says which."""


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

    def lock(self) -> "Lock":
        """The right to write this part's files, for a `with`; BusyError where another process has it."""
        return Lock(self.folder / f".{self.name}.lock")

    def check_free(self, source: Path) -> None:
        """Raise UserError where a fit of `source` would remove or write over that file, or one that no fit left."""
        left = self._left_by_a_fit()
        for path in sorted({self.record, *self._others(), *left}):
            if not path.exists():
                continue
            if path.samefile(source):
                raise UserError(f"{source}: the result would be written over it; give --suffix or another --outputDir")
            if path not in left:
                raise UserError(
                    f"{path}: no fit left this file, and the result would be written over it; move it, or give "
                    "--suffix or another --outputDir"
                )

    def write_model(self, network: "NeuralSDF") -> None:
        """Write NAME.safetensors, once the other files of an earlier fit are gone. Raises OSError."""
        self.discard()
        network.save(self.model)

    def discard(self) -> None:
        """Remove the files of an earlier fit but its model, a surface of another format too; the record last."""
        for path in self._left_by_a_fit() - {self.model, self.record}:
            path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    def _left_by_a_fit(self) -> set[Path]:
        """Paths of the files that an earlier fit of this name left, by its record; where a killed one left a model and
        no record yet, all of this name."""
        record = self.read_record()
        if record is not None and isinstance(record.get("files"), dict):
            named = {self.folder / file for file in record["files"]}
            return {self.record} | {path for path in named if self._is_own(path)}
        if record is not None:  # a user's own
            return {self.model} if is_model(self.model) else set()
        return {self.record, *self._others()} if is_model(self.model) else set()

    def _is_own(self, path: Path) -> bool:
        """Whether a path is one that the files of this name have, whatever the format of the surface."""
        return path == self.thumbnail or path == self._path(path.suffix.removeprefix("."))

    def write_report(self, page: str, curves: bytes) -> None:
        """Write NAME.html and NAME.png. Raises OSError."""
        write_whole(self.page, page.encode())
        write_whole(self.curves, curves)

    def write_thumbnail(self, picture: bytes) -> None:
        """Write thumbnails/NAME.png. Raises OSError."""
        self.thumbnail.parent.mkdir(exist_ok=True)
        write_whole(self.thumbnail, picture)

    def write_log(self, text: str) -> None:
        """Write NAME.log, the traceback of a fault of the program. Raises OSError, UserError for a user's own file."""
        if self.log.exists() and not self.log.read_bytes().startswith(LOG_HEAD):
            raise OutputError(f"{self.log}: no fit left this file; it is not replaced")
        write_whole(self.log, LOG_HEAD + text.encode(errors="backslashreplace"))

    def write_record(self, record: dict) -> None:
        """Write NAME.json, the last of the files, with the sizes of the others as `files`; numbers that are not finite
        become null. Raises OSError."""
        record = record | {"files": self.sizes()}
        write_whole(self.record, (json.dumps(plain(record), indent=1) + "\n").encode())

    def _others(self) -> tuple[Path, ...]:
        return self.model, self.reconstruction, self.page, self.curves, self.thumbnail

    def sizes(self) -> dict[str, int]:
        """Bytes of the files beside the record, by their path in the folder."""
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in self._others() if path.is_file()}

    def read_record(self) -> dict | None:
        """What NAME.json holds, or None where there is none that is whole."""
        try:
            record = json.loads(self.record.read_bytes())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def finished(self, flags: dict, source: Path | None = None) -> dict | None:
        """The record of a fit with these flags, of the content of `source` where that is given, whose files are all
        there as it left them; or None. Raises OSError for a source that cannot be read."""
        record = self.read_record()
        if record is None or decisive(record.get("flags", {})) != decisive(plain(flags)):
            return None
        if "files" not in record or self.sizes() != record["files"]:
            return None
        if record.get("failure") and record["flags"].get("maxMemory") != flags.get("maxMemory"):
            return None  # another bound may be enough
        return record if source is None or content_of(source) == record.get("content") else None


def is_model(path: Path) -> bool:
    """Whether a file begins as the models do that this program writes."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return b'"neural-sdf"' in file.read(min(size, 2**20))
    except OSError:
        return False


def decisive(flags: dict) -> dict:
    """The flags that change what comes out."""
    return {name: value for name, value in flags.items() if name not in NEUTRAL_FLAGS}


def content_of(source: Path) -> str:
    """SHA-256, in hexadecimal, of a file and of those beside it that hold a part of its shape. Raises OSError."""
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    for name in files_beside(source):
        with contextlib.suppress(FileNotFoundError), open(Path(source).parent / name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class Lock:
    """A lock file that a `with` holds: BusyError at its head where another process has it, after `patience` seconds.

    The lock is flock's, which ends with the process however it ends. Where the file system keeps that to one machine,
    or has none, the file's owner and its sign of life serve: one of another machine that is older than DEAD_SECONDS
    is dead. The clocks of the machines must agree to a minute.
    """

    def __init__(self, path: Path, patience: float = 0.0):
        self.path, self.patience, self.descriptor = path, patience, -1

    def __enter__(self) -> "Lock":
        deadline = time.monotonic() + self.patience
        while not self._try():
            if time.monotonic() >= deadline:
                raise BusyError(f"{self.path}: held by {self.owner() or 'another process'}")
            time.sleep(0.02)
        hold(self.path)
        return self

    def __exit__(self, *_) -> None:
        HELD.discard(self.path)
        try:
            self.path.unlink(missing_ok=True)
        finally:
            os.close(self.descriptor)

    def _try(self) -> bool:
        """Whether the lock is this process's now."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        flocked = try_flock(descriptor)
        mine = f"{this_machine()} {os.getpid()}\n".encode()
        if flocked is not False and same_file(descriptor, self.path) and not self._lives(descriptor, flocked is None):
            with contextlib.suppress(OSError):  # a full disk: flock holds without an owner's name
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, mine, 0)
            if flocked is None:  # who wrote last has it
                time.sleep(SETTLING_SECONDS)
            if flocked or os.pread(descriptor, 500, 0) == mine:
                self.descriptor = descriptor
                return True
        os.close(descriptor)
        return False

    def _lives(self, descriptor: int, no_flock: bool) -> bool:
        """Whether an owner that flock cannot tell of shows a sign of life."""
        machine, _, process = os.pread(descriptor, 500, 0).decode(errors="replace").strip().rpartition(" ")
        if not machine or time.time() - os.fstat(descriptor).st_mtime > DEAD_SECONDS:
            return False
        if no_flock:
            return machine != this_machine() or (process.isdigit() and Path(f"/proc/{process}").exists())
        return machine.rpartition(" ")[2] != this_machine().rpartition(" ")[2]  # a container has the start of its host

    def owner(self) -> str:
        """Machine and number of the process that has the lock, as far as the file says, or ''."""
        try:
            return "process {2} on {0}".format(*self.path.read_text().strip().rpartition(" "))
        except (OSError, ValueError):
            return ""


HELD: set[Path] = set()


def hold(path: Path) -> None:
    """Show signs of life of a lock file until it leaves HELD."""
    if not any(thread.name == "heartbeat" for thread in threading.enumerate()):
        threading.Thread(target=beat, name="heartbeat", daemon=True).start()
    HELD.add(path)


def beat() -> None:
    """Touch the lock files that are held, for ever."""
    while True:
        time.sleep(HEARTBEAT_SECONDS)
        for path in list(HELD):
            with contextlib.suppress(OSError):
                os.utime(path)


def this_machine() -> str:
    """A name that no other machine, and no other start of this one, has; its last word is the start's own."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        start = ""
    return f"{socket.gethostname()} {start}".strip().replace("\n", "")


def try_flock(descriptor: int) -> bool | None:
    """Whether flock gave an exclusive lock; None where the file system has no flock. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            return None
        raise


def same_file(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that name: who had the lock before may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def prepare_folder(folder: Path) -> None:
    """Make an output folder and see that it can be written. Raises OutputError in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror}); choose another --outputDir") from error


def summary_row(name: str, source: str, record: dict | None, status: str, reason: str = "") -> dict:
    """A line of summary.csv from a fit's record (None where it left none)."""
    record = record or {}
    row = dict.fromkeys(SUMMARY_COLUMNS, "")
    row |= {key: value for key, value in record.get("metrics", {}).items() if key in row}
    row |= {"name": name, "input": source, "status": status, "reason": reason}
    row["ended_by"] = record.get("fit", {}).get("ended_by", "")
    row["seconds"] = record.get("timings", {}).get("total", "")
    return row


class Running:
    """That a run is over a folder, for a `with`; `alone`: no other was when it began."""

    def __init__(self, folder: Path):
        self.path = folder / ".running.lock"

    def __enter__(self) -> "Running":
        while True:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self.alone = try_flock(self.descriptor) is not False
            with contextlib.suppress(OSError):  # no flock there: each run takes itself for the only one
                fcntl.flock(self.descriptor, fcntl.LOCK_SH)
            if same_file(self.descriptor, self.path):
                return self
            os.close(self.descriptor)

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):  # a folder that cannot be written any more keeps an empty file
            if try_flock(self.descriptor):
                self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


class Summary:
    """summary.csv of a folder: a line a part, whole at every moment, written by one run or by several at once.

    Lines are kept until `flush` writes them, so that a run of 10,000 parts does not write the file 10,000 times; what a
    killed run had not written comes again with the next run, from the parts' records.
    """

    def __init__(self, folder: Path):
        self.path, self.pending = folder / "summary.csv", {}

    def start(self) -> None:
        """Begin with no lines. Raises OSError."""
        with self._locked():
            self._write([])

    def add(self, row: dict) -> None:
        """Take a line in; one of the same name is replaced."""
        self.pending[text(row["name"])] = [text(row[column]) for column in SUMMARY_COLUMNS]

    def flush(self) -> None:
        """Write the lines that came since. Raises OSError, BusyError."""
        if self.pending:
            with self._locked():
                self._write(row for row in self._read() if row[0] not in self.pending)

    def finish(self, names: list[str], known: Callable[[str], dict | None]) -> None:
        """Write the lines in the order of `names`, those of other names left out; known(name): the line of a part that
        an earlier run did and this one has not come to, or None. Raises OSError, BusyError."""
        with self._locked():
            lines = {row[0]: row for row in self.rows()}
            self.pending = {}
            for name in names:
                if text(name) not in lines and (row := known(name)) is not None:
                    self.add(row)
            lines |= self.pending
            self.pending = {}
            self._write(lines[text(name)] for name in names if text(name) in lines)

    def rows(self) -> Iterator[list[str]]:
        """The lines, each a list of texts as SUMMARY_COLUMNS has them, those not written yet among them."""
        yield from (row for row in self._read() if row[0] not in self.pending)
        yield from self.pending.values()

    def _locked(self) -> Lock:
        return Lock(self.path.with_name(".summary.lock"), SUMMARY_PATIENCE)

    def _read(self) -> Iterator[list[str]]:
        try:
            file = open(self.path, newline="", encoding="utf-8")  # noqa: SIM115
        except FileNotFoundError:
            return
        with file:
            rows = csv.reader(file)
            next(rows, None)
            yield from (row for row in rows if len(row) == len(SUMMARY_COLUMNS))

    def _write(self, before) -> None:
        """Write these lines and the pending ones, under another name first."""
        with whole_file(self.path, text=True) as file:
            writer = csv.writer(file)
            writer.writerow(SUMMARY_COLUMNS)
            writer.writerows(before)
            writer.writerows(self.pending.values())
        self.pending = {}


def text(value) -> str:
    """As a cell of summary.csv: what is no UTF-8 in a file's name is spelled out."""
    return "" if value is None else str(value).encode("utf-8", "backslashreplace").decode()


def check_folder_free(folder: Path) -> None:
    """Raise OutputError where a folder run would write over a summary.csv or index.html that no such run left."""
    heads = {"summary.csv": ",".join(SUMMARY_COLUMNS[:3]), "index.html": GALLERY_TITLE}
    for name, head in heads.items():
        path = folder / name
        if not path.exists():
            continue
        with open(path, "rb") as file:
            start = file.read(2000).decode(errors="replace")
        if head not in start:
            raise OutputError(
                f"{path}: no run left this file, and it would be written over; choose another --outputDir"
            )


def write_gallery(folder: Path, rows: Iterator[list[str]], spelled: dict[str, str]) -> Path:
    """Write index.html of a folder from the lines of its summary; returns its path. spelled: the names that `text`
    changes, by what it makes of them. Raises OSError, BusyError."""
    page = folder / "index.html"
    shown = [gallery_row(folder, dict(zip(SUMMARY_COLUMNS, row, strict=True)), spelled) for row in rows]
    with Lock(folder / ".index.lock", SUMMARY_PATIENCE):  # other runs see from it that the file is being written
        write_whole(page, gallery_html(shown, folder.resolve().name + GALLERY_TITLE).encode())
    return page


def gallery_row(folder: Path, row: dict[str, str], spelled: dict[str, str]) -> dict:
    """What the gallery shows of a line of the summary."""
    files = Artifacts(folder, spelled.get(row["name"], row["name"]))
    shown = {name: row[name] for name in ("name", "status", "reason")}
    for name in ("surface_error", "iou", "chamfer", "seconds"):
        shown[name] = float(row[name]) if row[name] else None
    for name, path in (("report", files.page), ("thumbnail", files.thumbnail)):
        shown[name] = str(path.relative_to(folder)) if path.is_file() else None
    return shown


def remove_leavings(folder: Path) -> None:
    """Remove what killed processes left, unfinished files and locks, where nobody holds the part's lock."""
    for directory in (folder, folder / "thumbnails"):
        for path in sorted(directory.glob(".*.part")) if directory.is_dir() else []:
            name = path.name[1:].rsplit(".", 3)[0]  # .NAME.suffix.random.part
            with contextlib.suppress(BusyError, OSError), Lock(folder / f".{name}.lock"):
                path.unlink(missing_ok=True)
    for path in sorted(folder.glob(".*.lock")):
        with contextlib.suppress(BusyError, OSError), Lock(path):
            """Having been held, it is removed."""


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
