"""widths.json: the hidden widths that --damArch search found for the parts of an output folder.

A later run with the same flags takes them, so that all parts have the same network, however many are added.
"""

import argparse
import json
from pathlib import Path

from neuralparts import flag_types
from neuralparts.output.folder import WIDTHS_NAME
from neuralparts.output.json_values import plain
from neuralparts.output.locks import OutputError
from neuralparts.output.part_files import decisive
from neuralparts.output.records import is_regular, is_there
from neuralparts.whole_file import write_whole

FILE_NAME = f"{WIDTHS_NAME}.json"
# The key of the widths; a file without it, or with other text than --widths takes, is a user's own.
KEY = "found_widths"


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
    try:
        widths = flag_types.widths(found[KEY]) if isinstance(found, dict) and isinstance(found.get(KEY), str) else ""
    except argparse.ArgumentTypeError:
        widths = ""
    if not widths:
        raise OutputError(f"{path}: no search for widths left this file; move it, or choose another --outputDir")
    return widths if found.get("flags") == plain(decisive(flags)) else ""


def write_folder_widths(folder: Path, widths: str, by_part: dict[str, str], flags: dict) -> None:
    """Write the widths that were found, those of each part of the sample, and the flags. Raises OSError."""
    found = {KEY: widths, "sample": by_part, "flags": plain(decisive(flags))}
    write_whole(folder / FILE_NAME, json.dumps(found, indent=1).encode())
