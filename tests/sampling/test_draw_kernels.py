"""The compiled draws: their random numbers, and that threads, blocks and chunks change no sample."""

import math

import numpy as np
import pytest
from scipy.stats import kstest

from neuralparts.distance import DistanceOracle
from neuralparts.sampling import importance_samples, pair_samples
from neuralparts.sampling.collector import SampleCollector
from neuralparts.sampling.draw_kernels import propose_block, random_bits, random_numbers
from neuralparts.sampling.importance import ImportanceCells
from tests.sampling.densities import FALSE_ALARM, open_box, part

KEY = np.uint64(0xFEDCBA9876543210)


def bits_slowly(key, counter):
    """The slow twin of `random_bits`, in Python's whole numbers."""
    whole = 2**64 - 1
    bits = (key + counter * 0x9E3779B97F4A7C15) & whole
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & whole
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & whole
    return bits ^ (bits >> 31)


def numbers_slowly(key, k):
    """The slow twin of `random_numbers`."""
    bits, more = bits_slowly(key, 2 * k), bits_slowly(key, 2 * k + 1)
    uniform = [2 * (number % 2**24) / 2**24 - 1 for number in (bits, bits >> 24, more)]
    return *uniform, -math.log(((more >> 24) + 0.5) / 2**40)


@pytest.mark.parametrize("counter", [0, 1, 2**33, 2**64 - 1])
def test_random_bits_are_those_of_whole_numbers(counter):
    assert random_bits(KEY, np.uint64(counter)) == bits_slowly(int(KEY), counter)
    # The first number of splitmix64 with the seed 0, as published.
    assert random_bits(np.uint64(0), np.uint64(1)) == 0xE220A8397B1DCDAF


def test_random_numbers_have_their_densities_and_are_independent():
    drawn = np.array([random_numbers(KEY, np.uint64(k)) for k in range(50_000)])
    assert drawn[:100] == pytest.approx(np.array([numbers_slowly(int(KEY), k) for k in range(100)]), rel=1e-12)
    uniform = np.column_stack([(drawn[:, :3] + 1) / 2, np.exp(-drawn[:, 3])])
    for column in uniform.T:
        assert kstest(column, "uniform").pvalue > FALSE_ALARM
    # No number goes with another of the same point or of the next one.
    together = np.column_stack([uniform[:-1], uniform[1:]])
    assert np.abs(np.corrcoef(together.T) - np.eye(8)).max() < 5 / math.sqrt(len(drawn))


def proposed(cells, ends, start, stop):
    """The proposals from start up to stop that `propose_block` keeps: points, limits, leaves, on_side."""
    size = stop - start
    arrays = np.empty((size, 3), np.float32), np.empty(size, np.float32), np.empty(size, np.int32), np.empty(size, bool)
    leaves = cells.centre, cells.half, cells.distance, cells.nearest
    leaf = int(np.searchsorted(ends, start, side="right"))
    kept = propose_block(start, KEY, leaf, ends, leaves, 1 / cells.importance_weight, 1e-6, *arrays)
    return [array[:kept] for array in arrays]


def proposed_slowly(cells, ends, count):
    """The slow twin of `proposed` from 0 up to count."""
    found = []
    for k in range(count):
        leaf = int(np.searchsorted(ends, k, side="right"))
        *offset, extra = numbers_slowly(int(KEY), k)
        offset = np.array(offset) * cells.half[leaf]
        limit, radius = cells.nearest[leaf] + extra / cells.importance_weight, np.linalg.norm(offset)
        if cells.distance[leaf] - radius < limit:
            found.append((*(cells.centre[leaf] + offset), limit, leaf, radius < cells.distance[leaf] - 1e-6))
    return np.array(found)


def test_proposals_are_those_of_the_slow_twin_in_any_blocks(oracle, generator):
    cells = ImportanceCells(oracle, 1000, 60.0)
    ends = np.cumsum(generator.multinomial(3000, cells.weight))
    whole = proposed(cells, ends, 0, 3000)
    expected = proposed_slowly(cells, ends, 3000)
    assert 100 < len(expected) < 2900 and 0 < expected[:, 5].mean() < 1
    np.testing.assert_allclose(np.column_stack(whole), expected, atol=1e-6)
    parts = [proposed(cells, ends, *block) for block in ((0, 1), (1, 1700), (1700, 3000))]
    for arrays, array in zip(zip(*parts, strict=True), whole, strict=True):
        assert (np.concatenate(arrays) == array).all()


@pytest.mark.parametrize("shape", [part, open_box])
def test_threads_change_no_sample(shape, monkeypatch):
    drawn = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        oracle, generator = DistanceOracle(shape()), np.random.default_rng(7)
        samples = importance_samples(oracle, 50_000, generator, 180.0)
        drawn.append((*samples, *pair_samples(oracle, 70_000, generator)))
    for one, two in zip(*drawn, strict=True):
        assert one.tobytes() == two.tobytes()


def test_chunks_change_no_sample(oracle):
    drawn = []
    for chunk in (2**20, 10_007):
        samples = SampleCollector(5000)
        ImportanceCells(oracle, 5000, 60.0).fill(samples, np.random.default_rng(3), chunk)
        drawn.append((samples.points[: samples.size], samples.sdf[: samples.size]))
    assert (drawn[0][0] == drawn[1][0]).all()
    np.testing.assert_allclose(drawn[0][1], drawn[1][1], atol=1e-7)  # another start of a search may round otherwise
