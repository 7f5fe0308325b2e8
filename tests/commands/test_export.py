"""`export.py` and `neuralparts export`: files, and one line for what is refused."""

import pytest

from neuralparts.commands import main as program
from neuralparts.commands.export import main
from neuralparts.network import NeuralSDF


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "part.safetensors"
    NeuralSDF((4,)).save(path)
    return path


def test_a_form_is_written_beside_the_model_and_not_replaced_unasked(model, tmp_path, capsys):
    assert program(["export", str(model), "--to", "c"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/part.h: ") and (tmp_path / "part.h").exists()
    assert main([str(model), "--to", "c"]) == 1
    assert (
        capsys.readouterr().err
        == f"export.py: {tmp_path}/part.h: exists already; --out {tmp_path}/part.h replaces it\n"
    )
    assert main([str(model), "--out", f"{tmp_path}/part.h"]) == 0


def test_mujoco_prints_the_command_that_builds_its_plugin(model, tmp_path, capsys):
    assert main([str(model), "--out", f"{tmp_path}/plugin.c"]) == 0
    *files, command = capsys.readouterr().out.splitlines()
    assert len(files) == 3 and "plugin.c -o libplugin.so" in command and command in (tmp_path / "plugin.c").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "part.txt"], "no form has the suffix '.txt'"),
        (["--out", "nowhere/part.h"], "there is no folder nowhere"),
        (["--to", "c", "--out", "part.py"], "the form c is written to a file with the suffix .h"),
    ],
)
def test_refusals_are_one_line(model, words, message, capsys):
    assert main([str(model), *words]) == 1
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1


def test_neither_a_form_nor_a_file_is_an_error_of_the_command_line(model, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(model)])
    assert "give --to FORM" in capsys.readouterr().err
