"""Threads that help with a computation while it runs, and sleep while it does not."""

import threading
from collections.abc import Callable


class HelperThreads:
    """Sleeping threads, each of which calls help(number) when it is woken, and sleeps again when that returns.

    help: called with 1, 2, ..., count, the thread's number; it must not raise. Close them at the end.
    """

    def __init__(self, help: Callable[[int], object], count: int):
        self._help, self._is_closing = help, False
        self._doors = [threading.Semaphore(0) for _ in range(count)]
        self._asleep = [False] * count
        self._threads = [threading.Thread(target=self._serve, args=(place,), daemon=True) for place in range(count)]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Wake those who sleep, and wait for none of them."""
        for place, is_asleep in enumerate(self._asleep):
            if is_asleep:
                self._asleep[place] = False
                self._doors[place].release()

    def close(self) -> None:
        """End the threads; wait until they have ended."""
        self._is_closing = True
        for door in self._doors:
            door.release()
        for thread in self._threads:
            thread.join()

    def _serve(self, place: int) -> None:
        """Sleep, help, and sleep again, until the end."""
        while True:
            self._asleep[place] = True
            self._doors[place].acquire()
            if self._is_closing:
                return
            self._help(place + 1)
