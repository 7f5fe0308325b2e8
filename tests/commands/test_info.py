"""`network.py MODEL`, `neuralparts info`: what a model holds, and its values at points; the verbs of the program."""

import io

import numpy as np
import pytest

import network
from neuralparts import commands
from neuralparts.network import HashGrid, NeuralSDF, fit_scaler


@pytest.fixture
def model(tmp_path):
    scaler = fit_scaler("StandardScaler", np.linspace(-1, 1, 50, dtype=np.float32))
    made = NeuralSDF((16, 8), encoding=HashGrid(levels=2), scaler=scaler, center=(100.0, -3.0, 0.5), scale=0.02)
    made.save(tmp_path / "part.safetensors")
    return tmp_path / "part.safetensors"


def test_facts_of_a_model(model, capsys):
    assert network.main([str(model)]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.replace("hidden ", "hidden_").splitlines())
    assert facts["hidden_widths"] == "16 8" and facts["scaler"] == "StandardScaler" and "levels 2" in facts["hash"]
    assert facts["cube"] == "center +- 50 (file units)" and facts["center"].startswith("100 -3 0.5")


@pytest.mark.parametrize("text", ["100 -3 0.5\n1 2 3\n", "100,-3,0.5\n1,2,3\n", "# x y z\n100 -3 0.5\n1 2 3"])
def test_values_at_points(model, tmp_path, capsys, monkeypatch, text):
    (tmp_path / "points.txt").write_text(text)
    expected = NeuralSDF.load(model)(np.array([[100, -3, 0.5], [1, 2, 3]]))
    assert network.main([str(model), "--points", str(tmp_path / "points.txt")]) == 0
    np.testing.assert_allclose(np.array(capsys.readouterr().out.split(), float), expected, rtol=1e-6)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert network.main([str(model), "--points", "-"]) == 0
    np.testing.assert_allclose(np.array(capsys.readouterr().out.split(), float), expected, rtol=1e-6)


@pytest.mark.parametrize("text", ["", "1 2\n", "1 2 three\n", "1 2 nan\n", "1 2 3\n4 5\n"])
def test_points_that_are_none_get_one_line(model, tmp_path, capsys, text):
    (tmp_path / "points.txt").write_text(text)
    assert network.main([str(model), "--points", str(tmp_path / "points.txt")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("network.py: ") and "points.txt" in error and error.count("\n") == 1


def test_a_file_that_is_no_model_gets_one_line(tmp_path, capsys):
    (tmp_path / "part.safetensors").write_bytes(b"no model")
    assert network.main([str(tmp_path / "part.safetensors")]) == 1
    assert network.main([str(tmp_path / "none.safetensors")]) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_the_program_has_five_verbs(model, capsys):
    assert commands.main(["info", str(model)]) == 0 and "parameters" in capsys.readouterr().out
    assert commands.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in ("fit", "sample", "march", "measure", "info"))
    assert commands.main(["dance"]) == commands.main([]) == 2
    assert "usage" in capsys.readouterr().err
    assert commands.main(["info", "nothing.safetensors"]) == 1
    assert capsys.readouterr().err.startswith("neuralparts info: nothing.safetensors: ")
