"""Crossings counted tile by tile against crossings counted one by one: equal to the bit; crowded open meshes."""

import numpy as np
import pytest

from neuralparts.distance import DistanceOracle
from neuralparts.distance.bin_kernels import record_slopes
from neuralparts.distance.winding import CROWDED, VALUE_ERROR, WindingNumber, ray_grid
from tests.distance.brute import CLOSED, OPEN, as_mesh, brute_distance, brute_winding, points_around
from tests.hostile_meshes import SHAPES


def in_domain(shape):
    """A shape of `hostile_meshes` as a mesh in the domain, without the repairs of load_mesh."""
    vertices = shape[0] - (shape[0].min(axis=0) + shape[0].max(axis=0)) / 2
    return as_mesh(vertices * 0.9 / np.linalg.norm(vertices, axis=1).max(), shape[1])


def crowded_grid(mesh, axis=None):
    """The ray grid of a mesh as if it were crowded."""
    grid = ray_grid(mesh.vertices[mesh.faces], axis)
    return grid._replace(slopes=record_slopes(grid.records))


def assert_bins_count_as_rays(mesh, points, axis=None):
    grid, order = crowded_grid(mesh, axis), np.arange(len(points))
    found = grid.crossings(points, order, np.zeros(2))
    assert (found == grid._replace(slopes=None).crossings(points, order, np.zeros(2))).all()
    return found


@pytest.mark.parametrize("name", [*CLOSED, *OPEN])
def test_crossings_of_all_kinds_of_meshes(name, generator):
    mesh = {**CLOSED, **OPEN}[name](generator)
    points = points_around(mesh, 400, generator).astype(np.float64)
    for axis in range(3):
        assert_bins_count_as_rays(mesh, points, axis)


@pytest.mark.parametrize("name", ["bodies_nested", "bodies_overlapping_mixed", "fan_at_edge", "fan_at_point", "plates"])
@pytest.mark.parametrize("triangles", [1500, pytest.param(40_000, marks=pytest.mark.long)])
def test_crossings_of_crowded_meshes(name, triangles, generator):
    mesh = in_domain(SHAPES[name](triangles))
    assert assert_bins_count_as_rays(mesh, generator.uniform(-0.7, 0.7, (4000, 3))).any()


def test_crossings_of_points_on_vertices_and_edges():
    """A lattice of points, on which all vertices of the bodies lie too, so that heights are equal but for rounding."""
    mesh = in_domain(SHAPES["block_of_boxes"](3000))
    lattice = np.stack(np.meshgrid(*[np.unique(mesh.vertices[:, k]) for k in range(3)]), axis=-1).reshape(-1, 3)
    for axis in range(3):
        assert_bins_count_as_rays(mesh, lattice, axis)


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_few_points_or_all_at_one_place(count):
    mesh = in_domain(SHAPES["bodies_nested"](400))
    assert_bins_count_as_rays(mesh, np.full((count, 3), 0.01))


@pytest.mark.parametrize("name", ["soup", "fan_at_edge", "fan_at_point", "open_cups_nested", "pencil"])
@pytest.mark.parametrize("triangles", [900, pytest.param(20_000, marks=pytest.mark.long)])
def test_signs_of_crowded_open_meshes_are_those_of_solid_angles(name, triangles, generator):
    mesh = in_domain(SHAPES[name](triangles))
    points = points_around(mesh, 100, generator)
    crowded = WindingNumber(mesh, crowded_grid(mesh), exact_boundary=0)
    assert crowded.crowd > 0 and not crowded.exact
    true = brute_winding(points, mesh)
    clear = (brute_distance(points, mesh) > 1e-5) & (np.abs(true - 0.5) > 1e-3)
    assert (crowded.inside(points) == (true > 0.5))[clear].all() and clear.mean() > 0.2
    assert np.abs(crowded(points) - true)[clear].max() < VALUE_ERROR + 1e-3


def test_only_meshes_whose_rays_meet_most_triangles_are_crowded(generator):
    assert DistanceOracle(in_domain(SHAPES["bodies_nested"](12_000))).crowd > CROWDED
    assert DistanceOracle(in_domain(SHAPES["fine_ball"](6000))).crowd == 0
