"""For every figure of plotly, curves and 3-D views alike: the common layout, and arrays packed for it."""

import base64
from typing import Any

import numpy as np

# Colour of text, and of text that matters less.
INK, FAINT = "#1c2733", "#5d6b7a"
CLEAR = "rgba(0,0,0,0)"


def plain_layout() -> dict[str, Any]:
    """plotly's layout without a background of its own, in the font of the page."""
    font = {"family": "system-ui, sans-serif", "size": 12, "color": INK}
    bar = {"bgcolor": CLEAR, "color": "#a3afbc", "activecolor": INK}
    return {"autosize": True, "font": font, "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR, "modebar": bar}


def packed(array: np.ndarray, dtype: str) -> dict[str, str]:
    """An array (N,) as plotly's typed array: base64 of little-endian numbers. dtype: `f4`, `f8`, `u2` or `u4`."""
    little_endian = np.ascontiguousarray(array, dtype=np.dtype(dtype).newbyteorder("<"))
    return {"dtype": dtype, "bdata": base64.b64encode(little_endian.tobytes()).decode("ascii")}
