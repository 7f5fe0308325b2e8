"""The hash grid: compiled kernels against plain torch operations, and both against a loop written from the paper.

At the end, the preset that is built on it, as a user runs it.
"""

import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralparts.job import fit_one
from neuralparts.network import HashGrid, NeuralSDF
from neuralparts.network.hash_grid import CompiledInterpolation, interpolate
from neuralparts.network.hash_levels import PRIMES

# Float32 sums of some tens of terms in another order: a few units in the last place, relative to the largest value.
SAME = 1e-6
# All levels dense; all but the first hashed; one level; features that fill no vector register evenly.
SHAPES = (
    {},
    {"levels": 3, "features": 2, "base_resolution": 4, "finest_resolution": 12, "log2_table_size": 12},
    {"levels": 4, "features": 8, "base_resolution": 3, "finest_resolution": 200, "log2_table_size": 6},
    {"levels": 1, "features": 1, "base_resolution": 5, "finest_resolution": 5, "log2_table_size": 10},
    {"levels": 5, "features": 3, "base_resolution": 2, "finest_resolution": 97, "log2_table_size": 9},
)
SMALL = {"levels": 3, "features": 2, "base_resolution": 2, "finest_resolution": 9, "log2_table_size": 6}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_grid(**shape) -> HashGrid:
    """A grid with values of the size of 1 in its table, so that errors show."""
    grid = HashGrid(**shape)
    with torch.no_grad():
        grid.table.uniform_(-1, 1, generator=generator(1))
    return grid


def random_points(count: int, seed: int = 2) -> torch.Tensor:
    """Points of a cube somewhat larger than the domain, so that some are clamped."""
    return torch.rand(count, 3, generator=generator(seed)) * 2.2 - 1.1


def twin(grid: HashGrid, points: torch.Tensor) -> torch.Tensor:
    return interpolate(points, grid.table, grid.level_sizes)


def gradients(grid: HashGrid, points: torch.Tensor, function) -> list[torch.Tensor]:
    """[features, points' gradient, table's gradient] of a weighted sum of function(grid, points)."""
    points = points.clone().requires_grad_(True)
    features = function(grid, points)
    weights = torch.rand(features.shape, generator=generator(3), dtype=features.dtype) - 0.5
    return [features.detach(), *torch.autograd.grad((weights * features).sum(), (points, grid.table))]


def feature_by_hand(grid: HashGrid, point: np.ndarray, level: int) -> np.ndarray:
    """One level's features of one point in float64, in Python's whole numbers, as Müller et al. (2022) write them."""
    growth = (grid.finest_resolution / grid.base_resolution) ** (1 / max(grid.levels - 1, 1))
    sides = [round(grid.base_resolution * growth**k) for k in range(grid.levels)]
    size = 2**grid.log2_table_size
    start = sum(min((side + 1) ** 3, size) for side in sides[:level])
    side, table = sides[level], grid.table.detach().double().numpy()
    position = (np.clip(point.astype(np.float64), -1, 1) + 1) / 2 * side
    cell = np.minimum(np.floor(position), side - 1).astype(int)
    total = np.zeros(grid.features)
    for corner in itertools.product((0, 1), repeat=3):
        x, y, z = (int(number) for number in cell + corner)
        flat = x + (side + 1) * y + (side + 1) ** 2 * z
        hashed = (x ^ (y * PRIMES[1] % 2**32) ^ (z * PRIMES[2] % 2**32)) % size
        row = start + (flat if (side + 1) ** 3 <= size else hashed)
        total += np.prod(np.where(corner, position - cell, 1 - (position - cell))) * table[row]
    return total


@pytest.mark.parametrize("shape", SHAPES)
def test_features_are_those_of_the_paper(shape):
    grid, points = make_grid(**shape), random_points(40)
    expected = [[feature_by_hand(grid, point, level) for level in range(grid.levels)] for point in points.numpy()]
    expected = torch.tensor(np.array(expected).reshape(len(points), grid.output_width))
    # A float32 position in a grid of 256 cells is known to 256 * 2^-24; slopes are of the size of 2 a cell.
    tolerance = 2 * grid.finest_resolution * 2**-23 + SAME
    assert (grid(points) - expected).abs().max() < tolerance
    assert (grid.double()(points.double()) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_agree_with_plain_torch_in_value_and_gradients(shape):
    grid, points = make_grid(**shape), random_points(5000)
    for compiled, plain in zip(gradients(grid, points, HashGrid.forward), gradients(grid, points, twin), strict=True):
        assert compiled.dtype == plain.dtype and compiled.shape == plain.shape
        assert (compiled - plain).abs().max() <= SAME * plain.abs().max()


def test_float32_on_the_cpu_runs_the_kernels_and_nothing_else_does():
    grid = make_grid(**SMALL)
    points = random_points(4)
    assert "CompiledInterpolation" in type(grid(points).grad_fn).__name__
    assert "CompiledInterpolation" not in type(grid.double()(points.double()).grad_fn).__name__


def points_inside_cells(count: int) -> torch.Tensor:
    """Points (count, 3) float64 at least 0.04 of a cell from all borders of cells, at which SMALL has kinks."""
    points = torch.rand(40 * count, 3, generator=generator(5), dtype=torch.float64) * 1.9 - 0.95
    resolutions = HashGrid(**SMALL).arrays.resolutions
    positions = (points[:, None, :] + 1) / 2 * torch.tensor(resolutions)[:, None]
    clear = ((positions - positions.round()).abs() > 0.04).all(2).all(1)
    return points[clear][:count]


def test_gradcheck_of_plain_torch():
    grid, points = make_grid(**SMALL).double(), points_inside_cells(4).requires_grad_(True)
    levels = grid.level_sizes

    def function(points, table):
        return interpolate(points, table, levels)

    assert len(points) == 4
    assert torch.autograd.gradcheck(function, (points, grid.table))
    assert torch.autograd.gradgradcheck(function, (points, grid.table))


def test_gradcheck_of_the_kernels():
    grid, points = make_grid(**SMALL).double(), points_inside_cells(4).requires_grad_(True)
    levels, arrays = grid.level_sizes, grid.arrays

    def function(points, table):
        return CompiledInterpolation.apply(points, table, levels, arrays)

    assert torch.autograd.gradcheck(function, (points, grid.table))
    assert torch.autograd.gradgradcheck(function, (points, grid.table))


def test_second_derivatives_agree_with_plain_torch():
    grid = make_grid()
    results = []
    for function in (HashGrid.forward, twin):
        points = random_points(200).requires_grad_(True)
        (slope,) = torch.autograd.grad(function(grid, points).square().sum(), points, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        results.append(torch.autograd.grad(penalty, (points, grid.table)))
    for compiled, plain in zip(*results, strict=True):
        # Squares of slopes of the size of 10^3: a hundred times the rounding of the first derivatives.
        assert (compiled - plain).abs().max() <= 100 * SAME * plain.abs().max()


def test_only_wanted_gradients_are_made():
    grid, points = make_grid(**SMALL), random_points(10)
    grid(points).sum().backward()
    assert points.grad is None and grid.table.grad.abs().sum() > 0
    grid.table.requires_grad_(False)
    points.requires_grad_(True)
    grid(points).sum().backward()
    assert points.grad.abs().sum() > 0


@pytest.fixture
def thread_count():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_same_bits_with_any_number_of_threads(thread_count):
    grid, points = make_grid(), random_points(10001)
    results = []
    for threads in (1, 2, 5):
        thread_count(threads)
        results.append(gradients(grid, points, HashGrid.forward))
    for other in results[1:]:
        assert all(torch.equal(first, second) for first, second in zip(results[0], other, strict=True))


def test_calls_from_several_threads_do_not_disturb_each_other(thread_count):
    thread_count(2)
    grid, batches = make_grid(), [random_points(3000, seed) for seed in range(8)]
    alone = [gradients(grid, points, HashGrid.forward) for points in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda points: gradients(grid, points, HashGrid.forward), batches))
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def weights_after_training() -> list[torch.Tensor]:
    """All weights after 20 steps of Adam towards a sphere."""
    grid = HashGrid(levels=4, finest_resolution=64, log2_table_size=10)
    grid.initialise(generator(7))
    decoder = torch.nn.Sequential(torch.nn.Linear(grid.output_width, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    for parameter in decoder.parameters():
        torch.nn.init.uniform_(parameter, -0.3, 0.3, generator=generator(8))
    parameters = [grid.table, *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=2e-2)
    losses = []
    for step in range(20):
        points = random_points(3000, seed=step)
        loss = (decoder(grid(points)).squeeze(1) - points.norm(dim=1) + 0.6).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    return [parameter.detach() for parameter in parameters]


def test_two_trainings_give_the_same_weights():
    first, second = weights_after_training(), weights_after_training()
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_borders_belong_to_the_grid_and_points_outside_take_their_value(shape):
    grid = make_grid(**shape)
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)))
    beyond = corners * (1 + 2**-23)
    for function in (HashGrid.forward, twin):
        values = function(grid, corners)
        assert torch.equal(function(grid, beyond), values)
        assert torch.equal(function(grid, corners * 1e30), values)
        assert torch.equal(function(grid, corners * float("inf")), values)
        first_row = grid.table[: grid.arrays.offsets[1]]
        if grid.arrays.dense[0]:
            assert torch.equal(values[0, : grid.features], first_row[0])
            assert torch.equal(values[-1, : grid.features], first_row[-1])


def test_outside_the_gradient_is_zero_and_inside_it_is_not():
    grid = make_grid()
    points = torch.tensor([[1.01, 0.2, 0.3], [0.1, 0.2, 0.3]])
    for function in (HashGrid.forward, twin):
        slopes = gradients(grid, points, function)[1]
        assert slopes[0, 0] == 0 and (slopes[0, 1:] != 0).all() and (slopes[1] != 0).all()


def test_nan_stays_nan_and_harms_nothing():
    grid = make_grid()
    points = torch.tensor([[float("nan"), 0.2, 0.3], [0.1, 0.2, 0.3]])
    for function in (HashGrid.forward, twin):
        features = function(grid, points)
        assert features[0].isnan().all()
        assert torch.equal(features[1:], function(grid, points[1:]))


def test_no_points_give_no_features():
    grid = make_grid()
    features, by_points, by_table = gradients(grid, torch.zeros(0, 3), HashGrid.forward)
    assert features.shape == (0, grid.output_width) and by_points.shape == (0, 3)
    assert (by_table == 0).all()


def test_strided_points_are_read_correctly():
    grid, wide = make_grid(), torch.rand(100, 6, generator=generator())
    assert torch.equal(grid(wide[:, ::2]), grid(wide[:, ::2].contiguous()))
    assert torch.equal(grid(wide.T[:3].T), grid(wide[:, :3].contiguous()))


SIDE = 16
nodes = st.tuples(*[st.integers(0, SIDE)] * 3)


@given(node=nodes, axis=st.integers(0, 2), part=st.floats(0, 1, width=32))
@settings(max_examples=60, deadline=None)
def test_exact_at_nodes_and_linear_along_edges(node, axis, part):
    grid = make_grid(levels=1, base_resolution=SIDE, finest_resolution=SIDE)
    start = np.array(node)
    start[axis] = min(start[axis], SIDE - 1)
    end = start + np.eye(3, dtype=int)[axis]
    rows = [int(index @ [1, SIDE + 1, (SIDE + 1) ** 2]) for index in (start, end)]
    near, far = grid.table[rows].detach()
    between = (2 / SIDE) * (start + np.float64(part) * (end - start)) - 1
    points = torch.tensor(np.array([2 / SIDE * start - 1, 2 / SIDE * end - 1, between]), dtype=torch.float32)
    for function in (HashGrid.forward, twin):
        features = function(grid, points).detach()
        assert torch.equal(features[:2], torch.stack([near, far]))
        # The point itself is rounded to float32: 16 / 2 cells a unit times 2^-24, times slopes of at most 2.
        assert (features[2] - (near + part * (far - near))).abs().max() <= SAME + 2 * SIDE * 2**-24


def test_meta_device_gives_shapes():
    with torch.device("meta"):
        grid = HashGrid()
        points = torch.empty(7, 3)
    features = grid(points)
    assert features.device.type == "meta" and features.shape == (7, grid.output_width)
    assert sum(parameter.numel() for parameter in grid.parameters()) == 641496


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_agrees_with_the_kernels_without_waiting_for_it():
    grid, points = make_grid(), random_points(5000)
    expected = gradients(grid, points, HashGrid.forward)
    weights = (torch.rand(expected[0].shape, generator=generator(3)) - 0.5).cuda()
    grid, points = grid.cuda(), points.cuda().requires_grad_(True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        features = grid(points)
        found = [features.detach(), *torch.autograd.grad((weights * features).sum(), (points, grid.table))]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, other in zip(found, expected, strict=True):
        assert (one.cpu() - other).abs().max() <= SAME * other.abs().max()


def test_initial_table_is_small_and_depends_on_the_generator_alone():
    grid, other = HashGrid(**SMALL), HashGrid(**SMALL)
    grid.initialise(generator(4))
    other.initialise(generator(4))
    assert torch.equal(grid.table, other.table)
    assert 0.5e-4 < grid.table.abs().max() <= 1e-4
    other.initialise(generator(5))
    assert not torch.equal(grid.table, other.table)


def test_only_the_table_is_saved_and_the_description_makes_the_grid_again():
    grid = make_grid(**SMALL)
    assert list(grid.state_dict()) == ["table"]
    again = HashGrid(**grid.description())
    again.load_state_dict(grid.state_dict())
    points = random_points(50)
    assert torch.equal(again(points), grid(points)) and again.output_width == grid.output_width == 6


@pytest.mark.parametrize(
    "shape",
    [
        {"levels": 0},
        {"features": 0},
        {"base_resolution": 0},
        {"base_resolution": 300},
        {"finest_resolution": 2**16 + 1},
        {"log2_table_size": 0},
        {"log2_table_size": 25},
    ],
)
def test_impossible_sizes_are_refused(shape):
    with pytest.raises(ValueError, match=r"got .*\d"):
        HashGrid(**shape)


@pytest.mark.parametrize("shape", [(3,), (5, 2), (5, 4), (2, 5, 3)])
def test_points_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        HashGrid(**SMALL)(torch.zeros(shape))


def test_the_compiler_is_not_loaded_before_it_is_needed():
    program = "import sys; from neuralparts.network import HashGrid; HashGrid(); assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


PRESET = Path(__file__).resolve().parents[2] / "presets/instant.sh"


def test_the_instant_preset_and_the_same_job_once_more_give_the_same_weights_of_a_good_fit(tmp_path):
    part = trimesh.util.concatenate(
        [trimesh.creation.box((20, 16, 12)), trimesh.creation.icosphere(3, 5.0).apply_translation((0, 0, 20))]
    )
    few = ["--num_points", "200000", "--numPairs", "40000", "--batchSize", "1024", "--reconstructionRes", "64"]
    mesh = tmp_path / "part.stl"
    part.export(mesh)
    command = [PRESET, mesh, "--outputDir", tmp_path, *few, "--showVis", "0", "--gpu", "-1", "--suffix", "_once"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in command], check=True, capture_output=True, env=environment)
    record = json.loads((tmp_path / "part_once.json").read_text())
    assert record["flags"]["encoding"] == "hashgrid" and record["parameters"] == 548_521
    metrics = record["metrics"]
    assert metrics["surface_error"] < 0.002 and metrics["grid_error"] < 0.02 and metrics["iou"] > 0.98
    assert record["off_surface"]["gradient_within"] > 0.7
    job = {"input": str(mesh), "name": "part_again", "flags": record["flags"]}
    assert fit_one(job)["status"] == "done"
    once, again = (tmp_path / f"part_{run}.safetensors" for run in ("once", "again"))
    assert once.read_bytes() == again.read_bytes()
    sdf = NeuralSDF.load(once)
    assert np.abs(sdf(part.sample(1000, seed=0))).mean() * sdf.transform.scale < 0.002
    # The two bodies, and no stray surface in places with few samples.
    made = trimesh.load(tmp_path / "part_once.stl")
    assert made.is_watertight and made.body_count == 2
    assert made.volume == pytest.approx(part.volume, rel=0.02)
