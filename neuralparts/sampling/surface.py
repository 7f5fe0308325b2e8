"""Points on a mesh's surface, uniform by area, and labelled points on and around it (Surface)."""

from collections.abc import Callable

import numpy as np

from neuralparts.choices import UNIFORM_RATIO
from neuralparts.distance import DistanceOracle
from neuralparts.mesh import Mesh
from neuralparts.sampling.collector import CHUNK, SampleCollector
from neuralparts.sampling.uniform import add_uniform, draw_uniform_count
from neuralparts.triangle_kernels import face_areas
from neuralparts.triangles import unit_normals

# Fraction of the points that lies on the surface. The others lie around it in two groups of equal size, displaced by
# Gaussian noise of these standard deviations (domain units).
ON_SURFACE_FRACTION = 0.5
SURFACE_DEVIATIONS = (0.005, 0.05)


def surface_samples(
    oracle: DistanceOracle,
    count: int,
    generator: np.random.Generator,
    uniform_ratio: float = UNIFORM_RATIO,
    progress: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """count labelled points on and around the surface, uniform by area; arguments and result as for `draw_samples`.

    A fraction uniform_ratio of the points is uniform over the cube. Of the others, ON_SURFACE_FRACTION lies on the
    surface (sdf 0). The rest is displaced by noise of SURFACE_DEVIATIONS and labelled exactly; a point that leaves the
    cube is drawn again.
    """
    uniform = draw_uniform_count(count, uniform_ratio, generator)
    on_surface = generator.binomial(count - uniform, ON_SURFACE_FRACTION)
    samples = SampleCollector(count, progress)
    add_uniform(samples, uniform, oracle, generator)
    while samples.size < uniform + on_surface:
        size = min(uniform + on_surface - samples.size, CHUNK)
        samples.add(points_on_surface(oracle.mesh, size, generator)[0], np.zeros(size, dtype=np.float32))
    while samples.size < count:
        points = _displaced_points(oracle.mesh, min(count - samples.size, CHUNK), generator)
        samples.add(points, oracle.signed_distance(points))
    return samples.shuffled(generator)


def _displaced_points(mesh: Mesh, size: int, generator: np.random.Generator) -> np.ndarray:
    """Draw `size` points around the surface; returns those that lie in the cube, (K, 3) float32."""
    points = points_on_surface(mesh, size, generator)[0]
    # (size,) one of the standard deviations for each point.
    deviation = np.asarray(SURFACE_DEVIATIONS, dtype=np.float32)[generator.integers(0, len(SURFACE_DEVIATIONS), size)]
    points += deviation[:, None] * generator.standard_normal((size, 3), dtype=np.float32)
    return points[(np.abs(points) <= 1).all(axis=1)]


def points_on_surface(mesh: Mesh, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points uniform by area on a mesh: (count, 3) float32 in the domain, and their faces (count,) int64."""
    # (count,) faces, each as likely as its area is large: a uniform number looked up in the running total.
    area = face_areas(mesh.vertices, mesh.faces)
    total = np.cumsum(area)
    face = np.searchsorted(total, generator.random(count) * total[-1], side="right")
    face = np.minimum(face, np.flatnonzero(area)[-1])  # the product may be rounded up to the whole total
    points = np.empty((count, 3), dtype=np.float32)
    for start in range(0, count, CHUNK):
        # (C, 3, 3) corners; (C, 1) weights. The square root makes the points uniform within the triangle.
        corners = mesh.vertices[mesh.faces[face[start : start + CHUNK]]]
        root, along = np.sqrt(generator.random((len(corners), 1))), generator.random((len(corners), 1))
        points[start : start + CHUNK] = (
            (1 - root) * corners[:, 0] + root * (1 - along) * corners[:, 1] + root * along * corners[:, 2]
        )
    return points, face


def surface_normals(mesh: Mesh, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points uniform by area on a mesh: (count, 3) float32 in the domain, and their faces' unit normals (count, 3)
    float32, of the orientation that the faces have."""
    points, face = points_on_surface(mesh, count, generator)
    return points, unit_normals(mesh.vertices[mesh.faces]).astype(np.float32)[face]
