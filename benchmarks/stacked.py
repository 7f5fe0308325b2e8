"""Many networks stepped as one stack against one after the other, in one process by turns: `make bench-stacked`.

On the CPU, on one thread: small networks, by torch one after the other and as stacks. On a GPU (--device cuda): the DAM
network as stacks of several sizes, and one hash grid, launched one by one and as CUDA graphs; how long a capture and a
refresh of SOAP's bases take; and whether graphs give the numbers of single launches. Samples are random points near
spheres. Prints samples a second, in thousands, and ratios to the first column. It takes a minute.

    make bench-stacked ARGS="--rounds 20"
    python -m benchmarks.stacked --device cuda
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

# Import modules from the project's root, not from this folder.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from neuralparts.machine import settle_threads

settle_threads()

import numpy as np
import torch

from neuralparts.fitting import FitSettings
from neuralparts.fitting.batches import Batches, SampleStack, random_generator
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.cuda_graph import capture
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.fitting.schedule import Schedule, make_schedule
from neuralparts.fitting.stack import GPU_MULTIPLE, stacked
from neuralparts.fitting.stacked_step import StackedStep
from neuralparts.fitting.step_frame import StepFrame
from neuralparts.fitting.torch_step import TorchStep
from neuralparts.network import DAM_WIDTHS, HashGrid, NeuralSDF

SAMPLES, RATE = 50_000, 1e-4
SMALL = {"8 x 32": (32,) * 8, "4 x 64": (64,) * 4, "4 x 128": (128,) * 4}
ON_CPU, ON_GPU = (2, 4, 8, 16), (1, 8, 32, 64)
CPU_STEPS, GPU_STEPS = 5, 50
# Steps before a measurement: SOAP takes more statistics at its start.
FIRST_STEPS = 40


def labelled(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (SAMPLES, 3) near a sphere, and their distances (SAMPLES,)."""
    generator = np.random.default_rng(seed)
    directions, distances = generator.normal(size=(SAMPLES, 3)), 0.02 * generator.normal(size=SAMPLES)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return (directions * (0.7 + distances)[:, None]).astype(np.float32), distances.astype(np.float32)


def some_fits(
    count: int, make_network: Callable[[], NeuralSDF], settings: FitSettings, device: torch.device
) -> tuple[list[FitState], list[Batches], Schedule]:
    """States before the first step, their samples, and their schedule."""
    samples = SampleStack.empty(count, SAMPLES, 0, settings, device)
    states, batches = [], []
    for place in range(count):
        network = make_network().to(device).train()
        network.initialise(settings.init, random_generator(place))
        batches.append(Batches(*labelled(place), network.scaler, settings, device, None, samples, place))
        optimizer = make_optimizer(settings.optimizer, list(network.parameters()), network.encoding is not None)
        states.append(FitState(network, optimizer, torch.zeros((), device=device)))
    schedule = make_schedule(settings, SAMPLES, 1.0, has_encoding=False, has_sines=False)
    return states, batches, schedule


def a_stack(
    block: ExitStack, count: int, widths: tuple[int, ...], settings: FitSettings, device: torch.device
) -> StackedStep:
    """Steps of a stack of `count` networks. block: holds it."""
    states, batches, schedule = some_fits(count, lambda: NeuralSDF(widths), settings, device)
    stack = block.enter_context(stacked(states, settings.optimizer, 1 if device.type == "cpu" else GPU_MULTIPLE))
    return StackedStep(states, batches, settings, schedule, stack)


def seconds_of(take_step: Callable[[float], None], steps: int, device: torch.device) -> float:
    """Seconds of a step."""
    started = time.perf_counter()
    for _ in range(steps):
        take_step(RATE)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


def on_the_cpu(rounds: int, size: int) -> None:
    """A line for each small network and optimiser: samples a second alone and in stacks."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    print(f"k samples/s, batch {size}, medians of {rounds} rounds (ratio to alone)")
    print(f"{'':>14} {'alone':>9}" + "".join(f"{f'P = {count}':>17}" for count in ON_CPU))
    for name, widths in SMALL.items():
        for optimizer in ("adam", "soap"):
            settings = FitSettings(batch_size=size, optimizer=optimizer)
            with ExitStack() as block:
                states, batches, schedule = some_fits(1, lambda widths=widths: NeuralSDF(widths), settings, device)
                takers = {1: TorchStep(states[0], batches[0], settings, schedule)}
                for count in ON_CPU:
                    takers[-count] = a_stack(block, count, widths, settings, device)
                seconds = {count: [] for count in takers}
                for take_step in takers.values():
                    seconds_of(take_step, FIRST_STEPS, device)
                for _ in range(rounds):
                    for count, take_step in takers.items():
                        seconds[count].append(seconds_of(take_step, CPU_STEPS, device))
            rates = {count: abs(count) * size / np.array(times) / 1e3 for count, times in seconds.items()}
            line = f"{name} {optimizer:>5} {np.median(rates[1]):11.0f}"
            for count in ON_CPU:
                line += f"{np.median(rates[-count]):10.0f} ({np.median(rates[-count] / rates[1]):.2f})"
            print(line)


def on_the_gpu(size: int) -> None:
    """Lines for stacks of the DAM network and for a hash grid, eager and as graphs."""
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(device)}; batch {size}; ms a step and M samples/s: eager, by graph; capture s")
    for optimizer in ("soap", "adam"):
        settings = FitSettings(batch_size=size, optimizer=optimizer)
        for count in ON_GPU:
            with ExitStack() as block:
                step = a_stack(block, count, DAM_WIDTHS, settings, device)
                eager_and_graph(f"DAM {optimizer}, P = {count}", step, count, size, optimizer == "soap")
    for optimizer in ("adam", "soap"):
        settings = FitSettings(batch_size=size, optimizer=optimizer, loss="relative")
        (state,), (batches,), schedule = some_fits(1, lambda: NeuralSDF((64,), encoding=HashGrid()), settings, device)
        step = TorchStep(state, batches, settings, schedule)
        eager_and_graph(f"hash grid {optimizer}", step, 1, size, optimizer == "soap")
    same_numbers(size, device)


def eager_and_graph(name: str, step: StepFrame, count: int, size: int, with_statistics: bool) -> None:
    """A line: a step eager and by graph, the capture, and for SOAP a refresh."""
    device = step.numbers.device
    seconds_of(step, FIRST_STEPS, device)
    eager = seconds_of(step, GPU_STEPS // 2, device)
    started = time.perf_counter()
    capture(step, (False, True) if with_statistics else (False,))
    torch.cuda.synchronize()
    captured = time.perf_counter() - started
    seconds_of(step, 2, device)
    by_graph = seconds_of(step, 2 * GPU_STEPS, device)
    figures = " ".join(f"{1e3 * s:8.3f} {count * size / s / 1e6:6.2f}" for s in (eager, by_graph))
    print(f"{name:>18}: {figures} {captured:6.2f}; {refresh_ms(step) if with_statistics else ''}", flush=True)


def refresh_ms(step: StepFrame) -> str:
    """Milliseconds of a refresh of SOAP's bases, in words; a step by graph includes a hundredth of it."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(3):
        step.optimizer.refresh()
    torch.cuda.synchronize()
    return f"a refresh {1e3 * (time.perf_counter() - started) / 3:.1f} ms"


def same_numbers(size: int, device: torch.device) -> None:
    """Whether graphs give the numbers of single launches: largest differences after steps from one state."""
    for optimizer in ("adam", "soap"):
        settings, weights, losses = FitSettings(batch_size=size, optimizer=optimizer), [], []
        for is_captured in (False, True, True):
            with ExitStack() as block:
                step = a_stack(block, 3, DAM_WIDTHS, settings, device)
                if is_captured:
                    before = [tensor.detach().clone() for tensor in step.changed]
                    capture(step, (False, True) if optimizer == "soap" else (False,))
                    kept = all(torch.equal(*pair) for pair in zip(before, step.changed, strict=True))
                for _ in range(FIRST_STEPS):
                    step(RATE)
                weights.append(torch.cat([tensor.detach().flatten() for tensor in step.changed]))
                losses.append(step.changed[-1].tolist())
        eager, first, second = weights
        print(
            f"{optimizer}: {FIRST_STEPS} steps, by graph and eager differ by {(eager - first).abs().max():.3g}, "
            f"two graphs by {(first - second).abs().max():.3g}; losses {losses[0][0]:.6f} {losses[1][0]:.6f}; "
            f"capturing changed {'nothing' if kept else 'THE STATE'}"
        )


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=20, help="rounds, in each of which each kind takes some steps")
    parser.add_argument("--batch", type=int, help="samples in a step of each network (512 on the CPU, 1024 on a GPU)")
    flags = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    if flags.device == "cuda":
        on_the_gpu(flags.batch or 1024)
    else:
        on_the_cpu(flags.rounds, flags.batch or 512)


if __name__ == "__main__":
    main()
