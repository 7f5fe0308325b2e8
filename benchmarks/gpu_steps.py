"""Single steps of fits on a device beside the same steps in float64: a part of `benchmarks/gpu.py`.

A short fit says little about a fault. Two fits whose samples differ in the seventh digit end with errors that differ by
a quarter (docs/log.md). A step does not have that freedom: from the same weights, moments and samples, the device's and
the exact one differ by rounding alone. A value that is read before it is written, or padding that is not zero, shows as
a difference of the size of the step itself.
"""

from copy import deepcopy

import numpy as np
import torch

from neuralparts.fitting import FitSettings
from neuralparts.fitting.batches import Batches, SampleStack, random_generator
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.fitting.schedule import Schedule, make_schedule
from neuralparts.fitting.step import steps_of
from neuralparts.network import NeuralSDF, fit_scaler

# Numbers of the steps that are compared. None refreshes SOAP's bases, the first two take statistics. Earlier steps of
# SOAP magnify rounding: its bases and its means of squares are too young.
COMPARED = (30, 45, 47)
# Rounding of factors to TF32, imitated on a CPU, gave 0.002 (docs/log.md). More than this is a fault.
LARGEST_DIFFERENCE = 0.02
SAMPLES, BATCH, RATE = 2_000, 500, 1e-3

Tensors = dict[str, torch.Tensor]


def box_samples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) uniform over the cube and their signed distances (count,) to a cube of side 1."""
    points = np.random.default_rng(seed).uniform(-1, 1, (count, 3)).astype(np.float32)
    outside = np.abs(points) - 0.5
    distances = np.linalg.norm(np.maximum(outside, 0), axis=1) + np.minimum(outside.max(axis=1), 0)
    return points, distances.astype(np.float32)


def some_fits(
    device: str, widths: tuple[int, ...], settings: FitSettings, count: int
) -> tuple[list[FitState], list[Batches], Schedule]:
    """States before the first step, their samples, and their schedule."""
    place_of_all = torch.device(device)
    stack = SampleStack.empty(count, SAMPLES, 0, settings, place_of_all)
    states, batches = [], []
    for place in range(count):
        points, sdf = box_samples(SAMPLES, seed=place)
        network = NeuralSDF(widths, scaler=fit_scaler("StandardScaler", sdf)).to(device).train()
        network.initialise(settings.init, random_generator(place))
        batches.append(Batches(points, sdf, network.scaler, settings, place_of_all, None, stack, place))
        optimizer = make_optimizer(settings.optimizer, list(network.parameters()))
        states.append(FitState(network, optimizer, torch.zeros((), device=device)))
    return states, batches, make_schedule(settings, SAMPLES, 1.0, has_encoding=False, has_sines=False)


def tensors_of(network: NeuralSDF, optimizer: object) -> Tensors:
    """Copies in float64 on the CPU of all that a step changes."""
    tensors = dict(network.named_parameters()) | optimizer.state()
    return {name: tensor.detach().cpu().double().clone() for name, tensor in tensors.items()}


def exact_step(state: FitState, rows: torch.Tensor, optimizer_name: str) -> Tensors:
    """What the next step of a state makes of its tensors, by autograd in float64. rows: (B, 4), its batch."""
    network = deepcopy(state.network).cpu().double()
    parameters = list(network.parameters())
    optimizer = make_optimizer(optimizer_name, parameters)
    optimizer.load({name: tensor.detach().cpu().double() for name, tensor in state.optimizer.state().items()})
    rows = rows.cpu().double()
    loss = (network.scaled(rows[:, :3]) - rows[:, 3]).square().mean()
    optimizer.step(list(torch.autograd.grad(loss, parameters)), RATE)
    return tensors_of(network, optimizer)


def largest_difference(before: Tensors, found: Tensors, expected: Tensors) -> float:
    """Of all tensors: |found - expected| over |expected - before|; infinite if one moves that should not."""
    largest = 0.0
    for name, exact in expected.items():
        difference, movement = float((found[name] - exact).norm()), float((exact - before[name]).norm())
        if difference > 0:
            largest = max(largest, difference / movement if movement > 0 else float("inf"))
    return largest


def step_differences(device: str, widths: tuple[int, ...], optimizer: str, count: int) -> str:
    """By how much of the step the device's steps COMPARED of `count` networks differ from the exact ones."""
    settings = FitSettings(epochs=100, batch_size=BATCH, optimizer=optimizer, loss="l2")
    states, batches, schedule = some_fits(device, widths, settings, count)
    found = {}
    with steps_of(states, batches, settings, schedule) as take_step:
        for step in range(1, COMPARED[-1] + 1):
            if step not in COMPARED:
                take_step(RATE)
                continue
            numbers = batches[0].order.rows(step - 1, schedule.batch_size, settings.seed)
            before = [tensors_of(state.network, state.optimizer) for state in states]
            pairs = zip(states, batches, strict=True)
            expected = [exact_step(state, own.rows.index_select(0, numbers), optimizer) for state, own in pairs]
            take_step(RATE)
            after = [tensors_of(state.network, state.optimizer) for state in states]
            found[step] = max(map(largest_difference, before, after, expected))
    text = ", ".join(f"step {step}: {difference:.2g}" for step, difference in found.items())
    verdict = "rounding" if max(found.values()) <= LARGEST_DIFFERENCE else "FAULT"
    return f"{verdict}: {text}{_basis_error(after)}"


def _basis_error(states: list[Tensors]) -> str:
    """How far SOAP's bases are from orthonormal ones, in words; '' of Adam."""
    bases = [t for tensors in states for name, t in tensors.items() if name.endswith((".left", ".right"))]
    if not bases:
        return ""
    errors = [float((basis.mT @ basis - torch.eye(len(basis), dtype=basis.dtype)).abs().max()) for basis in bases]
    return f"; bases orthonormal within {max(errors):.1g}"
