"""`sampling.py`: the samples file that it writes, its flags, its exit codes and lines."""

import numpy as np
import pytest
import trimesh

from neuralparts.choices import SAMPLING_METHODS
from neuralparts.commands import sample
from neuralparts.sampling import load_samples


@pytest.fixture
def stl(tmp_path):
    trimesh.creation.box((10, 20, 30)).export(tmp_path / "part.STL")
    return tmp_path / "part.STL"


def run(*arguments):
    return sample.main([str(argument) for argument in ("--distanceEngine", "numba", *arguments)])


def test_samples_are_in_the_domain_with_the_way_back(stl, capsys):
    assert run(stl, "--num_points", 3000, "--seed", 5) == 0
    points, sdf, transform = load_samples(stl.with_suffix(".npz"))
    outside = np.abs(transform.to_file(points)) - [5, 10, 15]
    true = np.linalg.norm(np.maximum(outside, 0), axis=1) + np.minimum(outside.max(axis=1), 0)
    assert len(points) == 3000 and np.abs(transform.length_to_file(sdf) - true).max() < 1e-4
    assert "3000 points" in capsys.readouterr().out


@pytest.mark.parametrize("method", SAMPLING_METHODS)
def test_flags_are_used(method, stl, tmp_path):
    flags = {"Importance": ["--importanceWeight", 20, "--uniformRatio", 0], "Surface": ["--uniformRatio", 0.5]}
    assert run(stl, "--num_points", 500, "--out", tmp_path / "a.npz", "--samplingMethod", method) == 0
    assert run(stl, "--num_points", 500, "--out", tmp_path / "b.npz", "--samplingMethod", method, "--seed", 1) == 0
    given = flags.get(method, [])
    assert run(stl, "--num_points", 500, "--out", tmp_path / "c.npz", "--samplingMethod", method, *given) == 0
    a, b, c = (load_samples(tmp_path / f"{name}.npz")[0] for name in "abc")
    assert (a != b).any() and ((a != c).any() or not given)


@pytest.mark.parametrize(
    "flags",
    [
        ["--num_points", "0"],
        ["--num_points", "many"],
        ["--samplingMethod", "Poisson"],
        ["--importanceWeight", "-1"],
        ["--uniformRatio", "2"],
        ["--samplingMethod", "Uniform", "--uniformRatio", "0.5"],
        ["--samplingMethod", "Surface", "--importanceWeight", "60"],
        ["--out", "part.txt"],
        ["--distanceEngine", "unknown"],
    ],
)
def test_bad_flags_exit_with_2(flags, stl, capsys):
    with pytest.raises(SystemExit) as exit_code:
        run(stl, *flags)
    assert exit_code.value.code == 2
    assert list(stl.parent.iterdir()) == [stl]


@pytest.mark.parametrize("case", ["missing", "empty", "no folder"])
def test_bad_input_exits_with_1_and_one_line(case, stl, tmp_path, capsys):
    (tmp_path / "empty.stl").write_bytes(b"")
    before = sorted(tmp_path.iterdir())
    arguments = {
        "missing": [tmp_path / "missing.stl"],
        "empty": [tmp_path / "empty.stl"],
        "no folder": [stl, "--out", tmp_path / "nowhere" / "part.npz"],
    }[case]
    assert sample.main([str(argument) for argument in arguments]) == 1
    line = capsys.readouterr().err.strip()
    assert line.count("\n") == 0 and line.startswith("sampling.py: ")
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_overwritten_unless_named(tmp_path, capsys):
    trimesh.creation.box().export(tmp_path / "box.stl")
    (tmp_path / "box.npz").write_bytes(b"labelled by hand")
    words = [str(tmp_path / "box.stl"), "--num_points", "100"]
    assert sample.main(words) == 1 and "exists already; --out" in capsys.readouterr().err
    assert (tmp_path / "box.npz").read_bytes() == b"labelled by hand"
    assert sample.main([*words, "--out", str(tmp_path / "box.npz")]) == 0
    assert len(load_samples(tmp_path / "box.npz")[0]) == 100
    capsys.readouterr()
    assert sample.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"sampling.py: {tmp_path}: ")
