"""A marched mesh with fewer vertices to draw from: the vertices of a small cube become one of them.

Rossignac and Borrel, Multi-resolution 3D Approximations for Rendering Complex Scenes (1993). It takes a twentieth of
the time of contracting edges, and little memory; a mesh of it is still finer than a picture. Only vertices whose
surface faces about the same way are united, so that thin walls keep both of their sides, and edges stay sharp.
"""

import numpy as np

from neuralparts.report.clustering_kernels import (
    cube_keys,
    facing,
    means,
    nearest_to,
    numbered_keys,
    vertex_normals,
    with_three_corners,
)
from neuralparts.triangle_kernels import face_areas

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
    areas = face_areas(vertices, faces)
    # Summed in pieces, as numpy sums each: the edge, and so the mesh, depends on the last bit.
    area = sum(areas[k : k + 2**16].sum() for k in range(0, len(areas), 2**16))
    edge = np.sqrt(TRIANGLES_PER_SQUARE * max(area, np.finfo(float).tiny) / count)
    way = facing(vertex_normals(vertices, faces) @ FACING_AXES.T)
    while True:
        chosen, new = _united(vertices, faces, way, edge)
        if len(new) <= TOLERATED * count:
            return vertices[chosen], new
        edge *= np.sqrt(len(new) / count)


def _united(vertices: np.ndarray, faces: np.ndarray, way: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """With the vertices of cubes of an edge united: numbers (W,) of those that are kept, and the faces (G, 3) of them.

    way (V,): only vertices of the same way are united. Faces that lost a side are left out.
    """
    low = vertices.min(axis=0)
    edge = max(edge, np.ptp(vertices, axis=0).max() / (MOST_CUBES - 1))
    number, total = numbered_keys(cube_keys(vertices, low, edge, MOST_CUBES, way))  # (V,) the cluster of each vertex
    # Of the vertices of a cluster the one that is nearest to their mean stays.
    chosen = nearest_to(vertices, number, means(vertices, number, total))
    return chosen, with_three_corners(faces, number)
