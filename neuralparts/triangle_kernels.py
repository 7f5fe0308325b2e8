"""Arithmetic on many triangles of a mesh, compiled: vertices and faces in, one row a triangle out.

The bits are those of `triangles.py`, which needs no Numba and makes an array of all corners first.
"""

import numpy as np

from neuralparts.compiled import cached_njit


@cached_njit(nogil=True, error_model="numpy")
def face_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) areas of faces (F, 3) int64 over vertices (V, 3) float64."""
    areas = np.empty(len(faces))
    for f in range(len(faces)):
        x, y, z = doubled_normal(vertices, faces[f, 0], faces[f, 1], faces[f, 2])
        areas[f] = np.sqrt(x * x + y * y + z * z) / 2
    return areas


@cached_njit(nogil=True, error_model="numpy")
def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) unit normals of faces (F, 3) int64 over vertices (V, 3) float64; zero for a triangle without area."""
    normals = np.zeros((len(faces), 3))
    for f in range(len(faces)):
        x, y, z = doubled_normal(vertices, faces[f, 0], faces[f, 1], faces[f, 2])
        length = np.sqrt(x * x + y * y + z * z)
        if length > 0:
            normals[f, 0], normals[f, 1], normals[f, 2] = x / length, y / length, z / length
    return normals


@cached_njit(nogil=True, error_model="numpy")
def doubled_normal(vertices: np.ndarray, a: int, b: int, c: int) -> tuple[float, float, float]:
    """The normal of a triangle of three vertices; its length is twice the area."""
    e, f, g = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
    p, q, r = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
    return f * r - g * q, g * p - e * r, e * q - f * p
