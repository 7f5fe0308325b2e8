"""Hidden widths: as flags say them, counted, their mean."""

import pytest

from neuralparts.choices import LAYER_WIDTH, NUM_LAYERS, SEARCHED_PARAMETERS
from neuralparts.flags import parse_fit_flags
from neuralparts.network import DAM_WIDTHS, NeuralSDF
from neuralparts.widths import (
    given_widths,
    mean_widths,
    most_parameters,
    parameters_of,
    rectangle,
    searched_layers,
    widths_as_flags,
)


@pytest.mark.parametrize("widths", [(5,), (33, 44), DAM_WIDTHS])
def test_parameters_are_those_of_the_network(widths):
    assert parameters_of(widths) == NeuralSDF(widths).parameter_count


def test_half_of_dams_parameters_are_wanted_unless_the_flags_say():
    assert parameters_of(DAM_WIDTHS) // 2 == SEARCHED_PARAMETERS
    flags = parse_fit_flags(["part.stl", "--damArch", "search"])
    assert most_parameters(flags) == SEARCHED_PARAMETERS and searched_layers(flags) == len(DAM_WIDTHS)
    flags = parse_fit_flags(["part.stl", "--damArch", "search", "--damParameters", "5000", "--numLayers", "4"])
    assert most_parameters(flags) == 5000 and searched_layers(flags) == 4


@pytest.mark.parametrize(("layers", "parameters"), [(1, 100), (11, 589_790), (3, 5)])
def test_a_rectangle_is_the_widest_that_fits(layers, parameters):
    widths = rectangle(layers, parameters)
    assert len(set(widths)) == 1 and len(widths) == layers
    assert parameters_of(widths) <= parameters or widths[0] == 1
    assert parameters_of([widths[0] + 1] * layers) > parameters


def test_the_mean_of_several_networks_has_no_more_parameters_than_are_wanted():
    assert mean_widths([(10, 20), (20, 10)], 1000) == (15, 15)
    narrowed = mean_widths([(10, 20), (20, 10)], 260)
    assert parameters_of(narrowed) <= 260 and max(narrowed) - min(narrowed) <= 1
    with pytest.raises(ValueError, match="no mean"):
        mean_widths([(10, 20), (20,)], 1000)
    with pytest.raises(ValueError, match="no mean"):
        mean_widths([], 1000)


def test_widths_are_given_by_hand():
    assert given_widths(parse_fit_flags(["part.stl"])) == (LAYER_WIDTH,) * NUM_LAYERS
    flags = parse_fit_flags(["part.stl", *widths_as_flags((33, 44, 5)).split()])
    assert given_widths(flags) == (33, 44, 5) and flags.damArch == 0
    assert parse_fit_flags(["part.stl", "--widths", " 33, 44 "]).widths == "33,44"
    assert parse_fit_flags(["part.stl", "--widths", ""]).widths == ""


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--widths 33,44 --damArch 1", "--widths is for --damArch 0; --damArch 1 has widths of its own"),
        ("--widths 33,44 --damArch search", "--damArch search has widths of its own"),
        ("--widths 33,44 --numLayers 2", "--widths 33,44 says every layer; leave --numLayers out"),
        ("--widths 33,44 --layerWidth 33", "--widths 33,44 says every layer; leave --layerWidth out"),
        ("--widths 33,0", "0 is not positive"),
        ("--widths 33,,44", "'' is not a number"),
        ("--widths 33,8193", "a width of 8,193 is above 8,192"),
        ("--widths " + ",".join(["8"] * 101), "101 hidden layers are more than 100"),
        ("--damArch find", "'find' is none of 0, 1, search"),
        ("--damArch 2", "invalid choice: 2"),
        ("--damParameters 5000", "--damParameters is for --damArch search, not 0"),
        ("--damParameters 5000 --damArch 1", "--damParameters is for --damArch search, not 1"),
        ("--damParameters 1999 --damArch search", "--damParameters 1,999 is not between 2,000 and 20,000,000"),
        ("--damArch search --numLayers 1", "--damArch search is for 2 to 100 hidden layers, not --numLayers 1"),
        ("--damArch search --numLayers 101", "2 to 100 hidden layers, not --numLayers 101"),
        ("--damError 0.001", "--damError is for --damArch search, not 0"),
        ("--damError 1e-3 --damParameters 5000 --damArch search", "are two aims of one search"),
        ("--damArch search --layerWidth 64", "finds the width of every layer; leave --layerWidth out"),
        ("--damArch search --encoding hashgrid", "--damArch search is for a network without an encoding"),
    ],
)
def test_widths_that_contradict_other_flags_get_one_line(capsys, flags, line):
    with pytest.raises(SystemExit) as exit:
        parse_fit_flags(["part.stl", *flags.split()])
    error = capsys.readouterr().err
    assert exit.value.code == 2 and line in error and error.count("\n") == 1
