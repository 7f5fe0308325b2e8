"""Values of a record as text."""

import numpy as np
import pytest

from neuralparts.record_values import file_length
from neuralparts.report.formatting import DASH, duration, lines, number, one_line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234567, "1,234,567"),
        (2.0, "2"),
        (0.000123456, "0.0001235"),
        (np.float32(0.5), "0.5"),
        (1e20, "1e+20"),
    ]
    + [(value, DASH) for value in (None, float("nan"), -np.inf, True, "0.5")],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1234, "0.123 s"), (119.0, "119 s"), (245.4, "4 min 5 s"), (3659.9, "1 h 1 min"), (None, DASH)],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (np.bool_(False), "no"),
        (0.00123456, "0.00123456"),
        (589790, "589790"),
        ([1, 2.5], "1, 2.5"),
        ({"a": 1, "b": [True, None]}, f"a 1; b yes, {DASH}"),
        ([], "none"),
        ({}, "none"),
        (float("nan"), DASH),
    ],
)
def test_value_on_one_line(value, text):
    assert one_line(value) == text and lines(value) == [text]


def test_sentences_and_dicts_have_a_line_each():
    assert lines(["One.", {"a": 1}, 2]) == ["One.", "a 1", "2"]


def test_lengths_in_file_units_need_a_transform():
    assert file_length({"transform": {"scale": 0.5}}, 2.0) == 4.0
    assert file_length({}, 2.0) is None and file_length({"transform": {"scale": 0.5}}, None) is None
