"""Checkpoints: resumed to the bit after an interruption or a kill, refused for another fit, never the end of one."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from neuralparts.choices import OPTIMIZERS
from neuralparts.errors import CheckpointError, Interrupted
from neuralparts.fitting import FitHooks, FitSettings, checkpoint_widths, fit
from neuralparts.fitting.checkpoint import first_difference
from tests import shapes
from tests.fitting.cases import INSTANT, a_hash_grid, a_network, interrupted_after, weights_of


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 163, 290])  # twice between two checks, once at a check
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


def test_a_hash_grid_gives_the_same_weights_interrupted_or_not(tmp_path):
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


def killed_fit(folder: Path) -> None:
    """A fit that is resumed in a process of its own and writes a checkpoint at every step."""
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


def test_a_checkpoint_that_cannot_be_written_warns_once_and_the_fit_goes_on(tmp_path):
    points, sdf = shapes.samples(shapes.box, 4_000)
    settings, warnings = FitSettings(epochs=2, batch_size=128), []
    lost = tmp_path / "no such folder" / "a.checkpoint"
    result = fit(
        a_network(sdf), points, sdf, settings, FitHooks(checkpoint=lost, checkpoint_seconds=0, warn=warnings.append)
    )
    assert result.samples == 2 * 3968
    assert warnings == [f"no checkpoint written: {lost}: No such file or directory"]
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


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """(path of a checkpoint, points, sdf, settings) of a fit that was interrupted."""
    path = tmp_path_factory.mktemp("fit") / "a.checkpoint"
    points, sdf = shapes.samples(shapes.box, 4_000)
    settings = FitSettings(epochs=2, batch_size=128)
    with pytest.raises(Interrupted):
        fit(a_network(sdf), points, sdf, settings, FitHooks(checkpoint=path, should_stop=interrupted_after(3)))
    return path, points, sdf, settings


def refusal(interrupted, path):
    """The message with which a fit refuses to resume from a file."""
    _, points, sdf, settings = interrupted
    with pytest.raises(CheckpointError, match=path.name) as caught:
        fit(a_network(sdf), points, sdf, settings, FitHooks(checkpoint=path), resume=True)
    assert str(caught.value).isprintable() and len(str(caught.value)) < len(str(path)) + 250
    return str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        *({"steps": steps} for steps in (-1, 2, 3.0, "3", None, 10**30)),
        *({"attempt": attempt} for attempt in (2, True, None)),
        *({"seconds": seconds} for seconds in (-1, float("nan"), float("inf"), "1")),
        *({"history": history} for history in (None, [], {}, {"loss": []})),
        {"identity": []},
        {"format": "\x1b[31m"},
        {"identity": {"\x1b[31m": "\x07" * 1000}},
    ],
)
def test_plain_fields_that_no_fit_has_are_refused(tmp_path, interrupted, change):
    with safe_open(interrupted[0], "pt") as file:
        plain = json.loads(file.metadata()["fit"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    save_file(tensors, tmp_path / "bad.checkpoint", {"fit": json.dumps(plain | change)})
    refusal(interrupted, tmp_path / "bad.checkpoint")
    for text in ("null", "[" * 100_000):
        save_file(tensors, tmp_path / "bad.checkpoint", {"fit": text})
        assert "not a readable checkpoint" in refusal(interrupted, tmp_path / "bad.checkpoint")


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("network.layers.0.bias", torch.zeros(3), "layers.0.bias' is not that of this fit"),
        ("network.layers.0.bias", torch.zeros(48, dtype=torch.float64), "holds F64"),
        ("more", torch.zeros(3), "'more' is not that of this fit"),
        ("network.scaler.standard_deviation", torch.tensor(-1.0), "standard deviation"),
        ("network.scaler.mean", torch.tensor(torch.nan), "mean is not finite"),
        ("optimizer.adam.steps", torch.tensor(torch.nan), "steps of the fit and of its optimiser differ"),
    ],
)
def test_tensors_that_no_fit_has_are_refused(tmp_path, interrupted, name, value, message):
    with safe_open(interrupted[0], "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        save_file(tensors | {name: value}, tmp_path / "bad.checkpoint", file.metadata())
    assert message in refusal(interrupted, tmp_path / "bad.checkpoint")


def test_changed_widths_are_refused(tmp_path, interrupted):
    with safe_open(interrupted[0], "pt") as file:
        plain = json.loads(file.metadata()["fit"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    widths = plain["identity"]["widths"]
    assert checkpoint_widths(interrupted[0]) == tuple(widths)
    for changed in ([float(width) for width in widths], [widths], str(widths), [], None):
        text = json.dumps(plain | {"identity": plain["identity"] | {"widths": changed}})
        save_file(tensors, tmp_path / "bad.checkpoint", {"fit": text})
        with pytest.raises(CheckpointError, match="not a readable checkpoint"):
            checkpoint_widths(tmp_path / "bad.checkpoint")
