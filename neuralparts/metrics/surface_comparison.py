"""How far a reconstruction is from the mesh that was fitted: distances, normals, and the fraction that it lacks."""

import dataclasses

import numpy as np

from neuralparts.distance import DistanceOracle, RunSearch
from neuralparts.mesh import Mesh
from neuralparts.sampling import points_on_surface
from neuralparts.triangle_kernels import face_normals
from neuralparts.triangles import check_mesh_arrays
from neuralparts.verdict import GOOD_DISTANCE

# How far beneath and above a point the mesh is asked for its inside, domain units: more than the rounding of float32,
# and thinner than any wall that a network can hold.
SIDE_DEPTH = 1e-5


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
    surface_within_99, reconstruction_within_99: 99% of the points of the one surface lie this near to the other; of a
    closed input, without far points that bound no inside, as within a union of bodies (NaN if no point is left).
    normal_consistency: the mean |cosine| between the normals of a point's triangle and of the triangle that it is
    projected on. missed_surface: the fraction of the input's points farther than `cell`, the edge of a grid cell, from
    the reconstruction. Lengths in domain units. Raises ValueError for arrays of other shapes.
    """
    reconstruction = as_mesh(vertices, faces, mesh)
    # From the reconstruction to the input mesh, and back.
    points, normals = _points_with_normals(reconstruction, count, generator)
    _, face, there = oracle.closest(points)
    cosine_there = _cosines(normals, mesh, face)
    points, normals = _points_with_normals(mesh, count, generator)
    face, back = RunSearch(reconstruction.vertices, reconstruction.faces).nearest(points)
    cosine_back = _cosines(normals, reconstruction, face)
    there, back = there.astype(np.float64), back.astype(np.float64)
    return {
        "chamfer": float((there.mean() + back.mean()) / 2),
        "hausdorff": float(max(there.max(), back.max())),
        "surface_within_99": _within_99(back, points, normals, oracle),
        "reconstruction_within_99": float(np.percentile(there, 99)),
        "normal_consistency": float((cosine_there.mean() + cosine_back.mean()) / 2),
        "missed_surface": float((back > cell).mean()),
    }


def as_mesh(vertices: np.ndarray, faces: np.ndarray, mesh: Mesh) -> Mesh:
    """A reconstruction as a Mesh, with the transform of the input mesh. Raises ValueError for other shapes."""
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int64)
    check_mesh_arrays(vertices, faces)
    return dataclasses.replace(mesh, vertices=vertices, faces=faces, closed=True, diagnosis={})


def bounds_no_inside(oracle: DistanceOracle, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(N,) bool: points (N, 3) of the oracle's mesh, normals (N, 3), of which both sides are inside, or neither."""
    points = points.astype(np.float64)
    return oracle.inside(points - SIDE_DEPTH * normals) == oracle.inside(points + SIDE_DEPTH * normals)


def _within_99(distances: np.ndarray, points: np.ndarray, normals: np.ndarray, oracle: DistanceOracle) -> float:
    """surface_within_99, from the distances (N,) of points (N, 3) of the oracle's mesh, with normals (N, 3).

    Points within GOOD_DISTANCE count unasked, because a question takes time; a good fit has few others.
    """
    counts = np.ones(len(points), dtype=bool)
    if oracle.mesh.closed:
        far = distances > GOOD_DISTANCE
        counts[far] = ~bounds_no_inside(oracle, points[far], normals[far])
    return float(np.percentile(distances[counts], 99)) if counts.any() else np.nan


def _points_with_normals(mesh: Mesh, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) float32 uniform on a mesh, and the normals (count, 3) of their triangles."""
    points, face = points_on_surface(mesh, count, generator)
    return points, face_normals(mesh.vertices, mesh.faces[face])


def _cosines(normals: np.ndarray, mesh: Mesh, face: np.ndarray) -> np.ndarray:
    """(N,) |cosines| between normals (N, 3) and those of the triangles face (N,) of a mesh."""
    onto = face_normals(mesh.vertices, mesh.faces[face])
    return np.abs(normals[:, 0] * onto[:, 0] + normals[:, 1] * onto[:, 1] + normals[:, 2] * onto[:, 2])
