"""Inputs that failed once, each of its kind the smallest: they are read, or refused in one line, within the limits."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.campaign import TARGETS
from tests.fuzz.targets import outcome, read_mesh

FAULTS = Path(__file__).resolve().parents[2] / ".." / "shared" / "faults"
TARGET_OF_SUFFIX = {Path(name).suffix: target for target, name in TARGETS.values()}


def npz(**arrays):
    """The bytes of an .npz."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


# Name of the file: its bytes. numpy warned of the overflow, in a line without the file's name.
CASES = {"float64_beyond_float32.npz": npz(train=np.full((3, 4), 1e300))}


@pytest.mark.parametrize("name", CASES)
def test_input_that_failed_once(tmp_path, name):
    (tmp_path / name).write_bytes(CASES[name])
    assert outcome(TARGET_OF_SUFFIX.get(Path(name).suffix, read_mesh), tmp_path / name, 0) == "refused"


@pytest.mark.long
@pytest.mark.parametrize("path", sorted(FAULTS.glob("*.*")) or [None], ids=lambda path: path and path.name)
def test_fault_of_the_campaigns(tmp_path, path):
    if path is None or path.suffix == ".md":
        pytest.skip("no ../shared/faults beside the checkout" if path is None else "not an input")
    if path.suffix != ".gltf":  # which may name files beside it
        (tmp_path / path.name).write_bytes(path.read_bytes())
        path = tmp_path / path.name
    (tmp_path / "box.stl").write_bytes(b"solid\nendsolid\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        # index 1: a model is marched, and a mesh is not asked.
        assert outcome(TARGET_OF_SUFFIX.get(path.suffix, read_mesh), path, 1) in ("read", "refused")
