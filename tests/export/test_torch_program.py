"""The form `torch`, loaded in a process that has torch and not this package: values, gradients, numbers of points."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest

from neuralparts.export import export_model
from tests.export.formed_models import KINDS, file_points, formed_model, worst_difference

# Writes NAME.distances.npy and NAME.gradients.npy for each NAME.pt2 and NAME.npy of the present folder.
READER = """
import pathlib, sys, numpy as np, torch
for path in pathlib.Path().glob("*.pt2"):
    call = torch.export.load(str(path)).module()
    points = torch.from_numpy(np.load(path.with_suffix(".npy"))).requires_grad_(True)
    distances = call(points)
    (gradients,) = torch.autograd.grad(distances[torch.isfinite(distances)].sum(), points)
    np.save(path.with_suffix(".distances.npy"), distances.detach().numpy())
    np.save(path.with_suffix(".gradients.npy"), gradients.numpy())
    for count in (0, 1, 2):
        few = call(points[:count])
        assert few.shape == (count,) and torch.allclose(few, distances[:count], rtol=1e-4)
assert not [name for name in sys.modules if name.startswith("neuralparts")]
"""


def compare_with_programs(folder, kinds):
    """Export models of these kinds, have another process read them all, and compare what it found."""
    models = {}
    for number, kind in enumerate(kinds):
        models[number] = formed_model(*kind)
        export_model(models[number], "torch", folder / f"{number}.pt2")
        np.save(folder / f"{number}.npy", file_points(models[number]))
    reader = [sys.executable, "-I", "-c", READER]
    done = subprocess.run(reader, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for number, model in models.items():
        points = np.load(folder / f"{number}.npy")
        assert worst_difference(model, points, np.load(folder / f"{number}.distances.npy")) < 1e-6
        in_cube = (np.abs(model.transform.to_domain(points)) < 1).all(axis=1)
        gradients = np.load(folder / f"{number}.gradients.npy")
        # Between two cells or two pieces of a ReLU the derivative of either is right.
        agree = np.isclose(gradients[in_cube], model.gradient(points[in_cube]), atol=1e-3).all(axis=1)
        assert agree.mean() > 0.99 and np.isfinite(gradients[np.isfinite(points).all(axis=1)]).all()


def test_a_program_in_a_process_without_this_package(tmp_path):
    compare_with_programs(tmp_path, [("mixed", "elu", "QuantileTransformer")])
    with zipfile.ZipFile(tmp_path / "0.pt2") as archive:
        assert not any(b"torch_program.py" in archive.read(name) for name in archive.namelist())


@pytest.mark.long
def test_programs_of_every_kind(tmp_path):
    compare_with_programs(tmp_path, KINDS)
