"""How far a reconstruction is from the mesh that was fitted: distances, normals, and the fraction that it lacks."""

import dataclasses

import numpy as np

from neuralparts.distance import DistanceOracle
from neuralparts.mesh import Mesh
from neuralparts.sampling import points_on_surface
from neuralparts.triangles import check_mesh_arrays, unit_normals


def mesh_errors(
    vertices: np.ndarray,
    faces: np.ndarray,
    mesh: Mesh,
    oracle: DistanceOracle,
    count: int,
    generator: np.random.Generator,
    cell: float,
) -> dict[str, float]:
    """Errors of a reconstruction, vertices (V, 3) in the domain and faces (F, 3), against the input mesh of an oracle.

    `count` points uniform by area on each of the two meshes are projected on the other. chamfer: the mean of the two
    mean distances. hausdorff: the largest of all distances; a sample cannot show more than the true one.
    surface_within_99, reconstruction_within_99: 99% of the points of the one surface lie this near to the other.
    normal_consistency: the mean |cosine| between the normals of a point's triangle and of the triangle that it is
    projected on. missed_surface: the fraction of the input's points farther than `cell`, the edge of a grid cell, from
    the reconstruction. Lengths in domain units. Raises ValueError for arrays of other shapes.
    """
    reconstruction = as_mesh(vertices, faces, mesh)
    there, cosine_there = _project(reconstruction, oracle, count, generator)
    back, cosine_back = _project(mesh, DistanceOracle(reconstruction, oracle.engine), count, generator)
    return {
        "chamfer": float((there.mean() + back.mean()) / 2),
        "hausdorff": float(max(there.max(), back.max())),
        "surface_within_99": float(np.percentile(back, 99)),
        "reconstruction_within_99": float(np.percentile(there, 99)),
        "normal_consistency": float((cosine_there.mean() + cosine_back.mean()) / 2),
        "missed_surface": float((back > cell).mean()),
    }


def as_mesh(vertices: np.ndarray, faces: np.ndarray, mesh: Mesh) -> Mesh:
    """A reconstruction as a Mesh, with the transform of the input mesh. Raises ValueError for other shapes."""
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int64)
    check_mesh_arrays(vertices, faces)
    return dataclasses.replace(mesh, vertices=vertices, faces=faces, closed=True, diagnosis={})


def _project(
    mesh: Mesh, oracle: DistanceOracle, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points uniform on a mesh, projected on the mesh of an oracle: distances (count,) float64, |cosines| (count,)."""
    points, start = points_on_surface(mesh, count, generator)
    _, end, distances = oracle.closest(points)
    # (count, 3) each: the normals of the triangles that the points lie on, and are projected on.
    on, onto = (unit_normals(part.vertices[part.faces[index]]) for part, index in ((mesh, start), (oracle.mesh, end)))
    cosines = (on * onto).sum(axis=1)
    return distances.astype(np.float64), np.abs(cosines)
