"""`export.py MODEL --to npz`: the resolution of a grid, and the forms that have none."""

import numpy as np
import pytest

import export
from tests.export.formed_models import octahedron


@pytest.fixture
def model(tmp_path):
    octahedron().save(tmp_path / "part.safetensors")
    return tmp_path / "part.safetensors"


def test_the_flag_sets_the_nodes_along_an_edge(model, tmp_path, capsys):
    assert export.main([str(model), "--to", "npz", "--reconstructionRes", "7"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'part.npz'}: ")
    with np.load(tmp_path / "part.npz") as arrays:
        assert arrays["sdf"].shape == (7, 7, 7)


@pytest.mark.parametrize(
    ("form", "resolution", "reason"), [("torch", "7", "is for the grids"), ("vti", "1", "2 nodes")]
)
def test_a_resolution_that_makes_no_grid_gets_one_line(model, tmp_path, capsys, form, resolution, reason):
    assert export.main([str(model), "--to", form, "--reconstructionRes", resolution]) == 1
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["part.safetensors"]
