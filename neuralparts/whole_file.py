"""The one way in which files are written: whole, under another name in the same folder, then renamed.

A file that is there is therefore whole, whatever happened while it was written.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

# O_NOFOLLOW is missing on Windows, where a file made with O_EXCL is new all the same.
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
# What systems answer that cannot sync a folder.
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF}


@contextmanager
def whole_file(path: str | os.PathLike, text: bool = False) -> Iterator[IO]:
    """Yield a new file to write to; when the block ends without an error, the file replaces `path`.

    text: True for text in UTF-8 with newlines as written, else bytes. The unfinished file is `.NAME.RANDOM.part` in the
    same folder; it is removed where the block fails. Raises OSError, which names `path` if the disk refuses the data.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, NEW_FILE, 0o666)
    try:
        with os.fdopen(descriptor, *(("w", -1, "utf-8", None, "") if text else ("wb",))) as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        # A full disk names no file.
        if error.errno is not None and error.filename in (None, str(part)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):  # the error that came first counts
            part.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Write a file whole. Raises OSError."""
    with whole_file(path) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder, where the system can. Raises OSError."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        os.close(descriptor)
