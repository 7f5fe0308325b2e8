"""The command of a page makes the same fit: its flags, parsed, are those of the record."""

import shlex

import pytest

from neuralparts.flags import parse_fit_flags
from neuralparts.report.fit_command import fit_command

COMMANDS = [
    "part.stl",
    "part.stl --damArch 1 --scaler StandardScaler --num_points 2000000 --showVis 1 --outputDir /tmp/x",
    "'my part.stl' --encoding hashgrid --hashBaseRes 8 --numLayers 1 --layerWidth 64 --uniformRatio 0.02 --loss l2",
    "part.stl --activation sine --seed 3 --timeBudget 12.5 --suffix ' a;b'",
    "part.stl --init he_normal --reconstructionRes 0 --modelCard 1 --gpu -1 --checkpointSeconds 0",
    "./-part.stl --suffix=-b --simplify error:0.05 --logDir log",
]
ELSEWHERE = {"outputDir", "showVis", "gpu", "checkpointSeconds", "logDir"}


@pytest.mark.parametrize("words", COMMANDS)
def test_command_of_a_page_makes_the_same_fit(words):
    flags = vars(parse_fit_flags(shlex.split(words)))
    command = shlex.split(fit_command(flags["input"], flags))
    assert command[:2] == ["python", "trainer.py"]
    again = vars(parse_fit_flags(command[2:]))
    assert again["logDir"] == ""
    assert {k: v for k, v in again.items() if k not in ELSEWHERE} == {
        k: v for k, v in flags.items() if k not in ELSEWHERE
    }


def test_command_leaves_out_what_is_default_or_of_this_machine():
    flags = vars(parse_fit_flags(["part.stl", "--outputDir", "/tmp/x", "--gpu", "-1", "--workers", "0"]))
    assert fit_command("part.stl", flags | {"unknown": 1}) == "python trainer.py part.stl"
    assert fit_command("-part.stl", flags) == "python trainer.py ./-part.stl"
