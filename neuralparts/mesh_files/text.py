"""Text in mesh files: one encoding and one line ending, and the numbers in it."""

import numpy as np


def plain_text(data: bytes) -> bytes:
    """The bytes of a text file with \\n as the only line ending, without a byte order mark; UTF-16 becomes UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16", "replace").encode()
    return data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def parse_numbers(rows: list[bytes], dtype: type) -> np.ndarray:
    """All numbers in rows of text, separated by white space -> one flat array of dtype.

    Raises ValueError if a word is not a number.
    """
    return np.fromstring(b" ".join(rows), dtype=dtype, sep=" ") if rows else np.zeros(0, dtype)
