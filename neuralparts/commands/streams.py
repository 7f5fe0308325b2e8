"""Standard streams that end no command: closed, full, or a pipe that nobody reads any more.

A fit may outlive the terminal or the `| head` that it prints to. What it prints is then lost; the fit goes on.
"""

import contextlib
import os
import sys
from typing import Any, TextIO


class UnfailingStream:
    """A text stream whose failures are ignored; everything else is the stream's own."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or lose the text. Returns its length, as a stream does."""
        # ValueError: the stream was closed.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or lose what the buffer holds."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop()

    def _drop(self) -> None:
        """Lead the stream into nothing, so that the buffer's content cannot fail again when the process ends."""
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def secure_streams() -> None:
    """Open what is closed of the three standard streams on nothing, and let no failure of stdout or stderr surface.

    A closed descriptor must not stay free: the next file that is opened would get its number, and what a library prints
    would end up in that file.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115 (kept for the life of the process)
        if hasattr(stream, "reconfigure"):
            # The name of a file may not be UTF-8. A line is shown when it is printed.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
        if not isinstance(stream, UnfailingStream):
            setattr(sys, name, UnfailingStream(stream))
