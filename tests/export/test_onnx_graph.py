"""The form `onnx`, read by onnxruntime: values everywhere, any number of points, and what float32 cannot hold."""

import json

import numpy as np
import pytest

from neuralparts.choices import ACTIVATIONS, SCALERS
from neuralparts.errors import UserError
from neuralparts.export import export_model
from neuralparts.network import HashGrid, NeuralSDF
from tests.export.cases import TOLERANCE
from tests.export.formed_models import GRIDS, KINDS, file_points, formed_model, worst_difference

onnx = pytest.importorskip("onnx", reason="onnx is not installed: requirements-export.txt")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: requirements-dev.txt")


def session(folder, model):
    """The exported model as onnxruntime holds it, after ONNX's own checks."""
    (path,) = export_model(model, "onnx", folder / "part.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check_values(folder, grid, activation, scaler):
    """Assert that onnxruntime gives the distances of a model of this kind everywhere."""
    model = formed_model(grid, activation, scaler)
    points = file_points(model)
    distances = session(folder, model).run(["distance"], {"points": points})[0]
    assert distances.shape == (len(points),) and distances.dtype == np.float32
    assert worst_difference(model, points, distances) < TOLERANCE, (activation, scaler)


@pytest.mark.parametrize("grid", GRIDS)
def test_values_of_kinds_with_each_grid_each_activation_and_each_scaler(tmp_path, grid):
    first = list(GRIDS).index(grid)
    for number, activation in enumerate(ACTIVATIONS):
        check_values(tmp_path, grid, activation, SCALERS[(first + number) % len(SCALERS)])


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_values_of_every_kind(tmp_path, kind):
    check_values(tmp_path, *kind)


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("count", [0, 1])
def test_no_point_and_one(tmp_path, scaler, count):
    model = formed_model("mixed", "elu", scaler)
    points = file_points(model)[:count]
    distances = session(tmp_path, model).run(None, {"points": points})[0]
    assert distances.shape == (count,)
    assert count == 0 or worst_difference(model, points, distances) < TOLERANCE


@pytest.mark.parametrize(("center", "scale"), [((3e6, -2e6, 1e6), 1e-2), ((0, 0, 0), 1e-9), ((0, 0, 0), 1e9)])
def test_parts_that_are_far_away_or_huge_or_tiny(tmp_path, center, scale):
    model = formed_model("mixed", "relu", "StandardScaler", center, scale)
    points = file_points(model)
    assert worst_difference(model, points, session(tmp_path, model).run(None, {"points": points})[0]) < TOLERANCE


@pytest.mark.parametrize(("sizes", "integers"), [((2, 1, 8, 2**16, 16), "int64"), ((2, 1, 8, 2**14, 16), "int32")])
def test_a_hash_that_needs_more_than_32_bits_gets_64(tmp_path, sizes, integers):
    model = NeuralSDF((8,), encoding=HashGrid(*sizes))
    points = np.random.default_rng(0).uniform(-1, 1, (500, 3)).astype(np.float32)
    (distances,) = session(tmp_path, model).run(None, {"points": points})
    np.testing.assert_allclose(distances, model.domain(points), atol=TOLERANCE)
    products = [node for node in onnx.load(tmp_path / "part.onnx").graph.node if node.op_type == "BitwiseXor"]
    assert products
    casts = {node.attribute[0].i for node in onnx.load(tmp_path / "part.onnx").graph.node if node.op_type == "Cast"}
    assert getattr(onnx.TensorProto, integers.upper()) in casts


def test_the_file_says_what_it_is(tmp_path):
    model = formed_model(center=(1, 2, 3), scale=0.5)
    model.about = {"source": "part.stl", "bounds": [[0, 1, 2], [2, 3, 4]]}
    found = session(tmp_path, model)
    (points,), (distance,) = found.get_inputs(), found.get_outputs()
    assert (points.name, points.shape, points.type) == ("points", ["N", 3], "tensor(float)")
    assert (distance.name, distance.shape, distance.type) == ("distance", ["N"], "tensor(float)")
    metadata = found.get_modelmeta().custom_metadata_map
    assert json.loads(metadata.pop("bounds")) == [[0, 1, 2], [2, 3, 4]]
    units = "those of the source file"
    assert metadata == {"source": "part.stl", "units": units, "sign": "negative inside"}
    assert onnx.load(tmp_path / "part.onnx").opset_import[0].version == 18


def test_a_network_larger_than_a_file_can_be_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("neuralparts.export.onnx_builder.LARGEST_FILE", 1000)
    with pytest.raises(UserError, match="2 GiB"):
        export_model(formed_model(), "onnx", tmp_path / "part.onnx")


@pytest.mark.parametrize(("center", "scale"), [((0, 0, 0), 1e-60), ((0, 0, 0), 1e60), ((0, 1e60, 0), 1.0)])
def test_units_beyond_float32_are_refused(tmp_path, center, scale):
    with pytest.raises(UserError, match="float32"):
        export_model(formed_model(center=center, scale=scale), "onnx", tmp_path / "part.onnx")
    assert list(tmp_path.iterdir()) == []
