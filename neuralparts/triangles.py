"""Arithmetic on arrays of triangles that several stages need: corners (F, 3, 3) in, one row a triangle out."""

import numpy as np

# Size to which a mesh is scaled before edges are contracted: the library's thresholds are lengths for about this size.
CONTRACTION_SIZE = 100.0


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of rows: (N, 3), (N, 3) -> (N, 3). numpy's own takes three times as long on millions of rows."""
    result = np.empty_like(a)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        result[:, i] = a[:, j] * b[:, k] - a[:, k] * b[:, j]
    return result


def doubled_normals(corners: np.ndarray) -> np.ndarray:
    """(F, 3, 3) corners -> (F, 3) normals whose length is twice the triangle's area."""
    return cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def lengths(rows: np.ndarray) -> np.ndarray:
    """(N, 3) -> (N,) Euclidean lengths: the same bits as numpy's norm, which takes twice as long for three columns."""
    x, y, z = rows[:, 0], rows[:, 1], rows[:, 2]
    return np.sqrt(x * x + y * y + z * z)


def triangle_areas(corners: np.ndarray) -> np.ndarray:
    """(F, 3, 3) corners -> (F,) areas."""
    return lengths(doubled_normals(corners)) / 2


def unit_normals(corners: np.ndarray) -> np.ndarray:
    """(F, 3, 3) corners -> (F, 3) unit normals; zero for a triangle without area."""
    normals = doubled_normals(corners)
    length = lengths(normals)[:, None]
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)


def check_mesh_arrays(vertices: np.ndarray, faces: np.ndarray) -> None:
    """Raise ValueError unless vertices have shape (V, 3) and faces (F, 3)."""
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"expected vertices (V, 3) and faces (F, 3), got {vertices.shape} and {faces.shape}")


def contracted(vertices: np.ndarray, faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The mesh with about `count` triangles at most, by contracting edges (Garland and Heckbert 1997, quadric errors).

    vertices (V, 3) float64, faces (F, 3) integer, at least one; returns float64 and int64, in the same place and size.
    """
    import fast_simplification

    # The vertices about their mean, at the size that the thresholds expect: (V, 3).
    center, scale = vertices.mean(axis=0), CONTRACTION_SIZE / max(np.ptp(vertices, axis=0).max(), 1e-30)
    local = (vertices - center) * scale
    fewer, kept = fast_simplification.simplify(local, faces.astype(np.int32), target_count=count)
    return np.asarray(fewer, np.float64) / scale + center, np.asarray(kept, np.int64)
