"""Ctrl-C, SIGTERM and SIGHUP: the first asks the running fits to stop, the second ends the process."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

# A terminal that goes away sends SIGHUP, which Windows does not have.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stop:
    """True when called after one of SIGNALS, for a `with` block; a second signal ends the process at once.

    words: the line to print at the first signal. at_once: called before the process is ended, to end its workers.
    """

    def __init__(self, words: str, at_once: Callable[[], None] = lambda: None):
        self.words, self.at_once, self.signal, self.before = words, at_once, 0, {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return bool(self.signal)

    @property
    def exit_code(self) -> int:
        """The exit code that a shell reports for a process that the signal ended."""
        return 128 + self.signal

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            self.at_once()
            os._exit(128 + number)
        self.signal = number
        # Not print, which the signal may have interrupted. Nobody may be reading: that must not end the fit.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{self.words}\n".encode())
