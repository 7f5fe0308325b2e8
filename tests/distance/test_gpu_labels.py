"""Labels on a GPU: the kernels in CUDA's simulator, their code for a real GPU, and when the CPU takes over."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from neuralparts.distance import DistanceOracle
from neuralparts.flags import parse_fit_flags
from neuralparts.inputs import load
from neuralparts.mesh_files import write_mesh
from neuralparts.watch import Watch
from tests.distance.brute import FLOAT32_TOLERANCE, torus

ROOT = Path(__file__).resolve().parents[2]
SIMULATED = pytest.mark.skipif(find_spec("numba.cuda") is None, reason="no CUDA simulator: requirements-gpu.txt")


def printed(program, *arguments):
    """The last line, as JSON, of a module that is run as a program."""
    words = [sys.executable, "-m", program, *arguments]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check_simulated(count, *names):
    found = printed("tests.distance.simulated_gpu", str(count), *names)
    for name in names:
        assert found["differences"][name].pop("signs") == 0
        assert max(found["differences"][name].values()) <= FLOAT32_TOLERANCE, found
    assert found["draws"] <= 1e-12
    distance, sign, crowd = found["refused"]
    assert "a distance differs by 0.0001" in distance and "1000 of 1000 signs differ" in sign
    assert "large triangles everywhere" in crowd


@SIMULATED
def test_a_simulated_gpu_labels_as_the_cpu_and_a_wrong_one_is_refused():
    check_simulated(5, "closed", "short boundary")


@SIMULATED
@pytest.mark.long
def test_a_simulated_gpu_labels_every_kind_of_mesh_as_the_cpu():
    check_simulated(50, "closed", "short boundary", "long boundary", "overlapping", "soup")


@pytest.mark.skipif(find_spec("numba_cuda") is None, reason="numba-cuda is not installed: requirements-gpu.txt")
def test_products_that_decide_a_side_stay_products_in_the_code_for_a_gpu():
    """Merged into a sum, they would round differently for the two triangles at an edge."""
    kernels = printed("tests.distance.gpu_code")
    assert "mul.rn.f64" in kernels["winding_of_points"] and "sqrt.rn.f64" in kernels["search_points"]


@pytest.fixture
def numba_cuda_without_a_gpu(tmp_path, monkeypatch):
    """A numba-cuda that is installed, on a machine where no GPU can be used."""
    if find_spec("numba_cuda") is None:
        (tmp_path / "numba_cuda.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.parametrize("gpu, lines", [(-1, 0), (0, 1)])
def test_without_a_usable_gpu_the_cpu_labels_and_says_so_if_one_was_named(
    gpu, lines, numba_cuda_without_a_gpu, generator, tmp_path
):
    """The line is in the notes of the part, which the record keeps and the driver of a folder prints."""
    write_mesh(tmp_path / "torus.ply", torus().vertices, torus().faces)
    flags, watch = parse_fit_flags([str(tmp_path / "torus.ply")]), Watch(in_folder=True)
    shape, _ = load(tmp_path / "torus.ply", flags, watch, lambda: gpu)
    points = generator.uniform(-1, 1, (100, 3))
    assert (shape.oracle.distance(points) == DistanceOracle(shape.mesh).distance(points)).all()
    begins = "distances are computed on the CPU, not on the GPU: "
    assert len(watch.notes) == sum(note.startswith(begins) for note in watch.notes) == lines
