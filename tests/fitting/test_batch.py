"""Many fits in one loop: each as if alone, none ended by another, resumed together or alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralparts.errors import CheckpointError, Interrupted
from neuralparts.fitting import CollapseError, FitHooks, FitSettings, Member, fit, fit_batch, members_at_once, shape_key
from neuralparts.fitting.batches import Batches, SampleStack, random_generator
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.network import DAM_WIDTHS, NeuralSDF, fit_scaler
from tests import shapes
from tests.fitting.cases import INSTANT, a_hash_grid, a_network, interrupted_after, ticking, weights_of
from tests.fitting.test_collapse import dead, not_finite
from tests.fitting.test_pairs import some_pairs

COUNT = 4_000
SETTINGS = FitSettings(epochs=6, batch_size=128, optimizer="adam", learning_rate=0.004)
SOAP = replace(SETTINGS, optimizer="soap", learning_rate=0.002)


def two_spheres(points):
    """A signed distance outside, and inside a lower bound of one: the lesser of two."""
    centres = np.array([0.4, 0.0, 0.0]), np.array([-0.4, 0.1, 0.0])
    return np.minimum(*(shapes.sphere(points - centre, 0.3) for centre in centres))


SHAPES = (shapes.sphere, shapes.box, shapes.torus, two_spheres)
SAMPLES = [shapes.samples(shape, COUNT, seed=seed) for seed, shape in enumerate(SHAPES)]


def small(sdf: np.ndarray) -> NeuralSDF:
    """The network of most tests here."""
    return a_network(sdf, widths=(24, 24))


def four_members(make=small, hooks=None, **options) -> list[Member]:
    """A member for each of SHAPES. make: a network for targets. hooks: of each."""
    hooks = hooks or [FitHooks()] * 4
    return [
        Member(make(sdf), points, sdf, hooks=own, **options) for (points, sdf), own in zip(SAMPLES, hooks, strict=True)
    ]


def error_of(member: Member) -> float:
    """Mean error on the member's own samples, domain units."""
    return float(np.abs(member.network.domain(member.points) - member.sdf).mean())


def assert_close(members: list[Member], others: list[Member]) -> None:
    """Networks are those of other fits, but for the order of sums, which grows with the steps."""
    for member, other in zip(members, others, strict=True):
        assert error_of(member) == pytest.approx(error_of(other), rel=0.2)


def fitted(members: list[Member], settings: FitSettings = SETTINGS) -> list[Member]:
    """The members, each of them fitted by a batch to the end of the schedule."""
    assert [outcome.ended_by for outcome in fit_batch(members, settings)] == ["epochs"] * len(members)
    return members


@pytest.fixture(scope="module")
def fitted_alone():
    """Four members that `fit` fitted, one after the other, and their results."""
    members = four_members()
    return members, [fit(member.network, member.points, member.sdf, SETTINGS) for member in members]


@pytest.mark.parametrize("optimizer", ["adam", "soap"])
def test_a_batch_fits_each_shape_as_well_as_it_is_fitted_alone(optimizer):
    settings = replace(SETTINGS, optimizer=optimizer)
    alone, together = four_members(), four_members()
    results = [fit(member.network, member.points, member.sdf, settings) for member in alone]
    outcomes = fit_batch(together, settings)
    assert_close(together, alone)
    for result, outcome in zip(results, outcomes, strict=True):
        assert outcome.history["samples"] == result.history["samples"] and outcome.samples == result.samples
        # The first losses of each shape tell it from the others.
        np.testing.assert_allclose(outcome.history["loss"][:3], result.history["loss"][:3], rtol=0.03)
    assert not any(member.network.training for member in together)


def test_hash_grids_with_pairs_in_a_batch():
    alone, together = (
        [replace(member, pairs=some_pairs(shape, 400)) for member, shape in zip(members, SHAPES, strict=True)]
        for members in (four_members(lambda sdf: a_hash_grid()), four_members(lambda sdf: a_hash_grid()))
    )
    settings = replace(INSTANT, batch_size=256)
    for member in alone:
        fit(member.network, member.points, member.sdf, settings, pairs=member.pairs)
    assert_close(fitted(together, settings), alone)


def test_samples_of_a_stack_are_those_of_single_fits_in_one_order():
    pairs, settings = some_pairs(shapes.box, 100), FitSettings(loss="relative")
    stack = SampleStack.empty(4, COUNT, 100, settings, torch.device("cpu"))
    for place, (points, sdf) in enumerate(SAMPLES):
        arguments = points, sdf, fit_scaler("PowerTransformer", sdf), settings, torch.device("cpu"), pairs
        within, alone = Batches(*arguments, stack, place), Batches(*arguments)
        assert torch.equal(within.rows, alone.rows) and within.order is stack.order
        assert within.rows.data_ptr() == stack.rows[place].data_ptr()
        for step in (0, 31, 32):
            batch = alone.batch(step, 125, 7)
            assert all(map(torch.equal, within.batch(step, 125, 7), batch))
            taken = stack.rows.index_select(1, stack.order.rows(step, 125, 7))[place]  # of all members at once
            assert torch.equal(taken[:, :3], batch[0]) and len(taken) == 125 + 2 * 31


def test_each_member_is_watched_on_its_own():
    seen = [[] for _ in range(4)]

    def hooks_of(index):
        return FitHooks(
            held_out=SAMPLES[index][0][:100] if index != 2 else None,
            validate=lambda: float(index),
            progress=lambda fraction, loss: seen[index].append(("progress", fraction, loss)),
            log=lambda values, fraction: seen[index].append(("log", values, fraction)),
        )

    outcomes = fit_batch(four_members(hooks=[hooks_of(index) for index in range(4)]), SETTINGS)
    for index, outcome in enumerate(outcomes):
        history = outcome.history
        assert history["validation"] == [float(index)] * 6
        assert [call[2] for call in seen[index] if call[0] == "progress"] == history["loss"]
        logged = [call[1] for call in seen[index] if call[0] == "log"]
        assert [values["held_out"] for values in logged if "loss" in values] == pytest.approx(
            history["held_out"], nan_ok=True
        )
        assert [values["validation"] for values in logged if "loss" not in values] == history["validation"]
        assert math.isnan(history["held_out"][0]) == (index == 2)
    assert len({tuple(outcome.history["loss"]) for outcome in outcomes}) == 4


def test_targets_that_overflow_end_one_member_alone(fitted_alone):
    members = four_members()
    members[1] = replace(members[1], network=NeuralSDF((24, 24)), sdf=members[1].sdf * np.float32(3e38))
    outcomes = fit_batch(members, SETTINGS)
    assert isinstance(outcomes[1], CollapseError)
    others = [0, 2, 3]
    assert [outcomes[index].samples for index in others] == [6 * 3968] * 3
    assert_close([members[index] for index in others], [fitted_alone[0][index] for index in others])


@pytest.mark.parametrize("optimizer", ["adam", "soap"])
@pytest.mark.parametrize("budget", [0.0, 20.0])
def test_those_that_collapse_are_fitted_again_together(monkeypatch, optimizer, budget):
    """One has NaN from the beginning, one is constant; the others do not notice."""
    members = four_members()
    original, faults = NeuralSDF.initialise, {members[1].network: not_finite, members[3].network: dead}

    def initialise(self, init, generator):
        original(self, init, generator)
        with torch.no_grad():
            faults.pop(self, lambda network: None)(self)

    monkeypatch.setattr(NeuralSDF, "initialise", initialise)
    settings = replace(SETTINGS, optimizer=optimizer, time_budget=budget)
    hooks = FitHooks(clock=ticking(0.02))
    outcomes = fit_batch([replace(member, hooks=hooks) for member in members], settings)
    assert [outcome.restarts for outcome in outcomes] == [0, 1, 0, 1]
    assert [outcome.collapsed for outcome in outcomes] == [""] * 4
    assert max(map(error_of, members)) < 0.045  # a constant is off by 0.08
    if budget:
        assert all(20 <= outcome.seconds < 21 for outcome in outcomes)
        # NaN is found at the first check, a constant when half of the budget is over.
        assert outcomes[1].history["seconds"][0] < 5 and 10 < outcomes[3].history["seconds"][0] < 13


def test_an_exception_of_one_member_ends_it_alone(tmp_path):
    def fault():
        raise KeyError("no such thing")

    (tmp_path / "bad.checkpoint").write_bytes(b"not one")
    hooks = [FitHooks(), FitHooks(validate=fault), FitHooks(checkpoint=tmp_path / "bad.checkpoint"), FitHooks()]
    members = four_members(hooks=hooks, resume=True)
    members[3] = replace(members[3], points=np.full_like(members[3].points, np.nan))
    outcomes = fit_batch(members, SETTINGS)
    assert [type(outcome) for outcome in outcomes[1:]] == [KeyError, CheckpointError, ValueError]
    assert outcomes[0].ended_by == "epochs" and "not finite" in str(outcomes[3])


def test_a_member_that_reaches_its_target_error_leaves_the_others():
    settings, alone = replace(SOAP, target_error=0.04), four_members()
    # Without held-out points there is no error that could be reached.
    hooks = [FitHooks(held_out=SAMPLES[0][0][np.abs(SAMPLES[0][1]) < 0.004]), *[FitHooks()] * 3]
    results = [fit(m.network, m.points, m.sdf, settings, own) for m, own in zip(alone, hooks, strict=True)]
    together = four_members(hooks=hooks)
    outcomes = fit_batch(together, settings)
    ends = ["targetError", "epochs", "epochs", "epochs"]
    assert [outcome.ended_by for outcome in outcomes] == [result.ended_by for result in results] == ends
    assert outcomes[0].samples < outcomes[1].samples == outcomes[3].samples == 6 * 3968
    assert_close(together[1:], alone[1:])


def checkpoints(folder, **options) -> list[FitHooks]:
    """Hooks with a checkpoint for each of four members."""
    return [FitHooks(checkpoint=folder / f"{index}.checkpoint", **options) for index in range(4)]


@pytest.mark.parametrize("optimizer", ["adam", "soap"])
def test_an_interrupted_batch_resumes_to_the_same_bits(tmp_path, optimizer):
    settings = replace(SETTINGS, optimizer=optimizer)
    whole, again = fitted(four_members(), settings), four_members(hooks=checkpoints(tmp_path), resume=True)
    hooks = checkpoints(tmp_path)
    hooks[2] = replace(hooks[2], should_stop=interrupted_after(100))  # any member's stops all
    with pytest.raises(Interrupted):
        fit_batch(four_members(hooks=hooks), settings)
    outcomes = fit_batch(again, settings)
    assert [outcome.resumed_at for outcome in outcomes] == [101 * 128] * 4
    assert all(
        torch.equal(weights_of(one.network), weights_of(other.network)) for one, other in zip(whole, again, strict=True)
    )


def test_checkpoints_of_a_batch_and_of_single_fits_are_the_same(tmp_path, fitted_alone):
    hooks = checkpoints(tmp_path)
    with pytest.raises(Interrupted):
        fit_batch(four_members(hooks=[replace(own, should_stop=interrupted_after(70)) for own in hooks]), SETTINGS)
    points, sdf = SAMPLES[0]
    single = four_members()[0].network
    assert fit(single, points, sdf, SETTINGS, hooks[0], resume=True).resumed_at == 71 * 128
    # One that was fitted alone for longer, and one that has no checkpoint: groups of 2, 1 and 1.
    later = replace(hooks[1], should_stop=interrupted_after(90))
    with pytest.raises(Interrupted):
        fit(four_members()[1].network, *SAMPLES[1], SETTINGS, later)
    hooks[3].checkpoint.unlink()
    members = four_members(hooks=hooks, resume=True)
    outcomes = fit_batch(members, SETTINGS)
    assert [outcome.resumed_at for outcome in outcomes] == [71 * 128, 91 * 128, 71 * 128, 0]
    assert [outcome.samples for outcome in outcomes] == [6 * 3968] * 4
    assert_close([*members, replace(members[0], network=single)], [*fitted_alone[0], fitted_alone[0][0]])


def test_a_member_that_has_ended_is_not_fitted_again_after_an_interruption(tmp_path):
    settings, hooks = replace(SOAP, target_error=0.03), checkpoints(tmp_path, checkpoint_seconds=1e9)
    hooks[0] = replace(hooks[0], held_out=SAMPLES[0][0][np.abs(SAMPLES[0][1]) < 0.004])
    stopped = [hooks[0], replace(hooks[1], should_stop=interrupted_after(160)), *hooks[2:]]
    first = four_members(hooks=stopped)
    with pytest.raises(Interrupted):
        fit_batch(first, settings)
    members = four_members(hooks=hooks, resume=True)
    outcomes = fit_batch(members, settings)
    assert outcomes[0].ended_by == "targetError" and outcomes[0].resumed_at == outcomes[0].samples < 160 * 128
    assert torch.equal(weights_of(members[0].network), weights_of(first[0].network))
    assert [outcome.resumed_at for outcome in outcomes[1:]] == [161 * 128] * 3


def test_all_members_write_their_checkpoints_at_the_same_steps_and_seconds(tmp_path):
    """With a time budget, only those that have taken the same seconds can go on together."""
    settings, reading = replace(SETTINGS, time_budget=20.0), ticking(0.02)
    hooks = checkpoints(tmp_path, checkpoint_seconds=4.0, clock=reading)
    hooks[1] = replace(hooks[1], should_stop=lambda: reading() > 12)
    with pytest.raises(Interrupted):
        fit_batch(four_members(hooks=hooks), settings)
    again = checkpoints(tmp_path, clock=ticking(0.02))
    outcomes = fit_batch(four_members(hooks=again, resume=True), settings)
    assert len({outcome.resumed_at for outcome in outcomes}) == 1 < outcomes[0].resumed_at
    assert len({outcome.samples for outcome in outcomes}) == 1  # one group: all saw the same clock
    assert all(20 <= outcome.seconds < 20.5 for outcome in outcomes)


def test_members_of_other_shapes_are_refused():
    members = four_members()
    points, sdf = SAMPLES[0]
    others = [
        replace(members[0], points=points[:-1], sdf=sdf[:-1]),
        replace(members[0], network=a_network(sdf, widths=(24, 16))),
        replace(members[0], network=a_network(sdf, activation="elu", widths=(24, 24))),
        replace(members[0], network=a_hash_grid()),
        replace(members[0], pairs=some_pairs(shapes.box, 10)),
        replace(members[0], network=members[1].network),
    ]
    for other in others:
        before = weights_of(members[1].network)
        with pytest.raises(ValueError, match="of a batch need"):
            fit_batch([other, members[1]], SETTINGS)
        assert torch.equal(before, weights_of(members[1].network))
    assert fit_batch([], SETTINGS) == []


def test_scalers_and_maps_to_file_units_do_not_part_members():
    sdf = SAMPLES[0][1]
    one = NeuralSDF((24, 24), scaler=fit_scaler("QuantileTransformer", sdf), center=(1, 2, 3), scale=4.0)
    other = NeuralSDF((24, 24), scaler=fit_scaler("QuantileTransformer", SAMPLES[1][1][:50]))
    assert shape_key(one, 10, 0) == shape_key(other, 10, 0) and len({shape_key(one, 10, 0), shape_key(one, 9, 0)}) == 2
    outcomes = fit_batch([Member(one, *SAMPLES[0]), Member(other, *SAMPLES[1])], replace(SETTINGS, loss="clamp"))
    assert [outcome.collapsed for outcome in outcomes] == ["", ""]


def test_a_gpu_holds_as_many_members_as_its_free_memory(monkeypatch):
    free = {"bytes": 80 * 2**30}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free["bytes"], 80 * 2**30))
    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    many = members_at_once(NeuralSDF(DAM_WIDTHS), 5_000_000, 0, "cuda")
    # A member has 80 MB of samples, 19 MB of weights, means and bases, and some activations of 9 MB.
    assert 0.09 < 80 / many < 0.2
    assert members_at_once(NeuralSDF(DAM_WIDTHS), 5_000_000, 2_500_000, "cuda") < 0.7 * many
    assert members_at_once(NeuralSDF((32,) * 8), 5_000_000, 0, "cuda") > many
    by_card = []
    for size in (16, 24, 80):
        free["bytes"] = size * 2**30
        by_card.append(members_at_once(NeuralSDF(DAM_WIDTHS), 5_000_000, 0, "cuda"))
        assert by_card[-1] * 0.099 < size - 3  # samples and weights alone; 3 GiB are left for all else
    assert 32 < by_card[0] < by_card[1] < by_card[2]
    free["bytes"] = 2**20
    assert members_at_once(NeuralSDF(DAM_WIDTHS), 5_000_000, 0, "cuda") == 1


def test_on_a_cpu_small_networks_alone_are_fitted_together(monkeypatch):
    monkeypatch.setattr("neuralparts.fitting.members.usable_memory", lambda: 2**33)
    assert members_at_once(NeuralSDF((32,) * 8), 200_000, 0, "cpu") == 4
    assert members_at_once(NeuralSDF(DAM_WIDTHS), 200_000, 0, "cpu") == 1
    assert members_at_once(a_hash_grid(), 200_000, 0, "cpu") == 1
    assert members_at_once(NeuralSDF((32,) * 8), 150_000_000, 0, "cpu") == 3
    # Four processes divide the memory of the machine.
    assert members_at_once(NeuralSDF((32,) * 8), 150_000_000 // 4, 0, "cpu", processes=4) == 3
    assert members_at_once(NeuralSDF((32,) * 8), 150_000_000 // 4, 0, "cpu") == 4


def plain_fit(network: NeuralSDF, points: np.ndarray, sdf: np.ndarray, settings: FitSettings) -> list[float]:
    """A fit in as few lines as it takes; returns the loss of each step."""
    network.train()
    network.initialise(settings.init, random_generator(settings.seed))
    parameters = list(network.parameters())
    optimizer = make_optimizer(settings.optimizer, parameters)
    inputs, targets, losses = torch.from_numpy(points), network.scaler(torch.from_numpy(sdf)), []
    size = settings.batch_size
    per_epoch = len(points) // size
    total = settings.epochs * per_epoch
    for step in range(total):
        epoch, index = divmod(step, per_epoch)
        order = torch.randperm(len(points), generator=random_generator(settings.seed * 1_000_003 + epoch))
        chosen = order[index * size : (index + 1) * size]
        loss = (network.scaled(inputs[chosen]) - targets[chosen]).abs().mean()
        losses.append(loss.item())
        rate = settings.learning_rate * optimizer.rate_multiple * (1 - step / total)
        optimizer.step(list(torch.autograd.grad(loss, parameters)), rate)
    return losses


@pytest.mark.parametrize("optimizer", ["adam", "soap"])
def test_a_single_fit_is_the_plain_loop_to_the_bit(optimizer):
    points, sdf = SAMPLES[2]
    settings = replace(SETTINGS, optimizer=optimizer, epochs=2)
    network, plain = a_network(sdf), a_network(sdf)
    result = fit(network, points, sdf, settings, FitHooks(held_out=points[:50]))
    losses = plain_fit(plain, points, sdf, settings)
    assert torch.equal(weights_of(network), weights_of(plain))
    assert result.history["loss"] == losses
