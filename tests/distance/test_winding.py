"""Winding numbers and signs against summed solid angles, on closed and open meshes and in the corners of the rays."""

import numpy as np
import pytest

from neuralparts.distance import DistanceOracle
from neuralparts.distance.caps import close_boundary
from neuralparts.distance.winding import VALUE_ERROR, WindingNumber, ray_grid
from tests.distance.brute import (
    CLOSED,
    OPEN,
    SIGN_DOUBT,
    as_mesh,
    box,
    brute_distance,
    brute_winding,
    joined,
    points_around,
    real_mesh,
    rotated,
    torus,
    without,
)


def assert_sign_is_right(mesh, winding_number, points):
    """No disagreement with summed solid angles; for a closed mesh, exact integers."""
    clear = brute_distance(points, mesh) > SIGN_DOUBT
    true, found = brute_winding(points, mesh), winding_number(points)
    if mesh.closed:
        assert (found == np.round(found)).all()
        assert (found == np.round(true))[clear].all()
    else:
        clear &= np.abs(true - 0.5) > 0.05
    assert ((found > 0.5) == (true > 0.5))[clear].all()


@pytest.mark.parametrize("name", [*CLOSED, *OPEN])
def test_sign_is_that_of_solid_angles(name, generator):
    mesh = {**CLOSED, **OPEN}[name](generator)
    assert mesh.closed == (name in CLOSED)
    oracle, points = DistanceOracle(mesh, "numba"), points_around(mesh, 250, generator)
    assert_sign_is_right(mesh, oracle.winding_number, points)
    assert (oracle.inside(points) == (oracle.winding_number(points) > 0.5)).all()


@pytest.mark.parametrize(
    "name",
    [f"parts/{n}" for n in ("featuretype.STL", "plate_holes.STL", "idler_riser.STL", "round.stl")]
    + [f"wild/{n}" for n in ("box.STL", "shared.STL", "multibody.stl", "soup.stl", "suzanne.obj", "teapot.stl")],
)
def test_sign_on_real_files(name, generator):
    mesh = real_mesh(name)
    assert_sign_is_right(mesh, DistanceOracle(mesh, "numba").winding_number, points_around(mesh, 80, generator))


@pytest.mark.parametrize("name", OPEN)
def test_winding_number_of_open_meshes_is_exact(name, generator):
    mesh = OPEN[name](generator)
    winding_number = WindingNumber(mesh, exact_boundary=10_000)
    assert winding_number.exact
    points = generator.uniform(-1, 1, (400, 3))
    off = brute_distance(points, mesh) > 0.01
    assert np.abs(winding_number(points) - brute_winding(points, mesh))[off].max() < 1e-6


@pytest.mark.parametrize("name", OPEN)
def test_caps_give_the_signs_of_the_exact_sum(name, generator):
    mesh = OPEN[name](generator)
    points = points_around(mesh, 2000, generator)
    exact, capped = WindingNumber(mesh), WindingNumber(mesh, exact_boundary=0, exact_inside=0)
    assert exact.exact and not capped.exact
    expected = exact(points)
    assert (capped.inside(points) == (expected > 0.5)).all()
    assert np.abs(capped(points) - expected).max() <= VALUE_ERROR


def test_caps_of_many_holes_give_the_signs_of_the_exact_sum(generator):
    ball = torus(around=120, across=60)
    mesh = without(ball, generator.permutation(len(ball.faces))[:1500])
    points = points_around(mesh, 1500, generator)
    exact, capped = WindingNumber(mesh, exact_boundary=10**6)(points), WindingNumber(mesh, exact_boundary=0)
    assert (capped.inside(points) == (exact > 0.5)).all() and 0 < (exact > 0.5).mean() < 1
    assert np.abs(capped(points) - exact).max() <= VALUE_ERROR


def test_points_on_caps_get_the_signs_of_the_exact_sum():
    """All holes lie in planes of the lattice of points, and their caps with them."""
    mesh = without(joined(*[box((k / 4 - 0.5,) * 3, (k / 4 - 0.25,) * 3) for k in range(4)]), [2, 3, 16, 17, 28, 40])
    points = np.stack(np.meshgrid(*[np.arange(-8, 9) / 16] * 3), axis=-1).reshape(-1, 3)
    exact, capped = WindingNumber(mesh), WindingNumber(mesh, exact_inside=0)
    assert (capped.inside(points) == (exact(points) > 0.5)).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 50])
def test_caps_have_the_boundary_that_they_close(count):
    """Rings of count + 2 edges with a vertex in common: every directed edge is used as often as the caps need."""
    rings = [np.concatenate([[0], 1 + k * (count + 1) + np.arange(count + 1)]) for k in range(3)]
    starts, ends = np.concatenate(rings), np.concatenate([np.roll(ring, -1) for ring in rings])
    caps = close_boundary(starts, ends)
    reverse = np.zeros((starts.max() + 1,) * 2, dtype=int)
    np.add.at(reverse, (starts, ends), 1)
    np.add.at(reverse, (caps[:, [1, 2, 0]].ravel(), caps.ravel()), 1)
    assert (reverse == reverse.T).all()


# ---------------------------------------------------------------------------------------------- corners of the rays


@pytest.mark.parametrize("long_axis", [0, 1, 2])
def test_rays_through_vertices_and_edges(long_axis):
    """A part on a lattice and points of the lattice: every ray meets vertices and edges, and runs along faces."""
    steps = np.arange(-4, 5) / 8
    low, high = np.array([-0.375, -0.25, -0.25]), np.array([0.25, 0.25, 0.25])
    solids = [(low, high), (low + 0.125, high + 0.125), (high, high + 0.125)]
    solids = [(np.roll(a, long_axis), np.roll(b, long_axis)) for a, b in solids]
    oracle = DistanceOracle(joined(*[box(*solid) for solid in solids]), "numba")
    points = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    on_surface = np.any([_on_box(points, *solid) for solid in solids], axis=0)
    count = np.sum([((points > a) & (points < b)).all(axis=1) for a, b in solids], axis=0)
    assert (oracle.winding_number(points) == count)[~on_surface].all()
    assert count.max() > 1 and on_surface.any()


def _on_box(points, low, high):
    within = ((points >= low) & (points <= high)).all(axis=1)
    return within & ((points == low) | (points == high)).any(axis=1)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("removed", range(0, 12, 2))
def test_points_straight_over_the_boundary_of_an_open_box(axis, removed):
    """Strips that hang from the boundary hold these points: the jump of the rays and that of the strips must cancel."""
    shape = box((-0.25, -0.5, -0.5), (0.25, 0.5, 0.5))
    mesh = without(as_mesh(np.roll(shape.vertices, axis, axis=1), shape.faces), [removed, removed + 1])
    steps = np.arange(-6, 7) / 8
    points = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    off = brute_distance(points, mesh) > 0.01
    found = DistanceOracle(mesh, "numba").winding_number(points)
    assert np.abs(found - brute_winding(points, mesh))[off].max() < 1e-6


def test_every_axis_of_the_rays_gives_the_same(generator):
    mesh = rotated(joined(torus(), box()), generator)
    points = points_around(mesh, 300, generator)[:600]
    triangles = mesh.vertices[mesh.faces]
    found = [WindingNumber(mesh, ray_grid(triangles, axis=axis))(points) for axis in range(3)]
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


def test_a_coarse_ray_grid_gives_the_same(generator):
    mesh = real_mesh("parts/featuretype.STL")
    points, triangles = points_around(mesh, 200, generator), mesh.vertices[mesh.faces]
    fine, coarse = ray_grid(triangles), ray_grid(triangles, entry_limit=3 * len(triangles))
    assert coarse.resolution < fine.resolution and len(coarse.entries) <= 3 * len(triangles)
    winding = WindingNumber(mesh, fine)(points)
    assert winding.any() and (winding == WindingNumber(mesh, coarse)(points)).all()
