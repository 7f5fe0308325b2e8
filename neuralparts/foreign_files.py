"""Files that somebody else may have written: which of them are opened, and how their text is quoted in a message."""

import os
import stat

# Characters of a file's own text that a message quotes; the rest is cut.
MOST_QUOTED = 60


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


def quoted(text: object, most: int = MOST_QUOTED) -> str:
    """Text out of a file as a message may show it: one line of printable characters, cut to `most`.

    text: a string, or any value that was read. A character that does not print is shown by its escape.
    """
    text = str(text)
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: most + 1])
    return shown if len(text) <= most and len(shown) <= most else shown[: most - 3] + "..."
