"""The compiled training step of a hash grid with a layer of 64 against torch's step, in one run: `make bench-step`.

Both take the steps of presets/instant.sh, by turns, so that other programs slow both alike: torch on one thread, as a
fit ran before, and the compiled step on one thread and on two (on one if this process may use no more). Samples are
random points near a sphere. Prints milliseconds of a step (median, tenth percentile, least), CPU time, and ratios to
torch; then the bytes and the floating-point operations of a step.

    make bench-step ARGS="--rounds 100"
"""

import argparse
import os
import platform
import sys
import time
from contextlib import ExitStack
from pathlib import Path

# Import modules from the project's root, not from this folder.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from neuralparts.machine import settle_threads

settle_threads()

import numpy as np
import torch

from neuralparts.fitting import FitSettings
from neuralparts.fitting.batches import Batches, random_generator
from neuralparts.fitting.checkpoint import FitState
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.fitting.schedule import make_schedule
from neuralparts.fitting.step import TorchStep, compiled_steps
from neuralparts.network import HashGrid, NeuralSDF

# The preset's.
SETTINGS = FitSettings(epochs=5, batch_size=2048, learning_rate=0.01, optimizer="adam", loss="relative")
SAMPLES, PAIRS, BASE_RESOLUTION, WIDTH = 900_000, 160_000, 8, 64
# Steps of each kind in a round, about as many as between two checks of a fit.
STEPS = {"torch, 1 thread": 6, "compiled, 1 thread": 16, "compiled, 2 threads": 16}


def labelled(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) near a sphere, and their distances (count,)."""
    directions, distances = generator.normal(size=(count, 3)), 0.02 * generator.normal(size=count)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return (directions * (0.7 + distances)[:, None]).astype(np.float32), distances.astype(np.float32)


def some_batches() -> Batches:
    """The samples and pairs of a fit as the preset's."""
    generator = np.random.default_rng(0)
    first, sdf = labelled(PAIRS, generator)
    second = first * (1 + 1 / 128)
    pairs = np.stack([first, second], 1), np.stack([sdf, np.linalg.norm(second, axis=1) - 0.7], 1).astype(np.float32)
    samples = labelled(SAMPLES, generator)
    return Batches(*samples, NeuralSDF((WIDTH,)).scaler, SETTINGS, torch.device("cpu"), pairs)


def a_state() -> FitState:
    """The state of a fit before its first step."""
    network = NeuralSDF((WIDTH,), encoding=HashGrid(base_resolution=BASE_RESOLUTION)).train()
    network.initialise(SETTINGS.init, random_generator(0))
    optimizer = make_optimizer(SETTINGS.optimizer, list(network.parameters()), has_encoding=True)
    return FitState(network, optimizer, torch.zeros(()))


def sizes(state: FitState, batches: Batches, size: int) -> str:
    """One line: points, floating-point operations and bytes of a step."""
    grid, points = state.network.encoding, size + 2 * batches.pairs_beside(size)
    layers = 6 * points * (grid.output_width + 1) * WIDTH
    corners = 2 * 2 * 8 * points * grid.output_width
    numbers = state.network.parameter_count
    return (
        f"a step: {points} points, {layers / 1e6:.1f} Mflop in the layers, {corners / 1e6:.1f} at the corners; "
        f"Adam reads and writes {6 * 4 * numbers / 1e6:.1f} MB for {numbers:,} numbers; "
        f"{2 * 8 * grid.levels * points:,} rows are read or added to"
    )


def main() -> None:
    """Read the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60, help="rounds, in each of which each kind takes some steps")
    rounds = parser.parse_args().rounds
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    batches = some_batches()
    schedule = make_schedule(SETTINGS, len(batches), 1.0, has_encoding=True, has_sines=False)
    seconds, cpu_seconds = ({kind: [] for kind in STEPS} for _ in range(2))
    with ExitStack() as stack:
        takers = {}
        for kind in STEPS:
            torch.set_num_threads(2 if "2" in kind else 1)
            parts = a_state(), batches, SETTINGS, schedule
            is_torch = kind.startswith("torch")
            takers[kind] = TorchStep(*parts) if is_torch else stack.enter_context(compiled_steps(*parts))
        torch.set_num_threads(1)
        for _ in range(rounds + 1):
            for kind, take_step in takers.items():
                cpu_started, taken = time.process_time(), []
                for _ in range(STEPS[kind]):
                    started = time.perf_counter()
                    take_step(0.003)
                    taken.append(time.perf_counter() - started)
                cpu_seconds[kind].append((time.process_time() - cpu_started) / STEPS[kind])
                seconds[kind].append(float(np.median(taken)))
    plain, plain_cpu = (np.array(times["torch, 1 thread"][1:]) for times in (seconds, cpu_seconds))
    print("ms a step: median, tenth percentile, least; CPU ms | torch over it, medians of rounds: seconds, CPU")
    for kind in STEPS:
        times, cpu = np.array(seconds[kind][1:]), np.array(cpu_seconds[kind][1:])
        figures = 1e3 * np.array([np.median(times), np.percentile(times, 10), times.min(), np.median(cpu)])
        ratios = np.median(plain / times), np.median(plain_cpu / cpu)
        print(f"{kind:>20}: " + " ".join(f"{x:6.2f}" for x in figures) + " | " + " ".join(f"{x:5.2f}" for x in ratios))
    print(sizes(a_state(), batches, schedule.batch_size))


if __name__ == "__main__":
    main()
