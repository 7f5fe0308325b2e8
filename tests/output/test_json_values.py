"""Values of a fit as JSON has them."""

import json
from pathlib import Path

import numpy as np

from neuralparts.output import plain


def test_plain_values_are_json():
    value = {
        1: np.float32(0.5),
        "array": np.array([[1, 2]]),
        "path": Path("a/b"),
        "not finite": [np.nan, float("inf"), np.float64("-inf")],
        "nested": ({"int": np.int64(3)}, None, True, "text"),
    }
    assert json.loads(json.dumps(plain(value))) == {
        "1": 0.5,
        "array": [[1, 2]],
        "path": "a/b",
        "not finite": [None, None, None],
        "nested": [{"int": 3}, None, True, "text"],
    }
