"""The files of one part: their names, whose they are, and whether they are complete.

A fit leaves NAME.safetensors, NAME.stl (or another format), NAME.html, NAME.png, with --modelCard 1 NAME.md, in a
folder run thumbnails/NAME.png, and NAME.json; --outputs leaves some of them out. While a fit runs there are
NAME.checkpoint, .NAME.lock and a hidden folder (`staging.py`); after a fault of the program, NAME.log.

NAME.json, the record, names the other files with their sizes and SHA-256. A part is complete when all of them agree. A
fit replaces or removes only what the record of an earlier fit names, byte for byte. Any other file is a user's own.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from neuralparts.choices import OUTPUT_FORMATS, OUTPUTS
from neuralparts.errors import UserError
from neuralparts.flags import NEUTRAL_FLAGS
from neuralparts.mesh_files import hash_source
from neuralparts.output.json_values import plain
from neuralparts.output.locks import BusyError, OutputError, is_locked, locked
from neuralparts.output.records import agrees, is_blank, is_folder, is_regular, is_there, read_record
from neuralparts.whole_file import write_whole
from neuralparts.wording import as_utf8

# The suffixes of files that a record may name.
RESULT_SUFFIXES = ("safetensors", "html", "png", "md", *OUTPUT_FORMATS)
# The folder of the pictures of all parts.
THUMBNAILS = "thumbnails"
# The first line of every NAME.log; a file without it is a user's own.
LOG_HEAD = b"A fault of the program, as it was raised:\n\n"
# The content of .NAME.unfinished.
UNFINISHED_LINE = b"A fit with --overwrite 1 was begun here and is not complete: the next run fits this part again.\n"
# Flags that the records of earlier versions lack, with the value that those fits had.
LATER_FLAGS = {
    "modelCard": 0,
    "numNear": 0,
    "numPairs": 0,
    "numNormals": 0,
    "precision": "float32",
    "simplify": 0.0,
    "damError": 0.0,
    "damParameters": 0,
    "widths": "",
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
    def sheet(self) -> Path:
        return self._path("png")

    @property
    def card(self) -> Path:
        return self._path("md")

    @property
    def thumbnail(self) -> Path:
        return self.folder / THUMBNAILS / f"{self.name}.png"

    @property
    def checkpoint(self) -> Path:
        return self._path("checkpoint")

    @property
    def log(self) -> Path:
        return self._path("log")

    @property
    def unfinished(self) -> Path:
        """A mark: a fit with --overwrite 1 was begun. The earlier result is there, but does not count as done."""
        return self.folder / f".{self.name}.unfinished"

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self.name}.{suffix}"

    def results(self) -> tuple[Path, ...]:
        """The files that a record names, as far as the fit made them."""
        return self.model, self.reconstruction, self.page, self.sheet, self.card, self.thumbnail

    def in_writing_order(self) -> dict[str, Path]:
        """Every file that a fit may leave, the model first and the record last, by its name relative to the folder."""
        ordered = (*self.results(), self.checkpoint, self.log, self.record)
        return {self.relative(path): path for path in ordered}

    def output_of(self, path: Path) -> str:
        """Which of OUTPUTS a file of this part belongs to; 'card' for the card, which has a flag of its own."""
        pages = dict.fromkeys((self.page, self.sheet, self.thumbnail), "page")
        return {self.model: "model", self.record: "record", self.card: "card", **pages}.get(path, "mesh")

    def relative(self, path: Path) -> str:
        """A file's name in a record: relative to the folder, with / between, the same in every locale."""
        return as_utf8(path.relative_to(self.folder).as_posix())

    def named(self, record: dict) -> dict[Path, dict | int]:
        """The files that a record names, with their descriptions; names that are not this part's are left out."""
        paths = [*map(self._path, RESULT_SUFFIXES), self.thumbnail]
        own = {self.relative(path): path for path in paths}
        return {own[name]: described for name, described in record["files"].items() if name in own}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The right to write this part's files, for a `with` block.

        It raises BusyError if another process has it, OutputError or OSError if the lock file cannot be used.
        """
        with locked(self.folder / f".{self.name}.lock"):
            if is_there(self.stage_lock) and is_locked(self.stage_lock):
                raise BusyError(f"{self.stage_lock}: a process of a run that was killed is still at this part")
            yield

    @property
    def stage_lock(self) -> Path:
        """The lock file of `stage`. Its code makes it unlikely that it is the lock of another part."""
        return self.folder / f"{staging_name(self.name)}.lock"

    def stage(self) -> AbstractContextManager[None]:
        """For a worker that runs one stage of this part, while its driver holds `lock`; raises as `lock` does.

        If the driver is killed, `lock` ends, but nobody else gets it before the worker has ended its stage.
        """
        return locked(self.stage_lock)

    # ------------------------------------------------------------------------------------------- whose a file is

    def is_own(self, path: Path, record: dict | None) -> bool:
        """True if a file is, byte for byte, what the fit of `record` left under this name.

        So is a file of zeros that the record names.
        """
        described = None if record is None else self.named(record).get(path)
        return described is not None and is_regular(path) and (agrees(path, described) or is_blank(path))

    def check_free(self, source: Path, given: str = "", input_path: str = "", outputs: Iterable[str] = OUTPUTS) -> None:
        """Raise UserError if a fit of `source` would remove or overwrite that file, or anything that no fit left, or
        the fit of another input.

        given: the input as the user wrote it. input_path: its absolute path. outputs: those that the fit writes.
        """
        record, kinds = self.read_record(), {*outputs, "card"}
        written = {self.record, self.checkpoint, *(path for path in self.results() if self.output_of(path) in kinds)}
        present = [path for path in written | set(self.named(record) if record else ()) if is_there(path)]
        if any(path.exists() and path.samefile(source) for path in present):
            raise UserError(f"{source}: the result would overwrite it; give --suffix or another --outputDir")
        if record is not None:
            self._check_same_input(record, source, given or str(source), input_path or os.path.abspath(source))
        self.check_replaceable(written.intersection(present), record)

    def check_replaceable(self, paths: Iterable[Path], record: dict | None) -> None:
        """Raise OutputError for files that no fit left, or that were changed since. record: the earlier fit's."""
        foreign = [path for path in paths if not self._is_replaceable(path, record)]
        if not foreign:
            return
        foreign.sort(key=lambda path: (path != self.record, path))
        known = self.named(record) if record is not None else {self.record: 0} if is_model(self.model) else {}
        changed = any(path in known and is_regular(path) for path in foreign)
        why = "not as the fit left it (changed or damaged)" if changed else "no fit left this file"
        others = f"; so it is with {', '.join(map(self.relative, foreign[1:]))}" * (len(foreign) > 1)
        raise OutputError(
            f"{foreign[0]}: {why}, and the result would overwrite it{others}; move or remove "
            f"{'them' if others else 'it'}, or give --suffix or another --outputDir"
        )

    def _is_replaceable(self, path: Path, record: dict | None) -> bool:
        """True for a file that a fit left as it is, and that the next may replace. record: the earlier fit's."""
        if path == self.record:
            return record is not None and is_regular(path)
        if path == self.checkpoint:
            return is_regular(path) and is_checkpoint(path)
        return self.is_own(path, record)

    def _check_same_input(self, record: dict, source: Path, given: str, input_path: str) -> None:
        """Raise OutputError if the record is of another input: another path and another content."""
        recorded = record.get("input_path") or os.path.abspath(record["input"])
        moved = record["input"] == given and not os.path.exists(recorded)
        if recorded == input_path or moved or content_of(source) == record["content"]:
            return
        raise OutputError(
            f"{given}: {self.record} holds the fit of another input, {recorded}; give --suffix or another --outputDir"
        )

    # ------------------------------------------------------------------------------- files while a fit runs, or fails

    def remove_checkpoint(self) -> None:
        """Remove the checkpoint of this part; a user's own file of that name stays. Raises OSError."""
        if is_regular(self.checkpoint) and is_checkpoint(self.checkpoint):
            self.checkpoint.unlink(missing_ok=True)

    def replace_checkpoint(self, content: bytes) -> None:
        """Write NAME.checkpoint. Raises OSError; OutputError for a user's file."""
        if is_there(self.checkpoint):
            self.check_replaceable([self.checkpoint], None)
        write_whole(self.checkpoint, content)

    def mark_unfinished(self) -> None:
        """From now on the earlier result does not count as done. Raises OSError; OutputError for a user's file."""
        if is_there(self.unfinished) and not self.is_unfinished():
            raise OutputError(f"{self.unfinished}: no fit left this file, so it is not replaced; move it")
        write_whole(self.unfinished, UNFINISHED_LINE)

    def is_unfinished(self) -> bool:
        """True after `mark_unfinished`, until a result has been put in place."""
        return is_regular(self.unfinished) and _first_bytes(self.unfinished, 200) == UNFINISHED_LINE

    def unmark_unfinished(self) -> None:
        """Undo `mark_unfinished`. Raises OSError."""
        if self.is_unfinished():
            self.unfinished.unlink(missing_ok=True)

    def write_log(self, traceback: str) -> None:
        """Write NAME.log, the traceback of a fault of the program. Raises OSError; OutputError for a user's file."""
        self.replace_log(LOG_HEAD + traceback.encode(errors="backslashreplace"))

    def replace_log(self, content: bytes) -> None:
        """Write NAME.log with the bytes of another NAME.log. Raises OSError; OutputError for a user's file."""
        if is_there(self.log) and not self._log_is_own():
            raise OutputError(f"{self.log}: no fit left this file, so it is not replaced")
        write_whole(self.log, content)

    def remove_log(self) -> None:
        """Remove the NAME.log of an earlier fit; a user's own stays. Raises OSError."""
        if self._log_is_own():
            self.log.unlink(missing_ok=True)

    def _log_is_own(self) -> bool:
        return is_regular(self.log) and _first_bytes(self.log, len(LOG_HEAD)) == LOG_HEAD

    # ------------------------------------------------------------------------------------------------------- reading

    def read_record(self) -> dict | None:
        """The content of NAME.json, or None if there is no whole record."""
        return read_record(self.record)

    def faults(self, record: dict, by_size: bool = False, outputs: Iterable[str] | None = None) -> list[str]:
        """'NAME.stl is missing', 'is damaged' or 'is no regular file' for each file that is not as the record says.

        by_size: see `agrees`. outputs: those that are looked at, by default all that the fit was to write. Raises
        OSError.
        """
        found, kinds = [], {*(outputs_of(record["flags"]) if outputs is None else outputs), "card"}
        for path, described in self.named(record).items():
            if self.output_of(path) in kinds and not agrees(path, described, by_size):
                why = "damaged" if is_regular(path) else "no regular file" if is_there(path) else "missing"
                found.append(f"{self.relative(path)} is {why}")
        if "model" in kinds and self.model not in self.named(record):
            found.append(f"{self.record.name} names no model")
        return found

    def says_that_it_stays(self, result: dict) -> str:
        """'; the earlier result stays' for a job's result without one of its own, if there is a whole one; else ''.

        Not for a part that another process has: that process may replace it.
        """
        if result.get("record") is not None or result.get("status") == "busy":
            return ""
        try:
            earlier = self.read_record()
            stays = earlier is not None and not earlier["failure"] and not self.faults(earlier)
        except OSError:  # nobody knows what the disk holds
            return ""
        return "; the earlier result stays" if stays else ""

    def finished(self, flags: dict, source: Path | None = None, by_size: bool = False) -> dict | None:
        """The record of a complete fit with these flags and the content of `source`, or None.

        A fit that wrote more outputs than these flags ask for is complete too; those not asked for are not looked at.

        source: None to compare the flags alone. by_size: compare the sizes of the files, not their hashes. Raises
        OSError for a source that cannot be read.
        """
        record = self.read_record()
        if record is None or self.is_unfinished():
            return None
        asked = outputs_of(flags)
        if not asked <= outputs_of(record["flags"]):
            return None
        if decisive(LATER_FLAGS | record["flags"]) != decisive(LATER_FLAGS | plain(flags)):
            return None
        if record["failure"] and record["flags"].get("maxMemory") != flags.get("maxMemory"):
            return None  # another memory limit may be enough
        if source is not None and content_of(source) != record["content"]:
            return None
        return None if self.faults(record, by_size, asked) else record

    def with_earlier_outputs(self, flags: dict) -> dict:
        """The flags of a fit that is to come, whose outputs are also those that the earlier fit left here.

        Else the earlier page would be lost, or would stand beside another model than the one it shows. Raises OSError.
        """
        record, outputs = self.read_record(), outputs_of(flags)
        if record is not None:
            outputs |= {self.output_of(path) for path in self.named(record) if self.is_own(path, record)}
        return flags | {"outputs": ",".join(name for name in OUTPUTS if name in outputs)}


def outputs_of(flags: dict) -> set[str]:
    """Those of OUTPUTS that the flags of a fit ask for; flags of earlier versions ask for all."""
    return set(str(flags.get("outputs", ",".join(OUTPUTS))).split(","))


def staging_name(name: str) -> str:
    """The name of a part's hidden folder. Its code makes it unlikely that a user chose the same."""
    return f".{name}.{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}.new"


def check_thumbnails(folder: Path) -> None:
    """Raise OutputError for thumbnails that are no folder: a link would have files written outside. Raises OSError."""
    thumbnails = folder / THUMBNAILS
    if is_there(thumbnails) and not is_folder(thumbnails):
        raise OutputError(f"{thumbnails}: a link or a file, not a folder; move it, or choose another --outputDir")


def is_model(path: Path) -> bool:
    """True if a file begins as this program's models do."""
    return b'"neural-sdf"' in _safetensors_head(path)


def is_checkpoint(path: Path) -> bool:
    """True if a file begins as this program's checkpoints do."""
    return b"neural-sdf-checkpoint" in _safetensors_head(path)


def _safetensors_head(path: Path) -> bytes:
    """The JSON at the beginning of a safetensors file, at most 1 MiB of it; b'' for a file that cannot be read."""
    try:
        if not is_regular(path):
            return b""
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return file.read(min(size, 2**20))
    except OSError:
        return b""


def content_of(source: Path) -> str:
    """The hash of an input, SHA-256 in hexadecimal: of the file, and of a glTF's buffers beside it.

    Raises OSError, and UserError for what is not a regular file.
    """
    return hash_source(source)


def outcome(record: dict) -> dict:
    """What a record says as a job's result: status failed if it has a failure, else done; the reason; the record."""
    status = "failed" if record["failure"] else "done"
    return {"record": record, "reason": record["failure"], "status": status}


def decisive(flags: dict) -> dict:
    """The flags that change the result, of all flags by name."""
    return {name: value for name, value in flags.items() if name not in NEUTRAL_FLAGS}


def _first_bytes(path: Path, count: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(count)
