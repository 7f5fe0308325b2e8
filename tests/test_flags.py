"""Values of flags: what is taken, what is refused in one line."""

import argparse

import pytest

from neuralparts import flag_types
from neuralparts.flags import parse_fit_flags


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("natural", "0", 0),
        ("positive", "7", 7),
        ("positive", "1e6", 1_000_000),
        ("natural", "2.0", 2),
        ("gpu", "-1", -1),
        ("not_negative", "0", 0.0),
        ("positive_number", "1e-3", 1e-3),
        ("fraction", "1", 1.0),
        ("memory", "1G", 2**30),
        ("memory", "800m", 800 * 2**20),
        ("memory", "1.5K", 1536),
        ("memory", "5000", 5000),
        ("simplification", "0.1", 0.1),
        ("simplification", "0", 0.0),
        ("simplification", "error:0.050", "error:0.05"),
    ],
)
def test_taken(kind, text, value):
    assert getattr(flag_types, kind)(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("natural", "-1"),
        ("natural", "1.5"),
        ("natural", "1e-3"),
        ("positive", "nan"),
        ("positive", "0"),
        ("gpu", "-2"),
        ("not_negative", "-0.1"),
        ("not_negative", "nan"),
        ("positive_number", "0"),
        ("positive_number", "inf"),
        ("fraction", "1.01"),
        ("memory", "-1G"),
        ("memory", "G"),
        ("memory", ""),
        ("simplification", "1"),
        ("simplification", "0.05mm"),
        ("simplification", "error:0"),
        ("simplification", "error:"),
        ("simplification", "-0.1"),
    ],
)
def test_refused(kind, text):
    with pytest.raises(argparse.ArgumentTypeError):
        getattr(flag_types, kind)(text)


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_parts_whose_files_travel_are_trained_one_by_one(batch, capsys):
    words = ["parts", "--ray", "local", "--rayTransfer", "bytes", "--partsPerBatch", str(batch)]
    if batch < 2:
        assert parse_fit_flags(words).partsPerBatch == batch
        return
    with pytest.raises(SystemExit):
        parse_fit_flags(words)
    assert "--rayTransfer bytes trains each part for itself" in capsys.readouterr().err
