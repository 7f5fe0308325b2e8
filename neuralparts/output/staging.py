"""How the result of a fit takes its place: written whole in a hidden folder, then moved, the record last.

A fit writes its files into `.NAME.CODE.new` in the output folder, its record last. As soon as the record is there and
agrees with the files, the set is complete: the files are synced to the disk and moved into place one after the other,
the record last. Until then the earlier result of the part stays as it is, whatever happens to the fit.

A process that is killed while it moves leaves a complete set, divided between the two folders. The next run that holds
the part's lock moves the rest. A set that is not complete is removed.

A part whose stages run in different processes has its labelled points and its fitted network there meanwhile.
"""

import contextlib
import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from neuralparts.errors import UserError, lacks_memory, one_line
from neuralparts.output.json_values import plain
from neuralparts.output.locks import OutputError
from neuralparts.output.part_files import RESULT_SUFFIXES, PartFiles, check_thumbnails, outputs_of, staging_name
from neuralparts.output.records import agrees, describe, is_folder, is_regular, is_there, record_bytes
from neuralparts.verdict import verdict
from neuralparts.whole_file import NEW_FILE, sync_folder, write_whole
from neuralparts.wording import visible

if TYPE_CHECKING:  # torch takes seconds to import, which a finished part need not wait for
    from neuralparts.network import NeuralSDF

# An unfinished file as `whole_file` names it.
PART = re.compile(r"\.(?P<whole>.+)\.[0-9a-f]{8}\.part", re.DOTALL)
# Suffixes of the files by which the stages of a part hand over (`staged_job.py`).
HANDED_OVER = ("labelled", "fitted")


class StagedFiles(PartFiles):
    """The files of a fit that is not in place yet. Everything here needs the part's lock.

    home: the files in the output folder, which they will replace. input_path: absolute path of the input, for the
    record.
    """

    def __init__(self, home: PartFiles, input_path: str = ""):
        super().__init__(home.folder / staging_name(home.name), home.name, home.output_format)
        self.home, self.input_path = home, input_path

    @property
    def labelled(self) -> Path:
        """The labelled points of a part whose training is another process's."""
        return self._path(HANDED_OVER[0])

    @property
    def fitted(self) -> Path:
        """The fitted network of a part whose reconstruction is another process's."""
        return self._path(HANDED_OVER[1])

    @property
    def checkpoint(self) -> Path:
        return self.home.checkpoint

    @property
    def log(self) -> Path:
        return self.home.log

    def in_place(self, path: Path) -> Path:
        """The path that a file of this folder will have."""
        return self.home.folder / path.relative_to(self.folder)

    # ------------------------------------------------------------------------------------------------------- writing

    def begin(self) -> None:
        """Make the folder, and try the longest name of a file. Raises OSError; OutputError for a user's folder."""
        self.remove()
        self.folder.mkdir()
        longest = max((f".{self.name}.{suffix}.{'0' * 8}.part" for suffix in RESULT_SUFFIXES), key=len)
        trial = self.folder / longest
        os.close(os.open(trial, NEW_FILE, 0o666))
        trial.unlink()

    def write_model(self, network: "NeuralSDF") -> None:
        """Write NAME.safetensors. Raises OSError."""
        network.save(self.model)

    def write_report(self, page: str, sheet: bytes) -> None:
        """Write NAME.html and NAME.png (`sheet`). Raises OSError."""
        write_whole(self.page, page.encode())
        write_whole(self.sheet, sheet)

    def write_card(self, card: str) -> None:
        """Write NAME.md. Raises OSError."""
        write_whole(self.card, card.encode())

    def write_thumbnail(self, picture: bytes) -> None:
        """Write thumbnails/NAME.png. Raises OSError."""
        self.thumbnail.parent.mkdir(exist_ok=True)
        write_whole(self.thumbnail, picture)

    def write_record(self, record: dict) -> None:
        """Write NAME.json, the last of the files, and add `files`, which describes the others. Raises OSError.

        Numbers that are not finite become null.
        """
        files = {self.relative(path): describe(path) for path in self.results() if path.is_file()}
        record = record | {"input_path": self.input_path, "files": files}
        write_whole(self.record, record_bytes(plain(record)))

    # ------------------------------------------------------------------------------------------------- taking its place

    def complete(self) -> dict | None:
        """The record, if each of its files is here or has been moved already; else None."""
        record = self.read_record() if is_folder(self.folder) else None
        if record is None or ("model" in outputs_of(record["flags"]) and self.model not in self.named(record)):
            return None
        for path, described in self.named(record).items():
            if not agrees(path if is_there(path) else self.in_place(path), described):
                return None
        return record

    def settle(self, fitted: bool = False) -> str:
        """Move a complete set into place, and remove this folder; returns '', or why the earlier result stays.

        fitted: the set must be complete, as its fit has just ended. A fit that failed, or one that is poor, does not
        replace a whole result that is better (`reason_to_keep`). Raises OSError; OutputError for a user's file, which
        stays, and so does this folder if its set is complete.
        """
        if (record := self.complete()) is None and fitted:
            raise OutputError(f"{self.home.record}: the disk does not hold what was written; try another --outputDir")
        if record is not None:
            earlier = self.home.read_record()
            reason = reason_to_keep(earlier, record) if earlier else ""
            if reason and not self.home.faults(earlier):
                self.home.remove_checkpoint()
                self.home.unmark_unfinished()  # else every later run would fit this part again
                self.remove()
                return reason
            self._move(record, earlier)
        self.remove()
        return ""

    def _move(self, record: dict, earlier: dict | None) -> None:
        """Move the files of a complete set into place, the record last.

        What only the earlier record names, such as a surface in another format, is removed if it is as that fit left
        it. Raises OutputError, before anything is moved, for a file that no fit left.
        """
        home, described = self.home, self.named(record)
        kept = {self.in_place(path): expected for path, expected in described.items()}
        present = [path for path in (*kept, home.record) if is_there(path)]
        home.check_replaceable([path for path in present if path not in kept or not agrees(path, kept[path])], earlier)
        here = [path for path in described if is_regular(path)]
        if self.thumbnail in here:
            check_thumbnails(home.folder)
        self._sync([*here, self.record])
        if self.thumbnail in here:
            home.thumbnail.parent.mkdir(exist_ok=True)
        for path in here:
            os.replace(path, self.in_place(path))
        for path in home.named(earlier) if earlier else ():
            if path not in kept and home.is_own(path, earlier):
                path.unlink(missing_ok=True)
        home.remove_checkpoint()
        home.unmark_unfinished()
        os.replace(self.record, home.record)
        for folder in {home.folder, *([home.thumbnail.parent] if self.thumbnail in here else [])}:
            sync_folder(folder)

    def _sync(self, paths: list[Path]) -> None:
        """Have the disk hold these files and their names. Raises OSError."""
        for path in paths:
            descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from error
            finally:
                os.close(descriptor)
        for folder in {path.parent for path in paths}:
            sync_folder(folder)

    # ------------------------------------------------------------------------------------------------------ cleaning up

    def remove(self) -> None:
        """Remove this folder. Raises OSError; OutputError if it, or anything in it, is a user's own."""
        if not is_there(self.folder):
            return
        files, folders = self._content()
        for path in files:
            path.unlink(missing_ok=True)
        for folder in (*folders, self.folder):
            folder.rmdir()

    def remove_if_incomplete(self) -> None:
        """Remove the folder after a fit that failed, as far as that succeeds, unless its set is complete."""
        with contextlib.suppress(OSError, UserError):
            if self.complete() is None:
                self.remove()

    def _content(self) -> tuple[list[Path], list[Path]]:
        """(files, folders) in this folder. Raises OutputError if it is no folder, or holds what no fit writes there."""
        if not is_folder(self.folder):
            raise OutputError(f"{self.folder}: no fit left this file; move it")
        names = {f"{self.name}.{suffix}" for suffix in (*RESULT_SUFFIXES, *HANDED_OVER, "json")}
        files, folders = [], []
        for path in sorted(self.folder.rglob("*")):
            unfinished = PART.fullmatch(path.name)
            if path == self.thumbnail.parent and is_folder(path):
                folders.append(path)
            elif (unfinished["whole"] if unfinished else path.name) in names and not is_folder(path):
                files.append(path)
            else:
                raise OutputError(f"{path}: no fit left this file; move it")
        return files, folders


def reason_to_keep(earlier: dict, record: dict) -> str:
    """Why the earlier result of a part is kept instead of a new one, by their records; '' if the new one replaces it.

    A fit that is poor, but no failure, is kept out by a better one of the same input alone: the fit of a changed input
    is the only one that shows it.
    """
    if earlier["failure"]:
        return ""
    if record["failure"]:
        return record["failure"]
    before, after = verdict(earlier), verdict(record)
    if after.grade != "poor" or before.grade not in ("good", "fair") or earlier["content"] != record["content"]:
        return ""
    return f"the new fit is poor ({after.sentence}), the earlier one is {before.grade}; another --outputDir keeps both"


def find_finished(staged: StagedFiles, flags: dict, source: Path, given: str) -> dict | None:
    """The record of a part that is finished with these flags and this content; None if it can be fitted.

    What a killed fit left is settled first. given: the input as the user wrote it. Raises OSError, and UserError if the
    part cannot be fitted because of a file that is no fit's, or another input's.
    """
    home = staged.home
    staged.settle()
    record = None if flags["overwrite"] else home.finished(flags, source)
    if record is None:
        home.check_free(source, given, staged.input_path, outputs_of(home.with_earlier_outputs(flags)))
    else:
        home.remove_checkpoint()
    return record


def failure_line(error: BaseException, home: PartFiles, given: str) -> str:
    """An error of a part as one line for the user. given: the input as the user wrote it."""
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        longest = len(os.fsencode(f".{home.name}.safetensors.{'0' * 8}.part"))
        return visible(
            f"{given}: names of up to {longest} bytes, which its files need, are too long for {home.folder}; shorten "
            "the name of the input, --suffix or --outputDir"
        )
    if isinstance(error, UserError):
        line = str(error).strip()
    else:
        line = f"{given}: {one_line(error)}" if lacks_memory(error) else one_line(error)
    return visible(line.replace(str(home.folder / staging_name(home.name)), str(home.folder)))
