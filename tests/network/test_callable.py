"""`sdf(points)`, `sdf.gradient(points)`: any shape and kind of points, graphs, dtypes, copies, threads, workers."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from neuralparts.choices import ACTIVATIONS
from neuralparts.network import HashGrid, NeuralSDF
from tests.network.cases import a_model

SIZES = (2, 2, 4, 8, 8)
ENCODINGS = [None, SIZES]


def placed(encoding=SIZES, **kwargs):
    """A model of a part about (3, 4, 5), of size 4."""
    return a_model(encoding=encoding and HashGrid(*encoding), center=(3.0, 4.0, 5.0), scale=0.5, **kwargs)


def around(count=200, seed=0):
    """(count, 3) float64, file units, in the cube about the part and outside it."""
    return np.random.default_rng(seed).uniform((0, 1, 2), (6, 7, 8), (count, 3))


def test_shapes_and_kinds():
    sdf, points = placed(), around(24)
    values, gradients = sdf(points), sdf.gradient(points)
    for shape in ((24,), (4, 6), (2, 3, 4), (24, 1)):
        shaped = points.reshape(*shape, 3)
        for given in (shaped, shaped.tolist(), np.asfortranarray(shaped), torch.as_tensor(shaped)):
            found, slopes = sdf(given), sdf.gradient(given)
            assert (
                isinstance(found, torch.Tensor) == isinstance(slopes, torch.Tensor) == isinstance(given, torch.Tensor)
            )
            assert found.shape == shape and slopes.shape == (*shape, 3)
            np.testing.assert_allclose(np.asarray(found).ravel(), values, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(np.asarray(slopes).reshape(-1, 3), gradients, atol=1e-5)
    assert float(sdf(points[5])) == pytest.approx(values[5], abs=1e-6)
    assert sdf.gradient(points[5]).shape == (3,)
    assert sdf(np.zeros((0, 3))).shape == (0,) and sdf(torch.zeros(2, 0, 3)).shape == (2, 0)
    for wrong in (np.zeros((3, 2)), 1.0, [], torch.zeros(4)):
        with pytest.raises(ValueError, match=r"points must have shape \(\.\.\., 3\); got"):
            sdf(wrong)
        with pytest.raises(ValueError, match=r"\(\.\.\., 3\)"):
            sdf.gradient(wrong)
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        sdf.domain(np.zeros(3))


def test_dtypes_of_points_and_answers():
    sdf = placed()
    whole = np.array([[3, 4, 5], [1, 2, 3], [100, 4, 5]])
    expected = sdf(whole.astype(np.float64))
    for dtype, answered in {
        np.int32: np.float64, np.int64: np.float64, np.uint8: np.float64, np.float16: np.float32,
        np.float32: np.float32, ">f8": np.float64,
    }.items():  # fmt: skip
        points = whole.astype(dtype)
        points.flags.writeable = False
        with warnings.catch_warnings(action="error"):
            values, gradients = sdf(points), sdf.gradient(points)
        assert values.dtype == gradients.dtype == answered
        np.testing.assert_allclose(values, expected, rtol=1e-6)
    for dtype in (torch.int64, torch.bfloat16, torch.float32, torch.float64):
        values = sdf(torch.as_tensor(whole).to(dtype))
        assert values.dtype == (torch.float32 if dtype in (torch.bfloat16, torch.float32) else torch.float64)
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-6)


def test_one_point_is_a_batch_of_one():
    sdf = placed()
    for point in around(50):
        assert sdf(point) == sdf(point[None])[0] == sdf(torch.as_tensor(point)[None]).item()
        np.testing.assert_allclose(sdf(point), sdf(np.repeat(point[None], 100, 0))[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_backward_is_right_in_file_units_inside_the_cube_and_out(encoding):
    sdf = placed(encoding, activation="elu")
    points = torch.as_tensor(around()).requires_grad_(True)
    values = sdf(points)
    assert values.requires_grad and not sdf(points.detach()).requires_grad
    with torch.no_grad():
        assert not sdf(points).requires_grad and not sdf.gradient(points).requires_grad
    values.sum().backward()
    np.testing.assert_allclose(points.grad.numpy(), sdf.gradient(points.detach()).numpy(), atol=1e-6)
    step = 1e-3
    moved = torch.stack([points.detach() + step * torch.eye(3)[axis] * side for side in (1, -1) for axis in range(3)])
    difference = (sdf(moved[:3]) - sdf(moved[3:])).T / (2 * step)
    assert ((difference - points.grad).abs() < 0.02).double().mean() > 0.97  # but at the borders of cells


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gradcheck_in_float64(encoding, activation):
    sdf = placed(encoding, activation=activation).double()
    points = torch.as_tensor(around(5, seed=1)).requires_grad_(True)
    assert torch.autograd.gradcheck(sdf, points, fast_mode=True)
    assert torch.autograd.gradcheck(sdf.gradient, points, fast_mode=True)
    assert sdf(points.detach().numpy()).dtype == np.float64
    assert sdf.domain(np.zeros((2, 3))).dtype == np.float64


def test_second_derivatives_in_float32():
    sdf = placed(activation="sine", widths=(8,))
    points = torch.as_tensor(around(20, seed=2)).requires_grad_(True)
    second = torch.autograd.grad(sdf.gradient(points).square().sum(), points)[0]
    twin = copy.deepcopy(sdf).double()
    expected = torch.autograd.grad(twin.gradient(points).square().sum(), points)[0]
    assert second.abs().max() > 0
    np.testing.assert_allclose(second.numpy(), expected.numpy(), rtol=2e-2, atol=2e-2 * float(expected.abs().max()))


def test_half_precision_is_refused_before_the_weights_change():
    sdf = placed()
    expected = sdf(around())
    for cast in (sdf.half, sdf.bfloat16, lambda: sdf.to(torch.float16)):
        with pytest.raises(ValueError, match="float32 or float64"):
            cast()
    np.testing.assert_array_equal(sdf(around()), expected)
    double = copy.deepcopy(sdf).double()
    np.testing.assert_allclose(double(around()), expected, atol=1e-5)
    np.testing.assert_array_equal(double.float()(around()), expected)


def test_copies_answer_the_same_bits():
    sdf, points = placed(), around()
    for twin in (copy.deepcopy(sdf), pickle.loads(pickle.dumps(sdf))):
        np.testing.assert_array_equal(twin(points), sdf(points))
        np.testing.assert_array_equal(twin.bounds, sdf.bounds)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_eight_threads_get_the_same_bits(encoding):
    sdf = placed(encoding)
    parts = [around(count, seed=count) for count in (1, 7, 300, 5000)]
    expected = [(sdf(points), sdf.gradient(points)) for points in parts]

    def ask(index):
        return sdf(parts[index % 4]), sdf.gradient(parts[index % 4])

    with ThreadPoolExecutor(8) as threads:
        for index, found in enumerate(threads.map(ask, range(64))):
            for mine, alone in zip(found, expected[index % 4], strict=True):
                np.testing.assert_array_equal(mine, alone)


class Distances(torch.utils.data.Dataset):
    """A data set whose items a worker process computes by a model."""

    def __init__(self, sdf, points):
        self.sdf, self.points = sdf, points

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return float(self.sdf(self.points[index]))


@pytest.mark.long  # the worker process imports torch again
def test_workers_of_a_data_loader_ask_it():
    sdf, points = placed(), around(8)
    loader = torch.utils.data.DataLoader(
        Distances(sdf, points), batch_size=4, num_workers=1, multiprocessing_context="spawn"
    )
    assert torch.cat(list(loader)).tolist() == [float(sdf(point)) for point in points]


def test_bounds_and_texts_with_and_without_a_record():
    plain = placed()
    np.testing.assert_allclose(plain.bounds, [[1.2, 2.2, 3.2], [4.8, 5.8, 6.8]])
    assert "\n" not in repr(plain) and "parameters" in repr(plain) and "3.6 x 3.6 x 3.6 file units" in repr(plain)
    about = {
        "source": "<b>\x1b\n.stl",
        "bounds": [[1.5, 2.5, 3.5], [4, 5, 6]],
        "metrics": {"surface_error": 0.25, "iou": None},
    }
    sdf = placed(about=about)
    assert sdf.bounds.dtype == np.float64 and sdf.bounds.tolist() == about["bounds"]
    assert "0.25 domain units, 0.5 file units" in repr(sdf) and repr(sdf).isprintable()
    table = sdf._repr_html_()
    assert table.startswith("<table>") and "<b>" not in table and "&lt;b&gt;" in table and "<img" not in table
    assert isinstance(NeuralSDF((4,)).bounds, np.ndarray)
