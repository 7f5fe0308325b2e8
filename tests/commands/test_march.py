"""`marching.py` as a user meets it: a closed mesh in file units, nothing overwritten, one line for what is wrong."""

import re

import numpy as np
import pytest
import torch
import trimesh

import marching
from neuralparts.network import NeuralSDF


def save_model(path, center=(10.0, 20.0, 30.0)):
    """A NeuralSDF that is |x|_1 - 0.5 exactly, in file units: a ReLU network of an octahedron."""
    model = NeuralSDF(widths=(6,), center=center, scale=0.1)
    with torch.no_grad():
        hidden, last = (layer for layer in model.layers if isinstance(layer, torch.nn.Linear))
        hidden.weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)]))
        hidden.bias.zero_()
        last.weight.fill_(1.0)
        last.bias.fill_(-0.5)
    model.save(path)


@pytest.mark.parametrize("suffix", ["stl", "ply", "obj", "off", "glb", "3mf"])
def test_writes_a_closed_mesh_in_file_units(suffix, tmp_path, capsys):
    save_model(tmp_path / "part.safetensors")
    output = tmp_path / f"out.{suffix}"
    arguments = [str(tmp_path / "part.safetensors"), "--reconstructionRes", "48", "--output", str(output)]
    assert marching.main([*arguments, "--maxMemory", "8G", "--refine", "1"]) == 0
    assert re.search(
        r"evaluated \d+ .*, skipped \d+; \d+ of those evaluated were random checks, \d+ found", capsys.readouterr().out
    )
    mesh = trimesh.load(output, force="mesh")
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * 5**3, rel=0.02)
    assert np.allclose(mesh.bounds, [[5, 15, 25], [15, 25, 35]], atol=0.6)


@pytest.mark.parametrize(
    "extra",
    [["--reconstructionRes", "1"], ["--maxMemory", "1K"], ["--output", "a.step"], ["--output", "no/where/a.stl"]],
)
def test_an_error_is_one_line(tmp_path, capsys, extra):
    save_model(tmp_path / "part.safetensors")
    assert marching.main([str(tmp_path / "part.safetensors"), *extra]) == 1
    assert re.fullmatch(r"(.*\r)?.*marching.py: .{20,}\n", capsys.readouterr().err.splitlines(keepends=True)[-1])
    assert not (tmp_path / "part.stl").exists()


def test_overwrites_only_the_named_file(tmp_path, capsys):
    save_model(tmp_path / "part.safetensors")
    (tmp_path / "part.stl").write_bytes(b"the input")
    words = [str(tmp_path / "part.safetensors"), "--reconstructionRes", "16"]
    assert marching.main(words) == 1 and "--output" in capsys.readouterr().err
    assert (tmp_path / "part.stl").read_bytes() == b"the input"
    assert marching.main([*words, "--output", str(tmp_path / "part.stl")]) == 0
    assert len((tmp_path / "part.stl").read_bytes()) > 84


def test_warns_that_a_part_far_from_the_origin_is_coarse_in_stl(tmp_path, capsys):
    save_model(tmp_path / "near.safetensors")
    save_model(tmp_path / "far.safetensors", center=(500_000.0, 5_400_000.0, 0.0))
    for name, suffix, coarse in (("near", "stl", False), ("far", "stl", True), ("far", "ply", False)):
        output = str(tmp_path / f"out.{suffix}")
        words = [str(tmp_path / f"{name}.safetensors"), "--reconstructionRes", "32", "--output", output]
        assert marching.main(words) == 0
        assert ("comes in steps of 0.5" in capsys.readouterr().out) == coarse


def test_a_model_that_is_missing(tmp_path, capsys):
    assert marching.main([str(tmp_path / "none.safetensors")]) == 1
    assert "none.safetensors" in capsys.readouterr().err


def test_the_cpu_by_name_gives_the_same_mesh_and_a_missing_gpu_gets_one_line(tmp_path, capsys):
    save_model(tmp_path / "part.safetensors")
    words = [str(tmp_path / "part.safetensors"), "--reconstructionRes", "16", "--refine", "1", "--output"]
    for name, gpu in (("default", []), ("named", ["--gpu", "-1"])):
        assert marching.main([*words, str(tmp_path / f"{name}.ply"), *gpu]) == 0
    if not torch.cuda.is_available():
        assert (tmp_path / "default.ply").read_bytes() == (tmp_path / "named.ply").read_bytes()
    capsys.readouterr()
    assert marching.main([*words, str(tmp_path / "none.ply"), "--gpu", "97"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("marching.py: --gpu 97: this machine has ") and said.count("\n") == 1
    assert not (tmp_path / "none.ply").exists()
