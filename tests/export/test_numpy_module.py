"""The numpy module, in a process that can import numpy and safetensors alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors

from neuralparts.errors import UserError
from neuralparts.export import export_model
from tests.export.cases import COMBINATIONS, TOLERANCE, a_model, some_points, worst_difference

# Run with -I: no environment variables, no site of the user, no folder of the script; the path is the one given.
PROGRAM = """
import sys, warnings
sys.path = [sys.argv[1], *[path for path in sys.path if "site-packages" not in path]]
import importlib.util
assert importlib.util.find_spec("torch") is None and importlib.util.find_spec("neuralparts") is None
import numpy as np
warnings.simplefilter("error")
for name in sys.argv[3:]:
    spec = importlib.util.spec_from_file_location("part", f"{sys.argv[2]}/{name}.py")
    part = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(part)
    points = np.load(f"{sys.argv[2]}/{name}.npy")
    assert part.distance(np.zeros((0, 3))).shape == (0,) and part.distance([0, 0, 0]).shape == ()
    assert part.gradient(np.zeros((2, 5, 3))).shape == (2, 5, 3)
    odd = np.array([[np.nan, 0, 0], [np.nan, np.inf, 0], [0, 0, -np.inf]])
    assert str(part.distance(odd)) == "[nan nan inf]" and np.isnan(part.gradient(odd)).all()
    np.savez(f"{sys.argv[2]}/{name}.npz", distance=part.distance(points), gradient=part.gradient(points))
"""


def test_all_combinations_agree_with_the_network_without_torch(tmp_path):
    only, out = tmp_path / "only", tmp_path / "out"
    only.mkdir(), out.mkdir()
    for package in (np, safetensors):
        (only / package.__name__).symlink_to(Path(package.__file__).parent)
    libraries = Path(np.__file__).parent.with_name("numpy.libs")
    if libraries.exists():
        (only / "numpy.libs").symlink_to(libraries)
    models = {"_".join(combination): a_model(*combination) for combination in COMBINATIONS}
    points = {name: some_points(model, 10_000) for name, model in models.items()}
    for name, model in models.items():
        assert [path.suffix for path in export_model(model, "numpy", out / f"{name}.py")] == [".py", ".safetensors"]
        np.save(out / f"{name}.npy", points[name])
    done = subprocess.run([sys.executable, "-I", "-c", PROGRAM, only, out, *models], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, model in models.items():
        answer = np.load(out / f"{name}.npz")
        assert worst_difference(model, points[name], answer["distance"]) <= TOLERANCE, name
        inside = (abs(model.transform.to_domain(points[name])) < 1).all(1)
        errors = abs(answer["gradient"] - model.gradient(points[name]))[inside].max(1)
        assert np.quantile(errors, 0.99) < 1e-4, name


def test_the_models_own_file_is_kept_and_another_one_is_not_replaced(tmp_path):
    model = a_model("hashgrid", "relu", "none")
    weights = tmp_path / "part.safetensors"
    model.save(weights)
    before = weights.stat()
    export_model(model, "numpy", tmp_path / "part.py")
    assert weights.stat() == before
    with pytest.raises(UserError, match=r"part\.safetensors: exists and holds something else"):
        export_model(a_model("none", "relu", "none"), "numpy", tmp_path / "part.py")
