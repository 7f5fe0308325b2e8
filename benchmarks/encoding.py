"""A whole training step with the compiled hash grid against the same step with plain torch operations, in one run.

A step: encode a batch near a sphere, decode, L1 loss, backward, Adam over all weights. The two alternate, so that other
programs slow both alike. Prints milliseconds (median and least), samples a second, and ratios; the ratio of CPU times,
all threads together, hardly depends on other programs.

    make bench-encoding ARGS="--batch 4096 16384 --rounds 20"
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

# Import modules from the project's root, not from this folder.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from neuralparts.machine import settle_threads

settle_threads()

import torch

from neuralparts.network import HashGrid, threads_for
from neuralparts.network.hash_grid import interpolate

RADIUS = 0.7
RATE = 3e-3


def batch(size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (size, 3) near a sphere's surface, as importance sampling places them, and their distances (size,)."""
    directions = torch.nn.functional.normalize(torch.randn(size, 3, generator=generator))
    distances = 0.017 * torch.randn(size, generator=generator)
    return directions * (RADIUS + distances)[:, None], distances


def plain(grid: HashGrid, points: torch.Tensor) -> torch.Tensor:
    """The encoding in plain torch operations."""
    return interpolate(points, grid.table, grid.level_sizes)


class Training:
    """A grid, a decoder of the given widths, and Adam: the state of one training.

    encode: (grid, points (N, 3)) -> features (N, grid.output_width).
    """

    def __init__(self, widths: list[int], encode: Callable[[HashGrid, torch.Tensor], torch.Tensor]):
        self.grid, self.encode = HashGrid(), encode
        sizes = [self.grid.output_width, *widths]
        layers = [
            layer
            for inputs, outputs in pairwise(sizes)
            for layer in (torch.nn.Linear(inputs, outputs), torch.nn.ReLU())
        ]
        self.decoder = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 1))
        parameters = [*self.grid.parameters(), *self.decoder.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=RATE, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    def step(self, points: torch.Tensor, distances: torch.Tensor) -> None:
        """One timed training step."""
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = (self.decoder(self.encode(self.grid, points)).squeeze(1) - distances).abs().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - started)
        self.cpu_seconds.append(time.process_time() - cpu_started)


def compare(widths: list[int], size: int, rounds: int, steps: int = 4) -> None:
    """Print one line: a step with the kernels, a step without, and the ratio."""
    generator = torch.Generator().manual_seed(0)
    compiled, ordinary = Training(widths, HashGrid.forward), Training(widths, plain)
    for _ in range(rounds + 1):
        samples = batch(size, generator)
        with threads_for(compiled.grid, tuple(widths), size):  # as a fit's steps run
            for _ in range(steps):
                compiled.step(*samples)
        ordinary.step(*samples)
    fast, slow = compiled.seconds[steps:], ordinary.seconds[1:]
    middle = [statistics.median(fast), statistics.median(slow)]
    cpu = [statistics.median(run.cpu_seconds[1:]) for run in (compiled, ordinary)]
    decoder = "x".join(map(str, widths))
    print(
        f"{decoder:>8} {size:>6} | {1e3 * middle[0]:8.2f} {1e3 * min(fast):8.2f} {size / middle[0] / 1e6:6.2f} M/s | "
        f"{1e3 * middle[1]:8.2f} {1e3 * min(slow):8.2f} {size / middle[1] / 1e6:6.2f} M/s | "
        f"{middle[1] / middle[0]:5.1f} {min(slow) / min(fast):5.1f} {cpu[1] / cpu[0]:9.1f}"
    )


def main() -> None:
    """Read the flags, print the machine and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[4096, 8192, 16384], help="samples in a step")
    parser.add_argument("--rounds", type=int, default=12, help="plain steps timed; four compiled ones for each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch and kernels")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {arguments.threads} threads, torch {torch.__version__}")
    print("a training step: milliseconds (median, least), rate; ratios of medians, of least times, of CPU times")
    print(" decoder  batch | compiled                        | plain torch                     | ratios")
    for widths in ([64], [32, 32], [64, 64]):
        for size in arguments.batch:
            compare(widths, size, arguments.rounds)


if __name__ == "__main__":
    main()
