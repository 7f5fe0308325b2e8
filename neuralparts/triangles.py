"""Arithmetic on arrays of triangles that several stages need: corners (F, 3, 3) in, one row a triangle out."""

import numpy as np


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of rows: (N, 3), (N, 3) -> (N, 3). numpy's own takes three times as long on millions of rows."""
    result = np.empty_like(a)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        result[:, i] = a[:, j] * b[:, k] - a[:, k] * b[:, j]
    return result


def doubled_normals(corners: np.ndarray) -> np.ndarray:
    """(F, 3, 3) corners -> (F, 3) normals whose length is twice the triangle's area."""
    return cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def triangle_areas(corners: np.ndarray) -> np.ndarray:
    """(F, 3, 3) corners -> (F,) areas."""
    return np.linalg.norm(doubled_normals(corners), axis=1) / 2


def unit_normals(corners: np.ndarray) -> np.ndarray:
    """(F, 3, 3) corners -> (F, 3) unit normals; zero for a triangle without area."""
    normals = doubled_normals(corners)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)


def check_mesh_arrays(vertices: np.ndarray, faces: np.ndarray) -> None:
    """Raise ValueError unless vertices have shape (V, 3) and faces (F, 3)."""
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"expected vertices (V, 3) and faces (F, 3), got {vertices.shape} and {faces.shape}")
