"""Threads that help with a computation while it runs, and sleep while it does not."""

import math
import threading
from collections.abc import Callable

# A step that takes so many times the fastest step has waited for a helper that the system had put aside.
SLOW = 4
# Steps without helpers after such a step: more each time, and the fewest again after a row of good steps.
SHORTEST_REST, LONGEST_REST, GOOD_ROW = 8, 256, 64


class HelperThreads:
    """Sleeping threads, each of which calls help(number) when it is woken, and sleeps again when that returns.

    help: called with 1, 2, ..., count, the thread's number; it must not raise. Close them at the end.
    """

    def __init__(self, help: Callable[[int], object], count: int):
        self._help, self._is_closing = help, False
        self._doors = [threading.Semaphore(0) for _ in range(count)]
        self._asleep = [False] * count
        self._threads = []
        for place in range(count):
            thread = threading.Thread(target=self._serve, args=(place,), daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system allows no further thread: those that run suffice
                break
            self._threads.append(thread)

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


class Rests:
    """Which steps go without helpers because other programs need the processors: on a loaded machine a helper is put
    aside in the middle of a task for longer than many steps take."""

    def __init__(self):
        self._fastest, self._rest, self._left, self._good = math.inf, SHORTEST_REST, 0, 0

    @property
    def is_resting(self) -> bool:
        """True if the next step goes without helpers."""
        return self._left > 0

    def count(self, seconds: float) -> None:
        """Count a step that took so many seconds."""
        self._fastest = min(self._fastest, seconds)
        if self._left:
            self._left -= 1
        elif seconds > SLOW * self._fastest:
            self._left, self._good = self._rest, 0
            self._rest = min(2 * self._rest, LONGEST_REST)
        else:
            self._good += 1
            if self._good == GOOD_ROW:
                self._rest = SHORTEST_REST
