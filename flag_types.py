"""What the values of command-line flags may be: types for argparse, each of a text; ArgumentTypeError in one line."""

import argparse

# With it the mean distance of a sample from the surface is a ten-thousandth; beyond, finding samples takes minutes.
LARGEST_IMPORTANCE_WEIGHT = 10_000
MEMORY_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def natural(text: str) -> int:
    """An integer of 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def positive(text: str) -> int:
    """An integer of 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def gpu(text: str) -> int:
    """The number of a GPU, or -1."""
    value = int(text)
    if value < -1:
        raise argparse.ArgumentTypeError(f"{text} is no GPU; -1 is the CPU")
    return value


def not_negative(text: str) -> float:
    """A finite number of 0 or more."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or more")
    return value


def positive_number(text: str) -> float:
    """A finite number above 0."""
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def importance(text: str) -> float:
    """A number above 0, at most LARGEST_IMPORTANCE_WEIGHT."""
    value = positive_number(text)
    if value > LARGEST_IMPORTANCE_WEIGHT:
        raise argparse.ArgumentTypeError(f"{text} is above {LARGEST_IMPORTANCE_WEIGHT:,}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = not_negative(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is above 1")
    return value


def memory(text: str) -> int:
    """Bytes, with K, M or G as a unit if given."""
    unit = MEMORY_UNITS.get(text[-1:].upper())
    return int(not_negative(str(not_negative(text[:-1] if unit else text) * (unit or 1))))
