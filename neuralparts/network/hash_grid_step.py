"""A whole training step of a hash grid before one small layer of ReLU, by compiled loops on one or several threads.

In: a network, Adam's means, and the samples of a fit; then, for each step, which of them to take. Out: the network and
the means, changed in place. It computes what torch would with `NeuralSDF.scaled`, a loss of absolute errors and Adam,
but for the order of sums; the bits are the same with any number of threads. A test compares the two, step for step.
"""

import math
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from neuralparts.choices import MOST_COMPILED_FEATURES, WIDEST_COMPILED_LAYER
from neuralparts.network.helper_threads import HelperThreads, Rests
from neuralparts.network.neural_sdf import NeuralSDF

# Each thread takes a level at a time, so more threads than the levels with full tables do not help (not measured). Each
# has an array as large as the largest level; all of them together take at most so many bytes.
MOST_THREADS, MOST_BYTES = 4, 2**28
CACHE_LINE = 64  # bytes


@dataclass(frozen=True)
class AdamMeans:
    """Adam's means of gradients and of their squares, shaped like the parameters, and its constants."""

    first: list[torch.Tensor]
    second: list[torch.Tensor]
    betas: tuple[float, float]
    epsilon: float


@dataclass(frozen=True)
class StepSamples:
    """The samples of a fit: rows (N, 4 or 5) float32 contiguous, of x, y, z, target and perhaps weight; the two of a
    pair follow one another. A step takes `count` samples and `pairs` pairs, whose slopes weigh `slope_weight`."""

    rows: torch.Tensor
    count: int
    pairs: int
    slope_weight: float


def has_compiled_step(network: NeuralSDF) -> bool:
    """True if `HashGridStep` can train a network: on the CPU in float32, a hash grid, one hidden layer of ReLU."""
    if network.encoding is None or network.activation != "relu" or len(network.widths) != 1:
        return False
    if network.widths[0] > WIDEST_COMPILED_LAYER or network.encoding.features > MOST_COMPILED_FEATURES:
        return False
    return all(
        parameter.is_cpu and parameter.dtype == torch.float32 and parameter.is_contiguous() and parameter.requires_grad
        for parameter in network.parameters()
    )


def _rounded_up(number: int, step: int) -> int:
    """The least multiple of `step` that is no smaller than a number."""
    return -(-number // step) * step


def _aligned_zeros(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array of zeros that begins a cache line: a vector that lies across two lines takes twice as long to load."""
    count = math.prod(shape) * np.dtype(dtype).itemsize
    space = np.zeros(count + CACHE_LINE, np.uint8)
    first = -space.ctypes.data % CACHE_LINE
    return space[first : first + count].view(dtype).reshape(shape)


class HashGridStep:
    """The steps of one fit. A network for which `has_compiled_step` is True; close it at the end.

    The first batch is named by `begin`, each further one by the step before it.
    """

    def __init__(self, network: NeuralSDF, means: AdamMeans, samples: StepSamples, threads: int):
        # The compiled loops: no other fit needs them.
        from neuralparts.network import hash_grid_step_kernels, task_board

        self._kernels = hash_grid_step_kernels
        self._betas = means.betas
        largest = max(stop - start for start, stop in pairwise(network.encoding.arrays.offsets))
        affordable = MOST_BYTES // (4 * largest * network.encoding.features)
        helpers = max(0, min(threads, MOST_THREADS, affordable) - 1)
        self._arrays = self._all_arrays(network, means, samples, helpers + 1)
        self._board, self._leave, self._yield_at = task_board.new_board(), task_board.LEAVE, task_board.yield_address()
        self._lanes = (0,) * network.encoding.features
        self._helpers = HelperThreads(lambda thread: self._run(self._kernels.HELP, thread), helpers)
        self._rests = Rests()

    def begin(self, samples: np.ndarray, pairs: np.ndarray) -> None:
        """Name the rows of the first batch: of its samples, and of the first of each pair."""
        self._choose(samples, pairs)
        self._run(self._kernels.PREPARE)

    def take(self, rate: float, steps: int, following: tuple[np.ndarray, np.ndarray] | None) -> float:
        """The step after `steps` steps, at a learning rate. Returns its loss.

        following: the rows of the next batch, as `begin` takes them; None if this is the last step.
        """
        kernels, numbers = self._kernels, self._arrays.numbers
        decay_1, decay_2 = (beta ** (steps + 1) for beta in self._betas)
        numbers[kernels.STEP_SIZE] = rate / (1 - decay_1)
        numbers[kernels.ROOT_SCALE] = (1 - decay_2) ** -0.5
        numbers[kernels.HAS_NEXT] = following is not None
        if following is not None:
            self._choose(*following)
        self._board[self._leave] = self._rests.is_resting
        if not self._rests.is_resting:
            self._helpers.wake()
        started = time.perf_counter()
        loss = self._run(kernels.STEP)
        self._rests.count(time.perf_counter() - started)
        numbers[kernels.TURN] = 1 - numbers[kernels.TURN]
        return loss

    def close(self) -> None:
        """End the helpers."""
        self._helpers.close()

    def _choose(self, samples: np.ndarray, pairs: np.ndarray) -> None:
        """Name the rows of the next batch."""
        following, (behind, first, end) = self._arrays.following, self._arrays.pair_places
        following[:behind] = samples
        following[first:end:2], following[first + 1 : end : 2] = pairs, pairs + 1

    def _run(self, job: int, thread: int = 0) -> float:
        """One job of the compiled loops."""
        return self._kernels.run(self._arrays, self._board, self._yield_at, job, thread, self._lanes)

    def _all_arrays(self, network: NeuralSDF, means: AdamMeans, samples: StepSamples, threads: int) -> tuple:
        """The `StepArrays` of a fit: views of the network and of Adam's means, and space for a batch."""
        kernels, grid = self._kernels, network.encoding
        lanes, tiles = kernels.LANES, kernels.CHUNK_TILES
        width = _rounded_up(network.widths[0], kernels.UNITS)
        depth = _rounded_up(grid.output_width, kernels.UNITS)
        first_pair = _rounded_up(samples.count, lanes)
        places = first_pair + _rounded_up(2 * samples.pairs, lanes)
        chunks = -(-places // kernels.CHUNK)
        largest = max(stop - start for start, stop in pairwise(grid.arrays.offsets))

        def space(*shape: int) -> np.ndarray:
            return _aligned_zeros(shape, np.float32)

        trained = [tensor.detach().numpy() for tensor in (*network.parameters(), *means.first, *means.second)]
        numbers = np.zeros(kernels.NUMBERS)
        numbers[kernels.BETA_1], numbers[kernels.BETA_2] = means.betas
        numbers[kernels.EPSILON] = means.epsilon
        numbers[kernels.SAMPLE_SCALE] = 1 / (samples.count + 2 * samples.pairs)
        numbers[kernels.PAIR_SCALE] = samples.slope_weight / max(1, samples.pairs)
        return kernels.StepArrays(
            *trained,
            *grid.arrays,
            rows=samples.rows.numpy(),
            following=np.zeros(places, np.int64),
            pair_places=np.array([samples.count, first_pair, first_pair + 2 * samples.pairs]),
            coordinates=space(3, places),
            targets=space(2, places),
            weights=space(2, places),
            slope_weights=space(2, places),
            corner_rows=_aligned_zeros((grid.levels, 8 * places), np.uint32),
            corner_weights=space(grid.levels, 8 * places),
            features=space(grid.levels, places * grid.features),
            feature_gradient=space(grid.levels, places * grid.features),
            inner=space(depth * width),
            outer=space(width * depth),
            bias=space(width),
            output=space(width),
            zeros=space(depth),
            inputs=space(threads, tiles * depth * lanes),
            hidden=space(threads, tiles * width * lanes),
            values=space(threads, 2 * lanes),
            input_gradient=space(threads, depth * lanes),
            table_gradient=space(threads, largest, grid.features),
            weight_sums=space(chunks, width * depth),
            bias_sums=space(chunks, width * lanes),
            output_sums=space(chunks, width * lanes),
            value_sums=space(chunks, 2 * lanes),
            losses=np.zeros(chunks),
            numbers=numbers,
        )
