"""Locks: one process at a time works on what a lock file stands for.

A lock is flock's (LockFileEx's on Windows), so it ends with its process, however that ends. Where the file system has
no flock, `filelock` writes the owner into the lock file instead.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from neuralparts.errors import UserError

# What systems answer to opening a link, a folder or a socket as a lock file.
NO_LOCK_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)
# Seconds between two tries to get a lock.
POLL_SECONDS = 0.02


class OutputError(UserError):
    """An output folder or file that cannot be used; the message is one line for the user."""


class BusyError(UserError):
    """Another process holds the lock; the message names the lock file."""


@contextlib.contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` for the duration of a `with` block.

    patience: seconds to wait for another process. Raises BusyError if it still has the lock then, OutputError if the
    file is a link, a folder or a device, OSError if it cannot be made. An empty lock file is removed afterwards; a file
    with content is a user's own and stays.
    """
    lock = FileLock(path, timeout=patience, poll_interval=POLL_SECONDS)
    os.stat(path.parent)  # filelock would make a folder that is gone
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(f"{path}: another process has this lock") from error
    except OSError as error:
        if error.errno in NO_LOCK_FILE:
            raise _no_lock_file(path) from error
        raise
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode) or os.lstat(path).st_nlink > 1:
            raise _no_lock_file(path)
        yield
    finally:
        # Removed while the lock is still held: a process that waits for it notices, and makes a new file.
        with contextlib.suppress(OSError):  # on Windows, filelock removes the file after this
            if _is_own(path):
                path.unlink()
        lock.release()


def is_locked(path: Path) -> bool:
    """True if a process holds this lock file. If none does, the file is removed as `locked` does. Raises as it does."""
    try:
        with locked(path):
            return False
    except BusyError:
        return True


def _is_own(path: Path) -> bool:
    """True for an empty file with one name: a lock file has no content, a user's own file has."""
    found = os.lstat(path)
    return stat.S_ISREG(found.st_mode) and found.st_size == 0 and found.st_nlink == 1


def _no_lock_file(path: Path) -> OutputError:
    return OutputError(f"{path}: this is a link, a folder or a device, and cannot be the lock; remove it")
