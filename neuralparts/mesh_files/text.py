"""Text in mesh files: one encoding and one line ending, and the numbers in it."""

import re

import numpy as np

from neuralparts.wording import quoted

# Digits of a count. A count with more is no count of anything in a file.
MOST_DIGITS = 15
SPACE, NEWLINE, SLASH = 32, 10, 47  # bytes; those up to SPACE separate words


def plain_text(data: bytes) -> bytes:
    """The bytes of a text file with \\n as the only line ending, without a byte order mark; UTF-16 becomes UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16", "replace").encode()
    return data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def parse_count(word: str | bytes) -> int:
    """A count in a header. Raises ValueError, which quotes the word, unless it is a natural number or 0."""
    if re.fullmatch(rb"\+?\d{1,%d}" % MOST_DIGITS, word.encode() if isinstance(word, str) else word):
        return int(word)
    kind = "a count below zero" if word[:1] in ("-", b"-") else "not a count"
    raise ValueError(f"'{quoted(word)}' is {kind}")


def row_widths(rows: list[bytes]) -> np.ndarray:
    """The number of words in each of N rows of text -> (N,) int64."""
    text = np.frombuffer(b"\n".join(rows) + b"\n", np.uint8) if rows else np.zeros(0, np.uint8)
    ends = np.flatnonzero(text == NEWLINE)  # (N,)
    words_before = np.searchsorted(word_starts(text), ends)  # (N,) words that begin before the end of a row
    return np.diff(words_before, prepend=0)


def word_starts(text: np.ndarray) -> np.ndarray:
    """Positions at which words begin in text, (B,) uint8 -> (W,) int64."""
    letter = text > SPACE  # (B,)
    starts = letter.copy()
    starts[1:] &= ~letter[:-1]
    return np.flatnonzero(starts)


def parse_numbers(rows: list[bytes], dtype: type, count: int) -> np.ndarray:
    """All numbers in rows of text, separated by white space -> (count,) of dtype.

    Raises ValueError, which quotes the word, if a word is not a number, and if there are more or fewer than `count`.
    """
    try:
        # '1.5.5' is read as two numbers, and so is '1-2': the count shows it.
        text = b" ".join(rows)
        numbers = np.zeros(0, dtype) if not text or text.isspace() else np.fromstring(text, dtype=dtype, sep=" ")
        if len(numbers) == count:
            return numbers
    except ValueError:
        pass
    raise ValueError(_fault(rows, dtype, count))


def _fault(rows: list[bytes], dtype: type, count: int) -> str:
    """Why rows of text are not `count` numbers of dtype."""
    whole = np.issubdtype(dtype, np.integer)
    number = re.compile(rb"[-+]?\d+" if whole else rb"[-+]?((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|inf(inity)?|nan)", re.I)
    words = [word for row in rows for word in row.split()]
    wrong = next((word for word in words if not number.fullmatch(word)), None)
    if wrong is None:
        return f"{len(words):,} numbers, but {count:,} are due"
    comma = re.fullmatch(rb"[-+]?\d+,\d+(e[-+]?\d+)?", wrong, re.I)
    return f"'{quoted(wrong)}' is not a {'whole ' * whole}number" + ": its decimal mark is a comma" * bool(comma)
