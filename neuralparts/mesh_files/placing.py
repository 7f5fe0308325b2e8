"""The pieces of a scene, placed by matrices and joined into one mesh: glTF and 3MF need it."""

import numpy as np

from neuralparts.wording import counted

# A file of a few bytes can place a piece a million times. The vertices and triangles that it places may be a quarter of
# its bytes and so many more. A triangle takes 1.1 KiB and 15 microseconds until it is labelled.
MOST_ROWS, BYTES_OF_A_ROW = 400_000, 4
# What a piece costs beside its rows, in rows: its loop of Python takes as long as so many.
ROWS_OF_A_PIECE = 6


class RowLimit:
    """Counts the vertices and triangles that a file places, before they are made, and refuses too many."""

    def __init__(self, file_bytes: int):
        self.most = self.left = MOST_ROWS + file_bytes // BYTES_OF_A_ROW

    def take(self, rows: int) -> None:
        """Count a piece of so many vertices and triangles. Raises ValueError if the limit is passed."""
        self.left -= rows + ROWS_OF_A_PIECE
        if self.left < 0:
            raise ValueError(f"it places its pieces so often that they pass {self.most:,} vertices and triangles")


def flip_if_mirrored(faces: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(F, 3) faces of a piece that a (3, 3) matrix places: flipped if the matrix mirrors, so that they stay outward."""
    return faces if np.linalg.det(matrix) > 0 else faces[:, [0, 2, 1]]


def check_piece(vertex_count: int, faces: np.ndarray) -> None:
    """Raise ValueError if faces (F, 3) of a piece name a vertex that it lacks: joined, they would name another's."""
    if len(faces) and not (faces.min() >= 0 and faces.max() < vertex_count):
        wrong = faces.min() if faces.min() < 0 else faces.max()
        raise ValueError(f"a triangle names vertex {wrong} of a piece with {counted(vertex_count, 'vertex')}")


def join_pieces(pieces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Pieces, each vertices (V, 3) and faces (F, 3) -> one mesh of them all: vertices float64, faces int64."""
    vertices, faces, offset = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    for points, triangles in pieces:
        vertices.append(points)
        faces.append(triangles + offset)
        offset += len(points)
    return np.concatenate(vertices), np.concatenate(faces)
