"""Round numbers along an axis: steps of 1, 2 or 5 times a power of ten, and how a tick is written."""

import math


def round_step(length: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is at most `length`, a number above 0."""
    power = math.floor(math.log10(length))
    # A little more is allowed: rounding may put a length that is such a number already just below it.
    return max(float(f"{digit}e{power}") for digit in (1, 2, 5) if float(f"{digit}e{power}") <= length * (1 + 1e-9))


def linear_ticks(high: float, most: int = 10) -> list[float]:
    """Multiples of a round step from 0 to `high`, above 0: fewer than `most` steps, at least most / 2.5 - 1."""
    step = round_step(2.5 * high / most)
    return [k * step for k in range(math.floor(high / step * (1 + 1e-9)) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, above 0; 2 and 5 times them too if the range has less than two decades."""
    digits = (1,) if high > 100 * low else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return [tick for tick in ticks if low <= tick <= high]


def short(value: float) -> str:
    """A count of samples as 0, 500k, 1.5M, 30M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
