"""widths.json: the hidden widths that --damArch search found for the parts of an output folder.

A later run with the same flags takes them, so that all parts have the same network, however many are added.
"""

import json
import re
from pathlib import Path

from neuralparts.output.folder import WIDTHS_NAME
from neuralparts.output.json_values import plain
from neuralparts.output.locks import OutputError
from neuralparts.output.part_files import decisive
from neuralparts.output.records import is_regular, is_there
from neuralparts.whole_file import write_whole

FILE_NAME = f"{WIDTHS_NAME}.json"
# The key of the widths; a file without it, or with other text, is a user's own.
KEY = "found_widths"
WIDTHS = re.compile("[1-9][0-9]*(,[1-9][0-9]*)*")


def read_folder_widths(folder: Path, flags: dict) -> str:
    """The widths, as --widths takes them, that a search with these flags found for a folder; '' for none.

    Raises OutputError for a file that no search left, which another search would replace, and OSError.
    """
    path = folder / FILE_NAME
    if not is_there(path):
        return ""
    try:
        found = json.loads(path.read_bytes()) if is_regular(path) else None
    except (ValueError, RecursionError):
        found = None
    widths = found.get(KEY) if isinstance(found, dict) else None
    if not isinstance(widths, str) or WIDTHS.fullmatch(widths) is None:
        raise OutputError(f"{path}: no search for widths left this file; move it, or choose another --outputDir")
    return widths if found.get("flags") == plain(decisive(flags)) else ""


def write_folder_widths(folder: Path, widths: str, by_part: dict[str, str], flags: dict) -> None:
    """Write the widths that were found, those of each part of the sample, and the flags. Raises OSError."""
    found = {KEY: widths, "sample": by_part, "flags": plain(decisive(flags))}
    write_whole(folder / FILE_NAME, json.dumps(found, indent=1).encode())
