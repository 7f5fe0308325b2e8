"""A terminal of 80 columns, or a log file, that notes when a command writes to it."""

import fcntl
import itertools
import os
import pty
import re
import struct
import subprocess
import termios
import time
from typing import NamedTuple

COLUMNS = 80
# What moves the cursor or changes colours, and is not seen itself.
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Recording(NamedTuple):
    """What a command wrote: (seconds since its start, text) pairs; the seconds until it had ended; its exit code."""

    written: list[tuple[float, str]]
    seconds: float
    code: int

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.written)

    def shown(self) -> list[tuple[float, str]]:
        """(seconds, line) whenever a line was shown that differs from the one before; blank lines are not shown."""
        found = []
        for seconds, text in self.written:
            for line in re.split(r"[\r\n]", ESCAPES.sub("", text)):
                if line.strip() and (not found or found[-1][1] != line):
                    found.append((seconds, line))
        return found

    def longest_gap(self) -> tuple[float, str]:
        """The longest time in seconds without anything new, from the start to the end, and the line before it."""
        times = [(0.0, ""), *self.shown(), (self.seconds, "")]
        gaps = [(after - before, line) for (before, line), (after, _) in itertools.pairwise(times)]
        return max(gaps)

    def too_wide(self) -> list[str]:
        """The lines that do not fit the terminal."""
        return [line for _, line in self.shown() if len(line) > COLUMNS]


def record(command: list, terminal: bool = True, **settings) -> Recording:
    """Run a command on a terminal, or with its output in a pipe, as into a log file. settings: of subprocess.Popen."""
    if terminal:
        reader, writer = pty.openpty()
        fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    else:
        reader, writer = os.pipe()
    start, written = time.monotonic(), []
    words = [str(word) for word in command]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, **settings)
    os.close(writer)
    try:
        while data := _read(reader):
            written.append((time.monotonic() - start, data.decode(errors="replace")))
        code = process.wait()
    finally:
        process.kill()
        os.close(reader)
    return Recording(written, time.monotonic() - start, code)


def _read(reader: int) -> bytes:
    """The next bytes; none at the end, which a terminal reports as an error."""
    try:
        return os.read(reader, 2**16)
    except OSError:
        return b""
