"""The file of a model: the same bits again, and one line for a file that holds no model."""

import json

import numpy as np
import pytest

from neuralparts.choices import SCALERS
from neuralparts.errors import UserError
from neuralparts.network import HashGrid, NeuralSDF, fit_scaler
from neuralparts.network.model_file import write_model
from tests.network.cases import a_model, some_points


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("encoding", [None, (3, 2, 4, 16, 8)])
def test_saved_and_loaded_gives_the_same_bits(tmp_path, scaler, encoding):
    sdf = np.random.default_rng(0).laplace(0, 0.02, 2000).astype(np.float32)
    encoding = None if encoding is None else HashGrid(*encoding)
    model = a_model(scaler=fit_scaler(scaler, sdf), encoding=encoding, center=(0.1, 0.2, 1 / 3), scale=0.7)
    model.save(tmp_path / "a.safetensors")
    again = NeuralSDF.load(tmp_path / "a.safetensors")
    points = some_points()
    np.testing.assert_array_equal(model(points), again(points))
    assert again.description() == model.description()
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_files_that_hold_no_model_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such model"):
        NeuralSDF.load(tmp_path / "nothing.safetensors")
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match="not a model"):
        NeuralSDF.load(path)
    model = a_model()
    model.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="not a model"):
        NeuralSDF.load(path)
    header = int.from_bytes(data[:8], "little")
    assert "neural-sdf" in json.loads(data[8 : 8 + header])["__metadata__"]


@pytest.mark.parametrize(
    "change", [{"widths": [4]}, {"widths": None}, {"scaler": "MinMax"}, {"format": "neural-sdf 0"}, {"scale": 0}]
)
def test_models_that_contradict_themselves_are_refused(tmp_path, change):
    model, path = a_model(), tmp_path / "bad.safetensors"
    write_model(path, model.description() | change, model.state_dict())
    with pytest.raises(UserError, match="not a model") as caught:
        NeuralSDF.load(path)
    assert "\n" not in str(caught.value)
