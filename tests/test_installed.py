"""The project as an installed package: `pip install .`, then the program and the import from another folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MESH = ROOT / "data/impeller/impeller.stl"
QUICK = ["--num_points", "20000", "--epochs", "1", "--batchSize", "256", "--reconstructionRes", "32"]
ASK = """
from neuralparts import NeuralSDF
sdf = NeuralSDF.load("out/impeller.safetensors")
for value in sdf([[0, 0, 0], [100, 0, 0]]): print(f"{value:.9g}")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment in which the package is importable from its own copy, not from the checkout."""
    tree, site = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "README.md", "LICENSE", *(path.name for path in ROOT.glob("requirements*.txt"))):
        shutil.copy(ROOT / name, tree / name)
    shutil.copytree(ROOT / "neuralparts", tree / "neuralparts", ignore=shutil.ignore_patterns("__pycache__"))
    # Its dependencies are here already; only the package itself is built and copied.
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site, tree]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return os.environ | {"PYTHONPATH": str(site)}


@pytest.fixture
def program(installed, tmp_path):
    """Runs `python WORDS` in tmp_path with the installed package; returns what it printed."""

    def run(*words):
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, env=installed, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_fit_march_measure_and_import_from_another_folder(program, tmp_path):
    model = "out/impeller.safetensors"
    program("-m", "neuralparts", "fit", MESH, *QUICK, "--outputDir", "out")
    assert (tmp_path / "out/impeller.html").read_text().startswith("<!DOCTYPE html>")
    program("-m", "neuralparts", "march", model, "--reconstructionRes", 24, "--output", "x.ply")
    measured = program("-m", "neuralparts", "measure", model, MESH, "--num_points", 1000)
    assert (tmp_path / "x.ply").exists() and measured.startswith("surface_error")
    assert "parameters" in program("-m", "neuralparts", "info", model)
    (tmp_path / "points.txt").write_text("0 0 0\n100, 0, 0\n")
    assert program("-m", "neuralparts", "info", model, "--points", "points.txt") == program("-c", ASK)


def test_workers_of_a_folder_find_the_installed_package(program, tmp_path):
    (tmp_path / "parts").mkdir()
    shutil.copy(MESH, tmp_path / "parts")
    printed = program("-m", "neuralparts", "fit", "parts", *QUICK, "--outputDir", "out", "--workers", 1)
    assert "\n1 of 1 done" in printed
