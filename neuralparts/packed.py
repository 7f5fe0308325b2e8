"""A packed folder, read: finished parts in tar shards, with the place and the SHA-256 of every file in them.

`neuralparts pack` writes it (`output/packing.py`). A folder has

    parts-000000.tar     the files of up to so many parts, part after part, as the package webdataset reads them
    parts-000000.json    the index of that shard: part -> its files, each with offset, bytes and SHA-256
    index.json           the shards: parts, first and last name, bytes, SHA-256

In a shard a file is called KEY.SUFFIX. The key is the part's name with everything percent-encoded but ASCII letters,
digits and - _ ~: webdataset ends a key at the first dot and takes a slash for a folder.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from neuralparts.errors import UserError
from neuralparts.wording import counted, quoted

FORMAT = "neuralparts pack 1"
INDEX = "index.json"
SHARD = re.compile(r"parts-[0-9]{6,}\.tar")
# Bytes read at a time.
CHUNK = 2**20


def key_of(name: str) -> str:
    """The key of a part in its shard."""
    return quote(os.fsencode(name), safe="").replace(".", "%2E")


def name_of(key: str) -> str:
    """The name of the part that a key stands for."""
    return os.fsdecode(unquote_to_bytes(key))


def shard_name(number: int) -> str:
    """The name of a shard without its suffix."""
    return f"parts-{number:06d}"


class PackedFolder:
    """A folder that `neuralparts pack` made. index: the content of index.json.

    Raises UserError if it is no such folder, OSError if it cannot be read.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.index = read_index(self.folder / INDEX)
        self._latest: tuple[Path, dict] | None = None  # the index of the shard that was asked for last
        if self.index is None:
            raise UserError(f"{self.folder}: no packed folder; `neuralparts pack` makes one, with its {INDEX}")

    @property
    def count(self) -> int:
        """The number of parts."""
        return sum(shard["parts"] for shard in self.index["shards"].values())

    def shards(self, name: str | None = None) -> Iterator[tuple[Path, dict]]:
        """(path, index) of every shard, or of those that may hold this part. Raises UserError, OSError."""
        for shard, described in self.index["shards"].items():
            if name is not None and not described["first"] <= name <= described["last"]:
                continue
            path = self.folder / shard
            if self._latest is None or self._latest[0] != path:
                if (index := read_index(path.with_suffix(".json"))) is None:
                    raise UserError(f"{path.with_suffix('.json')}: the index of this shard is missing or damaged")
                self._latest = path, index
            yield self._latest

    def read(self, name: str, suffix: str = "safetensors") -> bytes:
        """A file of a part, checked by its SHA-256: the model, or the one of another suffix, such as json.

        Raises UserError if the part or the file is not there, or is damaged; OSError.
        """
        for path, index in self.shards(name):
            if (files := index["parts"].get(name)) is None:
                continue
            if (place := files.get(f"{key_of(name)}.{suffix}")) is None:
                raise UserError(f"{path}: the part '{quoted(name)}' was packed without its .{suffix}")
            with open(path, "rb") as file:
                file.seek(place["offset"])
                data = file.read(place["bytes"])
            if hashlib.sha256(data).hexdigest() != place["sha256"]:
                raise UserError(f"{path}: the .{suffix} of the part '{quoted(name)}' is damaged")
            return data
        raise UserError(f"{self.folder}: no part '{quoted(name)}' among its {counted(self.count, 'part')}")

    def faults(self) -> Iterator[tuple[str, list[str]]]:
        """(name, faults) of every part, in the order of the shards; faults: one phrase a file, [] for a whole part.

        A shard whose parts are whole but whose own SHA-256 differs is yielded under its name. Every byte is read.
        Raises OSError.
        """
        for shard, described in self.index["shards"].items():
            path = self.folder / shard
            index = read_index(path.with_suffix(".json"))
            if index is None or not path.is_file():
                lost = path.with_suffix(".json") if index is None else path
                yield shard, [f"{lost.name}, of {counted(described['parts'], 'part')}, is missing or damaged"]
                continue
            if digest(path) == (described["bytes"], described["sha256"]) == (index["bytes"], index["sha256"]):
                yield from ((name, []) for name in index["parts"])
                continue
            named = False
            with open(path, "rb") as file:
                for name, files in index["parts"].items():
                    found = [f"{member} is damaged" for member, place in files.items() if not is_whole(file, place)]
                    named |= bool(found)
                    yield name, found
            if not named:
                yield shard, ["damaged between the files of its parts; they themselves are whole"]


def read_index(path: Path) -> dict | None:
    """The content of index.json, or of the index of a shard; None if there is no such file, or no index in it.

    Raises OSError.
    """
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    return value if _is_index(value) else None


def _is_index(value: Any) -> bool:
    """True for a value of JSON that index.json, or the index of a shard, may hold: somebody may have changed it."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        return False
    if isinstance(shards := value.get("shards"), dict):
        rows = {"parts": int, "bytes": int, "first": str, "last": str, "sha256": str}
        return all(SHARD.fullmatch(name) and _has(row, rows) for name, row in shards.items())
    if not _has(value, {"bytes": int, "sha256": str, "parts": dict}):
        return False
    place = {"offset": int, "bytes": int, "sha256": str}
    for name, files in value["parts"].items():
        if not isinstance(files, dict) or f"{key_of(name)}.json" not in files:
            return False
        if "/" in name or os.sep in name:  # it would name a file of another folder
            return False
        if not all(_has(row, place) for row in files.values()):
            return False
    return bool(value["parts"])


def _has(row: Any, types: dict[str, type]) -> bool:
    """True for a dictionary that has these keys with values of these types, whole numbers from 0 on."""
    if not isinstance(row, dict) or not all(type(row.get(key)) is kind for key, kind in types.items()):
        return False
    return all(row[key] >= 0 for key, kind in types.items() if kind is int)


def digest(path: Path) -> tuple[int, str]:
    """(bytes, SHA-256) of a file as the disk holds it, where the system lets the page cache go. Raises OSError."""
    with open(path, "rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(file: Any, place: dict) -> bool:
    """True if the bytes at a place of an open file have the SHA-256 that its index names. Raises OSError."""
    file.seek(place["offset"])
    left, sha = place["bytes"], hashlib.sha256()
    while left and (chunk := file.read(min(left, CHUNK))):
        sha.update(chunk)
        left -= len(chunk)
    return left == 0 and sha.hexdigest() == place["sha256"]
