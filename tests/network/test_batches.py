"""Batches of an evaluation: bounded memory on a GPU, and half as many points where it runs out."""

import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neuralparts.network import HashGrid, NeuralSDF
from tests.network.cases import a_model, some_points

LIMIT = 2**31  # bytes


class PeakBytes(TorchDispatchMode):
    """The most bytes that tensors made within this block occupied at once."""

    def __enter__(self):
        self.live, self.peak = {}, 0
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            storage = tensor.untyped_storage()
            if id(storage) not in self.live:
                self.live[id(storage)] = storage.nbytes()
                weakref.finalize(storage, self.live.pop, id(storage), None)
        self.peak = max(self.peak, sum(self.live.values()))
        return result


@pytest.mark.parametrize("levels, features", [(16, 2), (8, 4), (16, 8), (40, 16)])
@pytest.mark.parametrize("asked", [NeuralSDF.domain, NeuralSDF.level_distance])
def test_a_batch_on_another_device_than_the_cpu_has_bounded_memory(levels, features, asked):
    network = a_model(encoding=HashGrid(levels, features, 4, 32, 10)).to("meta")
    points = torch.empty(2**18, 3, device="meta")
    with PeakBytes() as memory:
        assert asked(network, points).shape == (2**18,)
    assert 0.5 * LIMIT < memory.peak < 1.05 * LIMIT


def short_of_memory(function, most, asked):
    """A function for which memory runs out beyond `most` points; `asked` gets the number of points of each call."""

    def limited(points):
        asked.append(len(points))
        if len(points) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return function(points)

    return limited


@pytest.mark.parametrize("most, smallest", [(4096, 4096), (1500, 1024), (300, 256)])
def test_a_batch_is_halved_where_memory_runs_out(monkeypatch, most, smallest):
    network, points, asked = a_model(), some_points(5000), []
    expected = network.domain(points)
    monkeypatch.setattr(network, "signed_distance", short_of_memory(network.signed_distance, most, asked))
    np.testing.assert_allclose(network.domain(points), expected, rtol=1e-5, atol=1e-6)
    assert max(count for count in asked if count <= most) == smallest
    assert sum(count for count in asked if count <= most) == 5000
    np.testing.assert_allclose(network.level_distance(points), a_model().level_distance(points), rtol=1e-4)


def test_without_memory_for_a_few_points_the_error_is_raised(monkeypatch):
    network, asked = a_model(), []
    monkeypatch.setattr(network, "signed_distance", short_of_memory(network.signed_distance, 50, asked))
    with pytest.raises(torch.OutOfMemoryError):
        network.domain(some_points(5000))
    assert asked == [4096, 2048, 1024, 512, 256]


def test_no_other_error_is_tried_again(monkeypatch):
    network, asked = a_model(), []

    def fails(points):
        asked.append(len(points))
        raise RuntimeError("a fault")

    monkeypatch.setattr(network, "signed_distance", fails)
    with pytest.raises(RuntimeError, match="a fault"):
        network.domain(some_points(5000))
    assert asked == [4096]
