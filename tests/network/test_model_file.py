"""The file of a model: the same bits again, and one line for a file that holds no model."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

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


ABOUT = {
    "source": "part \u00e9.stl",
    "version": "1.0.0",
    "bounds": [[-1.0, 0.0, 0.5], [1.0, 2.0, 0.5]],
    "metrics": {"surface_error": 0.001, "iou": None},
    "flags": {"seed": 0, "loss": "l1", "numLayers": None},
}


def test_what_a_fit_records_comes_back_and_models_without_it_load(tmp_path):
    path, model = tmp_path / "a.safetensors", a_model(about=ABOUT)
    model.save(path)
    assert NeuralSDF.load(path).about == ABOUT and NeuralSDF.load(path).bounds.tolist() == ABOUT["bounds"]
    description = model.description()
    del description["about"]  # as earlier versions wrote it
    write_model(path, description, model.state_dict())
    assert NeuralSDF.load(path).about == {}
    np.testing.assert_array_equal(NeuralSDF.load(path)(some_points()), model(some_points()))


@pytest.mark.parametrize(
    "about",
    [
        None,
        [],
        {"source": 5},
        {"more": 1},
        {"metrics": {"iou": "1"}},
        {"metrics": {"iou": 10**400}},
        {"metrics": {"iou": float("nan")}},
        *(
            {"bounds": bounds}
            for bounds in (
                [],
                [[0, 0, 0]],
                [[0, 0, 0], 5],
                [[0, 0], [1, 1]],
                [[0, 0, 1], [1, 1, 0]],
                [[0, 0, 0], [0, 0, 1e400]],
            )
        ),
    ],
)
def test_records_that_no_fit_left_are_refused(tmp_path, about):
    with pytest.raises(UserError, match="not a model") as refusal:
        NeuralSDF.load(a_file(tmp_path / "bad.safetensors", about=about))
    assert str(refusal.value).isprintable()


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
    "change",
    [
        *(
            {"widths": widths}
            for widths in ([4], None, [2**70], [16, 16.0], [16, True], [], [-1], [float("inf")], [[16]])
        ),
        {"scaler": "MinMax"},
        {"scaler": ["none"]},
        {"scaler": "StandardScaler"},
        {"activation": ["relu"]},
        {"format": "neural-sdf 0"},
        *({"scale": scale} for scale in (0, -1, float("nan"), 10**400, 5e-324, "1", True, None)),
        *({"center": center} for center in ([0, 0], [0, 0, float("inf")], [0, 0, 10**400], [0, 0, None], "000", 0)),
        *({"encoding": encoding} for encoding in ({}, [], "hash", {"levels": 1})),
    ],
)
def test_models_that_contradict_themselves_are_refused(tmp_path, change):
    model, path = a_model(), tmp_path / "bad.safetensors"
    write_model(path, model.description() | change, model.state_dict())
    with pytest.raises(UserError, match="not a model") as caught:
        NeuralSDF.load(path)
    assert "\n" not in str(caught.value)


def a_file(path, tensors=None, **change):
    """A model's file with some tensors and parts of its description replaced."""
    model = a_model(encoding=HashGrid(2, 2, 4, 8, 8), scaler=fit_scaler("StandardScaler", np.linspace(-1, 1, 50)))
    write_model(path, model.description() | change, model.state_dict() | (tensors or {}))
    return path


@pytest.mark.parametrize(
    "change, message",
    [
        ({"widths": [10**9, 16]}, "the description says"),
        ({"encoding": {"levels": 10**12}}, "the description says"),
        ({"encoding": {"features": 10**12}}, "the description says"),
        ({"encoding": {"finest_resolution": 10**12}}, "resolutions need"),
        ({"encoding": {"log2_table_size": 10**12}}, "log2_table_size"),
        (
            {"encoding": {"levels": 1, "features": 4, "log2_table_size": 24, "finest_resolution": 65536}},
            "encoding.table",
        ),
        ({"encoding": {"levels": 2.0}}, "whole numbers"),
        ({"scaler": "PowerTransformer"}, "scaler.exponent is missing"),
        ({"scaler": "none"}, "belongs to no part"),
    ],
)
def test_counts_are_compared_with_the_tensors_before_memory_is_set_aside(tmp_path, change, message):
    if isinstance(change.get("encoding"), dict):
        change = {"encoding": HashGrid(2, 2, 4, 8, 8).description() | change["encoding"]}
    path = a_file(tmp_path / "bad.safetensors", **change)
    with pytest.raises(UserError, match=message):
        NeuralSDF.load(path)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("layers.2.weight", torch.full((16, 16), torch.nan), "layers.2.weight' holds NaN"),
        ("layers.2.bias", torch.full((16,), torch.inf), "layers.2.bias' holds NaN or infinite"),
        ("encoding.table", torch.full((381, 2), torch.nan), "encoding.table' holds NaN"),
        ("layers.2.weight", torch.zeros(16, 16, dtype=torch.bool), "holds BOOL, not F32"),
        ("layers.2.weight", torch.zeros(16, 16, dtype=torch.float64), "holds F64, not F32"),
        ("layers.2.weight", torch.zeros(16, 17), "has shape"),
        ("scaler.standard_deviation", torch.tensor(0.0), "standard deviation is not positive"),
        ("scaler.standard_deviation", torch.tensor(-1.0), "standard deviation is not positive"),
        ("scaler.mean", torch.tensor(torch.nan), "holds NaN"),
        ("more\x1b[31m", torch.zeros(1), r"more\\x1b\[31m' belongs to no part"),
    ],
)
def test_tensors_that_are_no_models_are_refused(tmp_path, name, value, message):
    if name == "encoding.table":
        value = torch.full(HashGrid(2, 2, 4, 8, 8).table.shape, torch.nan)
    with pytest.raises(UserError, match=message) as refusal:
        NeuralSDF.load(a_file(tmp_path / "bad.safetensors", {name: value}))
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "scaler, change",
    [
        ("QuantileTransformer", {"distances": [0.0, 1.0, 0.5]}),
        ("QuantileTransformer", {"scaled": [0.0, 1.0, 1.0]}),
        ("QuantileTransformer", {"distances": [-3e38, 3e38, 3.2e38]}),
        ("QuantileTransformer", {"distances": [0.0], "scaled": [0.0]}),
        ("QuantileTransformer", {"distances": [], "scaled": []}),
        ("QuantileTransformer", {"scaled": [0.0, 1.0]}),
        ("PowerTransformer", {"unit": 0.0}),
        ("PowerTransformer", {"standard_deviation": -1.0}),
        ("PowerTransformer", {"low": 1.0, "high": -1.0}),
        ("PowerTransformer", {"exponent": 1e30}),
    ],
)
def test_scalers_that_do_not_grow_are_refused(tmp_path, scaler, change):
    model = a_model(scaler=fit_scaler(scaler, np.random.default_rng(0).normal(size=3).astype(np.float32)))
    tensors = model.state_dict() | {f"scaler.{name}": torch.tensor(value) for name, value in change.items()}
    write_model(tmp_path / "bad.safetensors", model.description(), tensors)
    with pytest.raises(UserError, match="not a model"):
        NeuralSDF.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("text", ["null", "5", '"x"', "[[1]]", "[" * 100_000, "{", "\x1b[31m"])
def test_descriptions_that_are_no_dictionary_are_refused_in_one_printable_line(tmp_path, text):
    save_file({"layers.0.weight": torch.zeros(1)}, tmp_path / "bad.safetensors", {"neural-sdf": text})
    with pytest.raises(UserError, match=r"bad\.safetensors: not a model") as refusal:
        NeuralSDF.load(tmp_path / "bad.safetensors")
    assert str(refusal.value).isprintable()


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "device.safetensors").symlink_to("/dev/zero")
    for name, reason in (("pipe", "a pipe"), ("folder", "a folder"), ("device", "a device"), ("empty", "empty")):
        with pytest.raises(UserError, match=rf"{name}\.safetensors: .*{reason}"):
            NeuralSDF.load(tmp_path / f"{name}.safetensors")
