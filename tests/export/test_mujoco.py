"""The MuJoCo plugin: built by the command that the export prints, balls dropped on a fitted box."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from neuralparts.commands.fit import main as fit
from neuralparts.export import build_command, export_model
from neuralparts.export.mujoco import BALL_RADIUS
from neuralparts.network import NeuralSDF

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks/drop_balls.py"
# A Python with MuJoCo's wheel: this one, or the one that a variable names.
PYTHON = os.environ.get("MUJOCO_PYTHON", sys.executable)
FLAGS = {
    "encoding": "hashgrid",
    "numLayers": 1,
    "layerWidth": 64,
    "num_points": 400_000,
    "importanceWeight": 120,
    "uniformRatio": 0.1,
    "epochs": 2,
    "batchSize": 4096,
    "optimizer": "adam",
    "learningRate": 0.01,
    "schedule": "cosine",
    "loss": "relative",
    "reconstructionRes": 0,
}
SIZE = (2.0, 2.0, 0.6)


@pytest.mark.long
def test_balls_come_to_rest_on_the_part(tmp_path):
    if subprocess.run([PYTHON, "-c", "import mujoco"], capture_output=True).returncode or shutil.which("cc") is None:
        pytest.skip("needs a C compiler and MuJoCo, here or in the Python that MUJOCO_PYTHON names")
    trimesh.creation.box(SIZE).export(tmp_path / "box.stl")
    flags = [word for name, value in FLAGS.items() for word in (f"--{name}", str(value))]
    assert fit([str(tmp_path / "box.stl"), *flags, "--outputDir", str(tmp_path / "out")]) == 0
    model = NeuralSDF.load(tmp_path / "out/box.safetensors")
    export_model(model, "mujoco", tmp_path / "box.c")
    # `python3` of the command is the one with MuJoCo.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").write_text(f'#!/bin/sh\nexec "{PYTHON}" "$@"\n')
    (tmp_path / "bin/python3").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    subprocess.run(build_command(tmp_path / "box.c"), shell=True, cwd=tmp_path, env=environment, check=True)
    words = [PYTHON, str(BENCHMARK), "box.xml", "./libbox.so"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    radius = np.linalg.norm(SIZE) / 2
    heights = np.array(found["places"])[:, 2] - SIZE[2] / 2 - BALL_RADIUS * radius
    assert len(heights) == 5 and abs(heights).max() < 0.003 * radius and max(found["speeds"]) < 0.01
