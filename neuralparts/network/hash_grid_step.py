"""A training step of a hash grid with one hidden layer of ReLU, compiled as a whole."""

import threading
from itertools import pairwise

import numpy as np
import torch

from neuralparts.network import hash_grid_step_kernels as kernels
from neuralparts.network.hash_levels import LevelArrays
from neuralparts.network.task_board import new_board, yield_address


def rounded_up(number: int, step: int) -> int:
    return -(-number // step) * step


class HashGridStep:
    def __init__(self, network, first, second, rows, batch, threads, betas, epsilon, slope_weight):
        """rows: (N, 4 or 5) of the fit. batch: (samples, pairs). threads: that take part."""
        samples, pairs = batch
        arrays: LevelArrays = network.encoding.arrays
        hidden, output = network.layers[0], network.layers[2]
        parameters = [network.encoding.table, hidden.weight, hidden.bias, output.weight, output.bias]
        view = lambda tensors: [tensor.detach().numpy() for tensor in tensors]  # noqa: E731
        levels, features = network.encoding.levels, network.encoding.features
        self._lanes = (0,) * features
        lanes = kernels.LANES
        places = rounded_up(samples, lanes) + rounded_up(2 * pairs, lanes)
        chunks = -(-places // kernels.CHUNK)
        width, depth = rounded_up(len(hidden.bias), kernels.UNITS), rounded_up(levels * features, kernels.UNITS)
        zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
        largest = max(stop - start for start, stop in pairwise(arrays.offsets))
        tiles = kernels.CHUNK_TILES
        self.a = kernels.StepArrays(
            *view(parameters), *view(first), *view(second), *arrays,
            rows.numpy(), np.zeros(samples, np.int64), np.zeros(pairs, np.int64),
            zeros(3, places), zeros(2, places), zeros(2, places), zeros(2, places),
            np.zeros((levels, 8 * places), np.uint32), zeros(levels, 8 * places),
            zeros(levels, places * features), zeros(levels, places * features),
            zeros(depth * width), zeros(width * depth), zeros(width), zeros(width), zeros(depth),
            zeros(threads, tiles * depth * lanes), zeros(threads, tiles * width * lanes), zeros(threads, 2 * lanes),
            zeros(threads, depth * lanes), zeros(threads, largest, features),
            zeros(chunks, width * depth), zeros(chunks, width * lanes), zeros(chunks, width * lanes),
            zeros(chunks), np.zeros(chunks),
        )  # fmt: skip
        self.numbers = np.zeros(9)
        self.numbers[2:7] = *betas, epsilon, 1 / (samples + 2 * pairs), slope_weight / max(1, pairs)
        self.betas = betas
        self.board, self.yield_at = new_board(), yield_address()
        self.turn = 0
        self.steps = 0
        self.asleep = [False] * (threads - 1)
        self.doors = [threading.Semaphore(0) for _ in range(threads - 1)]
        self.closing = False
        self.helpers = [threading.Thread(target=self.help, args=(i,), daemon=True) for i in range(threads - 1)]
        for h in self.helpers:
            h.start()

    def help(self, index):
        while True:
            self.asleep[index] = True
            self.doors[index].acquire()
            if self.closing:
                return
            kernels.help_steps(self.a, self.numbers, self.board, self.yield_at, index + 1, self._lanes)

    def close(self):
        self.closing = True
        for door in self.doors:
            door.release()
        for h in self.helpers:
            h.join()

    def choose(self, samples, pairs):
        self.a.samples[:] = samples
        self.a.pairs[:] = pairs

    def prepare(self):
        kernels.prepare(self.a, self.numbers, self.turn, self._lanes)

    def step(self, rate, has_next=True):
        self.steps += 1
        b1, b2 = self.betas
        n = self.numbers
        n[0] = rate / (1 - b1**self.steps)
        n[1] = 1 / (1 - b2**self.steps) ** 0.5
        n[7], n[8] = self.turn, has_next
        for i, asleep in enumerate(self.asleep):
            if asleep:
                self.asleep[i] = False
                self.doors[i].release()
        loss = kernels.take_step(self.a, n, self.board, self.yield_at, self._lanes)
        self.turn = 1 - self.turn
        return loss
