"""The pieces of a scene, placed by matrices and joined into one mesh: glTF and 3MF need it."""

import numpy as np


def flip_if_mirrored(faces: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(F, 3) faces of a piece that a (3, 3) matrix places: flipped if the matrix mirrors, so that they stay outward."""
    return faces if np.linalg.det(matrix) > 0 else faces[:, [0, 2, 1]]


def join_pieces(pieces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Pieces, each vertices (V, 3) and faces (F, 3) -> one mesh of them all: vertices float64, faces int64."""
    vertices, faces, offset = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    for points, triangles in pieces:
        vertices.append(points)
        faces.append(triangles + offset)
        offset += len(points)
    return np.concatenate(vertices), np.concatenate(faces)
