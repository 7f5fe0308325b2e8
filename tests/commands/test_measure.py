"""`metrics.py` as a user meets it: a line for each error, and one line for what is wrong."""

import numpy as np
import pytest
import torch
import trimesh

import metrics
from neuralparts.metrics import PROTOCOL_NAMES
from neuralparts.network import NeuralSDF


@pytest.fixture
def fitted(tmp_path):
    """A model that is an octahedron exactly, in file units, and its mesh: paths."""
    model = NeuralSDF(widths=(6,), center=(10.0, 20.0, 30.0), scale=0.18)
    with torch.no_grad():
        hidden, last = (layer for layer in model.layers if isinstance(layer, torch.nn.Linear))
        hidden.weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)]))
        hidden.bias.zero_()
        last.weight.fill_(3**-0.5)
        last.bias.fill_(-0.9 * 3**-0.5)
    model.save(tmp_path / "part.safetensors")
    corners = np.vstack([np.eye(3), -np.eye(3)]) * 5 + [10, 20, 30]
    trimesh.convex.convex_hull(corners).export(tmp_path / "part.stl")
    return tmp_path / "part.safetensors", tmp_path / "part.stl"


def test_prints_the_table(fitted, capsys):
    assert metrics.main([*map(str, fitted), "--num_points", "5000", "--reconstructionRes", "64"]) == 0
    table = dict(row.split() for row in capsys.readouterr().out.strip().splitlines())
    assert float(table["surface_error"]) < 1e-5 and float(table["iou"]) > 0.999
    assert float(table["surface_distance"]) == pytest.approx(float(table["surface_error"]), rel=0.3)
    assert float(table["iou_low"]) <= float(table["iou"]) <= float(table["iou_high"])
    assert float(table["chamfer"]) < 1e-3 and float(table["normal_consistency"]) > 0.98


def test_prints_the_table_of_a_protocol(fitted, capsys):
    words = [*map(str, fitted), "--protocol", "neurbf", "--num_points", "5000"]
    assert metrics.main([*words, "--reconstructionRes", "64"]) == 0
    table = dict(row.split() for row in capsys.readouterr().out.strip().splitlines())
    assert table.keys() == PROTOCOL_NAMES.keys()
    assert float(table["iou_outside"]) > 0.9999 and float(table["normal_error"]) < 3
    assert metrics.main([*words, "--reconstructionRes", "0"]) == 1
    assert capsys.readouterr().err.startswith("metrics.py: --protocol neurbf")


def test_without_a_reconstruction(fitted, capsys):
    assert metrics.main([*map(str, fitted), "--num_points", "1000", "--reconstructionRes", "0"]) == 0
    assert "chamfer" not in capsys.readouterr().out


def test_without_a_surface_the_other_errors_are_printed(fitted, capsys):
    model = NeuralSDF.load(fitted[0])
    with torch.no_grad():
        model.layers[-1].bias.fill_(1.0)
    model.save(fitted[0])
    assert metrics.main([*map(str, fitted), "--num_points", "1000", "--reconstructionRes", "16"]) == 1
    said = capsys.readouterr()
    assert "surface_error" in said.out and "no surface" in said.err and said.err.count("\n") == 1


def test_a_flat_function_is_named(fitted, capsys):
    """An octahedron a little too large, a hundredth as steep: |f| is small, the distance is not."""
    model = NeuralSDF.load(fitted[0])
    with torch.no_grad():
        model.layers[-1].weight.mul_(0.02)
        model.layers[-1].bias.mul_(0.02 * 1.02)
    model.save(fitted[0])
    assert metrics.main([*map(str, fitted), "--num_points", "1000", "--reconstructionRes", "0"]) == 0
    said = capsys.readouterr()
    table = dict(row.split() for row in said.out.strip().splitlines())
    assert float(table["surface_distance"]) == pytest.approx(0.02 * 0.9 * 3**-0.5, rel=0.02)
    assert "flat at the surface" in said.err and said.err.count("\n") == 1


def test_another_mesh_than_the_one_fitted(fitted, tmp_path, capsys):
    trimesh.creation.box((2, 2, 2)).export(tmp_path / "other.stl")
    assert metrics.main([str(fitted[0]), str(tmp_path / "other.stl")]) == 1
    assert "not the mesh that was fitted" in capsys.readouterr().err


def test_a_mesh_that_is_missing(fitted, tmp_path, capsys):
    assert metrics.main([str(fitted[0]), str(tmp_path / "none.stl")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_cpu_by_name_gives_the_same_errors_and_a_missing_gpu_gets_one_line(fitted, capsys):
    words = [*map(str, fitted), "--num_points", "1000", "--reconstructionRes", "16"]
    tables = []
    for gpu in ([], ["--gpu", "-1"]):
        assert metrics.main([*words, *gpu]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] or torch.cuda.is_available()
    assert metrics.main([*words, "--gpu", "97"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("metrics.py: --gpu 97: this machine has ") and said.count("\n") == 1
