"""A second fit into a folder with a good result: whatever becomes of it, the first is there to the bit, and loads."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

import trainer
from neuralparts.network import NeuralSDF
from tests.fleet.runs import PATIENCE, command, wait_for

ROOT = Path(__file__).resolve().parents[2]
TRAINER = [sys.executable, str(ROOT / "trainer.py")]
GOOD = ["--encoding", "hashgrid", "--numLayers", 1, "--layerWidth", 64, "--optimizer", "adam", "--learningRate", 0.01]
GOOD += ["--num_points", 60_000, "--epochs", 2, "--reconstructionRes", 48, "--outputDir", "out"]
RESULT = ["box.html", "box.json", "box.png", "box.safetensors", "box.stl"]
STAYS = "the earlier result stays"


def a_box(folder):
    trimesh.creation.box((20, 16, 12)).export(folder / "box.stl")


def result(folder):
    """The files of the first fit, by name."""
    return {name: (folder / "out" / name).read_bytes() for name in RESULT if (folder / "out" / name).exists()}


def check_model(folder):
    """Check that the model loads: its values inside and outside of the box."""
    inside, outside = NeuralSDF.load(folder / "out/box.safetensors")(np.array([[0.0, 0, 0], [14, 0, 0]]))
    assert inside < 0 < outside


def fit(capsys, *words):
    """(exit code, standard error) of a fit of box.stl in this process."""
    code = trainer.main([str(word) for word in ("box.stl", *words)])
    return code, capsys.readouterr().err


def test_a_second_fit_that_collapses_is_poor_or_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a_box(tmp_path)
    assert fit(capsys, *GOOD)[0] == 0
    first = result(tmp_path)
    assert sorted(first) == RESULT
    poor = ["--num_points", 500, "--epochs", 1, "--batchSize", 100]
    constant = ["--num_points", 1000, "--epochs", 1, "--batchSize", 1000, "--learningRate", "1e-12"]
    for second, reason in (
        (["--learningRate", "1e30"], "not numbers: try a lower --learningRate"),
        (constant, "the network collapsed to a constant"),
        (poor, "trainer.py: the new fit is poor ("),
    ):
        code, err = fit(capsys, *GOOD, *second)
        assert code == 1 and reason in err.splitlines()[-1] and err.splitlines()[-1].endswith(STAYS)
        assert result(tmp_path) == first and sorted(os.listdir("out")) == RESULT
    check_model(tmp_path)
    of_a_folder = ["--overwrite", 1, "--workers", 0]
    assert trainer.main([str(word) for word in (".", *GOOD, *poor, *of_a_folder)]) == 1
    assert not list(Path("out").glob(".*unfinished")) and result(tmp_path) == first
    capsys.readouterr()
    trimesh.creation.box((30, 16, 12)).export("box.stl")
    assert fit(capsys, *GOOD, *poor)[0] == 0 and result(tmp_path) != first  # nothing else shows the new content
    second = result(tmp_path)
    Path("box.stl").write_bytes(b"no mesh")
    code, err = fit(capsys, *GOOD)
    assert code == 1 and result(tmp_path) == second and err.splitlines()[-1].endswith(STAYS)
    Path("box.stl").unlink()
    code, err = fit(capsys, *GOOD)
    assert code == 1 and result(tmp_path) == second and "no such file" in err


def strike(process, number, begun):
    """Send a signal to a fit as soon as begun() is True; (exit code, standard error)."""
    try:
        wait_for(lambda: begun() or process.poll() is not None, "the fit to begin")
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_second_fit_that_a_signal_ends(tmp_path, number):
    source = tmp_path / "box.stl"
    source.write_bytes(b"good")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = command("light", "box.stl", "out")
    settings = {"cwd": tmp_path, "env": environment, "text": True, "stderr": subprocess.PIPE}
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, **settings)
    first = result(tmp_path)
    source.write_bytes(b"long")
    second = subprocess.Popen(words, stdout=subprocess.DEVNULL, **settings)
    code, err = strike(second, number, lambda: any((tmp_path / "out").glob(".box.*.new")))
    assert code == (-9 if number == signal.SIGKILL else 128 + number)
    assert result(tmp_path) == first
    assert number == signal.SIGKILL or f"stopped; {STAYS}; the same command with --resume 1 continues" in err


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.5, 3.0, 6.0, 12.0, 18.0])
def test_a_real_second_fit_that_a_signal_ends(tmp_path, number, seconds):
    """The instant preset's recipe, struck in one stage after the other; a fit that has ended by then replaces."""
    a_box(tmp_path)
    words = [*TRAINER, "box.stl", *map(str, GOOD)]
    settings = {"cwd": tmp_path, "text": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    subprocess.run(words, check=True, **settings)
    first, flags = result(tmp_path), ["--num_points", "900000", "--overwrite", "1", "--reconstructionRes", "256"]
    start = time.monotonic()
    code, err = strike(
        subprocess.Popen([*words, *flags], **settings), number, lambda: time.monotonic() > start + seconds
    )
    left = result(tmp_path)
    assert (left != first) == (code == 0) and "Traceback" not in err
    assert code in (0, -9 if number == signal.SIGKILL else 128 + number)
    assert json.loads(left["box.json"])["failure"] == ""
    check_model(tmp_path)
    assert trimesh.load(tmp_path / "out/box.stl").is_watertight
