"""The small files that several stages need: triangles, errors, wording, whole files; versions that agree."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

import neuralparts
from neuralparts.errors import UserError, lacks_memory, one_line, with_place
from neuralparts.stage_bar import count_bar, stage_bar
from neuralparts.triangles import check_mesh_arrays, cross, doubled_normals, triangle_areas, unit_normals
from neuralparts.whole_file import whole_file, write_whole
from neuralparts.wording import counted, say

ROOT = Path(__file__).resolve().parents[1]


def test_triangle_arithmetic_against_numpy():
    corners = np.random.default_rng(1).normal(size=(100, 3, 3))
    expected = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    np.testing.assert_allclose(doubled_normals(corners), expected, atol=1e-12)
    np.testing.assert_allclose(cross(corners[:, 0], corners[:, 1]), np.cross(corners[:, 0], corners[:, 1]), atol=1e-12)
    np.testing.assert_allclose(2 * triangle_areas(corners), np.linalg.norm(expected, axis=1))
    np.testing.assert_allclose(np.linalg.norm(unit_normals(corners), axis=1), 1.0)
    assert (unit_normals(np.zeros((2, 3, 3))) == 0).all()
    with pytest.raises(ValueError, match="expected vertices"):
        check_mesh_arrays(np.zeros((4, 2)), np.zeros((1, 3), int))


def test_errors_become_one_line():
    assert one_line(OSError(28, "No space left on device", "a.stl")) == "a.stl: No space left on device"
    assert one_line(UserError("a\nb")) == "a\\nb" and one_line(RuntimeError("a\nb")) == "a"
    assert one_line(MemoryError()) == "out of memory"
    try:
        {}["no such key"]
    except KeyError as error:
        assert re.fullmatch(r"KeyError: 'no such key' \(test_shared_files\.py:\d+\)", with_place(error))
    assert lacks_memory(RuntimeError("CUDA out of memory. Tried")) and not lacks_memory(RuntimeError("shape"))


def test_counts_have_the_right_form():
    assert [counted(n, "body") for n in (0, 1, 2)] == ["0 bodies", "1 body", "2 bodies"]
    assert counted(1200, "edge with more than two triangles") == "1,200 edges with more than two triangles"
    assert counted(2, "vertex") == "2 vertices"


def test_bars_take_what_they_are_given(capsys):
    say("the next line of a log file is due later")
    with count_bar("label", 10) as add, stage_bar("fit") as show:
        add(10)
        show(0.5, 0.1)
        show(1.0)
    assert capsys.readouterr().err.count("\n") == 1  # nothing else in a log file


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, b"old")
    with pytest.raises(KeyError), whole_file(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.txt"]
    with whole_file(path, text=True) as file:
        file.write("new\r\nlines\n")
    assert path.read_bytes() == b"new\r\nlines\n"


def test_a_file_is_not_written_through_a_link(tmp_path):
    (tmp_path / "other").write_bytes(b"a user's")
    (tmp_path / "a").symlink_to(tmp_path / "other")
    write_whole(tmp_path / "a", b"ours")
    assert (tmp_path / "other").read_bytes() == b"a user's" and not (tmp_path / "a").is_symlink()


def test_the_version_is_the_same_everywhere():
    version = neuralparts.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
