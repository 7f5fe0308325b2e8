"""Points on the surface, uniform by area, and samples around it."""

import numpy as np
from scipy.stats import chi2

from neuralparts.distance import DistanceOracle
from neuralparts.sampling import points_on_surface, surface_samples
from neuralparts.sampling.surface import ON_SURFACE_FRACTION, SURFACE_DEVIATIONS
from neuralparts.triangles import triangle_areas
from tests.distance.brute import as_mesh, brute_distance
from tests.sampling.densities import FALSE_ALARM, assert_same_histogram, part


def test_points_on_surface_are_uniform_by_area(generator):
    mesh = part()
    points, face = points_on_surface(mesh, 50_000, generator)
    assert points.dtype == np.float32 and face.dtype == np.int64
    area = triangle_areas(mesh.vertices[mesh.faces])
    assert_same_histogram(np.bincount(face, minlength=len(area)), area / area.sum())
    for place in range(0, 1000, 50):
        alone = as_mesh(mesh.vertices, mesh.faces[face[place] : face[place] + 1])
        assert brute_distance(points[place : place + 1], alone) < 1e-7


def test_points_are_uniform_within_a_triangle(generator):
    mesh = as_mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    points, _ = points_on_surface(mesh, 40_000, generator)
    # Four similar triangles of half the size.
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
    assert abs(on.mean() - ON_SURFACE_FRACTION) < 4 * np.sqrt(0.25 / 20_000)
    assert brute_distance(points[on][:2000], mesh).max() < 1e-7
    near, far = np.quantile(np.abs(sdf[~on]), [0.25, 0.95])
    assert near < SURFACE_DEVIATIONS[0] and 0.5 * SURFACE_DEVIATIONS[1] < far < 0.15
