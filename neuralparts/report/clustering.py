"""A marched mesh with fewer vertices to draw from: the vertices of a small cube become one of them.

Rossignac and Borrel, Multi-resolution 3D Approximations for Rendering Complex Scenes (1993). It takes a twentieth of
the time of contracting edges, and little memory; a mesh of it is still finer than a picture. Only vertices whose
surface faces about the same way are united, so that thin walls keep both of their sides, and edges stay sharp.
"""

import numpy as np

from neuralparts.report.clustering_kernels import nearest_to, numbered_keys, vertex_normals
from neuralparts.triangles import triangle_areas

# Triangles of a surface of area 1 in cubes of edge 1, about; the first guess of the edge follows from it.
TRIANGLES_PER_SQUARE = 3.0
# The edge grows until there are at most so many times the wanted triangles.
TOLERATED = 1.25
# (3, 3) axes whose six directions are the ways to face: a rotation that puts the planes of usual parts, also those at
# 45 degrees, far from the borders between two ways.
FACING_AXES = np.array([[0.8776, 0.4259, -0.2200], [-0.3826, 0.9002, 0.2080], [0.2886, -0.0984, 0.9524]])
# Cubes along an axis, at most, so that the number of a cube and a way to face fits an int64.
MOST_CUBES = 2**20


def clustered(vertices: np.ndarray, faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The mesh with about `count` triangles at most; the same arrays if it has no more than TOLERATED times as many.

    vertices (V, 3) float64, faces (F, 3) int64. Returned vertices are some of the given ones. The mesh may have edges
    of more than two triangles afterwards.
    """
    if len(faces) <= TOLERATED * count:
        return vertices, faces
    areas = [triangle_areas(vertices[faces[k : k + 2**16]]).sum() for k in range(0, len(faces), 2**16)]
    edge = np.sqrt(TRIANGLES_PER_SQUARE * max(sum(areas), np.finfo(float).tiny) / count)
    way = _ways(vertices, faces)
    while True:
        chosen, new = _united(vertices, faces, way, edge)
        if len(new) <= TOLERATED * count:
            return vertices[chosen], new
        edge *= np.sqrt(len(new) / count)


def _ways(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V,) int64: which of the six directions the normal of each vertex is nearest to."""
    along = vertex_normals(vertices, faces) @ FACING_AXES.T  # (V, 3)
    axis = np.abs(along).argmax(axis=1)
    return 2 * axis + (np.take_along_axis(along, axis[:, None], axis=1)[:, 0] > 0)


def _united(vertices: np.ndarray, faces: np.ndarray, way: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """With the vertices of cubes of an edge united: numbers (W,) of those that are kept, and the faces (G, 3) of them.

    way (V,): only vertices of the same way are united. Faces that lost a side are left out.
    """
    low = vertices.min(axis=0)
    edge = max(edge, np.ptp(vertices, axis=0).max() / (MOST_CUBES - 1))
    cube = ((vertices - low) / edge).astype(np.int64)  # (V, 3)
    key = ((cube[:, 0] * MOST_CUBES + cube[:, 1]) * MOST_CUBES + cube[:, 2]) * 6 + way
    number, total = numbered_keys(key)  # (V,) the cluster of each vertex
    # (W, 3) the mean of each cluster; of its vertices the one that is nearest to it stays.
    size = np.bincount(number, minlength=total)
    mean = np.stack([np.bincount(number, vertices[:, k], total) / size for k in range(3)], axis=1)
    chosen = nearest_to(vertices, number, mean)
    corners = number[faces]
    return chosen, corners[(corners != np.roll(corners, 1, axis=1)).all(axis=1)]
