"""The types of flags' values: each takes the text of the command line and raises ArgumentTypeError for a wrong one."""

import argparse

from neuralparts import choices

MEMORY_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def whole(text: str) -> int:
    """An integer, also written as 1e6."""
    try:
        return int(text)
    except ValueError:
        value = number(text)
    if not value.is_integer():  # nor are infinity and NaN
        raise argparse.ArgumentTypeError(f"{text} is not a whole number")
    return int(value)


def number(text: str) -> float:
    """Any number, infinity and NaN among them."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def natural(text: str) -> int:
    """An integer of 0 or more."""
    value = whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def positive(text: str) -> int:
    """An integer of 1 or more."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def gpu(text: str) -> int:
    """The number of a GPU, or -1 for the CPU."""
    value = whole(text)
    if value < -1:
        raise argparse.ArgumentTypeError(f"{text} is not a GPU; -1 is the CPU")
    return value


def not_negative(text: str) -> float:
    """A finite number of 0 or more."""
    value = number(text)
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
    if value > choices.LARGEST_IMPORTANCE_WEIGHT:
        raise argparse.ArgumentTypeError(f"{text} is above {choices.LARGEST_IMPORTANCE_WEIGHT:,}")
    return value


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    value = not_negative(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is above 1")
    return value


def memory(text: str) -> int:
    """Bytes, perhaps with the unit K, M or G."""
    unit = MEMORY_UNITS.get(text[-1:].upper())
    # Checked twice, because the product may overflow to infinity.
    return int(not_negative(str(not_negative(text[:-1] if unit else text) * (unit or 1))))


def outputs(text: str) -> str:
    """Names of choices.OUTPUTS between commas -> the same in their order, each once, the record always among them."""
    names = {name.strip() for name in text.split(",")}
    if unknown := sorted(names.difference(choices.OUTPUTS)):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(choices.OUTPUTS)}")
    return ",".join(name for name in choices.OUTPUTS if name in {*names, "record"})


def architecture(text: str) -> int | str:
    """0, 1 or `search`."""
    if text == choices.SEARCH:
        return text
    try:
        return whole(text)
    except argparse.ArgumentTypeError:
        allowed = ", ".join(map(str, choices.ARCHITECTURES))
        raise argparse.ArgumentTypeError(f"{text!r} is none of {allowed}") from None


def widths(text: str) -> str:
    """Hidden widths between commas -> the same without spaces; '' for none."""
    if not text.strip():
        return ""
    found = [positive(word.strip()) for word in text.split(",")]
    if len(found) > choices.MOST_LAYERS:
        raise argparse.ArgumentTypeError(f"{len(found)} hidden layers are more than {choices.MOST_LAYERS}")
    if max(found) > choices.LARGEST_WIDTH:
        raise argparse.ArgumentTypeError(f"a width of {max(found):,} is above {choices.LARGEST_WIDTH:,}")
    return ",".join(map(str, found))


def simplification(text: str) -> float | str:
    """A fraction from 0 to below 1, or `error:` and a number above 0, which stays a text."""
    if text.startswith(choices.SIMPLIFY_ERROR):
        return f"{choices.SIMPLIFY_ERROR}{positive_number(text.removeprefix(choices.SIMPLIFY_ERROR)):.12g}"
    value = fraction(text)
    if value == 1:
        raise argparse.ArgumentTypeError("1 would keep all triangles; 0 is off, a length is written error:0.05")
    return value
