"""Bytes that are kept between starts because they take time to make: machine code, plotly.js compressed.

A file counts only if its checksum fits: the checksum (32 bytes), then the content. What the content was made from goes
into the checksum without being stored, so the checksum of an old content does not fit.
"""

import hashlib
from functools import cache
from pathlib import Path

from numba.core import config
from numba.core.caching import UserWideCacheLocator
from numba.misc.appdirs import AppDirs

from neuralparts.whole_file import write_whole

CHECKSUM_BYTES = hashlib.sha256().digest_size


@cache
def cache_folders(source: str) -> list[Path]:
    """Folders that may hold what was made from a source file, best first: that of NUMBA_CACHE_DIR, the `__pycache__`
    beside the source, and the user's own."""
    folders = [Path(source).parent / "__pycache__"]
    name = UserWideCacheLocator.get_suitable_cache_subpath(source)
    if config.CACHE_DIR:
        folders.insert(0, Path(config.CACHE_DIR) / name)
    user = Path(AppDirs(appname="numba", appauthor=False).user_cache_dir)
    # Without a home it would be relative, and so in whatever folder is the current one.
    return [*folders, user / name] if user.is_absolute() else folders


def read_kept(source: str, name: str, origin: bytes) -> bytes | None:
    """The content of a file in the folders of a source, or None if none of them has it whole.

    origin: what the content is made from.
    """
    for folder in cache_folders(source):
        try:
            data = (folder / name).read_bytes()
        except OSError:
            continue
        checksum, content = data[:CHECKSUM_BYTES], data[CHECKSUM_BYTES:]
        if checksum == hashlib.sha256(origin + content).digest():
            return content
    return None


def keep(source: str, name: str, origin: bytes, content: bytes) -> None:
    """Keep a content in the first folder of a source that takes it. Raises the OSError of the first if none does."""
    data = hashlib.sha256(origin + content).digest() + content
    first_error = None
    for folder in cache_folders(source):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, data)
            return
        except OSError as error:
            first_error = first_error or error
    raise first_error
