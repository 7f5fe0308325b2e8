"""`network.py MODEL`, `neuralparts info`: what a model holds, and its values at points; the verbs of the program."""

import io
import json

import numpy as np
import pytest
import trimesh

import network
from neuralparts import commands
from neuralparts.commands import fit, verify
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


def test_a_fit_leaves_a_model_that_says_what_it_is_and_a_card(tmp_path, capsys):
    source, out = tmp_path / "a & b|c.ply", tmp_path / "out"
    trimesh.creation.box((10, 20, 30)).apply_translation((100, 0, 0)).export(source)
    flags = ["--num_points", "2000", "--epochs", "1", "--numLayers", "1", "--reconstructionRes", "0"]
    assert fit.main([str(source), *flags, "--modelCard", "1", "--outputDir", str(out)]) == 0
    model = out / "a & b|c.safetensors"
    sdf = NeuralSDF.load(model)
    assert sdf.about["source"] == source.name and sdf.about["flags"]["num_points"] == 2000
    np.testing.assert_allclose(sdf.bounds, [[95, -10, -15], [105, 10, 15]], atol=1e-9)
    record = json.loads((out / "a & b|c.json").read_text())
    assert sdf.about["metrics"] == record["metrics"] and "a & b|c.md" in record["files"]
    # It goes to others: nothing in it says where it was made.
    assert str(tmp_path).encode() not in model.read_bytes()
    capsys.readouterr()
    assert network.main([str(model)]) == 0
    shown = capsys.readouterr().out
    for words in ("a & b|c.ply", "95 -10 -15 to 105 10 15", "10 x 20 x 30", "surface_error", "--num_points 2000"):
        assert words in shown
    card = (out / "a & b|c.md").read_text()
    assert 'NeuralSDF.load("a & b|c.safetensors")' in card and "a \\& b\\|c.ply" in card and "Licence" in card
    assert verify.main([str(out)]) == 0
    # The same command finds the part done. A fit without a card removes the old one.
    assert fit.main([str(source), *flags, "--modelCard", "1", "--outputDir", str(out)]) == 0
    assert "done before" in capsys.readouterr().err
    assert fit.main([str(source), *flags, "--outputDir", str(out)]) == 0
    assert not (out / "a & b|c.md").exists() and model.exists()


@pytest.mark.parametrize("text", ["100 -3 0.5\n1 2 3\n", "100,-3,0.5\n1,2,3\n", "# x y z\n100 -3 0.5\n1 2 3"])
def test_values_at_points(model, tmp_path, capsys, monkeypatch, text):
    (tmp_path / "points.txt").write_text(text)
    expected = NeuralSDF.load(model)(np.array([[100, -3, 0.5], [1, 2, 3]]))
    assert network.main([str(model), "--points", str(tmp_path / "points.txt")]) == 0
    np.testing.assert_allclose(np.array(capsys.readouterr().out.split(), float), expected, rtol=1e-6)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert network.main([str(model), "--points", "-"]) == 0
    np.testing.assert_allclose(np.array(capsys.readouterr().out.split(), float), expected, rtol=1e-6)


def test_the_device_of_the_values_at_points(model, tmp_path, capsys):
    (tmp_path / "points.txt").write_text("100 -3 0.5\n1 2 3\n")
    words = [str(model), "--points", str(tmp_path / "points.txt"), "--gpu"]
    expected = NeuralSDF.load(model)(np.array([[100, -3, 0.5], [1, 2, 3]]))
    assert network.main([*words, "-1"]) == 0
    assert capsys.readouterr().out.split() == [f"{value:.9g}" for value in expected]
    assert network.main([*words, "97"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("network.py: --gpu 97: this machine has ")
    with pytest.raises(SystemExit):
        network.main([str(model), "--gpu", "0"])
    assert "--gpu is for --points" in capsys.readouterr().err


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


def test_the_program_lists_its_verbs(model, capsys):
    assert commands.main(["info", str(model)]) == 0 and "parameters" in capsys.readouterr().out
    assert commands.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {verb} " in shown for verb in ("fit", "sample", "march", "measure", "info", "export", "verify"))
    assert commands.main(["dance"]) == commands.main([]) == 2
    assert "usage" in capsys.readouterr().err
    assert commands.main(["info", "nothing.safetensors"]) == 1
    assert capsys.readouterr().err.startswith("neuralparts info: nothing.safetensors: ")
