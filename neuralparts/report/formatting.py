"""Values of a record as plain text for a person: numbers, durations, lengths, flags. HTML is the templates' job."""

import math
import os
import urllib.parse
from typing import Any

import numpy as np

from neuralparts.record_values import is_finite

# Shown for a number that is missing.
DASH = "\N{EN DASH}"
# Between facts on one line.
DOT = " \N{MIDDLE DOT} "


def readable(text: str) -> str:
    """Text that can be written as UTF-8. A name of other bytes has lone surrogates; each becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def number(value: Any) -> str:
    """A number with four significant digits, an integer with all of them; a dash for anything else."""
    if not is_finite(value) or isinstance(value, bool):
        return DASH
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{float(value):.4g}"


def duration(seconds: Any) -> str:
    """Seconds as 12.3 s, 4 min 5 s or 6 h 7 min; a dash for anything but a finite number."""
    if not is_finite(seconds):
        return DASH
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def one_line(value: Any) -> str:
    """A flag or a finding as text: yes or no, a number with eight digits, `key value; key value`, `item, item`."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or (isinstance(value, (float, np.floating)) and not math.isfinite(value)):
        return DASH
    if isinstance(value, (float, np.floating)):
        return f"{value:.8g}"  # more digits than `number` shows, so that a flag reads as it was given
    if isinstance(value, dict):
        return "; ".join(f"{key} {one_line(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(one_line, value)) or "none"
    return str(value)


def lines(value: Any) -> list[str]:
    """As `one_line`, but a list of sentences or of dicts has a line for each item."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, (str, dict)) for item in value):
        return [one_line(item) for item in value]
    return [one_line(value)]


def relative_address(path: str) -> str:
    """A path relative to the page as an address. Special characters are quoted: it can name no scheme and no host."""
    return urllib.parse.quote(os.fsencode(path).lstrip(b"/"))
