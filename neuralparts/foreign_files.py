"""Files that somebody else may have written: which of them are opened."""

import os
import stat

from neuralparts.errors import UserError


def fault_of_kind(path: str | os.PathLike) -> str:
    """Why a path holds no file that can be read to its end ('a folder', ...), or '' for a regular file with content.

    A pipe or a device is looked at, never opened: to open it may wait without end. Raises OSError, such as
    FileNotFoundError.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        return "a folder; name a file in it"
    if not stat.S_ISREG(found.st_mode):
        return "a pipe, a socket or a device; name a regular file"
    return "" if found.st_size else "the file is empty (0 bytes)"


def check_link(path: str | os.PathLike) -> None:
    """Raise UserError for a link whose target's name ends in another suffix than its own, such as x.stl to a key file.

    Whoever made a folder of inputs may be somebody else. A link to a mesh elsewhere is followed.
    """
    target = os.path.realpath(path)
    if os.path.islink(path) and os.path.splitext(target)[1].lower() != os.path.splitext(path)[1].lower():
        raise UserError(f"{path}: a link to {target}, which has another suffix; it is not read: copy the file instead")
