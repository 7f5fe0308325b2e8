"""How often a driver writes: lines for a person, summary.csv, the gallery."""

import time


class RateLimiter:
    """Limits an action to at most this fraction of wall time, at least `least` seconds apart.

        if limiter.is_due():
            with limiter:
                action()

    first: seconds until it is due for the first time.
    """

    def __init__(self, fraction: float, least: float, first: float = 0.0):
        self.fraction, self.least, self.due = fraction, least, time.monotonic() + first

    def is_due(self) -> bool:
        return time.monotonic() >= self.due

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        now = time.monotonic()
        self.due = now + max(self.least, (now - self.start) / self.fraction)
