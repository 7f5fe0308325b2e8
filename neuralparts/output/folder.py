"""An output folder as a whole: made, checked, claimed by runs, and cleaned up after killed processes."""

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path

from neuralparts.errors import UserError
from neuralparts.output.gallery import GALLERY_TITLE
from neuralparts.output.locks import OutputError, is_locked, locked
from neuralparts.output.part_files import PartFiles, check_thumbnails, staging_name
from neuralparts.output.records import is_regular, is_there
from neuralparts.output.staging import StagedFiles
from neuralparts.output.summary import SUMMARY_COLUMNS

# An unfinished file as `whole_file` names it, of those that are written into the output folder itself, such as
# .NAME.log.CODE.part and ..NAME.unfinished.CODE.part. All others are in the hidden folder of their fit.
UNFINISHED = re.compile(
    r"\.(?:(?P<part>.+)\.(?:checkpoint|log)|\.(?P<marked>.+)\.unfinished|(?P<whole>summary|index|widths)\.(?:csv|html|json))"
    r"\.[0-9a-f]{8}\.part",
    re.DOTALL,
)
# The hidden folder of a fit; only the one that `StagedFiles` names is touched.
STAGED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.new", re.DOTALL)
# The lock file of a run over the folder, and the lock held while runs look for each other.
RUN_LOCK = re.compile(r"\.running\.[0-9a-f]{8}\.lock")
ARRIVAL_LOCK, ARRIVAL_PATIENCE = ".running.lock", 10.0
# Names of the files and locks that a folder run has for itself, so that no part may have them; of one that searches for
# widths also the last.
FOLDER_NAMES, WIDTHS_NAME = ("summary", "index", "running"), "widths"


def prepare_folder(folder: Path) -> None:
    """Make an output folder and check that files can be made in it. Raises OutputError."""
    for path in (folder, *folder.parents):
        if path.is_symlink() and not path.exists():
            target = os.readlink(path)
            raise OutputError(f"{path}: a link to {target}, which does not exist; choose another --outputDir")
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path}: a file, not a folder; choose another --outputDir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror}); choose another --outputDir") from error


def check_folder_free(folder: Path) -> None:
    """Raise OutputError if a folder run would overwrite a summary.csv or index.html that no such run left, or would
    write its thumbnails elsewhere. Raises OSError."""
    check_thumbnails(folder)
    heads = {"summary.csv": ",".join(SUMMARY_COLUMNS[:3]), "index.html": f"{GALLERY_TITLE}</title>"}
    for name, head in heads.items():
        path = folder / name
        if not is_there(path):
            continue
        start = ""
        if is_regular(path):
            with open(path, "rb") as file:
                start = file.read(2000).decode(errors="replace")
        if head not in (start.partition("\n")[0] if name == "summary.csv" else start):
            raise OutputError(
                f"{path}: no run left this file, and it would be overwritten; move it, or choose another --outputDir"
            )


class Running:
    """Marks a folder as in use by this run, for a `with` block; `alone` is True if no other run was there before.

    Each run holds a lock file of its own, which ends with it, however it ends. Raises BusyError, OutputError, OSError.
    """

    def __init__(self, folder: Path):
        self.folder, self.alone = folder, False
        self._held = contextlib.ExitStack()

    def __enter__(self) -> "Running":
        with locked(self.folder / ARRIVAL_LOCK, ARRIVAL_PATIENCE):  # of two that arrive at once, one is alone
            others = [name for name in os.listdir(self.folder) if RUN_LOCK.fullmatch(name)]
            self.alone = not any(is_locked(self.folder / name) for name in others)
            self._held.enter_context(locked(self.folder / f".running.{secrets.token_hex(4)}.lock"))
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()


def remove_leavings(folder: Path, names: Iterable[str]) -> None:
    """Remove the unfinished files, hidden folders and lock files that killed processes left, unless the lock is held.

    names: the parts of this run. Only files of these names and of the folder's own are removed: regular files whose
    names UNFINISHED matches, empty lock files, and the folders of fits that did not end (`StagedFiles`); a complete
    result among these is moved into place. Every other hidden file is a user's own.
    """
    names = {*names, *FOLDER_NAMES, WIDTHS_NAME}
    locks = {file for name in names for file in (f".{name}.lock", f"{staging_name(name)}.lock")}
    for path in _hidden_entries(folder):
        unfinished, staged = UNFINISHED.fullmatch(path.name), STAGED.fullmatch(path.name)
        owner = next(filter(None, unfinished.groups())) if unfinished else ""
        with contextlib.suppress(UserError, OSError):
            if owner in names and is_regular(path):
                with locked(folder / f".{owner}.lock"):
                    path.unlink(missing_ok=True)
            elif path.name in locks and is_regular(path):
                is_locked(path)  # removes it if no process holds it
            elif staged is not None and staged["name"] in names:
                files = PartFiles(folder, staged["name"])
                with files.lock():
                    StagedFiles(files).settle()


def _hidden_entries(directory: Path) -> list[Path]:
    """What a directory holds whose names begin with a dot, sorted; [] if there is no such directory."""
    try:
        with os.scandir(directory) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.startswith("."))
    except OSError:
        return []
