"""--simplify: fewer triangles, a closed mesh, and the error that the user allows."""

import numpy as np
import pytest

from neuralparts.distance import DistanceOracle
from neuralparts.marching import march
from neuralparts.mesh import Mesh
from neuralparts.sampling import points_on_surface
from neuralparts.simplification import not_simplified, simplify
from tests import shapes
from tests.meshes import box, directed_edge_balance, together


@pytest.fixture(scope="module")
def marched():
    return march(lambda points: shapes.torus(points).astype(np.float32), 40)


def as_mesh(vertices, faces):
    return Mesh(vertices, faces, None, True, {}, None)


def volume(vertices, faces):
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return (np.cross(a, b) * c).sum() / 6


def largest_distance(one, other):
    """The largest distance between two meshes at 20,000 points of each."""
    generator = np.random.default_rng(3)
    pairs = ((one, other), (other, one))
    return max(DistanceOracle(to).distance(points_on_surface(of, 20_000, generator)[0]).max() for of, to in pairs)


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.03])
def test_a_fraction_of_the_triangles_is_kept_and_the_mesh_stays_closed(marched, fraction):
    result = simplify(marched.vertices, marched.faces, fraction, scale=1.0)
    assert len(result.faces) == pytest.approx(fraction * len(marched.faces), abs=2)
    assert directed_edge_balance(result.faces) and len(np.unique(np.sort(result.faces), axis=0)) == len(result.faces)
    assert volume(result.vertices, result.faces) == pytest.approx(volume(marched.vertices, marched.faces), rel=0.1)
    meshes = as_mesh(result.vertices, result.faces), as_mesh(marched.vertices, marched.faces)
    assert largest_distance(*meshes) == pytest.approx(result.error, rel=0.1)


def test_an_error_in_file_units_is_kept_by_about_the_fewest_triangles(marched):
    counts = []
    for length in (0.02, 0.1):  # file units, of which 10 are a domain unit
        result = simplify(marched.vertices, marched.faces, f"error:{length}", scale=0.1)
        assert 0 < result.error <= 0.1 * length and directed_edge_balance(result.faces)
        counts.append(len(result.faces))
        fewer = simplify(marched.vertices, marched.faces, 0.7 * counts[-1] / len(marched.faces), scale=0.1)
        assert fewer.error > 0.1 * length
    assert counts[1] < counts[0] / 2 < len(marched.faces) / 4


def test_a_mesh_that_no_smaller_one_can_stand_for_stays_as_it_is():
    vertices, faces = together(box(center=(-0.4, 0, 0), size=0.5), box(center=(0.4, 0, 0), size=0.5))
    result = simplify(vertices, faces, "error:1e-6", scale=1.0)
    assert np.array_equal(result.faces, faces) and result.error == 0
    assert "error:1e-6" in not_simplified("error:1e-6") and "0.1" in not_simplified(0.1)


def test_a_thin_ring_keeps_more_triangles_than_asked_rather_than_fold():
    ring = march(lambda points: shapes.torus(points, 0.55, 0.06).astype(np.float32), 48)
    result = simplify(ring.vertices, ring.faces, 0.005, scale=1.0)
    sides = np.sort(result.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2))
    assert np.all(np.unique(sides, axis=0, return_counts=True)[1] == 2)
    # Two triangles of the same three corners would be folded onto each other.
    assert len(np.unique(np.sort(result.faces), axis=0)) == len(result.faces) > 0.01 * len(ring.faces)


def test_progress_ends_at_or_below_one(marched):
    seen = []
    simplify(marched.vertices, marched.faces, "error:0.01", 1.0, seen.append)
    assert seen == sorted(seen) and 0 < seen[0] < seen[-1] <= 1
