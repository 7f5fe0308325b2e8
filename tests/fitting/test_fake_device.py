"""Fits on a device that is not the CPU: nothing mixes devices, no step waits, and the networks are the CPU's."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from neuralparts.choices import ACTIVATIONS, LOSSES, OPTIMIZERS, SCALERS
from neuralparts.errors import Interrupted
from neuralparts.fitting import FitHooks, FitSettings, Member, fit, fit_batch
from neuralparts.flags import parse_fit_flags
from neuralparts.marching import march
from neuralparts.network import DAM_WIDTHS, HashGrid, NeuralSDF, StackedLayers, fit_scaler
from neuralparts.network_stages import warm_up
from tests import shapes
from tests.fake_device import FAKE, Counts, FakeDevice, MixedDevicesError
from tests.fitting.cases import interrupted_after, weights_of
from tests.fitting.test_collapse import collapsing
from tests.fitting.test_pairs import some_pairs

COUNT = 1_000
SAMPLES = [shapes.samples(shape, COUNT) for shape in (shapes.sphere, shapes.box, shapes.torus, shapes.box)]
# With a budget of time that never passes, a fit is checked after every 50 steps and at no other time.
STEADY = FitSettings(batch_size=100, learning_rate=1e-3, time_budget=1.0)
# Kinds of a fit: activation, optimizer, whether there is a hash grid, scaler, loss, members, whether there are pairs.
KINDS = (ACTIVATIONS, OPTIMIZERS, (False, True), SCALERS, LOSSES, (1, 4), (False, True))
# Steps after which values are compared with the CPU's. After its first step SOAP has other bases on a GPU.
COMPARED = {"soap": 1, "adam": 3}
# Largest difference then, as a fraction of the largest value: rounding of gradients.
CLOSE = 0.003


@pytest.fixture
def device() -> Iterator[FakeDevice]:
    with FakeDevice() as device:
        device.take_counts()
        yield device


def in_pairs(*factors: tuple) -> list[tuple]:
    """Some of the product of `factors`, in which each two values of two factors meet."""
    product, chosen = list(itertools.product(*factors)), []
    missing = {pair for row in product for pair in itertools.combinations(enumerate(row), 2)}
    while missing:
        best = max(product, key=lambda row: len(missing.intersection(itertools.combinations(enumerate(row), 2))))
        missing -= set(itertools.combinations(enumerate(best), 2))
        chosen.append(best)
    return chosen


def a_fit(kind: tuple) -> tuple[list[Member], FitSettings]:
    """Members on the CPU and settings of one of KINDS."""
    activation, optimizer, has_encoding, scaler, loss, count, has_pairs = kind
    pairs = some_pairs(shapes.box, 200) if has_pairs else None
    init = "siren" if activation == "sine" else "he_uniform"
    members = []
    for points, sdf in SAMPLES[:count]:
        grid = HashGrid(2, 2, 4, 8, 6) if has_encoding else None
        members.append(Member(NeuralSDF((12, 20), activation, grid, fit_scaler(scaler, sdf)), points, sdf, pairs))
    return members, replace(STEADY, optimizer=optimizer, loss=loss, init=init)


def take_steps(members: list[Member], settings: FitSettings, steps: int, after=lambda step: None) -> None:
    """Fit the members for some steps. after: called with the number of each step."""
    done = itertools.count(1)

    def should_stop():
        step = next(done)
        after(step)
        return step == steps

    hooks = replace(members[0].hooks, should_stop=should_stop, clock=lambda: 0.0)
    with pytest.raises(Interrupted):
        fit_batch([replace(members[0], hooks=hooks), *members[1:]], settings)


def values_of(members: list[Member]) -> np.ndarray:
    """Values (members, N) at the samples, domain units."""
    return np.stack([member.network.domain(member.points) for member in members])


def check_kind(kind: tuple, device: FakeDevice) -> None:
    """Steps of a kind wait for nothing, have nothing copied to the device, and are those of the CPU."""
    here, settings = a_fit(kind)
    compared_after = COMPARED[settings.optimizer]
    for member in here:
        take_steps([member], settings, compared_after)
    there, counts, compared = a_fit(kind)[0], [], []
    for member in there:
        member.network.to(FAKE)

    def after(step):
        counts.append(device.take_counts())
        if step == compared_after:
            compared.append(values_of(there))
            device.take_counts()

    device.take_counts()
    take_steps(there, settings, 7, after)
    # The first counts have the preparations too. No epoch ends.
    assert [(step.copies, step.waits) for step in counts[1:]] == [({}, {})] * 6
    expected = values_of(here)
    assert np.abs(compared[0] - expected).max() < CLOSE * np.abs(expected).max()


# A hash grid's steps are torch's for each network alone, whose parts know nothing of each other.
SOME_KINDS = in_pairs(*KINDS[:2], (False,), *KINDS[3:])
SOME_KINDS += [
    ("relu", "adam", True, "none", "relative", 2, True),
    ("sine", "soap", True, "StandardScaler", "l1", 1, False),
    ("elu", "adam", True, "PowerTransformer", "clamp", 1, True),
    ("leakyrelu", "soap", True, "QuantileTransformer", "l2", 1, True),
    ("relu", "soap", True, "StandardScaler", "weighted", 2, False),
]


@pytest.mark.parametrize("kind", SOME_KINDS, ids=str)
def test_no_step_waits_and_each_is_the_cpus(kind, device):
    check_kind(kind, device)


@pytest.mark.long
@pytest.mark.parametrize("activation, optimizer", list(itertools.product(*KINDS[:2])))
def test_no_step_of_any_kind_waits_and_each_is_the_cpus(activation, optimizer, device):
    for kind in itertools.product((activation,), (optimizer,), *KINDS[2:]):
        check_kind(kind, device)


WHOLE = FitSettings(epochs=4, batch_size=100, learning_rate=2e-3)


def whole_fit(count: int, optimizer: str, device: str = FAKE, hooks=None, resume=False) -> list[Member]:
    """Members after a fit to its end; `hooks` gives those of each member by its number."""
    members = []
    for number, (points, sdf) in enumerate(SAMPLES[:count]):
        network = NeuralSDF((24, 16), scaler=fit_scaler("StandardScaler", sdf)).to(device)
        own = FitHooks(held_out=points[:50]) if hooks is None else hooks(number)
        members.append(Member(network, points, sdf, hooks=own, resume=resume))
    outcomes = fit_batch(members, replace(WHOLE, optimizer=optimizer))
    assert [outcome.ended_by for outcome in outcomes] == ["epochs"] * count
    return members


def errors_of(members: list[Member]) -> np.ndarray:
    """Mean error of each member at its samples, domain units."""
    return np.abs(values_of(members) - np.stack([member.sdf for member in members])).mean(axis=1)


@pytest.mark.parametrize("count, optimizer", [(1, "soap"), (3, "adam")])
def test_an_interrupted_fit_resumes_to_the_same_bits_and_the_cpu_reads_its_checkpoint(
    count, optimizer, device, tmp_path
):
    whole = whole_fit(count, optimizer)

    def hooks(number, steps=10**6):
        return FitHooks(checkpoint=tmp_path / str(number), should_stop=interrupted_after(steps))

    with pytest.raises(Interrupted):
        whole_fit(count, optimizer, hooks=lambda number: hooks(number, 22))
    kept = [(tmp_path / str(number)).read_bytes() for number in range(count)]
    resumed = whole_fit(count, optimizer, hooks=hooks, resume=True)
    for one, other in zip(whole, resumed, strict=True):
        assert torch.equal(weights_of(one.network).cpu(), weights_of(other.network).cpu())
    for number, content in enumerate(kept):
        (tmp_path / str(number)).write_bytes(content)
    crossed = whole_fit(count, optimizer, "cpu", hooks, resume=True)
    np.testing.assert_allclose(errors_of(crossed), errors_of(whole), rtol=0.2)


def test_a_network_answers_and_is_marched_on_the_device_as_on_the_cpu(device, tmp_path):
    (member,) = whole_fit(1, "adam")
    there = member.network
    there.save(tmp_path / "a.safetensors")
    here = NeuralSDF.load(tmp_path / "a.safetensors")
    points = np.random.default_rng(0).uniform(-1.2, 1.2, (300, 3)).astype(np.float32)
    for ask in ("__call__", "gradient"):
        expected = getattr(here, ask)(points)
        np.testing.assert_allclose(getattr(there, ask)(points), expected, atol=1e-5)
        on_device = getattr(there, ask)(torch.from_numpy(points).to(FAKE))
        assert on_device.device.type == "fake"
        np.testing.assert_allclose(on_device.cpu().numpy(), expected, atol=1e-5)
    one, other = march(there.domain, 16), march(here.domain, 16)
    np.testing.assert_array_equal(one.faces, other.faces)
    np.testing.assert_allclose(one.vertices, other.vertices, atol=1e-5)


@pytest.mark.parametrize(
    "words", [["--encoding", "hashgrid", "--hashTableLog2", "9"], ["--scaler", "PowerTransformer"]]
)
def test_a_warm_device_has_computed_values_and_gradients(device, words):
    flags = parse_fit_flags(["part.stl", "--numLayers", "2", *words])
    warm_up("cpu", flags)
    assert device.take_counts() == Counts()
    warm_up(FAKE, flags)
    counts = device.take_counts()
    assert counts.launches["addmm"] == 3 * 3 and set(counts.waits) == {"_to_copy"}  # three functions, three layers


def test_one_network_on_a_gpu_activates_in_the_launch_of_a_product(device):
    points = torch.from_numpy(SAMPLES[0][0][:300])
    expected, network = [], NeuralSDF((24, 16))
    parameters = [tensor.detach() for layer in network.layers[::2] for tensor in (layer.weight, layer.bias[None])]
    for place in ("cpu", FAKE):
        layers = StackedLayers([tensor[None].to(place) for tensor in parameters], torch.nn.ReLU)
        expected.append(layers.values(points[None].to(place)).cpu())
    assert device.take_counts().launches == {"_addmm_activation": 2, "addmm": 1}
    assert torch.equal(*expected)
    with torch.no_grad():
        torch.testing.assert_close(expected[0][0], network.scaled(points), rtol=0, atol=1e-6)


def test_a_nan_that_a_product_hides_is_found_at_the_first_check(device, monkeypatch):
    """As a GPU's libraries may, when they compute a ReLU in the launch of a product."""

    def first_unit_is_nan(network):
        network.layers[0].weight[0].fill_(torch.nan)

    product = torch._addmm_activation
    monkeypatch.setattr(torch, "_addmm_activation", lambda *arguments: product(*arguments).nan_to_num(0.0))
    collapsing(monkeypatch, 1, first_unit_is_nan)
    points, sdf = SAMPLES[0]
    steps, network = [], NeuralSDF((24, 16)).to(FAKE)
    hooks = FitHooks(held_out=points[:50], should_stop=lambda: bool(steps.append(1)))
    result = fit(network, points, sdf, FitSettings(epochs=2, batch_size=100, optimizer="adam"), hooks)
    assert result.restarts == 1 and result.collapsed == "" and len(steps) < 2 * 20


def test_the_device_refuses_what_a_gpu_would(device):
    there, here = torch.ones(3, device=FAKE), torch.ones(3)
    # A number may come from the CPU.
    assert (there * torch.tensor(2.0)).tolist() == [2, 2, 2]
    refused = [
        lambda: there + here,
        lambda: there.index_select(0, torch.tensor([1])),
        lambda: there[torch.tensor([1])],
        lambda: torch.cat([there, here]),
        lambda: torch.randperm(3, generator=torch.Generator(), device=FAKE),
    ]
    for mix in refused:
        with pytest.raises(MixedDevicesError):
            mix()


def test_the_device_counts_launches_copies_and_waits(device):
    values = torch.arange(4.0).to(FAKE)
    assert device.take_counts() == Counts(copies={"_to_copy": 1})
    (values.view(2, 2).T @ values.view(2, 2)).add_(1)
    assert device.take_counts() == Counts(launches={"mm": 1, "add_": 1})
    torch._foreach_mul_([values, values], 2)
    values.zero_()
    assert device.take_counts() == Counts(launches={"_foreach_mul_": 1, "zero_": 1})
    float(values.sum()), values.cpu(), values[values > 0], values.tolist()
    assert device.take_counts().waits == {"_local_scalar_dense": 1, "_to_copy": 2, "index": 1}


def test_a_check_of_a_stack_takes_as_many_launches_for_many_members_as_for_few(device):
    settings, counts = FitSettings(epochs=1, batch_size=100), []  # a check after each step
    for count in (2, 4):
        members = a_fit(("relu", "adam", False, "PowerTransformer", "l1", count, False))[0]
        for member in members:
            member.network.to(FAKE)
        members = [replace(member, hooks=FitHooks(held_out=member.points[:100])) for member in members]
        take_steps(members, settings, 3, lambda step: counts.append(device.take_counts().totals()))
    assert counts[2] == counts[5] and counts[2][1:] == (0, 1)


# (name, widths, whether there is a hash grid, optimizer, members) of a table of the steps.
ROWS = [
    ("DAM, SOAP", DAM_WIDTHS, False, "soap", 1),
    ("DAM, Adam", DAM_WIDTHS, False, "adam", 1),
    ("DAM, SOAP, P = 4", DAM_WIDTHS, False, "soap", 4),
    ("DAM, Adam, P = 4", DAM_WIDTHS, False, "adam", 4),
    ("hash grid, 1 x 64, Adam", (64,), True, "adam", 1),
    ("hash grid, 1 x 64, Adam, P = 4", (64,), True, "adam", 4),
]


def counts_of_steps(widths, has_encoding, optimizer, count, device) -> dict[str, tuple[int, int, int]]:
    """(launches, copies, waits) of some steps by their kind; with a check after every second step."""
    settings = FitSettings(epochs=20, batch_size=100, learning_rate=1e-4, optimizer=optimizer)  # 200 steps
    members = []
    for points, sdf in SAMPLES[:count]:
        network = NeuralSDF(widths, encoding=HashGrid(base_resolution=8) if has_encoding else None).to(FAKE)
        members.append(Member(network, points, sdf, hooks=FitHooks(held_out=points[:100])))
    seen = []

    def should_stop():
        seen.append(device.take_counts().totals())
        return len(seen) == 101

    members[0] = replace(members[0], hooks=replace(members[0].hooks, should_stop=should_stop))
    device.take_counts()
    with pytest.raises(Interrupted):
        fit_batch(members, settings)
    # By the number of the step. Statistics of SOAP are due at every fifth, its bases at every hundredth.
    numbers = {
        "usual": 47,
        "with statistics": 45,
        "with a check": 48,
        "first of an epoch": 101,
        "refresh, a check": 100,
    }
    return {name: seen[number - 1] for name, number in numbers.items()}


@pytest.mark.long
def test_table_of_launches_copies_and_waits_of_a_step(device, capsys):
    lines = []
    for name, *arguments in ROWS:
        counts = counts_of_steps(*arguments, device)
        if not lines:
            lines = [f"| | {' | '.join(counts)} |", "|---" * (len(counts) + 1) + "|"]
        lines.append(f"| {name} | {' | '.join(' / '.join(map(str, numbers)) for numbers in counts.values())} |")
        assert counts["usual"][1:] == counts["with statistics"][1:] == (0, 0)
        assert counts["with a check"][2] == 1  # one reading for all members
    with capsys.disabled():
        print("\nlaunches / copies to the device / waits of a step\n" + "\n".join(lines))
