"""Models kept in float16 and int8: equal functions after loading, smaller files, and damage refused in one line."""

import json
import lzma
import struct
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from neuralparts.choices import PRECISIONS
from neuralparts.errors import UserError
from neuralparts.network import HashGrid, NeuralSDF, round_network
from tests.export.formed_models import GRIDS, KINDS, file_points, formed_model

SMALLER = PRECISIONS[1:]


def known(model, count=500):
    """Points (N, 3) of the cube, and distances (N,) that a fit of this model's error would have been made for."""
    points = np.random.default_rng(1).uniform(-1, 1, (count, 3)).astype(np.float32)
    values = model.domain(points)
    return points, values + np.float32(0.01 * np.abs(values).mean())


def rounded(precision, grid="mixed", activation="relu", scaler="StandardScaler"):
    """A model with random weights, rounded to a precision."""
    model = formed_model(grid, activation, scaler)
    round_network(model, precision, *known(model))
    return model


def parts_of(data):
    """(metadata's description, tensors by name) of the bytes of a model's file."""
    head = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    return json.loads(head["__metadata__"]["neural-sdf"]), load(data)


def bytes_of(description, tensors):
    """The bytes of a model's file; the description has the number of bytes of these tensors."""
    size = sum(tensor.nbytes for tensor in tensors.values())
    description = description | {"precision": description["precision"] | {"bytes": size}}
    return save(tensors, {"neural-sdf": json.dumps(description)})


def with_coded(data, coded):
    """The bytes of a model's file with other packed bytes."""
    description, tensors = parts_of(data)
    return bytes_of(description, tensors | {"coded": torch.from_numpy(np.frombuffer(bytearray(coded), np.uint8))})


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The bytes of the file of a small int8 model."""
    path = tmp_path_factory.mktemp("packed") / "a.safetensors"
    rounded("int8", "one").save(path)
    return path.read_bytes()


@pytest.mark.parametrize("precision", SMALLER)
def test_every_kind_of_model_is_the_same_function_after_loading_and_after_a_second_save(tmp_path, precision):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for kind in KINDS:
        model = rounded(precision, *kind)
        model.save(first)
        again = NeuralSDF.load(first)
        points = file_points(model, 40)
        np.testing.assert_array_equal(again(points), model(points), err_msg=str(kind))
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
        again.save(second)
        assert first.read_bytes() == second.read_bytes() and again.description() == model.description()


def test_a_float32_file_has_no_word_of_precision_and_the_network_is_not_touched(tmp_path):
    model = formed_model("mixed")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    round_network(model, "float32", *known(model))
    model.save(tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    description = {"format": "neural-sdf 1"} | model.description()
    assert data == save(before, {"neural-sdf": json.dumps(description)}) and b"precision" not in data


@pytest.mark.parametrize("grid", GRIDS)
def test_float16_rounds_each_number_to_the_nearest(grid):
    model = formed_model(grid, scaler="QuantileTransformer")
    expected = {
        name: value.numpy().astype(np.float16 if not name.startswith("scaler") else np.float32)
        for name, value in model.state_dict().items()
    }
    round_network(model, "float16", *known(model))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), expected[name].astype(np.float32))


def test_the_table_of_int8_is_whole_steps_and_the_error_stays_within_its_bound():
    model = formed_model("mixed")
    points, distances = known(model, 4000)
    error = np.abs(model.domain(points) - distances).mean()
    before = model.encoding.table.detach().clone().numpy()
    round_network(model, "int8", points, distances)
    after = model.encoding.table.detach().numpy()
    assert np.abs(after - before).max() > 0
    for level, (start, end) in enumerate(pairwise(model.encoding.arrays.offsets)):
        steps = after[start:end] / model.precision.steps[level]
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-2)
        assert np.all(np.abs(after[start:end] - before[start:end]) <= 0.501 * model.precision.steps[level])
    assert np.abs(model.domain(points) - distances).mean() <= 1.05 * error * 1.001


@pytest.mark.parametrize("activation", ["relu", "sine"])
def test_the_weights_of_a_plain_int8_network_are_whole_steps_and_the_error_stays_within_its_bound(tmp_path, activation):
    model = NeuralSDF((24, 24, 24), activation, scale=2.0)
    model.initialise("siren" if activation == "sine" else "he_uniform", torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.layers[0].weight.mul_(100.0)  # layers of very different sizes
        model.layers[-1].weight.mul_(0.001)
    points, distances = known(model, 4000)
    error = np.abs(model.domain(points) - distances).mean()
    before = [layer.weight.detach().numpy().copy() for layer in model.layers[::2]]
    round_network(model, "int8", points, distances)
    assert np.abs(model.domain(points) - distances).mean() <= 1.05 * error * 1.001
    for layer, weight, step in zip(model.layers[::2], before, model.precision.steps, strict=True):
        whole = layer.weight.detach().numpy() / step
        np.testing.assert_allclose(whole, np.rint(whole), atol=2e-3)
        assert 0 < np.abs(layer.weight.detach().numpy() - weight).max() <= 0.501 * step
    model.save(tmp_path / "a.safetensors")
    assert np.array_equal(NeuralSDF.load(tmp_path / "a.safetensors").domain(points), model.domain(points))
    # Fewer bytes than the same network has in float16, packed: the form of a network that was never rounded.
    assert model.precision.bytes < 0.8 * len(plain_float16(model, tmp_path)["coded"])


def plain_float16(model, folder):
    """The tensors of a plain int8 model without steps, which another program or an earlier version may have written."""
    model.keep(model.precision._replace(steps=None))
    model.save(folder / "b.safetensors")
    again = NeuralSDF.load(folder / "b.safetensors")
    assert again.precision.steps is None
    np.testing.assert_allclose(again.layers[0].weight.detach(), model.layers[0].weight.detach(), rtol=1e-3)
    return parts_of((folder / "b.safetensors").read_bytes())[1]


def test_damaged_bytes_of_a_plain_int8_network_are_refused(tmp_path):
    rounded("int8", "none").save(tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    content = lzma.decompress(parts_of(data)[1]["coded"].numpy().tobytes())
    assert NeuralSDF.load(with_coded(data, stream(content))).encoding is None
    steps = np.frombuffer(content, "<f4", 1)
    for wrong in (content[:-1], content + b"\0", (-steps).tobytes() + content[4:], (0 * steps).tobytes() + content[4:]):
        check_refused(with_coded(data, stream(wrong)))


def test_features_on_which_nothing_depends_cost_nothing(tmp_path):
    sizes = {}
    for dead in (0, 1):
        model = NeuralSDF((16,), encoding=HashGrid(3, 2, 8, 24, 12))
        model.initialise("he_uniform", torch.Generator().manual_seed(1))
        with torch.no_grad():
            model.encoding.table.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(2))
            if dead:
                model.layers[0].weight[:, 4:] = 0  # those of the finest level, two thirds of the rows
        round_network(model, "int8", *known(model))
        model.save(tmp_path / "a.safetensors")
        sizes[dead] = model.precision.bytes
        assert NeuralSDF.load(tmp_path / "a.safetensors").precision.bytes == sizes[dead]
    assert sizes[1] < 0.75 * sizes[0]


@pytest.mark.parametrize("value", [0.0, 1e-45, -1e-40, 1e-36])
@pytest.mark.parametrize("grid", ["none", "mixed"])
def test_layers_and_tables_of_numbers_too_small_for_float32_can_be_kept(tmp_path, grid, value):
    model = formed_model(grid)
    with torch.no_grad():
        model.layers[0].weight.fill_(value)
        if model.encoding is not None:
            model.encoding.table.fill_(value)
    round_network(model, "int8", *known(model))
    model.save(tmp_path / "a.safetensors")
    again = NeuralSDF.load(tmp_path / "a.safetensors")
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in model.state_dict().items())
    kept = (again.layers[0].weight if model.encoding is None else again.encoding.table).detach()
    assert not kept.any()


def test_a_table_of_zeros_and_a_single_large_number_can_be_kept(tmp_path):
    for value in (0.0, 1000.0):
        model = formed_model("mixed")
        with torch.no_grad():
            model.encoding.table.zero_()
            model.encoding.table[7, 1] = value
        round_network(model, "int8", *known(model))
        model.save(tmp_path / "a.safetensors")
        table = NeuralSDF.load(tmp_path / "a.safetensors").encoding.table.detach()
        assert float(table[7, 1]) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("precision", SMALLER)
def test_a_weight_that_float16_cannot_hold_is_named(precision):
    model = formed_model("mixed")
    with torch.no_grad():
        model.layers[0].weight[0, 0] = 1e6
    with pytest.raises(UserError, match=f"--precision {precision}: .*65504.*; give --precision float32"):
        round_network(model, precision, *known(model))


# ------------------------------------------------------------------------------------------------------------ damage


def check_refused(data):
    with pytest.raises(UserError, match="not the bytes of a model") as refusal:
        NeuralSDF.load(data)
    assert str(refusal.value).isprintable()


def test_every_prefix_of_the_packed_bytes_is_refused(packed):
    coded = parts_of(packed)[1]["coded"].numpy().tobytes()
    for length in range(0, len(coded), 7):
        check_refused(with_coded(packed, coded[:length]))
    check_refused(with_coded(packed, coded[:-1]))
    check_refused(packed[:-1])


def test_every_flipped_byte_of_the_packed_bytes_is_refused(packed):
    coded = parts_of(packed)[1]["coded"].numpy().tobytes()
    generator = np.random.default_rng(0)
    for place in range(0, len(coded), 5):
        flipped = bytearray(coded)
        flipped[place] ^= int(generator.integers(1, 256))
        check_refused(with_coded(packed, flipped))


def stream(content, window=2**12):
    """An .xz stream by another encoder than the program's."""
    lzma2 = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": window}
    return lzma.compress(content, lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=[lzma2])


def test_whole_streams_of_another_content_are_refused(packed):
    content = lzma.decompress(parts_of(packed)[1]["coded"].numpy().tobytes())
    coded = stream(content)
    assert NeuralSDF.load(with_coded(packed, coded)).precision.name == "int8"
    assert NeuralSDF.load(with_coded(packed, coded + bytes(8))).precision.name == "int8"
    for wrong in (
        stream(content[:-1]),
        stream(content + b"\0"),
        coded + b"x",
        coded + coded,
        lzma.compress(content, 2),
    ):
        check_refused(with_coded(packed, wrong))
    for number in (0.0, -1.0, np.inf, np.nan, 3e38):
        steps = np.full(4, number, "<f4").tobytes()
        check_refused(with_coded(packed, stream(steps + content[16:])))
    infinite = np.frombuffer(content[-2 * 369 :], np.uint8).reshape(2, -1).copy()
    infinite[:, 0] = 0x00, 0x7C
    check_refused(with_coded(packed, stream(content[: -2 * 369] + infinite.tobytes())))


@pytest.mark.parametrize(
    "change",
    [
        {"precision": None},
        {"precision": "int8"},
        {"precision": {"name": "int8"}},
        {"precision": {"name": "int4", "bytes": 1}},
        {"precision": {"name": ["int8"], "bytes": 1}},
        {"precision": {"name": "float32", "bytes": 1}},
        {"precision": {"name": "float16", "bytes": 1}},
        {"precision": {"name": "int8", "bytes": True}},
        {"precision": {"name": "int8", "bytes": 1}},
        {"widths": [16, 17]},
        {"widths": [10**9, 10**9]},
        {"encoding": None},
        {"encoding": {"levels": 10**12}},
        {"encoding": {"levels": 5000}},
        {"encoding": {"features": 10**12}},
        {"encoding": {"log2_table_size": 24, "finest_resolution": 65536, "base_resolution": 65536}},
    ],
)
def test_descriptions_that_the_packed_bytes_contradict_are_refused(packed, change):
    description, tensors = parts_of(packed)
    if isinstance(change.get("encoding"), dict):
        change = {"encoding": description["encoding"] | change["encoding"]}
    check_refused(save(tensors, {"neural-sdf": json.dumps(description | change)}))


@pytest.mark.parametrize("shape", [(), (0,), (1, 8), (10, 0)])
def test_packed_bytes_of_another_shape_are_refused(packed, shape):
    description, tensors = parts_of(packed)
    check_refused(bytes_of(description, tensors | {"coded": torch.zeros(shape, dtype=torch.uint8)}))
    check_refused(bytes_of(description, {name: tensor for name, tensor in tensors.items() if name != "coded"}))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tensors_of_another_precision_are_refused(tmp_path, precision):
    rounded(precision).save(tmp_path / "a.safetensors")
    description, tensors = parts_of((tmp_path / "a.safetensors").read_bytes())
    for name, tensor in tensors.items():
        other = torch.float64 if tensor.dtype == torch.float32 else torch.float32
        changed = tensors | {name: tensor.to(other)}
        check_refused(save(changed, {"neural-sdf": json.dumps(description)}))


def test_a_bomb_is_refused_before_its_memory_is_taken(packed):
    """64 MiB of zeros, as the stream of a small network and of one of about this size; and a window of 1.5 GiB."""
    description, tensors = parts_of(packed)
    encoder = lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC32, preset=0)
    chunk = bytes(2**24)
    bomb = b"".join([encoder.compress(chunk) for _ in range(4)]) + encoder.flush()
    content = lzma.decompress(tensors["coded"].numpy().tobytes())
    large = HashGrid(1, 4, 300, 300, 24).description() | {"levels": 1}
    files = {
        "another number of bytes": with_coded(packed, bomb),
        "too short": bytes_of(description | {"encoding": large}, tensors | parts_of(with_coded(packed, bomb))[1]),
        "Memory usage limit": with_coded(packed, stream(content, window=3 * 2**29)),
    }
    for reason, data in files.items():
        tracemalloc.start()
        with pytest.raises(UserError, match=reason):
            NeuralSDF.load(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20 + 4 * len(data)
        tracemalloc.stop()
