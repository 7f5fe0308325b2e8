"""How the program speaks: lines for a person, and counts."""

import os
import re
import sys
import textwrap
import time
import unicodedata
from typing import TextIO

# Characters of a file's own text that a message or a note quotes; the rest is cut.
MOST_QUOTED = 60
# Categories of characters that are no text (controls, ends of lines, halves of characters), and the marks that reverse
# the direction of writing.
UNSEEN = {"Cc", "Zl", "Zp", "Cs"}
DIRECTIONS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# When `say` printed last, on the monotonic clock.
last_said = time.monotonic()


def visible(text: str) -> str:
    """Text on one line that no terminal takes for a command: control characters and ends of lines are escaped."""
    if text.isprintable():
        return text
    unseen = {letter for letter in text if unicodedata.category(letter) in UNSEEN or letter in DIRECTIONS}
    return "".join(ascii(letter)[1:-1] if letter in unseen else letter for letter in text)


def listed(names: list[str], most: int = 10) -> str:
    """a, b, c: names on one line; of more than `most` the first, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def as_utf8(name: str) -> str:
    """A name of a file as a process in a UTF-8 locale has it, whatever the locale of this one is."""
    try:
        return os.fsencode(name).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # no name of a file in this locale
        return name


def quoted(text: object, most: int = MOST_QUOTED) -> str:
    """Text that comes out of a file, as a message may show it: one line of printable characters, cut to `most`.

    text: str, bytes, or any value of a JSON file. A character that does not print is shown by its escape.
    """
    text = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text)
    cut = text[: most + 1]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return shown if len(text) <= most and len(shown) <= most else shown[: most - 3] + "..."


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line for the user, or several, by default on standard error; on a terminal above the progress bars."""
    global last_said
    stream, last_said = stream or sys.stderr, time.monotonic()
    text = "\n".join(folded(visible(each), stream) for each in line.split("\n"))
    bars = sys.modules.get("tqdm")  # importing it takes a tenth of a second; until it is imported there are no bars
    if bars is None:
        print(text, file=stream)
    else:
        bars.tqdm.write(text, file=stream)
    stream.flush()


def folded(line: str, stream: TextIO) -> str:
    """A line as a terminal shows it without breaking words: on several lines if it is wider. Elsewhere it stays one."""
    if not stream.isatty():
        return line
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return line
    whole_words = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(line, columns, subsequent_indent="  ", **whole_words) if len(line) > columns > 20 else line


def counted(number: int, noun: str) -> str:
    """1 body, 2 bodies, 1,000 triangles, 2 edges with ...: a number and its noun in the right form."""
    first, space, rest = noun.partition(" with ")
    if number != 1:
        first = re.sub("y$", "ie", re.sub("ex$", "ice", first)) + "s"
    return f"{number:,} {first}{space}{rest}"
