"""Numbers of a record (NAME.json) that may be missing: which are finite, and lengths in file units."""

import math
from numbers import Real
from typing import Any


def is_finite(value: Any) -> bool:
    """True for a number, Python's or numpy's, that is neither infinite nor NaN."""
    return isinstance(value, Real) and math.isfinite(value)


def file_length(record: dict[str, Any], length: Any) -> float | None:
    """A length in domain units -> the same in file units; None without a finite length and a transform."""
    scale = (record.get("transform") or {}).get("scale")
    return length / scale if is_finite(length) and is_finite(scale) and scale > 0 else None
