"""Texts of a record without the folders of the user's disk: a page may be sent to others."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

# The start of a Windows path: a drive or a network folder.
WINDOWS_ROOT = re.compile(r"[A-Za-z]:[\\/]|\\\\")
# Folders of an absolute path within a sentence, up to its last separator. A folder's name with a space ends it, so the
# folders that a record names are replaced first.
FOLDERS = re.compile(
    r"(?<![^\s\"'`(\[{<=,;])(?:file://)?(?:(?:/[^\s/:;,\"'<>]+)+/|(?:[A-Za-z]:|\\)[\\/](?:[^\s\\/:;,\"'<>]+[\\/])*)"
)


def file_name(path: str) -> str:
    """The last part of a path, of POSIX or of Windows."""
    flavour = PureWindowsPath if WINDOWS_ROOT.match(path) else PurePosixPath
    return flavour(path).name


def without_folders(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose texts name no absolute path: the input by its name, any other file by its own name."""
    given, flags = str(record.get("input") or ""), record.get("flags") or {}
    # What precedes the name of a file in a sentence, as the user wrote it.
    folders = [_folder_of(given), f"{flags.get('outputDir', '')}/"]
    folders += [_folder_of(value) for value in flags.values() if _is_absolute(value)]
    # A flag is a path as a whole, spaces and all.
    flags = {name: file_name(value) if _is_absolute(value) else value for name, value in flags.items()}
    shown = {key: value for key, value in record.items() if key != "input_path"} | {"flags": flags}
    return _shortened(shown, [*filter(_is_absolute, folders)]) | {"input": file_name(given)}


def _folder_of(path: str) -> str:
    """What precedes the last part of a path, its separator included."""
    return path[: path.rfind(file_name(path))]


def _is_absolute(value: Any) -> bool:
    """True for an absolute path of POSIX or of Windows, other than the root alone."""
    is_path = isinstance(value, str) and len(value) > 1
    return is_path and (value.startswith("/") or WINDOWS_ROOT.match(value) is not None)


def _shortened(value: Any, folders: Collection[str]) -> Any:
    """A value of a record with every text shortened; keys stay."""
    if isinstance(value, dict):
        return {key: _shortened(item, folders) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(item, folders) for item in value]
    if not isinstance(value, str):
        return value
    for folder in folders:
        value = value.replace(folder, "")
    return FOLDERS.sub("", value)
