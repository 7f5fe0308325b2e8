"""Where samples lie against densities known otherwise, their labels against brute force, and files of samples."""

import tracemalloc

import numpy as np
import pytest
import trimesh
from scipy.stats import chi2

from neuralparts.choices import SAMPLING_METHODS
from neuralparts.distance import DistanceOracle
from neuralparts.domain import Transform
from neuralparts.sampling import (
    draw_samples,
    importance_samples,
    load_samples,
    points_on_surface,
    save_samples,
    surface_samples,
)
from neuralparts.sampling import samples as sampling
from tests.distance.test_distance import as_mesh, box, brute_distance, brute_winding, joined, torus, turned, without

BETA = 60.0
# Chance of a right sampler to be called wrong by a chi-square test. With fixed seeds it either is or is not, for ever.
FALSE_ALARM = 1e-3


@pytest.fixture
def generator():
    return np.random.default_rng(11)


@pytest.fixture(scope="module")
def oracle():
    return DistanceOracle(torus(), "numba")


def part():
    """Two overlapping bodies with a void: walls from 0.1 to 0.6 thick."""
    return joined(box((-0.6, -0.3, -0.1), (0.2, 0.3, 0.1)), box((-0.1, -0.4, -0.3), (0.5, 0.4, 0.5)),
                  box((0.05, -0.2, 0.0), (0.35, 0.2, 0.4), inward=True))  # fmt: skip


class Counting:
    """An oracle that counts the points that it is asked about."""

    def __init__(self, oracle):
        self.oracle, self.mesh, self.distances, self.signs = oracle, oracle.mesh, 0, 0

    def distance(self, points):
        self.distances += len(points)
        return self.oracle.distance(points)

    def inside(self, points):
        self.signs += len(points)
        return self.oracle.inside(points)

    def signed_distance(self, points):
        return np.where(self.inside(points), -self.distance(points), self.distance(points))


def assert_same_histogram(counts, shares, share_variances=0.0):
    """Chi-square of counts against expected shares (sum 1), which may be estimates with variances of their own."""
    total = counts.sum()
    enough = shares * total >= 10
    expected, seen = shares[enough] * total, counts[enough]
    variance = expected + np.broadcast_to(share_variances, shares.shape)[enough] * total**2
    statistic = ((seen - expected) ** 2 / variance).sum()
    assert enough.sum() > 10
    assert chi2.sf(statistic, enough.sum() - 1) > FALSE_ALARM


def reference_shares(mesh, values, bins, ratio, count=400_000):
    """Shares of the wanted density in bins of values(points, distances), by weighing uniform points of the cube.

    The distances come from libigl in float64, not from the search that the sampler uses.
    """
    import igl

    points = np.random.default_rng(99).uniform(-1, 1, (count, 3))
    distances = np.sqrt(igl.point_mesh_squared_distance(points, mesh.vertices, mesh.faces)[0])
    importance = np.exp(-BETA * distances)
    weight = (1 - ratio) * importance / importance.sum() + ratio / count
    where = np.digitize(values(points, distances), bins)
    shares = np.bincount(where, weight, len(bins) + 1)
    squares = np.bincount(where, weight**2, len(bins) + 1)
    return shares, squares - shares**2 / count


# ----------------------------------------------------------------------------------------------------------- density


@pytest.mark.parametrize("ratio", [0.0, 0.3])
@pytest.mark.parametrize("shape", [torus, part])
def test_distances_have_the_density_of_brute_force(shape, ratio):
    mesh = shape()
    bins = np.concatenate([np.linspace(0.001, 0.08, 40), np.linspace(0.1, 1, 10)])
    values = lambda points, distances: distances  # noqa: E731
    shares, variances = reference_shares(mesh, values, bins, ratio)
    _, sdf = importance_samples(DistanceOracle(mesh, "numba"), 100_000, np.random.default_rng(3), uniform_ratio=ratio)
    assert_same_histogram(np.bincount(np.digitize(np.abs(sdf), bins), minlength=len(bins) + 1), shares, variances)


def test_the_histogram_tells_a_wrong_density_apart():
    """The same test fails for a beta that is 3% off, and for one that is right but for a twentieth of the points."""
    mesh, bins = torus(), np.linspace(0.001, 0.08, 40)
    shares, variances = reference_shares(mesh, lambda _, distances: distances, bins, 0.0)
    for weight, ratio in ((1.03 * BETA, 0.0), (BETA, 0.05)):
        generator = np.random.default_rng(3)
        _, sdf = importance_samples(DistanceOracle(mesh, "numba"), 100_000, generator, weight, ratio)
        with pytest.raises(AssertionError):
            assert_same_histogram(np.bincount(np.digitize(np.abs(sdf), bins), minlength=41), shares, variances)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_places_have_the_density_of_brute_force(axis):
    """No cell of the octree gets more or less than its share."""
    mesh = part()
    bins = np.linspace(-0.99, 0.99, 100)
    shares, variances = reference_shares(mesh, lambda points, _: points[:, axis], bins, 0.0)
    points, _ = importance_samples(DistanceOracle(mesh, "numba"), 100_000, np.random.default_rng(4), uniform_ratio=0.0)
    assert_same_histogram(np.bincount(np.digitize(points[:, axis], bins), minlength=101), shares, variances)


@pytest.mark.parametrize("count", [2_000, 200_000])
def test_density_around_a_sphere_is_the_analytic_one(count):
    radius = 0.6
    sphere = trimesh.creation.icosphere(5, radius)
    oracle = DistanceOracle(as_mesh(sphere.vertices, sphere.faces), "numba")
    points, _ = importance_samples(oracle, count, np.random.default_rng(5), uniform_ratio=0.0)
    distance = np.linalg.norm(points.astype(np.float64), axis=1) - radius
    bins = np.linspace(-0.1, 0.1, 41)
    fine = np.linspace(-radius, 1 - radius, 200_001)
    density = (radius + fine) ** 2 * np.exp(-BETA * np.abs(fine))
    shares = np.bincount(np.digitize(fine, bins), density, 42) / density.sum()
    assert_same_histogram(np.bincount(np.digitize(distance, bins), minlength=42), shares)


@pytest.mark.parametrize("weight", [0.5, 300.0])
def test_other_weights_have_their_density(weight, oracle, generator):
    """From almost uniform to a thin shell; the mean distance tells them apart."""
    points = np.random.default_rng(99).uniform(-1, 1, (200_000, 3))
    distance = oracle.distance(points).astype(np.float64)
    share = np.exp(-weight * distance) / np.exp(-weight * distance).sum()
    mean = (share * distance).sum()
    error = np.sqrt((share**2 * (distance - mean) ** 2).sum() + (share * (distance - mean) ** 2).sum() / 20_000)
    _, sdf = importance_samples(oracle, 20_000, generator, importance_weight=weight, uniform_ratio=0.0)
    assert abs(np.abs(sdf).mean() - mean) < 4 * error


def test_uniform_samples_are_uniform(oracle, generator):
    points, _ = draw_samples("Uniform", oracle, 50_000, generator)
    cell = ((points + 1) * 2).astype(int) @ [16, 4, 1]
    assert_same_histogram(np.bincount(cell, minlength=64), np.full(64, 1 / 64))


def test_all_uniform_ratio_is_uniform(oracle, generator):
    points, _ = importance_samples(oracle, 20_000, generator, uniform_ratio=1.0)
    cell = ((points + 1) * 2).astype(int) @ [16, 4, 1]
    assert_same_histogram(np.bincount(cell, minlength=64), np.full(64, 1 / 64))


# ------------------------------------------------------------------------------------------------ where the sign turns

SIDE, LID = 0.505, 0.51  # no multiples of a cell's side


def box_without_lid():
    """A box that is open at z = LID, where its winding number is one half: the sign turns at the lid all the same."""
    return without(box((-SIDE,) * 3, (SIDE, SIDE, LID)), [10, 11])


def in_box(points):
    """Whether points (..., 3) lie in that box."""
    return (np.abs(points[..., :2]).max(axis=-1) < SIDE) & (points[..., 2] > -SIDE) & (points[..., 2] < LID)


def in_turn_cells(points):
    """Whether points (N, 3) lie in cells with corners on both sides of that box."""
    side = 2 / sampling.TURN_GRIDS[-1]
    corners = (np.floor(np.asarray(points, dtype=np.float64) / side)[:, None] + sampling.CORNERS) * side
    return in_box(corners).any(axis=1) & ~in_box(corners).all(axis=1)


def test_turn_cells_are_those_of_the_walls_and_the_lid():
    centre, half = sampling.turn_cells(DistanceOracle(box_without_lid(), "numba"))
    assert half == 1 / 256 and centre.dtype == np.float32
    assert in_turn_cells(centre).all() and len(np.unique(centre, axis=0)) == len(centre)
    assert len(centre) == 130 * 130 * 131 - 128 * 128 * 129


def test_turn_cells_of_a_part_smaller_than_a_coarse_cell_are_found():
    """All corners of the coarsest grid lie outside of it; its triangles are what leads there."""
    mesh = without(box((0.502, 0.502, 0.502), (0.525, 0.525, 0.525)), [10, 11])
    oracle = DistanceOracle(mesh, "numba")
    coarsest = next(sampling._parts(np.zeros((1, 3), np.int32), sampling.TURN_GRIDS[0]))
    assert not sampling._turns_sign(oracle, coarsest, sampling.TURN_GRIDS[0]).any()
    assert len(sampling.turn_cells(oracle)[0]) > 20


def test_samples_of_an_open_mesh_have_the_density_of_surface_and_turn():
    mesh, ratio, count = box_without_lid(), 0.1, 100_000
    oracle, bins = DistanceOracle(mesh, "numba"), np.linspace(LID - 0.1, LID + 0.1, 60)
    points = np.random.default_rng(99).uniform(-1, 1, (800_000, 3))
    importance, turn = np.exp(-BETA * oracle.distance(points)), in_turn_cells(points)
    share = sampling.TURN_RATIO
    weight = (1 - ratio) * ((1 - share) * importance / importance.sum() + share * turn / turn.sum())
    weight += ratio / len(points)
    where = np.digitize(points[:, 2], bins)
    shares, squares = np.bincount(where, weight, 61), np.bincount(where, weight**2, 61)
    drawn, sdf = draw_samples("Importance", oracle, count, np.random.default_rng(6), BETA, ratio)
    counts = np.bincount(np.digitize(drawn[:, 2], bins), minlength=61)
    assert_same_histogram(counts, shares, squares - shares**2 / len(points))
    clear = (np.abs(sdf) > 1e-5) & (np.abs(drawn[:, 2] - LID) > 1e-5)
    assert ((sdf < 0) == in_box(drawn))[clear].all()


def test_all_points_can_lie_where_the_sign_turns(generator):
    oracle = DistanceOracle(box_without_lid(), "numba")
    points, _ = importance_samples(oracle, 5000, generator, uniform_ratio=0.0, turn_ratio=1.0)
    assert in_turn_cells(points).all() and len(np.unique(points, axis=0)) == 5000


@pytest.mark.parametrize("shape", [torus, part])
def test_a_closed_mesh_has_no_such_share(shape):
    oracle = DistanceOracle(shape(), "numba")
    drawn = draw_samples("Importance", oracle, 5000, np.random.default_rng(1))
    plain = importance_samples(oracle, 5000, np.random.default_rng(1))
    assert np.array_equal(drawn[0], plain[0]) and np.array_equal(drawn[1], plain[1])


def test_an_impossible_share_is_an_error(oracle, generator):
    with pytest.raises(ValueError, match="turn_ratio must lie between 0 and 1"):
        importance_samples(oracle, 10, generator, turn_ratio=1.5)


# ------------------------------------------------------------------------------------------------- labels, order, cost


def open_box():
    return without(turned(box(), np.random.default_rng(1)), [3, 4])


@pytest.mark.parametrize("method", SAMPLING_METHODS)
@pytest.mark.parametrize("shape", [part, torus, open_box])
def test_labels_are_those_of_brute_force(method, shape, generator):
    mesh = shape()
    points, sdf = draw_samples(method, DistanceOracle(mesh, "numba"), 2000, generator)
    assert points.shape == (2000, 3) and sdf.shape == (2000,) and points.dtype == sdf.dtype == np.float32
    assert points.flags.c_contiguous and sdf.flags.c_contiguous
    assert np.abs(points).max() <= 1
    assert np.abs(np.abs(sdf) - brute_distance(points, mesh)).max() < 1e-6
    winding = brute_winding(points, mesh)
    clear = (np.abs(sdf) > 1e-5) & (np.abs(winding - 0.5) > 1e-5)
    assert ((sdf < 0) == (winding > 0.5))[clear].all() and clear.mean() > 0.4


def test_order_is_random(oracle, generator):
    """A part of the samples is a fair sample: batches need no second shuffle."""
    points, sdf = importance_samples(oracle, 40_000, generator)
    for values in (points[:, 0], points[:, 2], np.abs(sdf)):
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
        assert abs(np.corrcoef(values, np.arange(len(values)))[0, 1]) < 0.02


def test_no_duplicates(oracle, generator):
    points, _ = importance_samples(oracle, 300_000, generator)
    assert len(np.unique(points, axis=0)) == len(points)


def test_the_generator_decides_everything(oracle):
    for method in SAMPLING_METHODS:
        first, second, other = (draw_samples(method, oracle, 5000, np.random.default_rng(s)) for s in (1, 1, 2))
        assert (first[0] == second[0]).all() and (first[1] == second[1]).all()
        assert (first[0] != other[0]).any()


@pytest.mark.parametrize("method", SAMPLING_METHODS)
@pytest.mark.parametrize("count", [0, 1, 7, 3000])
def test_counts_and_progress_are_exact(method, count, oracle, generator):
    finished = []
    points, sdf = draw_samples(method, oracle, count, generator, progress=finished.append)
    assert len(points) == len(sdf) == count == sum(finished)


def test_chunks_do_not_change_the_density(oracle, generator, monkeypatch):
    monkeypatch.setattr(sampling, "CHUNK", 1000)
    points, sdf = importance_samples(oracle, 20_000, generator, uniform_ratio=0.0)
    assert np.abs(np.abs(sdf) - oracle.distance(points)).max() < 1e-6
    whole = importance_samples(oracle, 20_000, np.random.default_rng(12), uniform_ratio=0.0)[1]
    assert abs(np.abs(sdf).mean() - np.abs(whole).mean()) < 4 * np.abs(whole).std() * np.sqrt(2 / 20_000)


@pytest.mark.parametrize("shape", [torus, part])
def test_more_than_half_of_the_questions_become_samples(shape, generator):
    counting = Counting(DistanceOracle(shape(), "numba"))
    importance_samples(counting, 300_000, generator, uniform_ratio=0.0)
    assert counting.distances < 2 * 300_000
    assert counting.signs < 300_000


def test_signs_of_an_open_mesh_are_asked_point_by_point(generator):
    counting = Counting(DistanceOracle(open_box(), "numba"))
    importance_samples(counting, 5000, generator, uniform_ratio=0.0)
    assert counting.signs >= 5000


def test_memory_grows_by_less_than_64_bytes_a_point(oracle):
    peaks = []
    for count in (1_000_000, 2_000_000):
        tracemalloc.start()
        importance_samples(oracle, count, np.random.default_rng(0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 1_000_000 < 64
    assert peaks[0] - 64 * 1_000_000 < 150 * 2**20


# ------------------------------------------------------------------------------------------------------------- surface


def test_points_on_surface_are_uniform_by_area(generator):
    mesh = part()
    points, face = points_on_surface(mesh, 50_000, generator)
    assert points.dtype == np.float32 and face.dtype == np.int64
    triangles = mesh.vertices[mesh.faces]
    area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    assert_same_histogram(np.bincount(face, minlength=len(area)), area / area.sum())
    for place in range(0, 1000, 50):
        alone = as_mesh(mesh.vertices, mesh.faces[face[place] : face[place] + 1])
        assert brute_distance(points[place : place + 1], alone) < 1e-7


def test_points_are_uniform_within_a_triangle(generator):
    mesh = as_mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    points, _ = points_on_surface(mesh, 40_000, generator)
    # Four like triangles of half the size.
    place = np.where(points[:, 0] > 0.5, 0, np.where(points[:, 1] > 0.5, 1, np.where(points.sum(axis=1) < 0.5, 2, 3)))
    counts = np.bincount(place, minlength=4)
    assert chi2.sf(((counts - 10_000) ** 2 / 10_000).sum(), 3) > FALSE_ALARM


def test_triangles_without_area_get_no_points(generator):
    mesh = as_mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 1], [0, 1, 2], [1, 1, 1]])
    assert (points_on_surface(mesh, 1000, generator)[1] == 1).all()


def test_surface_samples_are_half_on_the_surface(generator):
    mesh = part()
    points, sdf = surface_samples(DistanceOracle(mesh, "numba"), 20_000, generator, uniform_ratio=0.0)
    on = sdf == 0
    assert abs(on.mean() - sampling.ON_SURFACE_SHARE) < 4 * np.sqrt(0.25 / 20_000)
    assert brute_distance(points[on][:2000], mesh).max() < 1e-7
    near, far = np.quantile(np.abs(sdf[~on]), [0.25, 0.95])
    assert near < sampling.SURFACE_DEVIATIONS[0] and 0.5 * sampling.SURFACE_DEVIATIONS[1] < far < 0.15


# --------------------------------------------------------------------------------------------------- errors and files


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"method": "Gaussian"}, "unknown sampling method 'Gaussian'"),
        ({"importance_weight": 0.0}, "importance_weight must be above 0"),
        ({"importance_weight": 20_000.0}, "importance_weight must be above 0"),
        ({"importance_weight": float("nan")}, "importance_weight must be above 0"),
        ({"uniform_ratio": 1.5}, "uniform_ratio must lie between 0 and 1"),
        ({"method": "Surface", "importance_weight": 60.0}, "Surface sampling has no importance_weight"),
        ({"method": "Uniform", "uniform_ratio": 0.5}, "Uniform sampling has no uniform_ratio"),
    ],
)
def test_impossible_arguments_are_errors(arguments, message, oracle, generator):
    with pytest.raises(ValueError, match=message):
        draw_samples(**{"method": "Importance", "oracle": oracle, "count": 10, "generator": generator} | arguments)


def test_files_come_back_to_the_bit(tmp_path, generator):
    points, sdf = generator.uniform(-1, 1, (100, 3)).astype(np.float32), generator.normal(size=100).astype(np.float32)
    transform = Transform(np.array([1e6, -2.5, 1 / 3]), 0.1)
    save_samples(tmp_path / "part.npz", points, sdf, transform)
    assert [path.name for path in tmp_path.iterdir()] == ["part.npz"]
    read_points, read_sdf, read_transform = load_samples(tmp_path / "part.npz")
    assert (read_points == points).all() and (read_sdf == sdf).all()
    assert (read_transform.center == transform.center).all() and read_transform.scale == transform.scale


def test_samples_without_transform_are_in_file_units(tmp_path):
    np.savez(tmp_path / "plain.npz", train=np.zeros((3, 4), np.float32))
    transform = load_samples(tmp_path / "plain.npz")[2]
    assert (transform.center == 0).all() and transform.scale == 1


TRAIN = np.zeros((3, 4), np.float32)
HALF_NAN = np.array([[0, 0, 0, np.nan]], np.float32)
OUTSIDE = np.array([[0, 37.5, 0, 1]], np.float32)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"points": TRAIN}, "no array named train"),
        ({"train": TRAIN[:, :3]}, r"train must be \(N, 4\)"),
        ({"train": TRAIN[:0]}, r"train must be \(N, 4\)"),
        ({"train": TRAIN.astype(int)}, r"train must be \(N, 4\)"),
        ({"train": np.array([None])}, "not a readable .npz"),
        ({"train": HALF_NAN}, "NaN or infinite"),
        ({"train": OUTSIDE}, "outside the domain .* 37.5"),
        ({"train": TRAIN, "center": np.zeros(3)}, "both or neither"),
        ({"train": TRAIN, "center": np.zeros(2), "scale": 1.0}, r"center must be \(3,\)"),
        ({"train": TRAIN, "center": np.zeros(3), "scale": 0.0}, "scale positive"),
        ({"train": TRAIN, "center": np.full(3, np.inf), "scale": 1.0}, "center must be finite"),
        ({"train": TRAIN, "center": np.zeros(3), "scale": "large"}, "numbers"),
    ],
)
def test_wrong_samples_are_refused_in_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match=message) as refusal:
        load_samples(tmp_path / "wrong.npz")
    assert "wrong.npz" in str(refusal.value) and "\n" not in str(refusal.value)


def test_command_writes_over_nothing_unasked(tmp_path, capsys):
    trimesh.creation.box().export(tmp_path / "box.stl")
    (tmp_path / "box.npz").write_bytes(b"labelled by hand")
    words = [str(tmp_path / "box.stl"), "--num_points", "100"]
    assert sampling.main(words) == 1 and "is there already; --out" in capsys.readouterr().err
    assert (tmp_path / "box.npz").read_bytes() == b"labelled by hand"
    assert sampling.main([*words, "--out", str(tmp_path / "box.npz")]) == 0
    assert len(load_samples(tmp_path / "box.npz")[0]) == 100
    capsys.readouterr()
    assert sampling.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"sampling.py: {tmp_path}: ")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut short", None])
def test_unreadable_samples_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "broken.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.npz: not a readable \.npz") as refusal:
        load_samples(path)
    assert "\n" not in str(refusal.value)


def test_one_array_under_the_name_of_an_archive_is_refused(tmp_path):
    with open(tmp_path / "train.npz", "wb") as file:
        np.save(file, np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"train\.npz: not a readable \.npz"):
        load_samples(tmp_path / "train.npz")


def test_damaged_samples_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "part.npz", train=np.random.default_rng(0).random((1000, 4), np.float32))
    data = bytearray((tmp_path / "part.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "part.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        load_samples(tmp_path / "part.npz")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_samples(tmp_path / "part.npz", np.zeros((1, 3)), np.zeros(1), Transform(np.zeros(3), 1.0))
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def stl(tmp_path):
    trimesh.creation.box((10, 20, 30)).export(tmp_path / "part.STL")
    return tmp_path / "part.STL"


def run(*arguments):
    return sampling.main([str(argument) for argument in ("--distanceEngine", "numba", *arguments)])


def test_command_writes_samples_in_the_domain_with_the_way_back(stl, capsys):
    assert run(stl, "--num_points", 3000, "--seed", 5) == 0
    points, sdf, transform = load_samples(stl.with_suffix(".npz"))
    outside = np.abs(transform.to_file(points)) - [5, 10, 15]
    true = np.linalg.norm(np.maximum(outside, 0), axis=1) + np.minimum(outside.max(axis=1), 0)
    assert len(points) == 3000 and np.abs(transform.length_to_file(sdf) - true).max() < 1e-4
    assert "3000 points" in capsys.readouterr().out


@pytest.mark.parametrize("method", SAMPLING_METHODS)
def test_command_uses_its_flags(method, stl, tmp_path):
    flags = {"Importance": ["--importanceWeight", 20, "--uniformRatio", 0], "Surface": ["--uniformRatio", 0.5]}
    assert run(stl, "--num_points", 500, "--out", tmp_path / "a.npz", "--samplingMethod", method) == 0
    assert run(stl, "--num_points", 500, "--out", tmp_path / "b.npz", "--samplingMethod", method, "--seed", 1) == 0
    given = flags.get(method, [])
    assert run(stl, "--num_points", 500, "--out", tmp_path / "c.npz", "--samplingMethod", method, *given) == 0
    a, b, c = (load_samples(tmp_path / f"{name}.npz")[0] for name in "abc")
    assert (a != b).any() and ((a != c).any() or not given)


@pytest.mark.parametrize(
    "flags",
    [
        ["--num_points", "0"],
        ["--num_points", "many"],
        ["--samplingMethod", "Poisson"],
        ["--importanceWeight", "-1"],
        ["--uniformRatio", "2"],
        ["--samplingMethod", "Uniform", "--uniformRatio", "0.5"],
        ["--samplingMethod", "Surface", "--importanceWeight", "60"],
        ["--out", "part.txt"],
        ["--distanceEngine", "unknown"],
    ],
)
def test_bad_flags_exit_with_2(flags, stl, capsys):
    with pytest.raises(SystemExit) as exit_code:
        run(stl, *flags)
    assert exit_code.value.code == 2
    assert list(stl.parent.iterdir()) == [stl]


@pytest.mark.parametrize("case", ["missing", "empty", "no folder"])
def test_bad_input_exits_with_1_and_one_line(case, stl, tmp_path, capsys):
    (tmp_path / "empty.stl").write_bytes(b"")
    before = sorted(tmp_path.iterdir())
    arguments = {
        "missing": [tmp_path / "missing.stl"],
        "empty": [tmp_path / "empty.stl"],
        "no folder": [stl, "--out", tmp_path / "nowhere" / "part.npz"],
    }[case]
    assert sampling.main([str(argument) for argument in arguments]) == 1
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and said.startswith("sampling.py: ")
    assert sorted(tmp_path.iterdir()) == before
