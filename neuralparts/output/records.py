"""The record of a fit, NAME.json: what makes a file a record, and whether the files that it names are as it says.

A record names the other files of its fit, each with its size and its SHA-256. By them the program knows its own files,
byte for byte. Its last key, `sha256`, is the SHA-256 of all bytes before it, so that a change of the record itself is
seen too. Records of earlier versions name sizes alone; they are read too.
"""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

# The keys of every record. A user's own JSON file does not have them all.
RECORD_KEYS = frozenset({"input", "content", "flags", "metrics", "timings", "failure", "files"})
# How the last key of a record begins in the file.
LAST_KEY = b',\n "sha256": "'
# A record takes some KB; a larger JSON file is not read.
LARGEST_RECORD = 2**24
# Bytes read at a time.
CHUNK = 2**20


def record_bytes(record: dict) -> bytes:
    """The content of NAME.json: a record of JSON values, and the SHA-256 of the bytes before it as the last key."""
    return _with_hash(json.dumps(record, indent=1).removesuffix("\n}").encode())


def _with_hash(body: bytes) -> bytes:
    """A record in bytes, without its end -> with its hash and its end."""
    return body + LAST_KEY + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def read_record(path: Path) -> dict | None:
    """The record in a file, without its own hash; None if the file is missing, a link, or no whole record.

    Raises OSError if the disk fails.
    """
    try:
        if not is_regular(path) or path.stat().st_size > LARGEST_RECORD:
            return None
        return record_in(path.read_bytes())
    except FileNotFoundError:
        return None


def record_in(data: bytes) -> dict | None:
    """The record in the bytes of a file, without its own hash; None if they are no whole record."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not is_record(value):
        return None
    whole = has_sizes_alone(value) or data == _with_hash(data.rpartition(LAST_KEY)[0])
    value.pop("sha256", None)
    return value if whole else None


def is_record(value: Any) -> bool:
    """True if a value read from JSON is a record that this program wrote: its keys, and files with sizes or hashes."""
    if not isinstance(value, dict) or not value.keys() >= RECORD_KEYS:
        return False
    texts, tables = ("input", "content", "failure"), ("flags", "metrics", "timings", "files")
    if not all(isinstance(value[key], str) for key in texts) or not all(isinstance(value[key], dict) for key in tables):
        return False
    return all(map(_is_description, value["files"].values()))


def _is_description(value: Any) -> bool:
    """True for {"bytes": int, "sha256": str}, and for the size alone, as earlier versions wrote it."""
    if isinstance(value, dict):
        return isinstance(value.get("bytes"), int) and isinstance(value.get("sha256"), str)
    return type(value) is int


def has_sizes_alone(record: dict) -> bool:
    """True for a record of an earlier version, which names no hashes."""
    return any(isinstance(described, int) for described in record["files"].values())


def describe(path: Path) -> dict[str, int | str]:
    """Size and SHA-256 of a file, as a record names them. Raises OSError."""
    with open(path, "rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def agrees(path: Path, described: dict | int, by_size: bool = False) -> bool:
    """True if a file is as a record describes it; a link is not.

    by_size: compare the sizes alone, without reading the file. Raises OSError if the disk fails: nobody knows then, and
    a caller must not take the file for damaged.
    """
    expected = described if isinstance(described, int) else described["bytes"]
    try:
        if not is_regular(path) or path.stat().st_size != expected:
            return False
        return by_size or isinstance(described, int) or describe(path) == described
    except FileNotFoundError:
        return False


def is_there(path: Path) -> bool:
    """True if a name exists, also that of a link to nowhere. Raises OSError if the disk fails."""
    return _mode(path) != 0


def is_regular(path: Path) -> bool:
    """True for a file that is no link; False also if nothing is there. Raises OSError if the disk fails."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """True for a folder that is no link; False also if nothing is there. Raises OSError if the disk fails."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    """The mode of what has this name, 0 if there is none. The functions of os.path answer False if the disk fails."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def is_blank(path: Path) -> bool:
    """True for a file of zeros or without any byte, as a machine that lost power leaves them: nobody's work."""
    with open(path, "rb") as file:
        return not any(any(chunk) for chunk in iter(lambda: file.read(CHUNK), b""))
