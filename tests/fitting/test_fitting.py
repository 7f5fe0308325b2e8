"""The loop: convergence, schedules, ways to end, checkpoints to the bit, collapses, and no tensor off the device."""

import math
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralparts.choices import ACTIVATIONS, OPTIMIZERS, SCALERS
from neuralparts.distance import DistanceOracle
from neuralparts.fitting import CheckpointError, CollapseError, FitHooks, FitRun, FitSettings, Interrupted, fit
from neuralparts.fitting import loop as fitting
from neuralparts.fitting.loop import WARM_UP_STEPS, first_difference, loss_of, rate_factor, sample_weights
from neuralparts.fitting.optimizers import Adam, make_optimizer
from neuralparts.marching import march
from neuralparts.mesh import load_mesh
from neuralparts.network import DAM_WIDTHS, HashGrid, NeuralSDF, fit_scaler
from neuralparts.sampling import importance_samples, points_on_surface
from tests import shapes

WIDTHS = (48, 48, 48)


def a_network(sdf, scaler="StandardScaler", activation="relu", widths=WIDTHS):
    return NeuralSDF(widths, activation, None, fit_scaler(scaler, sdf))


def weights_of(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("scaler", SCALERS)
@pytest.mark.parametrize("shape", [shapes.box, shapes.torus])
def test_every_scaler_converges_with_right_signs(shape, scaler):
    points, sdf = shapes.samples(shape, 100_000)
    network = a_network(sdf, scaler)
    fit(network, points, sdf, FitSettings(epochs=8, batch_size=512))
    fresh, distances = shapes.samples(shape, 20_000, seed=9)
    values = network.domain(fresh)
    assert np.isfinite(values).all()
    near = np.abs(distances) < 0.05
    assert np.abs(values - distances)[near].mean() < 0.004
    assert np.abs(values - distances).mean() < 0.03
    clear = np.abs(distances) > 0.02
    assert (np.sign(values) == np.sign(distances))[clear].all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_activation_and_optimizer_converges(activation, optimizer):
    points, sdf = shapes.samples(shapes.torus, 100_000)
    network = a_network(sdf, activation=activation)
    init = "siren" if activation == "sine" else "he_uniform"
    fit(network, points, sdf, FitSettings(epochs=8, batch_size=512, init=init, optimizer=optimizer))
    fresh, distances = shapes.samples(shapes.torus, 20_000, seed=9)
    # A constant, the mean of the targets, is off by 0.08.
    assert np.abs(network.domain(fresh) - distances).mean() < (0.008 if optimizer == "soap" else 0.025)


def test_fitted_distance_against_the_sphere():
    points, sdf = shapes.samples(shapes.sphere, 200_000)
    network = a_network(sdf)
    fit(network, points, sdf, FitSettings(epochs=4, batch_size=1024))
    directions = np.random.default_rng(1).normal(size=(5000, 3))
    surface = 0.6 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    assert np.abs(network.domain(surface)).mean() < 0.0015
    outward = network.gradient(surface)
    assert ((outward * surface / 0.6).sum(axis=1) > 0.9).mean() > 0.95


def test_same_seed_same_weights_and_another_seed_others():
    points, sdf = shapes.samples(shapes.box, 8_000)
    weights = []
    for seed in (4, 4, 5):
        network = a_network(sdf)
        fit(network, points, sdf, FitSettings(epochs=2, batch_size=256, seed=seed))
        weights.append(weights_of(network))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# The recipe of presets/instant.sh, smaller.
INSTANT = FitSettings(
    epochs=2, batch_size=1024, learning_rate=0.01, optimizer="adam", schedule="cosine", loss="relative"
)


def a_hash_grid(widths=(64,)):
    return NeuralSDF(widths, "relu", HashGrid(4, 4, 8, 64, 12))


@pytest.mark.parametrize("optimizer, rate, widths", [("adam", 0.01, (64,)), ("soap", 0.002, (64, 48, 32, 16))])
def test_a_hash_grid_converges_before_any_network_and_keeps_the_far_field(optimizer, rate, widths):
    points, sdf = shapes.samples(shapes.torus, 100_000)
    network = a_hash_grid(widths)
    fit(network, points, sdf, replace(INSTANT, epochs=4, optimizer=optimizer, learning_rate=rate))
    fresh, distances = shapes.samples(shapes.torus, 20_000, seed=9)
    # The loss is lighter far away, where a twentieth of the samples lies: that is looked at on its own.
    near = np.abs(distances) < 0.05
    errors = np.abs(network.domain(fresh) - distances)
    assert errors[near].mean() < 0.001
    cube = np.random.default_rng(3).uniform(-1, 1, (20_000, 3)).astype(np.float32)
    values, distances = network.domain(cube), shapes.torus(cube)
    assert np.abs(values - distances).mean() < 0.02
    clear = np.abs(distances) > 0.02
    assert (np.sign(values) == np.sign(distances))[clear].all()


def test_a_hash_grid_gives_the_same_weights_twice_interrupted_or_not(tmp_path):
    points, sdf = shapes.samples(shapes.box, 20_000)
    whole, again, other = a_hash_grid(), a_hash_grid(), a_hash_grid()
    fit(whole, points, sdf, INSTANT)
    checkpoint = tmp_path / "a.checkpoint"
    with pytest.raises(Interrupted):
        fit(again, points, sdf, INSTANT, FitHooks(checkpoint=checkpoint, should_stop=interrupted_after(20)))
    result = fit(again, points, sdf, INSTANT, FitHooks(checkpoint=checkpoint), resume=True)
    assert 0 < result.resumed_at < result.samples
    assert torch.equal(weights_of(again), weights_of(whole))
    fit(other, points, sdf, replace(INSTANT, seed=1))
    assert not torch.equal(weights_of(other), weights_of(whole))


def test_a_hash_grid_is_saved_loaded_and_marched_like_any_other(tmp_path):
    points, sdf = shapes.samples(shapes.sphere, 60_000)
    network = NeuralSDF((64,), "relu", HashGrid(4, 4, 8, 64, 12), center=(10.0, 20.0, 30.0), scale=0.01)
    fit(network, points, sdf, INSTANT)
    network.save(tmp_path / "a.safetensors")
    loaded = NeuralSDF.load(tmp_path / "a.safetensors")
    asked = np.array([[10.0, 20.0, 30.0], [10.0, 20.0, 90.0], [75.0, 20.0, 30.0]])
    np.testing.assert_array_equal(loaded(asked), network(asked))
    np.testing.assert_allclose(loaded(asked)[1:], [0, 5], atol=0.5)
    outward = np.random.default_rng(1).normal(size=(2000, 3))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    normals = loaded.gradient(60 * outward + network.center)
    assert ((normals * outward).sum(axis=1) / np.linalg.norm(normals, axis=1)).mean() > 0.98
    marched = march(loaded.domain, 64)
    radii = np.linalg.norm(marched.vertices, axis=1)
    # One piece: no surface strays to where there were few samples.
    assert radii.min() > 0.59 and radii.max() < 0.61


def test_the_rate_of_a_hash_grid_rises_and_others_start_at_once():
    points, sdf = shapes.samples(shapes.box, 2_000)
    run = FitRun(a_hash_grid(), points, sdf, INSTANT, FitHooks(), 0)
    rises = []
    for run.steps in range(2 * WARM_UP_STEPS):
        rises.append(run.warm_up)
    assert rises[0] == pytest.approx(1 / WARM_UP_STEPS) and rises[WARM_UP_STEPS - 1 :] == [1.0] * (WARM_UP_STEPS + 1)
    assert (np.diff(rises[:WARM_UP_STEPS]) > 0).all()
    assert FitRun(a_network(sdf), points, sdf, INSTANT, FitHooks(), 0).warm_up == 1.0


def interrupted_after(steps):
    left = iter(range(steps))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 163, 290])  # and one more: between two checks, twice, and at one
def test_interrupted_and_resumed_to_the_bit(tmp_path, optimizer, steps):
    points, sdf = shapes.samples(shapes.box, 8_000)
    settings = FitSettings(epochs=5, batch_size=128, optimizer=optimizer)
    whole = a_network(sdf)
    expected = fit(whole, points, sdf, settings)
    checkpoint = tmp_path / "a.checkpoint"
    network = a_network(sdf)
    with pytest.raises(Interrupted):
        fit(network, points, sdf, settings, FitHooks(checkpoint=checkpoint, should_stop=interrupted_after(steps)))
    again = a_network(sdf)
    result = fit(again, points, sdf, settings, FitHooks(checkpoint=checkpoint), resume=True)
    assert 0 < result.resumed_at < result.samples == expected.samples
    assert torch.equal(weights_of(again), weights_of(whole))
    assert result.history["loss"] == expected.history["loss"]


def killed_fit(folder):
    torch.set_num_threads(1)
    points, sdf = shapes.samples(shapes.box, 20_000)
    hooks = FitHooks(checkpoint=folder / "a.checkpoint", checkpoint_seconds=0.0)
    fit(a_network(sdf), points, sdf, FitSettings(epochs=40, batch_size=256), hooks, resume=True)


def test_killed_processes_and_resumed_to_the_bit(tmp_path):
    points, sdf = shapes.samples(shapes.box, 20_000)
    settings = FitSettings(epochs=40, batch_size=256)
    whole = a_network(sdf)
    fit(whole, points, sdf, settings)
    checkpoint = tmp_path / "a.checkpoint"
    for _ in range(3):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = multiprocessing.get_context("spawn").Process(target=killed_fit, args=(tmp_path,))
        process.start()
        deadline = time.monotonic() + 60
        while not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert checkpoint.exists()
    network = a_network(sdf)
    result = fit(network, points, sdf, settings, FitHooks(checkpoint=checkpoint), resume=True)
    assert result.resumed_at > 0
    assert torch.equal(weights_of(network), weights_of(whole))


def test_a_checkpoint_that_cannot_be_written_is_told_once_and_ends_no_fit(tmp_path):
    points, sdf = shapes.samples(shapes.box, 4_000)
    settings, told = FitSettings(epochs=2, batch_size=128), []
    lost = tmp_path / "no such folder" / "a.checkpoint"
    result = fit(
        a_network(sdf), points, sdf, settings, FitHooks(checkpoint=lost, checkpoint_seconds=0, warn=told.append)
    )
    assert result.samples == 2 * 3968
    assert told == [f"no checkpoint written: {lost}: No such file or directory"]
    with pytest.raises(Interrupted):
        fit(a_network(sdf), points, sdf, settings, FitHooks(checkpoint=lost, should_stop=interrupted_after(3)))


def test_checkpoints_that_are_off_are_read_and_not_written(tmp_path):
    points, sdf = shapes.samples(shapes.box, 4_000)
    settings, checkpoint = FitSettings(epochs=2, batch_size=128), tmp_path / "a.checkpoint"
    off = FitHooks(checkpoint=checkpoint, checkpoint_seconds=None, should_stop=interrupted_after(9))
    with pytest.raises(Interrupted):
        fit(a_network(sdf), points, sdf, settings, off)
    assert not checkpoint.exists()
    with pytest.raises(Interrupted):
        fit(a_network(sdf), points, sdf, settings, FitHooks(checkpoint=checkpoint, should_stop=interrupted_after(9)))
    before = checkpoint.read_bytes()
    result = fit(a_network(sdf), points, sdf, settings, replace(off, should_stop=None), resume=True)
    assert result.resumed_at == 10 * 128 and checkpoint.read_bytes() == before


def test_large_seeds_and_two_samples():
    points, sdf = np.array([[0.5, 0, 0], [0.9, 0, 0]], np.float32), np.array([-0.1, 0.3], np.float32)
    network = a_network(sdf)
    assert fit(network, points, sdf, FitSettings(epochs=300, batch_size=512, seed=2**70 + 1)).samples == 600
    np.testing.assert_allclose(network.domain(points), sdf, atol=0.1)
    assert fit(a_network(sdf, "none"), points[1:], sdf[1:], FitSettings(epochs=300)).samples == 300


def test_checkpoint_of_another_fit_is_refused_with_the_difference(tmp_path):
    points, sdf = shapes.samples(shapes.box, 4_000)
    checkpoint = tmp_path / "a.checkpoint"
    settings = FitSettings(epochs=2, batch_size=128)
    hooks = FitHooks(checkpoint=checkpoint, should_stop=interrupted_after(3), identity={"content": "abc"})
    with pytest.raises(Interrupted):
        fit(a_network(sdf), points, sdf, settings, hooks)
    other = FitHooks(checkpoint=checkpoint, identity={"content": "abc"})
    with pytest.raises(CheckpointError, match="batch_size: checkpoint has 128, this fit has 64"):
        fit(a_network(sdf), points, sdf, FitSettings(epochs=2, batch_size=64), other, resume=True)
    with pytest.raises(CheckpointError, match="content: checkpoint has abc, this fit has xyz"):
        fit(
            a_network(sdf),
            points,
            sdf,
            settings,
            FitHooks(checkpoint=checkpoint, identity={"content": "xyz"}),
            resume=True,
        )
    with pytest.raises(CheckpointError, match="widths"):
        fit(a_network(sdf, widths=(8, 8)), points, sdf, settings, other, resume=True)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        fit(a_network(sdf), points, sdf, settings, other, resume=True)


def test_first_difference_names_values_only_one_has():
    assert first_difference({"a": 1}, {"a": 1}) == ""
    assert first_difference({"a": 1}, {"a": 1, "b": 2}) == "b: checkpoint has None, this fit has 2"


def test_time_budget_ends_the_schedule(monkeypatch):
    points, sdf = shapes.samples(shapes.box, 4_000)
    clock = iter(np.arange(0, 1e6, 0.01))
    monkeypatch.setattr(fitting.time, "monotonic", lambda: next(clock))
    result = fit(a_network(sdf), points, sdf, FitSettings(batch_size=128, time_budget=30.0))
    assert result.ended_by == "timeBudget"
    assert 30 <= result.seconds < 31
    rates = result.history["learning_rate"]
    assert rates[-1] < 0.05 * rates[0] and all(np.diff(rates) < 0)


def test_slow_steps_of_a_time_budget_are_looked_at_all_the_same(monkeypatch):
    points, sdf = shapes.samples(shapes.box, 4_000)
    clock = iter(np.arange(0, 1e6, 0.3))
    monkeypatch.setattr(fitting.time, "monotonic", lambda: next(clock))
    settings = FitSettings(batch_size=128, time_budget=30.0, target_error=1e-9)
    result = fit(a_network(sdf), points, sdf, settings, FitHooks(held_out=points[:64]))
    assert result.samples < 128 * fitting.CHECK_STEPS and len(result.history["held_out"]) > 5


def test_target_error_stops_on_held_out_points():
    points, sdf = shapes.samples(shapes.torus, 40_000)
    angles = np.random.default_rng(2).uniform(0, 2 * np.pi, (2000, 2))
    ring = 0.55 + 0.2 * np.cos(angles[:, 0])
    surface = np.stack([ring * np.cos(angles[:, 1]), ring * np.sin(angles[:, 1]), 0.2 * np.sin(angles[:, 0])], 1)
    network = a_network(sdf)
    hooks = FitHooks(held_out=surface.astype(np.float32))
    result = fit(network, points, sdf, FitSettings(epochs=50, batch_size=512, target_error=0.005), hooks)
    assert result.ended_by == "targetError" and result.samples < 50 * 40_000
    assert result.history["held_out"][-1] <= 0.005 < result.history["held_out"][0]
    assert np.abs(network.domain(surface)).mean() <= 0.005


def test_checks_of_a_short_fit_take_a_tenth_of_its_samples_and_change_no_weight(monkeypatch):
    points, sdf = shapes.samples(shapes.box, 20_000)
    settings = FitSettings(epochs=2, batch_size=1000)
    asked, plain = [], a_network(sdf)
    fit(plain, points, sdf, settings)
    watched = a_network(sdf)
    domain = watched.domain
    monkeypatch.setattr(watched, "domain", lambda points: asked.append(len(points)) or domain(points))
    result = fit(watched, points, sdf, settings, FitHooks(held_out=points[:5000]))
    checks = asked[:-1]  # the last look is for a collapse
    assert checks == [100] * 40 and np.isfinite(result.history["held_out"]).all()
    assert torch.equal(weights_of(watched), weights_of(plain))
    asked.clear()
    exacting = FitSettings(epochs=1, batch_size=1000, target_error=1e-9)
    fit(watched, points, sdf, exacting, FitHooks(held_out=points[:5000]))
    assert asked[:-1] == [5000] * 20


def test_validation_runs_after_every_epoch():
    points, sdf = shapes.samples(shapes.box, 4_000)
    result = fit(a_network(sdf), points, sdf, FitSettings(epochs=3, batch_size=128), FitHooks(validate=lambda: 0.5))
    assert result.history["validation"] == [0.5, 0.5, 0.5]


def collapsing(monkeypatch, attempts):
    """Make the first `attempts` initialisations give a dead network."""
    original, calls = NeuralSDF.initialise, []

    def initialise(self, init, generator):
        original(self, init, generator)
        calls.append(init)
        if len(calls) <= attempts:
            with torch.no_grad():
                for layer in list(self.layers)[:-1]:
                    if hasattr(layer, "bias"):
                        layer.weight.zero_()
                        layer.bias.fill_(-1.0)

    monkeypatch.setattr(NeuralSDF, "initialise", initialise)


def test_one_collapse_is_begun_again_and_told(monkeypatch):
    points, sdf = shapes.samples(shapes.box, 8_000)
    collapsing(monkeypatch, 1)
    network = a_network(sdf)
    result = fit(network, points, sdf, FitSettings(epochs=2, batch_size=128))
    assert result.restarts == 1
    assert network.domain(points).std() > 0.01


def test_a_second_collapse_is_told_and_the_network_kept(monkeypatch):
    points, sdf = shapes.samples(shapes.box, 8_000)
    collapsing(monkeypatch, 2)
    network = a_network(sdf)
    result = fit(network, points, sdf, FitSettings(epochs=2, batch_size=128))
    assert "constant" in result.collapsed and result.restarts == 1
    assert network.domain(points).std() < 1e-6 and not network.training


@pytest.mark.filterwarnings("ignore")
def test_numbers_that_run_away_are_a_collapse():
    points, sdf = shapes.samples(shapes.box, 8_000)
    with pytest.raises(CollapseError):
        fit(a_network(sdf), points, sdf, FitSettings(epochs=3, batch_size=128, learning_rate=1e30, optimizer="adam"))


def test_refuses_samples_that_are_none():
    sdf = np.zeros(5, np.float32)
    network = NeuralSDF((4,))
    for points, labels in [(np.zeros((5, 2)), sdf), (np.zeros((4, 3)), sdf), (np.full((5, 3), np.nan), sdf)]:
        with pytest.raises(ValueError, match="samples"):
            fit(network, points, labels, FitSettings())


def test_schedules_and_losses():
    assert [rate_factor("linear", s) for s in (0, 0.5, 1)] == [1, 0.5, 0]
    assert rate_factor("cosine", 0.5) == pytest.approx(0.5) and rate_factor("constant", 0.9) == 1
    values, targets = torch.tensor([0.3, -0.2]), torch.tensor([0.2, 0.1])
    limits = [torch.tensor(-0.1), torch.tensor(0.1)]
    assert float(loss_of(values, targets, None, "l1", limits)) == pytest.approx(0.2)
    assert float(loss_of(values, targets, None, "l2", limits)) == pytest.approx(0.05)
    assert float(loss_of(values, targets, None, "clamp", limits)) == pytest.approx(0.1)
    assert float(loss_of(values, targets, torch.tensor([2.0, 0.0]), "weighted", limits)) == pytest.approx(0.1)


def test_weights_of_samples_fall_with_the_distance_from_either_side():
    distances = torch.tensor([0.0, 0.05, -0.05, 0.95])
    weights = sample_weights(distances, FitSettings(loss="relative"))
    assert torch.allclose(weights / weights[0], torch.tensor([1.0, 0.5, 0.5, 0.05]))
    assert float(weights.mean()) == pytest.approx(1)
    weights = sample_weights(distances, FitSettings(loss="weighted", importance_weight=10.0))
    assert torch.allclose(weights / weights[0], (1 + 3 * torch.exp(-10 * distances.abs())) / 4)
    assert sample_weights(distances, FitSettings()) is None


def test_adam_is_torchs_adam():
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(7, 5, generator=generator), torch.randn(3, generator=generator)]
    ours = [tensor.clone() for tensor in start]
    theirs = [tensor.clone().requires_grad_() for tensor in start]
    optimizer, twin = Adam(ours), torch.optim.Adam(theirs, lr=0.01)
    for _ in range(20):
        gradients = [torch.randn(tensor.shape, generator=generator) for tensor in start]
        optimizer.step(gradients, 0.01)
        for tensor, gradient in zip(theirs, gradients, strict=True):
            tensor.grad = gradient.clone()
        twin.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_soap_keeps_orthonormal_bases_and_beats_adam_on_a_skewed_problem():
    generator = torch.Generator().manual_seed(0)
    skew_left = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q * torch.logspace(0, -3, 12)
    skew_right = torch.linalg.qr(torch.randn(9, 9, generator=generator)).Q * torch.logspace(0, -2, 9)
    goal = torch.randn(12, 9, generator=generator)
    errors = {}
    for name in OPTIMIZERS:
        weight = torch.zeros(12, 9)
        optimizer = make_optimizer(name, [weight])
        for step in range(400):
            difference = skew_left.T @ (weight - goal) @ skew_right
            optimizer.step([skew_left @ difference @ skew_right.T], 0.02 * (1 - step / 400))
        errors[name] = float((skew_left.T @ (weight - goal) @ skew_right).norm())
        if name == "soap":
            left = optimizer.bases[0].state["left"]
            assert torch.allclose(left.T @ left, torch.eye(12), atol=1e-5)
    assert errors["soap"] < 0.5 * errors["adam"]


def test_soap_leaves_tables_and_small_matrices_to_adam():
    parameters = [torch.zeros(100_000, 8), torch.zeros(333, 3), torch.zeros(333, 442), torch.zeros(442)]
    assert len(make_optimizer("soap", parameters).bases) == 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_and_an_evaluation_stay_on_the_meta_device(optimizer):
    network = NeuralSDF(WIDTHS, "relu", None, fit_scaler("QuantileTransformer", shapes.samples(shapes.box, 500)[1])).to(
        "meta"
    )
    parameters = list(network.parameters())
    steps = make_optimizer(optimizer, parameters)
    points, targets = torch.empty(64, 3, device="meta"), torch.empty(64, device="meta")
    for _ in range(2):
        loss = loss_of(network.scaled(points), targets, None, "l1", [])
        steps.step(list(torch.autograd.grad(loss, parameters)), 1e-3)
    assert loss.device.type == "meta"
    assert network.signed_distance(points).device.type == "meta"
    tensors = [tensor for name, tensor in steps.state().items() if not name.endswith("steps")]
    assert all(tensor.device.type == "meta" for tensor in tensors)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_fit_on_the_gpu(optimizer):
    points, sdf = shapes.samples(shapes.box, 4000)
    network = a_network(sdf).to("cuda")
    result = fit(network, points, sdf, FitSettings(epochs=20, batch_size=256, optimizer=optimizer))
    assert result.ended_by == "epochs" and next(network.parameters()).device.type == "cuda"
    assert np.abs(network.domain(points) - sdf).mean() < 0.5 * np.abs(sdf).mean()


def test_a_batch_larger_than_the_samples_is_the_samples():
    points, sdf = shapes.samples(shapes.box, 300)
    result = fit(a_network(sdf), points, sdf, FitSettings(epochs=30, batch_size=1024))
    assert result.samples == 30 * 300
    assert all(math.isfinite(loss) for loss in result.history["loss"])


# Steps of a campaign's fit: a DAM network after fewer may still have one sign everywhere, whatever its scaler.
CAMPAIGN_STEPS = 150


@pytest.mark.long
@pytest.mark.parametrize("scaler", ["StandardScaler", "PowerTransformer", "QuantileTransformer"])
@pytest.mark.parametrize("name", ["parts/featuretype.STL", "parts/ADIS16480.STL", "organic/fandisk.obj"])
def test_campaign_of_seeds(name, scaler):
    """Twenty seeds of a short fit of the DAM network: none collapses, none ends far from the others."""
    path = Path(__file__).resolve().parents[2].parent / "shared" / "data" / name
    if not path.is_file():
        pytest.skip(f"no file {name}")
    mesh = load_mesh(path)
    points, sdf = importance_samples(DistanceOracle(mesh), CAMPAIGN_STEPS * 1024, np.random.default_rng(0))
    surface = points_on_surface(mesh, 20_000, np.random.default_rng(1))[0]
    errors = []
    for seed in range(20):
        network = NeuralSDF(DAM_WIDTHS, scaler=fit_scaler(scaler, sdf))
        assert fit(network, points, sdf, FitSettings(epochs=1, seed=seed)).restarts == 0
        errors.append(float(np.abs(network.domain(surface)).mean()))
    print(f"{name}, {scaler}: median {np.median(errors):.5f}, from {min(errors):.5f} to {max(errors):.5f}")
    assert max(errors) < 3 * np.median(errors)
