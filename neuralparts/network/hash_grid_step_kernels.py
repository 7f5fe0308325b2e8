"""The compiled loops of a training step of a hash grid with one hidden layer of ReLU (`hash_grid_step.py`).

In: the arrays of one fit (`StepArrays`). Out: the table, the weights and Adam's means, changed in place, and the loss.
A step has two phases, and any thread takes the next task of a phase:

- decode: one task for each chunk of the batch. From features to values, loss, and back to the features' gradient; then
  the same chunk of the next batch is gathered.
- update: one task for each level of the grid, and one for the layers. A level's task adds up its gradient, takes
  Adam's step, and computes the features of the next batch while its rows are in the cache.

Every sum belongs to one task and has one fixed order, so the bits are the same with any number of threads.

Names in the kernels: S places of a batch (whole tiles), L levels, F features a node, K = L F inputs of the hidden layer
and W its width, both rounded up to a multiple of UNITS. A tile is LANES places side by side: an array (tiles, K, LANES)
has K numbers of each of them. What `vector_kernels` takes is flat; its shape stands in `StepArrays`.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
from numba import njit

from neuralparts.network.hash_grid_kernels import blend, compiled, inlined, spread, strides
from neuralparts.network.task_board import (
    DONE,
    LEAVE,
    LOOKS,
    PHASE,
    call,
    count_up,
    open_phase,
    seen,
    taken,
    wait_for_all,
)
from neuralparts.network.vector_kernels import (
    LANES,
    SIDE,
    UNITS,
    apart,
    corners,
    fetch_ahead,
    hidden_gradient,
    lane_sum,
    loss_tile,
    output_tile,
    products,
    scalar_products,
    together,
)

# Compiled with `run`, and kept as a part of it: one file of machine code to load.
part_of_run = njit(nogil=True, error_model="numpy")
# Tiles in a chunk.
CHUNK_TILES = 16
CHUNK = CHUNK_TILES * LANES
# The phases of a step, and the jobs of `run`.
DECODE, UPDATE = 0, 1
PREPARE, STEP, HELP = 0, 1, 2
# Times that a helper without a task lets others run before it leaves: some 0.2 ms in all.
PATIENCE = 10
RECTIFY, KEEP = (0,), ()
ZERO, ONE = np.float32(0), np.float32(1)
# Places in `StepArrays.numbers`: Adam's learning rate over the correction of its first means, one over the root of that
# of the second, and its constants; the weight of a sample and of a pair's slope in the loss; which half of the arrays
# "by turns" holds the batch, and 1 if another one follows.
STEP_SIZE, ROOT_SCALE, BETA_1, BETA_2, EPSILON, SAMPLE_SCALE, PAIR_SCALE, TURN, HAS_NEXT = range(9)
NUMBERS = 9


class StepArrays(NamedTuple):
    """All arrays that the steps of one fit work on, contiguous, float32 unless stated.

    P pairs beside B samples fill the S places of a batch: samples first, the pairs from a whole tile on. C chunks.
    """

    # The network, then Adam's means of gradients and of their squares: table (rows, F), hidden weight (width, L F),
    # hidden bias (width,), output weight (1, width), output bias (1,).
    table: np.ndarray
    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    output_weight: np.ndarray
    output_bias: np.ndarray
    first_table: np.ndarray
    first_hidden_weight: np.ndarray
    first_hidden_bias: np.ndarray
    first_output_weight: np.ndarray
    first_output_bias: np.ndarray
    second_table: np.ndarray
    second_hidden_weight: np.ndarray
    second_hidden_bias: np.ndarray
    second_output_weight: np.ndarray
    second_output_bias: np.ndarray
    # The grid's levels, see `LevelArrays`.
    resolutions: np.ndarray
    offsets: np.ndarray
    dense: np.ndarray
    masks: np.ndarray
    # The fit's rows (all samples, then all pairs; x, y, z, target, perhaps weight), and which of them the next batch
    # has at each place, (S,) int64, any for padding. Places of a batch, (3,) int64: behind the samples, at the first
    # pair, behind the pairs.
    rows: np.ndarray
    following: np.ndarray
    pair_places: np.ndarray
    # The batch, and the next one: coordinates (3, S) of the latter; targets, weights and weights of the pairs'
    # slopes (2, S), by turns.
    coordinates: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    slope_weights: np.ndarray
    # Corners of the batch: rows uint32 and weights (L, S / LANES, 8, LANES). Features and their gradient (L, S, F).
    corner_rows: np.ndarray
    corner_weights: np.ndarray
    features: np.ndarray
    feature_gradient: np.ndarray
    # The layers, rounded up with zeros: hidden weight (K, W) and (W, K), bias (W,), output weight (W,), and zeros (K,).
    inner: np.ndarray
    outer: np.ndarray
    bias: np.ndarray
    output: np.ndarray
    zeros: np.ndarray
    # Of each thread: inputs (CHUNK_TILES, K, LANES), hidden values (CHUNK_TILES, W, LANES), values and slopes
    # (2, LANES), the gradient of a tile's inputs (K, LANES), and that of a level's rows, always left at zero.
    inputs: np.ndarray
    hidden: np.ndarray
    values: np.ndarray
    input_gradient: np.ndarray
    table_gradient: np.ndarray
    # Sums of each chunk: hidden weight (C, W K), hidden bias and output weight (C, W LANES), loss and output bias
    # (C, 2, LANES), and the whole loss (C,) float64.
    weight_sums: np.ndarray
    bias_sums: np.ndarray
    output_sums: np.ndarray
    value_sums: np.ndarray
    losses: np.ndarray
    # What a step is called with, float64, see STEP_SIZE.
    numbers: np.ndarray


@part_of_run
def fetch_rows(rows, places):
    """Have rows of the next batch brought into the cache: they lie anywhere in memory."""
    columns = rows.shape[1]
    for row in places:
        fetch_ahead(rows, row * columns)
        fetch_ahead(rows, row * columns + columns - 1)


@part_of_run
def gather(a, turn, first, stop):
    """Copy places of the next batch, whole tiles, from the fit's rows to coordinates, targets and weights."""
    rows, following, pair_places = a.rows, a.following, a.pair_places
    coordinates, targets, weights, slope_weights = (
        a.coordinates,
        a.targets[turn],
        a.weights[turn],
        a.slope_weights[turn],
    )
    sample_scale, pair_scale = np.float32(a.numbers[SAMPLE_SCALE]), np.float32(a.numbers[PAIR_SCALE])
    for place in range(first, stop):
        row = following[place]
        for axis in range(3):
            coordinates[axis, place] = rows[row, axis]
        targets[place] = rows[row, 3]
        weights[place] = rows[row, 4] * sample_scale if rows.shape[1] == 5 else sample_scale
    # Padding weighs nothing.
    for place in range(max(first, pair_places[0]), min(stop, pair_places[1])):
        weights[place] = ZERO
    for place in range(max(first, pair_places[2]), stop):
        weights[place] = ZERO
    for place in range(max(first, pair_places[1]), min(stop, pair_places[2]), 2):
        square = ZERO
        for axis in range(3):
            square += (coordinates[axis, place + 1] - coordinates[axis, place]) ** 2
        weight = pair_scale / sqrt(square)
        slope_weights[place], slope_weights[place + 1] = weight, weight


@part_of_run
def decode(a, turn, chunk, thread, lanes):
    """One chunk of the batch: its loss, its sums of the layers' gradients, and the gradient of its features."""
    levels, width, depth, places = len(a.resolutions), len(a.bias), len(a.zeros), a.coordinates.shape[1]
    first, stop = chunk * CHUNK_TILES, min((chunk + 1) * CHUNK_TILES, places // LANES)
    # Flat positions: of this thread's space, of this chunk's sums, and of this turn's half of the batch.
    inputs_at, hidden_at = thread * CHUNK_TILES * depth * LANES, thread * CHUNK_TILES * width * LANES
    values_at, gradient_at, half = thread * 2 * LANES, thread * depth * LANES, turn * places
    value_sums_at, unit_sums_at, weight_sums_at = chunk * 2 * LANES, chunk * width * LANES, chunk * width * depth
    a.value_sums[chunk] = ZERO
    a.bias_sums[chunk] = ZERO
    a.output_sums[chunk] = ZERO
    inner, outer, bias, output, zeros, output_bias = a.inner, a.outer, a.bias, a.output, a.zeros, a.output_bias[0]
    features, feature_gradient, level_size, block = (
        a.features,
        a.feature_gradient,
        places * len(lanes),
        len(lanes) * LANES,
    )
    inputs, hidden, values, gradient = a.inputs, a.hidden, a.values, a.input_gradient
    targets, weights, slope_weights = a.targets, a.weights, a.slope_weights
    weight_sums, bias_sums, output_sums, value_sums = a.weight_sums, a.bias_sums, a.output_sums, a.value_sums
    for tile in range(first, stop):
        # A few at a time: the CPU waits for no more than some tens of them at once.
        fetch_rows(a.rows, a.following[tile * LANES : (tile + 1) * LANES])
        # Inputs (K, LANES) of the hidden layer, then its values (W, LANES), and those of the output (LANES,).
        start, here = inputs_at + (tile - first) * depth * LANES, hidden_at + (tile - first) * width * LANES
        for level in range(levels):
            apart(features, level * level_size + tile * block, inputs, start + level * block, lanes)
        for unit in range(0, width, UNITS):
            products(inner, unit, width, bias, unit, depth, inputs, start, hidden, here + unit * LANES, RECTIFY)
        output_tile(output, output_bias, width, hidden, here, values, values_at)
        loss_tile(values, values_at, targets, weights, slope_weights, half + tile * LANES, value_sums, value_sums_at)
        # The hidden values' gradient (W, LANES) in their place, and from it that of the inputs (K, LANES).
        for unit in range(width):
            at, sums_at = here + unit * LANES, unit_sums_at + unit * LANES
            hidden_gradient(output[unit], values, values_at + LANES, hidden, at, bias_sums, output_sums, sums_at)
        for unit in range(0, depth, UNITS):
            products(outer, unit, depth, zeros, unit, width, hidden, here, gradient, gradient_at + unit * LANES, KEEP)
        for level in range(levels):
            at = level * level_size + tile * block
            together(gradient, gradient_at + level * block, feature_gradient, at, lanes)
    # The hidden weight's gradient (W, K): products of all its gradients with all its inputs.
    for unit in range(0, width, SIDE):
        for number in range(0, depth, SIDE):
            scalar_products(
                hidden, hidden_at + unit * LANES, width * LANES, inputs, inputs_at + number * LANES, depth * LANES,
                stop - first, weight_sums, weight_sums_at + unit * depth + number, depth,
            )  # fmt: skip
    a.losses[chunk] = lane_sum(value_sums, value_sums_at)
    gather(a, 1 - turn, first * LANES, stop * LANES)


@inlined
def adam(values, first, second, gradient, numbers):
    """Adam's step (Kingma and Ba, 2015) on flat arrays of one length; the gradient is left at zero."""
    step_size, root_scale = np.float32(numbers[STEP_SIZE]), np.float32(numbers[ROOT_SCALE])
    epsilon, keep_2 = np.float32(numbers[EPSILON]), np.float32(numbers[BETA_2])
    take_1, take_2 = np.float32(1 - numbers[BETA_1]), np.float32(1 - numbers[BETA_2])
    for index in range(len(values)):
        slope = gradient[index]
        mean = first[index] + take_1 * (slope - first[index])
        square = keep_2 * second[index] + take_2 * slope * slope
        first[index], second[index] = mean, square
        values[index] -= step_size * mean / (sqrt(square) * root_scale + epsilon)
        gradient[index] = ZERO


@inlined
def corner_of(array, place, lane):
    """The eight numbers of a place in a tile's corners (8, LANES) that begin at `place`."""
    at = np.uint64(place + lane)
    step = np.uint64(LANES)
    return (
        array[at], array[at + step], array[at + np.uint64(2) * step], array[at + np.uint64(3) * step],
        array[at + np.uint64(4) * step], array[at + np.uint64(5) * step], array[at + np.uint64(6) * step],
        array[at + np.uint64(7) * step],
    )  # fmt: skip


@inlined
def whole_rows(rows):
    """Eight rows as uint64."""
    a, b, c, d, e, f, g, h = rows
    return (
        np.uint64(a), np.uint64(b), np.uint64(c), np.uint64(d), np.uint64(e), np.uint64(f), np.uint64(g), np.uint64(h)
    )  # fmt: skip


@part_of_run
def encode_level(a, level, lanes):
    """One level's corners and features of the next batch."""
    places, features = a.coordinates.shape[1], len(lanes)
    table = a.table[a.offsets[level] : a.offsets[level + 1]]
    stride_y, stride_z = strides(a.resolutions[level], a.dense[level])
    rows, weights, result = a.corner_rows[level], a.corner_weights[level], a.features[level]
    for place in range(0, places, LANES):
        corners(
            a.coordinates, place, places, a.resolutions[level], stride_y, stride_z, a.dense[level], a.masks[level],
            rows, weights, 8 * place,
        )  # fmt: skip
        for lane in range(LANES):
            at = whole_rows(corner_of(rows, 8 * place, lane))
            blend(table, at, corner_of(weights, 8 * place, lane), result, np.uint64((place + lane) * features), lanes)


@part_of_run
def update_level(a, level, thread, lanes):
    """One level's gradient and Adam's step."""
    places, features = a.coordinates.shape[1], len(lanes)
    start, stop = a.offsets[level], a.offsets[level + 1]
    gradient = a.table_gradient[thread][: stop - start]
    rows, weights, source = a.corner_rows[level], a.corner_weights[level], a.feature_gradient[level]
    for place in range(0, places, LANES):
        for lane in range(LANES):
            at = whole_rows(corner_of(rows, 8 * place, lane))
            weight = corner_of(weights, 8 * place, lane)
            spread(gradient, at, weight, source, np.uint64((place + lane) * features), lanes)
    adam(
        a.table[start:stop].reshape(-1),
        a.first_table[start:stop].reshape(-1),
        a.second_table[start:stop].reshape(-1),
        gradient.reshape(-1),
        a.numbers,
    )


@part_of_run
def pack_layers(a):
    """Copy the layers into the arrays that the loops read, which are rounded up with zeros."""
    width, inputs = a.hidden_weight.shape
    for unit in range(width):
        for number in range(inputs):
            a.inner[number * len(a.bias) + unit] = a.hidden_weight[unit, number]
            a.outer[unit * len(a.zeros) + number] = a.hidden_weight[unit, number]
        a.bias[unit] = a.hidden_bias[unit]
        a.output[unit] = a.output_weight[0, unit]


@part_of_run
def update_layers(a):
    """The layers' gradients, summed chunk by chunk, and Adam's step."""
    width, inputs = a.hidden_weight.shape
    depth = len(a.zeros)
    for chunk in range(1, len(a.losses)):
        for index in range(a.weight_sums.shape[1]):
            a.weight_sums[0, index] += a.weight_sums[chunk, index]
        for index in range(a.bias_sums.shape[1]):
            a.bias_sums[0, index] += a.bias_sums[chunk, index]
            a.output_sums[0, index] += a.output_sums[chunk, index]
        for index in range(LANES, 2 * LANES):
            a.value_sums[0, index] += a.value_sums[chunk, index]
        a.losses[0] += a.losses[chunk]
    sums = a.weight_sums[0]
    for unit in range(width):
        adam(
            a.hidden_weight[unit],
            a.first_hidden_weight[unit],
            a.second_hidden_weight[unit],
            sums[unit * depth : unit * depth + inputs],
            a.numbers,
        )
    # One number a unit, of the sums of each lane.
    bias, output = np.empty(width, np.float32), np.empty(width, np.float32)
    for unit in range(width):
        bias[unit], output[unit] = lane_sum(a.bias_sums, unit * LANES), lane_sum(a.output_sums, unit * LANES)
    adam(a.hidden_bias, a.first_hidden_bias, a.second_hidden_bias, bias, a.numbers)
    adam(a.output_weight[0], a.first_output_weight[0], a.second_output_weight[0], output, a.numbers)
    bias[0] = lane_sum(a.value_sums, LANES)
    adam(a.output_bias, a.first_output_bias, a.second_output_bias, bias[:1], a.numbers)
    pack_layers(a)


@inlined
def do_task(a, phase, task, thread, lanes):
    """One task of a phase of the step."""
    levels = len(a.resolutions)
    if phase == DECODE:
        decode(a, int(a.numbers[TURN]), task, thread, lanes)
    elif task < levels:  # the largest first
        update_level(a, levels - 1 - task, thread, lanes)
        if a.numbers[HAS_NEXT]:
            encode_level(a, levels - 1 - task, lanes)
    else:
        update_layers(a)


@part_of_run
def take_tasks(a, board, thread, lanes):
    """Take tasks as long as any is open. Returns their number."""
    count, task = 0, taken(board)
    while task >= 0:
        do_task(a, seen(board, PHASE), task, thread, lanes)
        count_up(board, DONE)
        count, task = count + 1, taken(board)
    return count


@compiled
def run(a, board, yield_at, job, thread, lanes):
    """PREPARE: gather the first batch of a fit and compute its features. STEP: take a step with all helpers; returns
    its loss. HELP: take tasks of the steps of another thread, until there has been none for a while.

    yield_at: the address of `task_board.yield_address`. thread: 0, or that of a helper. lanes: a tuple of length F.
    """
    if job == PREPARE:
        gather(a, int(a.numbers[TURN]), 0, a.coordinates.shape[1])
        for level in range(len(a.resolutions)):
            encode_level(a, level, lanes)
        pack_layers(a)
    elif job == STEP:
        for phase, tasks in ((DECODE, len(a.losses)), (UPDATE, len(a.resolutions) + 1)):
            open_phase(board, phase, tasks)
            take_tasks(a, board, thread, lanes)
            wait_for_all(board, yield_at)
    else:
        looks = 0
        while looks < PATIENCE * LOOKS and not seen(board, LEAVE):
            looks = 0 if take_tasks(a, board, thread, lanes) else looks + 1
            if looks % LOOKS == LOOKS - 1:
                call(yield_at)
    return a.losses[0]
