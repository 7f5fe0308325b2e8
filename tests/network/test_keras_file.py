"""Published Keras networks: values, the model file made of them, and files that hold no such network."""

import itertools
import sys

import numpy as np
import pytest

import network
from neuralparts.errors import UserError
from neuralparts.network import NeuralSDF, read_keras_file
from tests.meshes import real

h5py = pytest.importorskip("h5py", reason="h5py is not installed: requirements-export.txt")


def keras_file(path, arrays):
    """Write the weights of dense layers, kernel and bias by turns, as Keras does, with a layer without weights."""
    with h5py.File(path, "w") as file:
        names = [f"dense_{index}" for index in range(len(arrays) // 2)]
        file.attrs["layer_names"] = np.array([*names, "dropout"], "S")
        file.create_group("dropout").attrs["weight_names"] = np.array([], "S1")
        for name, kernel, bias in zip(names, arrays[::2], arrays[1::2], strict=True):
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([f"{name}/kernel:0", f"{name}/bias:0"], "S")
            group[f"{name}/kernel:0"], group[f"{name}/bias:0"] = kernel, bias
    return path


def random_arrays(widths=(3, 16, 16, 1)):
    generator = np.random.default_rng(0)
    shapes = [shape for pair in itertools.pairwise(widths) for shape in (pair, pair[1:])]
    return [generator.normal(0, 0.7, shape).astype(np.float32) for shape in shapes]


def layer_by_layer(arrays, points):
    """What Keras computes, in float64: points (N, 3) -> (N,)."""
    values = points
    for kernel, bias in zip(arrays[::2], arrays[1::2], strict=True):
        values = np.maximum(values, 0) if values is not points else values
        values = values @ kernel.astype(np.float64) + bias
    return np.tanh(values[:, 0])


def test_values_are_those_of_the_layers(tmp_path):
    arrays = random_arrays()
    model = read_keras_file(keras_file(tmp_path / "part.h5", arrays))
    points = np.random.default_rng(1).uniform(-1, 1, (5000, 3))
    expected, found = layer_by_layer(arrays, points), model(points)
    # Beyond 0.999 the piecewise linear tanh is constant.
    np.testing.assert_allclose(found, expected, atol=1e-3)
    usual = np.abs(expected) < 0.99
    np.testing.assert_allclose(found[usual], expected[usual], atol=3e-6)
    clear = np.abs(expected) > 1e-6
    np.testing.assert_array_equal(np.sign(found[clear]), np.sign(expected[clear]))


@pytest.mark.parametrize("name", ["100026_sf", "100030_sf", "100031_sf"])
def test_published_networks(name):
    path = real(f"published/{name}.h5")
    with h5py.File(path) as file:
        layers = [f"{word.decode()}/{word.decode()}/" for word in file.attrs["layer_names"]]
        arrays = [np.asarray(file[f"{layer}{part}:0"]) for layer in layers for part in ("kernel", "bias")]
    points = np.random.default_rng(2).uniform(-1, 1, (20_000, 3))
    expected, found = layer_by_layer(arrays, points), read_keras_file(path)(points)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_command_writes_a_model_file(tmp_path, capsys):
    source, out = keras_file(tmp_path / "part.h5", random_arrays()), tmp_path / "part.safetensors"
    assert network.main([str(source)]) == 0 and "16 16" in capsys.readouterr().out
    assert network.main([str(source), "--out", str(out)]) == 0
    assert NeuralSDF.load(out).about == {"source": "part.h5"}
    points = np.random.default_rng(3).uniform(-1, 1, (50, 3))
    np.testing.assert_array_equal(NeuralSDF.load(out)(points), read_keras_file(source)(points))
    capsys.readouterr()
    for words in ([str(out), "--out", str(tmp_path / "b.safetensors")], [str(source), "--out", str(tmp_path / "b.pt")]):
        assert network.main(words) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.h5", "part.safetensors"]


def without_layer_names(path):
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("no HDF5"),
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
        without_layer_names,
        lambda path: keras_file(path, random_arrays((2, 8, 1))),
        lambda path: keras_file(path, random_arrays((3, 8, 2))),
        lambda path: keras_file(path, random_arrays((3, 1))),
        lambda path: keras_file(path, [*random_arrays((3, 8))[:2], *random_arrays((9, 1))]),
        lambda path: keras_file(path, [array * np.nan for array in random_arrays()]),
    ],
    ids=["text", "empty", "folder", "no names", "two inputs", "two outputs", "one layer", "no chain", "nan"],
)
def test_other_files_get_one_line(tmp_path, write):
    write(tmp_path / "part.h5")
    with pytest.raises(UserError, match=r"part\.h5: not a published Keras network \([^\n]+\)$"):
        read_keras_file(tmp_path / "part.h5")
    with pytest.raises(FileNotFoundError):
        read_keras_file(tmp_path / "none.h5")


def test_numbers_that_are_promised_and_not_stored_are_refused(tmp_path):
    with h5py.File(keras_file(tmp_path / "part.h5", random_arrays()), "a") as file:
        del file["dense_0/dense_0/kernel:0"]
        file["dense_0"].create_dataset("dense_0/kernel:0", (3, 2**40), "f4", chunks=(3, 2**20))
        del file["dense_0/dense_0/bias:0"]
        file["dense_0"].create_dataset("dense_0/bias:0", (2**40,), "f4", chunks=(2**20,))
    with pytest.raises(UserError, match="promises more numbers"):
        read_keras_file(tmp_path / "part.h5")


def test_without_h5py_a_line_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"neuralparts\[export\]$"):
        read_keras_file(tmp_path / "part.h5")
