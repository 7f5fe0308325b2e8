"""How the program speaks: lines for a person, counts, and progress bars."""

import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Characters of a file's own text that a message or a note quotes; the rest is cut.
MOST_QUOTED = 60
# Categories of characters that are no text (controls, ends of lines, halves of characters), and the marks that reverse
# the direction of writing.
UNSEEN = {"Cc", "Zl", "Zp", "Cs"}
DIRECTIONS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str) -> str:
    """Text on one line that no terminal takes for a command: control characters and ends of lines are escaped."""
    if text.isprintable():
        return text
    unseen = {letter for letter in text if unicodedata.category(letter) in UNSEEN or letter in DIRECTIONS}
    return "".join(ascii(letter)[1:-1] if letter in unseen else letter for letter in text)


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


def say(line: str) -> None:
    """Print a line for the user, or several, on standard error, where the progress bars are."""
    print("\n".join(map(visible, line.split("\n"))), file=sys.stderr)


def counted(number: int, noun: str) -> str:
    """1 body, 2 bodies, 1,000 triangles, 2 edges with ...: a number and its noun in the right form."""
    first, space, rest = noun.partition(" with ")
    if number != 1:
        first = re.sub("y$", "ie", re.sub("ex$", "ice", first)) + "s"
    return f"{number:,} {first}{space}{rest}"


def listed(names: list[str], most: int = 10) -> str:
    """a, b, c: names on one line; of more than `most` the first, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


@contextmanager
def count_bar(title: str, total: int, unit: str = " points") -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing in a log file. Yields a function that takes the number newly finished."""
    from tqdm import tqdm

    with tqdm(total=total, desc=title, unit=unit, unit_scale=True, disable=None, leave=False) as bar:
        yield bar.update


@contextmanager
def fraction_bar(title: str) -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal. Yields a function of the fraction done, 0 to 1, and perhaps the present loss."""
    from tqdm import tqdm

    with tqdm(total=100, desc=title, unit="%", disable=None, leave=False) as bar:

        def show(fraction: float, loss: float | None = None) -> None:
            bar.update(round(100 * fraction) - bar.n)
            if loss is not None:
                bar.set_postfix_str(f"loss {loss:.3g}", refresh=False)

        yield show
