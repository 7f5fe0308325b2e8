"""Pairs of samples in a fit: the loss of their slopes, their order, and what they do for the gradient."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralparts.errors import Interrupted
from neuralparts.fitting import FitHooks, FitSettings, fit
from neuralparts.fitting.batches import Batches, SampleOrder
from neuralparts.fitting.losses import slope_loss
from neuralparts.network import fit_scaler
from tests import shapes
from tests.fitting.cases import INSTANT, a_hash_grid, a_network, interrupted_after, weights_of


def some_pairs(shape, count, length=1 / 128, seed=3):
    """Pairs uniform over the cube, or a little beyond it: points (count, 2, 3), sdf (count, 2)."""
    generator = np.random.default_rng(seed)
    first, step = generator.uniform(-1, 1, (count, 3)), generator.normal(size=(count, 3))
    points = np.stack([first, first + length * step / np.linalg.norm(step, axis=1, keepdims=True)], axis=1)
    points = points.astype(np.float32)
    return points, shape(points.reshape(-1, 3).astype(np.float64)).reshape(count, 2).astype(np.float32)


def test_slope_loss_is_the_error_of_the_directional_derivative():
    points = torch.from_numpy(some_pairs(shapes.sphere, 500)[0]).double().reshape(-1, 3)
    fitted, true = torch.tensor([0.3, -1.2, 0.5]).double(), torch.tensor([0.0, -1.0, 0.8]).double()
    steps = points[1::2] - points[::2]
    along = steps / steps.norm(dim=1, keepdim=True)
    expected = (along @ (fitted - true)).abs().mean()
    # A constant changes no slope.
    loss = slope_loss(points, points @ fitted + 7, points @ true)
    assert float(loss) == pytest.approx(float(expected), rel=1e-9)
    assert float(slope_loss(points, points @ true, points @ true)) == 0


@pytest.mark.parametrize("count", [250, 100])
def test_every_batch_has_pairs_and_an_epoch_of_theirs_takes_each_once(count):
    points, sdf = shapes.samples(shapes.box, 1000)
    pairs = some_pairs(shapes.box, count)
    batches = Batches(points, sdf, fit_scaler("none", sdf), FitSettings(loss="relative"), torch.device("cpu"), pairs)
    assert len(batches) == 1000 and batches.pairs_beside(100) == 25
    seen = []
    for step in range(count // 25):
        rows, targets, weights = batches.batch(step, 100, seed=0)
        assert rows.shape == (150, 3) and targets.shape == weights.shape == (150,)
        seen.append(rows[100:].reshape(25, 2, 3))
    order = lambda array: array[np.lexsort(array.reshape(len(array), -1).T)]  # noqa: E731
    np.testing.assert_array_equal(order(torch.cat(seen).numpy()), order(pairs[0]))
    assert not torch.equal(batches.batch(count // 25, 100, seed=0)[0][100:], seen[0].reshape(50, 3))
    whole = [batches.batch(step, 100, seed=0)[0][:100] for step in range(10)]
    np.testing.assert_array_equal(order(torch.cat(whole).numpy()), order(points))


@pytest.mark.parametrize("first", [0, 7, 10])
def test_batches_one_after_the_other_are_those_of_each_step(first):
    order = SampleOrder(1030, 260, torch.device("cpu"))  # epochs of 10 steps for samples and pairs alike, with a rest
    samples, pairs = (order.batches(kind, size, first, seed=5) for kind, size in (("samples", 100), ("pairs", 25)))
    for step in range(first, 25):
        rows = order.rows(step, 100, seed=5).numpy()
        np.testing.assert_array_equal(next(samples), rows[:100])
        np.testing.assert_array_equal(1030 + 2 * next(pairs), rows[100::2])
        np.testing.assert_array_equal(rows[100::2] + 1, rows[101::2])


def test_pairs_straighten_the_gradient_off_the_surface():
    points, sdf = shapes.samples(shapes.torus, 60_000)
    asked = np.random.default_rng(8).uniform(-1, 1, (20_000, 3))
    within = []
    for pairs in (None, some_pairs(shapes.torus, 15_000)):
        network = a_hash_grid()
        fit(network, points, sdf, replace(INSTANT, epochs=4), pairs=pairs)
        lengths = np.linalg.norm(network.gradient(asked), axis=1)
        within.append(((lengths > 0.9) & (lengths < 1.1)).mean())
        near = np.abs(sdf) < 0.01
        assert np.abs(network.domain(points) - sdf)[near].mean() < 0.001
    assert within[1] > within[0] + 0.1


def test_an_interrupted_fit_with_pairs_resumes_to_the_same_bits(tmp_path):
    points, sdf = shapes.samples(shapes.box, 4_000)
    pairs, settings = some_pairs(shapes.box, 1_000), FitSettings(epochs=2, batch_size=256)
    whole, parts = a_network(sdf), a_network(sdf)
    fit(whole, points, sdf, settings, pairs=pairs)
    hooks = FitHooks(checkpoint=tmp_path / "a.checkpoint", should_stop=interrupted_after(20))
    with pytest.raises(Interrupted):
        fit(parts, points, sdf, settings, hooks, pairs=pairs)
    fit(parts, points, sdf, settings, FitHooks(checkpoint=tmp_path / "a.checkpoint"), resume=True, pairs=pairs)
    assert torch.equal(weights_of(whole), weights_of(parts))


def test_pairs_of_other_shapes_or_without_numbers_are_refused():
    points, sdf = shapes.samples(shapes.box, 100)
    good, labels = some_pairs(shapes.box, 10)
    for pairs in [(good[:, 0], labels[:, 0]), (good, labels[:5]), (good[:0], labels[:0]), (good * np.nan, labels)]:
        with pytest.raises(ValueError, match="samples"):
            fit(a_network(sdf), points, sdf, FitSettings(), pairs=pairs)
