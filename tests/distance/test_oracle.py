"""The oracle as a whole: its engines against each other, its sign, its arguments and errors."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from neuralparts.distance import DistanceOracle
from neuralparts.distance import oracle as oracle_module
from neuralparts.distance.search import TriangleSearch
from neuralparts.errors import UserError
from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import write_mesh
from tests.distance.brute import (
    DISTANCE_TOLERANCE,
    ENGINES,
    FLOAT32_TOLERANCE,
    as_mesh,
    box,
    brute_distance,
    brute_winding,
    oracle_of,
    points_around,
    real_mesh,
    torus,
    without,
)


def test_engines_agree_on_distance_and_sign(generator):
    mesh = real_mesh("parts/featuretype.STL")
    points = points_around(mesh, 5000, generator)
    found, other = (oracle_of(mesh, engine).signed_distance(points) for engine in ENGINES)
    assert np.abs(np.abs(found) - np.abs(other)).max() <= DISTANCE_TOLERANCE
    assert ((found < 0) == (other < 0))[found != 0].all()


def test_sign_of_signed_distance_only_comes_from_inside(generator):
    """The distance is never scaled by the winding number, which is 0.5 and less here."""
    mesh = without(box(), range(0, 6))
    oracle = DistanceOracle(mesh, "numba")
    points = generator.uniform(-1, 1, (500, 3))
    assert (np.abs(oracle.signed_distance(points)) == oracle.distance(points)).all()
    assert ((oracle.signed_distance(points) < 0) == oracle.inside(points)).all()


@pytest.mark.parametrize("size", [1e-6, 1, 1e6])
@pytest.mark.parametrize("suffix, sizes_away", [(".obj", 1e6), (".stl", 100)])
def test_nothing_lost_far_from_the_origin_or_at_odd_sizes(tmp_path, generator, size, suffix, sizes_away):
    path = tmp_path / f"part{suffix}"
    shape = torus()
    write_mesh(path, (shape.vertices + sizes_away) * size, shape.faces)
    mesh = load_mesh(path)
    points = generator.uniform(-1, 1, (300, 3)).astype(np.float32)
    # The digits of the file decide where the vertices are, so the reference is the exact shape, moved and scaled.
    true = as_mesh(
        (shape.vertices + sizes_away - mesh.transform.center / size) * mesh.transform.scale * size, shape.faces
    )
    rounding = 1e-9 if suffix == ".obj" else sizes_away * 2.0**-23
    found = DistanceOracle(mesh, "numba").signed_distance(points)
    assert np.abs(np.abs(found) - brute_distance(points, mesh)).max() <= FLOAT32_TOLERANCE
    assert np.abs(np.abs(found) - brute_distance(points, true)).max() <= rounding + FLOAT32_TOLERANCE
    assert ((found < 0) == (brute_winding(points, true) > 0.5)).all()


def test_blocks_and_threads_change_nothing(generator):
    whole, blocks = DistanceOracle(torus(), "numba"), DistanceOracle(torus(), "numba", block=333)
    points = generator.uniform(-1, 1, (5000, 3))
    assert np.abs(whole.closest(points)[2] - blocks.closest(points)[2]).max() <= FLOAT32_TOLERANCE
    assert (whole.winding_number(points) == blocks.winding_number(points)).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_no_points_give_empty_arrays(engine):
    oracle = oracle_of(torus(), engine)
    nothing = np.empty((0, 3), dtype=np.float32)
    assert oracle.distance(nothing).shape == oracle.inside(nothing).shape == (0,)
    assert oracle.closest(nothing)[0].shape == (0, 3)


# --------------------------------------------------------------------------------------------------- engines and errors


@pytest.fixture
def no_open3d(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)


def test_the_default_needs_no_open3d_and_says_nothing(no_open3d, capsys):
    oracle = DistanceOracle(torus())
    assert oracle.engine == DistanceOracle(torus(), "numba").engine
    assert oracle.signed_distance(np.array([[0.55, 0, 0]])) < 0
    assert capsys.readouterr().err == ""


def test_open3d_by_name_is_an_error_if_it_cannot_be_imported(no_open3d):
    with pytest.raises(UserError, match=r"open3d cannot be used: .*; leave --distanceEngine out") as error:
        DistanceOracle(torus(), "open3d")
    assert "\n" not in str(error.value)


def test_unknown_engine_is_an_error():
    with pytest.raises(ValueError, match="unknown distance engine 'embree'"):
        DistanceOracle(torus(), "embree")


@pytest.mark.parametrize("points", [np.zeros(3), np.zeros((4, 2)), np.zeros((4, 3), int), np.full((4, 3), np.nan)])
def test_malformed_points_are_an_error(points):
    oracle = DistanceOracle(torus(), "numba")
    for question in (oracle.distance, oracle.closest, oracle.winding_number, oracle.inside, oracle.signed_distance):
        with pytest.raises(ValueError, match="points"):
            question(points)


def test_two_threads_that_need_a_tree_at_once_build_one(monkeypatch):
    built = []

    def slow(vertices, faces, block):
        time.sleep(0.05)  # long enough for the other thread to ask for it too
        built.append(TriangleSearch(vertices, faces, block=block))
        return built[-1]

    monkeypatch.setattr(oracle_module, "TriangleSearch", slow)
    oracle, points = DistanceOracle(box()), np.zeros((4, 3))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(oracle.distance, (points, points))
    assert len(built) == 1 and (first == second).all()
