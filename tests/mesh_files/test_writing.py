"""Writing any format: whole files, refusals, and the note about rounding."""

import os

import pytest

from neuralparts.choices import MESH_SUFFIXES, OUTPUT_FORMATS
from neuralparts.mesh_files import MeshError, rounding_note, write_mesh
from neuralparts.mesh_files.writing import ENCODERS
from tests.meshes import box


def test_every_suffix_but_gltf_is_written():
    assert set(ENCODERS) == {f".{name}" for name in OUTPUT_FORMATS} == set(MESH_SUFFIXES) - {".gltf"}


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "part.stl"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_mesh(path, *box())
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_write_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(MeshError, match=r"\.step"):
        write_mesh(tmp_path / "part.step", *box())
    with pytest.raises(ValueError, match=r"\(8, 2\)"):
        write_mesh(tmp_path / "part.stl", box()[0][:, :2], box()[1])
    with pytest.raises(OSError):
        write_mesh(tmp_path / "nowhere" / "part.stl", *box())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "x", "noted"), [("a.stl", 5e6, True), ("a.STL", 10, False), ("a.ply", 5e6, False)])
def test_rounding_note(name, x, noted):
    note = rounding_note(name, box((x, 0, 0))[0], cell=0.1)
    assert note == (f"{name}: STL stores float32, which comes in steps of 0.5 here, and a grid cell is 0.1" * noted)
