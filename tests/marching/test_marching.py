"""The sparse march against its dense twin, against scikit-image on the whole grid, and against analytic shapes."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralparts.marching import MemoryBoundError, NoSurfaceError, march, march_dense
from neuralparts.marching import grid as marching_grid
from neuralparts.marching import kernels as marching_kernels
from neuralparts.marching import surface as marching

ROOT = Path(__file__).resolve().parents[2]
# Vertices that are to be the same may differ by this share of a cell.
SAME = 1e-3


def sphere(radius, center=(0.0, 0.0, 0.0)):
    center = np.asarray(center, dtype=np.float32)
    return lambda points: (np.linalg.norm(points - center, axis=1) - radius).astype(np.float32)


def box(half, center=(0.0, 0.0, 0.0)):
    half, center = np.asarray(half, dtype=np.float32), np.asarray(center, dtype=np.float32)

    def distance(points):
        beyond = np.abs(points - center) - half
        return np.linalg.norm(beyond.clip(0), axis=1) + beyond.max(axis=1).clip(max=0)

    return distance


def torus(major, minor):
    return lambda points: np.hypot(np.linalg.norm(points[:, :2], axis=1) - major, points[:, 2]) - np.float32(minor)


def union(*parts):
    return lambda points: np.minimum.reduce([part(points) for part in parts])


def hollow(half, wall):
    outer, inner = box(half), box(np.subtract(half, wall))
    return lambda points: np.maximum(outer(points), -inner(points))


def gyroid(points):
    x, y, z = (6.0 * points).T
    return np.sin(x) * np.cos(y) + np.sin(y) * np.cos(z) + np.sin(z) * np.cos(x)


SHAPES = {
    "sphere": (sphere(0.77), 64),
    "box on the nodes": (box((0.5, 0.25, 0.75)), 65),
    "box": (box((0.5, 0.251, 0.73), (0.1, 0.03, 0.0)), 64),
    "torus": (torus(0.6, 0.2), 77),
    "two bodies": (union(sphere(0.3, (-0.5, 0, 0)), torus(0.8, 0.05)), 80),
    "crumbs": (union(*(sphere(0.03, center) for center in np.random.default_rng(5).uniform(-0.9, 0.9, (12, 3)))), 80),
    "thin walls": (hollow((0.7, 0.6, 0.5), 0.03), 80),
    "walls thinner than a cell": (hollow((0.7, 0.6, 0.5), 0.009), 72),
    "cut by the border": (box((0.5, 0.25, 2.0)), 64),
    "gyroid": (gyroid, 48),
    "ambiguous everywhere": (lambda points: points.prod(axis=1), 32),
    "saturated": (lambda points: np.tanh(40.0 * torus(0.6, 0.2)(points)), 64),
    "steep": (lambda points: 1e4 * box((0.5, 0.4, 0.3))(points), 64),
    "flat": (lambda points: 1e-6 * box((0.5, 0.4, 0.3))(points), 64),
    "indicator": (lambda points: np.sign(torus(0.6, 0.2)(points)), 48),
    "few nodes": (sphere(0.77), 5),
}


@pytest.fixture(params=SHAPES, scope="module")
def shape(request):
    """A function, the resolution to march it at, and its dense march."""
    function, resolution = SHAPES[request.param]
    return function, resolution, march_dense(function, resolution)


def whole_grid(function, resolution):
    """scikit-image on all values at once, padded with what lies outside: vertices in the domain, faces."""
    from skimage.measure import marching_cubes

    line = np.linspace(-1, 1, resolution).astype(np.float32)
    points = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    values = np.pad(function(points).reshape((resolution,) * 3), 1, constant_values=1e9)
    vertices, faces, _, _ = marching_cubes(values.astype(np.float32), 0.0)
    return (vertices.astype(np.float64) - 1) * 2 / (resolution - 1) - 1, faces


def nearest(vertices, others):
    from scipy.spatial import cKDTree

    return cKDTree(others).query(vertices)


def assert_same(one, other, resolution):
    """The same vertices to a thousandth of a cell, and the same triangles up to order and rotation."""
    (vertices, faces), (others, other_faces) = one, other
    assert vertices.shape == others.shape and faces.shape == other_faces.shape
    distance, match = nearest(vertices, others)
    assert distance.max() < SAME * 2 / (resolution - 1)
    assert len(np.unique(match)) == len(match)
    assert np.array_equal(rotated(match[faces]), rotated(other_faces))


def assert_same_triangles(result, vertices, faces):
    """The same triangles where vertices have a match of their own, which those of scikit-image that fall together in a
    node have not; the share of such triangles."""
    distance, match = nearest(result.vertices, vertices)
    assert distance.max() < SAME * 2 / (result.stats["resolution"] - 1)
    once = np.bincount(match, minlength=len(vertices)) == 1
    ours, theirs = (part[once[part].all(axis=1)] for part in (match[result.faces], faces))
    assert np.array_equal(rotated(ours), rotated(theirs))
    return len(ours) / len(faces)


def rotated(faces):
    """Faces with their least vertex first, sorted."""
    first = faces.argmin(axis=1)[:, None]
    faces = np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)
    return faces[np.lexsort(faces.T)]


def directed_edges(faces):
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def assert_watertight(vertices, faces):
    """Each directed edge once, and once in the other direction; every vertex used; no triangle without area."""
    edges = directed_edges(faces)
    keys = edges[:, 0] * len(vertices) + edges[:, 1]
    opposite = edges[:, 1] * len(vertices) + edges[:, 0]
    assert len(np.unique(keys)) == len(keys)
    assert np.array_equal(np.sort(keys), np.sort(opposite))
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))
    assert areas(vertices, faces).min() > 0


def areas(vertices, faces):
    first, second, third = vertices[faces].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2


def volume(vertices, faces):
    first, second, third = vertices[faces].transpose(1, 0, 2)
    return np.einsum("ij,ij->", first, np.cross(second, third)) / 6


def parts(result):
    return result.vertices, result.faces


def test_sparse_is_dense(shape):
    function, resolution, dense = shape
    sparse = march(function, resolution)
    assert_same(parts(sparse), parts(dense), resolution)
    assert_watertight(*parts(sparse))
    assert volume(*parts(sparse)) > 0
    assert sparse.vertices.dtype == np.float64 and sparse.faces.dtype == np.int64


def test_dense_is_scikit_image(shape):
    function, resolution, dense = shape
    vertices, faces = whole_grid(function, resolution)
    assert dense.vertices.shape == vertices.shape and dense.faces.shape == faces.shape
    assert_same_triangles(dense, vertices, faces)


def test_table_is_scikit_image_whatever_the_values():
    table = marching.cell_table()
    sizes = np.random.default_rng(4).uniform(0.01, 1.0, (6, 256, 2, 2, 2)).astype(np.float32)
    outside = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool).reshape(-1, 2, 2, 2)
    varied = np.zeros(256, dtype=bool)
    for values in np.where(outside, sizes, -sizes):
        cells, codes, _, faces = marching.march_cells(values)
        for cell in range(256):
            found = codes[faces[cells[faces[:, 0]] == cell]]
            known = table.edges[cell, : 3 * table.triangles[cell]].reshape(-1, 3)
            varied[cell] |= not np.array_equal(found, known)
    assert np.array_equal(varied, table.ambiguous)
    assert table.needed[0] == 0 and table.needed[1] == 0b00010111 and table.needed[0b1001] == 255


@pytest.mark.parametrize("resolution", [32, 33])
def test_noise_of_every_ambiguity(resolution):
    weights = np.random.default_rng(1).normal(size=(3, 60)) * 20
    phases = np.random.default_rng(2).uniform(0, 6, 60)
    noise = lambda points: np.sin(points @ weights + phases).sum(axis=1)  # noqa: E731
    result = march(noise, resolution)
    assert_watertight(*parts(result))
    assert_same(parts(result), parts(march_dense(noise, resolution)), resolution)
    vertices, faces = whole_grid(noise, resolution)
    assert len(result.faces) == len(faces)
    assert assert_same_triangles(result, vertices, faces) > 0.9


def test_volume_and_area_of_a_sphere():
    result = march(sphere(0.5), 128)
    assert volume(*parts(result)) == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=1e-3)
    assert areas(*parts(result)).sum() == pytest.approx(4 * np.pi * 0.5**2, rel=1e-3)
    assert np.abs(np.linalg.norm(result.vertices, axis=1) - 0.5).max() < 1e-3


def test_level():
    on, off = march(sphere(0.5), 48), march(sphere(0.4), 48, level=0.1)
    assert np.allclose(np.linalg.norm(off.vertices, axis=1), np.linalg.norm(on.vertices, axis=1).mean(), atol=2e-3)
    assert len(on.faces) == len(off.faces)


def test_evaluates_little_and_each_node_once():
    seen = []

    def function(points):
        seen.append(points.copy())
        return torus(0.6, 0.2)(points)

    result = march(function, 128)
    assert result.stats["evaluated"] < 128**3 / 20
    points = np.concatenate(seen)
    assert result.stats["evaluated"] == len(points)
    repeated = len(points) - len(np.unique(points, axis=0))
    assert repeated < 0.01 * len(points)  # what the coarse blocks looked at is not kept where nothing is stored
    assert result.stats["skipped"] + result.stats["evaluated"] == 128**3


def test_same_generator_same_mesh():
    function = SHAPES["two bodies"][0]
    one, two = (march(function, 64, generator=np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one.vertices, two.vertices) and np.array_equal(one.faces, two.faces)


def random_network(seed, widths):
    import torch

    generator = torch.Generator().manual_seed(seed)
    layers, before = [], 3
    for width in (*widths, 1):
        layer = torch.nn.Linear(before, width)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(width, before, generator=generator) * (2 / before) ** 0.5)
            layer.bias.copy_(torch.randn(width, generator=generator) * 0.3)
        layers += [layer, torch.nn.ReLU()]
        before = width
    return torch.nn.Sequential(*layers[:-1])


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**20), resolution=st.integers(20, 72), width=st.sampled_from([8, 32, 61]))
def test_random_networks(seed, resolution, width):
    function = marching.as_function(random_network(seed, (width,) * 3))
    samples = function(np.random.default_rng(seed).uniform(-1, 1, (2000, 3)).astype(np.float32))
    level = float(np.median(samples))
    sparse, dense = march(function, resolution, level), march_dense(function, resolution, level)
    assert_same(parts(sparse), parts(dense), resolution)
    assert_watertight(*parts(sparse))


def test_as_function_gives_a_point_the_same_bits_in_any_company():
    function = marching.as_function(random_network(3, (61, 32)), batch=256)
    points = np.random.default_rng(0).uniform(-1, 1, (1000, 3)).astype(np.float32)
    together = function(points)
    assert together.shape == (1000,) and together.dtype == np.float32
    order = np.random.default_rng(1).permutation(1000)[:613]
    assert np.array_equal(function(points[order]), together[order])
    assert np.array_equal(function(points[:1]), together[:1])


def carved_slowly(values, lattice, bounds):
    """What `carve` should say of each node that is not evaluated, node by node: {node: {signs}}."""
    signs = {}
    for node in np.argwhere(np.isfinite(values) & lattice):
        value = values[tuple(node)]
        if abs(value) >= marching_grid.OUTSIDE:
            continue
        for step in itertools.product(range(-3, 4), repeat=3):
            square, beside = np.dot(step, step), tuple(node + step)
            within = 0 < square <= marching_kernels.FARTHEST and min(beside) >= 0 and max(beside) < len(values)
            if within and abs(value) > bounds[square] and np.isnan(values[beside]):
                signs.setdefault(beside, set()).add(value > 0)
    return signs


def stored(values):
    """A store of all bricks of an array of nodes, those evaluated that are no NaN."""
    store, side = marching_grid.NodeStore(len(values) - 4), len(values) // 8
    bricks = np.array(list(itertools.product(range(side), repeat=3)), dtype=np.int32)
    store.allocate(bricks, 0)
    nodes = np.argwhere(np.isfinite(values)).astype(np.int32)
    store.put(nodes, values[tuple(nodes.T)])
    return store


def test_signs_around_a_value_are_what_a_loop_says():
    generator = np.random.default_rng(3)
    values = generator.choice([-9.0, -2.0, 0.3, 1.2, 6.0, np.nan], (16, 16, 16), p=[0.01, 0.02, 0.02, 0.02, 0.01, 0.92])
    values = values.astype(np.float32)
    values[[0, 13, 14, 15]] = values[:, [0, 13, 14, 15]] = values[:, :, [0, 13, 14, 15]] = marching_grid.OUTSIDE
    store, lattice = stored(values), (np.indices(values.shape) % 2 == 1).any(axis=0)
    words = marching_grid.words_of(lattice[None, :8, :8, :8])[0]
    bounds = np.sqrt(np.arange(marching_kernels.FARTHEST + 1)).astype(np.float32)
    region = np.zeros(store.used, np.intp)
    marching_kernels.carve(store.bricks, words, bounds[None], region, marching_kernels.ball_widths(), 0, store.used)
    expected, nodes = carved_slowly(values, lattice, bounds), np.argwhere(np.isnan(values)).astype(np.int32)
    places = store.locate(nodes)
    outside, inside = (marching_grid.has_bit(words, places) for words in (store.outside, store.inside))
    signs = zip(nodes, outside, inside, strict=True)
    found = {tuple(node): {sign for sign, said in ((True, a), (False, b)) if said} for node, a, b in signs if a | b}
    assert found == expected
    assert sum(len(signs) == 2 for signs in expected.values()) > 10 and len(expected) > 500


def test_nodes_to_evaluate_are_the_undecided_of_a_lattice():
    values = np.full((16, 16, 16), np.nan, np.float32)
    values[::3, 1::2, ::5] = 1.0
    store, axis = stored(values), np.linspace(-1, 1, 12).astype(np.float32)
    store.outside[:2, 4] |= np.uint64(255)
    store.inside[0, 4] |= np.uint64(15)
    places, points = marching_kernels.unknown_nodes(store.bricks, marching_grid.lattice_words((0, 0, 0), 2), axis, 0, 8)
    every = np.argwhere(np.isnan(values)).astype(np.int32)
    outside, inside = (marching_grid.has_bit(words, store.locate(every)) for words in (store.outside, store.inside))
    within = ((every >= 1) & (every <= 12)).all(axis=1) & (every % 2 == 0).all(axis=1)
    nodes = every[within & (outside == inside)]
    assert np.array_equal(np.sort(places), np.sort(store.locate(nodes)))
    assert np.array_equal(points[np.argsort(places)], axis[nodes[np.argsort(store.locate(nodes))] - 1])


def test_sign_by_a_neighbour_is_corrected_where_it_is_wrong(monkeypatch):
    # A fall of next to nothing over one cell: every node takes the sign that its neighbours agree on, through walls.
    measure = marching.SparseField._steepest_falls
    monkeypatch.setattr(
        marching.SparseField, "_steepest_falls", lambda *a: np.float64(1e-3) if a[1] == 1 else measure(*a)
    )
    shape, resolution = SHAPES["thin walls"]
    result = march(shape, resolution)
    assert result.stats["corrected"] > 100 and result.stats["trust"] > 1.0
    assert_same(parts(result), parts(march_dense(shape, resolution)), resolution)


def spike(points):
    """A rod that the distance around it says nothing of: no Lipschitz constant foresees it."""
    rod = (np.hypot(points[:, 1] - 0.74, points[:, 2] - 0.5) < 0.05) & (np.abs(points[:, 0]) < 0.8)
    return np.where(rod, np.float32(-0.02), sphere(0.4)(points))


def test_audit_finds_what_the_constant_denied(monkeypatch):
    # No block looks at its corners before it is skipped: only the audit is left to find the rod.
    monkeypatch.setattr(marching.SparseField, "_steepest_falls", lambda *_: 1.1)
    results = [march(spike, 64, generator=np.random.default_rng(seed)) for seed in range(4)]
    audited = [result for result in results if result.stats["hits"]]
    assert audited
    for result in audited:
        assert result.stats["trust"] > 1.0
        assert_same(parts(result), parts(march_dense(spike, 64)), 64)


def test_lower_trust_opens_what_was_skipped(monkeypatch):
    # Small balls: with two thirds of the true slope some are skipped, with what distrust makes of it none is.
    monkeypatch.setattr(marching.SparseField, "_steepest_falls", lambda *_: 0.67)
    balls = union(*(sphere(0.03, center) for center in np.random.default_rng(3).uniform(-0.9, 0.9, (200, 3))))
    dense = march_dense(balls, 64)
    result = march(balls, 64)
    assert result.stats["trust"] > 1.0
    assert_same(parts(result), parts(dense), 64)
    monkeypatch.setattr(marching.SparseField, "_reopen", lambda *_: None)
    assert len(march(balls, 64).faces) < len(dense.faces)


def test_surface_is_followed_through_skipped_blocks(monkeypatch):
    # A torus of which one half is said to be far away, from outside: it is found from the other, without an audit.
    monkeypatch.setattr(marching.SparseField, "_audit", lambda self: np.empty((0, 3), np.int32))
    monkeypatch.setattr(marching.SparseField, "_steepest_falls", lambda *_: 1.1)
    shape = torus(0.6, 0.2)
    lying = lambda points: np.where((points[:, 0] > 0) & (shape(points) > 0), 40.0, 1.0) * shape(points)  # noqa: E731
    result = march(lying, 64)
    assert result.stats["corrected"] > 0
    assert_same(parts(result), parts(march_dense(lying, 64)), 64)


def test_no_surface_of_a_constant():
    with pytest.raises(NoSurfaceError, match=r"0\.25 everywhere; the fit has collapsed"):
        march(lambda points: np.full(len(points), 0.25, np.float32), 32)


@pytest.mark.parametrize("sign", [1, -1])
def test_no_surface_of_a_nearly_constant(sign):
    with pytest.raises(NoSurfaceError, match=r"nearly constant, the fit has collapsed"):
        march(lambda points: sign * (0.01 + 0.001 * points[:, 0]), 32)


def test_no_surface_where_the_level_is_not_reached():
    with pytest.raises(NoSurfaceError, match=r"nothing between them is nearer than 0\.3.*does not reach the level"):
        march(lambda points: np.linalg.norm(points, axis=1) + 0.3, 32)


@pytest.mark.parametrize("run", [march, march_dense])
@pytest.mark.parametrize("thin", [sphere(0.004, (0.31, 0.22, 0.13)), box((0.6, 0.6, 0.003), (0, 0, 0.015))])
def test_feature_thinner_than_the_grid_is_seen_from_the_resolution_named(run, thin):
    with pytest.raises(NoSurfaceError, match="thinner than the cell") as caught:
        run(thin, 32)
    seen = int(re.search(r"seen from about (\d+) on", str(caught.value)).group(1))
    assert 32 < seen < 1500 and "\n" not in str(caught.value)
    assert len(march(thin, seen).faces) > 0


@pytest.mark.parametrize("values", [lambda points: points, lambda points: np.full(len(points), np.nan)])
def test_values_that_make_no_grid(values):
    with pytest.raises(ValueError, match=r"shape \(|not finite"):
        march(values, 16)


@pytest.mark.parametrize("resolution", [1, 0, -4, 2.5])
def test_resolution_that_makes_no_grid(resolution):
    with pytest.raises(ValueError, match="at least 2 nodes"):
        march(sphere(0.5), resolution)


def test_memory_bound_is_refused_before_the_work():
    with pytest.raises(MemoryBoundError, match=r"resolution 400 needs about .* march at a resolution of at most"):
        march(sphere(0.9), 400, max_memory=marching_grid.resident_memory() + 70 * 2**20)


def test_memory_bound_that_suffices():
    assert len(march(sphere(0.5), 64, max_memory=marching_grid.resident_memory() + 2**28).faces) > 0


@pytest.mark.parametrize("dense", [False, True])
def test_progress_goes_from_nothing_to_all(dense):
    shares = []
    march(torus(0.6, 0.2), 64, progress=shares.append, dense=dense)
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1.0
    assert sum(share < 1.0 for share in shares) > 3


@pytest.mark.parametrize("gradient", [None, lambda points: points / np.linalg.norm(points, axis=1, keepdims=True)])
def test_refine_moves_vertices_onto_the_level(gradient):
    plain, refined = march(sphere(0.6), 24), march(sphere(0.6), 24, refine=2, gradient=gradient)
    error = lambda result: np.abs(np.linalg.norm(result.vertices, axis=1) - 0.6).max()  # noqa: E731
    assert error(refined) < 1e-5 < 1e-3 < error(plain)
    assert np.linalg.norm(refined.vertices - plain.vertices, axis=1).max() <= 0.5 * 2 / 23
    assert np.array_equal(refined.faces, plain.faces)


def test_as_gradient():
    network = random_network(5, (16, 16))
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3)).astype(np.float32)
    by_differences = marching.central_differences(marching.as_function(network.double().float()), 1e-3)(points)
    assert np.median(np.abs(marching.as_gradient(network)(points) - by_differences)) < 1e-3


def save_model(path):
    """A NeuralSDF that is 0.5 - |x|_1 turned round exactly: a ReLU network of an octahedron, in file units."""
    import torch

    from neuralparts.network import NeuralSDF

    model = NeuralSDF(widths=(6,), center=(10.0, 20.0, 30.0), scale=0.1)
    with torch.no_grad():
        hidden, last = (layer for layer in model.layers if isinstance(layer, torch.nn.Linear))
        hidden.weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)]))
        hidden.bias.zero_()
        last.weight.fill_(1.0)
        last.bias.fill_(-0.5)
    model.save(path)


@pytest.mark.parametrize("suffix", ["stl", "ply", "obj", "off", "glb", "3mf"])
def test_command_writes_a_closed_mesh_in_file_units(suffix, tmp_path, capsys):
    import trimesh

    save_model(tmp_path / "part.safetensors")
    output = tmp_path / f"out.{suffix}"
    arguments = [str(tmp_path / "part.safetensors"), "--reconstructionRes", "48", "--output", str(output)]
    assert marching.main([*arguments, "--maxMemory", "8G", "--refine", "1"]) == 0
    assert re.search(r"evaluated \d+ .*, skipped \d+, audited \d+", capsys.readouterr().out)
    mesh = trimesh.load(output, force="mesh")
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * 5**3, rel=0.02)
    assert np.allclose(mesh.bounds, [[5, 15, 25], [15, 25, 35]], atol=0.6)


@pytest.mark.parametrize(
    "extra",
    [["--reconstructionRes", "1"], ["--maxMemory", "1K"], ["--output", "a.step"], ["--output", "no/where/a.stl"]],
)
def test_command_says_in_one_line_what_is_wrong(tmp_path, capsys, extra):
    save_model(tmp_path / "part.safetensors")
    assert marching.main([str(tmp_path / "part.safetensors"), *extra]) == 1
    assert re.fullmatch(r"(.*\r)?.*marching.py: .{20,}\n", capsys.readouterr().err.splitlines(keepends=True)[-1])
    assert not (tmp_path / "part.stl").exists()


def test_command_writes_over_nothing_unasked(tmp_path, capsys):
    save_model(tmp_path / "part.safetensors")
    (tmp_path / "part.stl").write_bytes(b"the input")
    words = [str(tmp_path / "part.safetensors"), "--reconstructionRes", "16"]
    assert marching.main(words) == 1 and "--output" in capsys.readouterr().err
    assert (tmp_path / "part.stl").read_bytes() == b"the input"
    assert marching.main([*words, "--output", str(tmp_path / "part.stl")]) == 0
    assert len((tmp_path / "part.stl").read_bytes()) > 84


def test_command_says_that_a_far_part_is_coarse_in_stl(tmp_path, capsys):
    from neuralparts.network import NeuralSDF

    save_model(tmp_path / "near.safetensors")
    model = NeuralSDF.load(tmp_path / "near.safetensors")
    model.center[:] = (500_000.0, 5_400_000.0, 0.0)
    model.save(tmp_path / "far.safetensors")
    for name, suffix, coarse in (("near", "stl", False), ("far", "stl", True), ("far", "ply", False)):
        output = str(tmp_path / f"out.{suffix}")
        words = [str(tmp_path / f"{name}.safetensors"), "--reconstructionRes", "32", "--output", output]
        assert marching.main(words) == 0
        assert ("comes in steps of 0.5" in capsys.readouterr().out) == coarse


def test_command_without_a_model(tmp_path, capsys):
    assert marching.main([str(tmp_path / "none.safetensors")]) == 1
    assert "none.safetensors" in capsys.readouterr().err
