"""Object File Format (OFF), as text: reads and writes positions and polygons; colours and normals are ignored."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuralparts.mesh_files.batches import in_batches
from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.polygons import triangulate
from neuralparts.mesh_files.text import parse_numbers, plain_text
from neuralparts.wording import counted


def read_off(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """An OFF file -> vertices (V, 3) float64, faces (F, 3) int64, notes; see `read_triangles`.

    Raises MeshError or ValueError.
    """
    vertex_count, face_count, lines = _split(path, data)
    if len(lines) < vertex_count + face_count:
        lines = _rearranged(b" ".join(lines).split(), vertex_count, face_count) or lines
    if len(lines) < vertex_count + face_count:
        raise MeshError(
            f"{path}: the header promises {counted(vertex_count, 'vertex')} and {counted(face_count, 'face')} but only "
            f"{counted(len(lines), 'line')} after it: the file is cut short; export it again"
        )
    rows = [b" ".join(line.split()[:3]) for line in lines[:vertex_count]]
    vertices = parse_numbers(rows, np.float64).reshape(-1, 3)
    # A face is its number of corners, their indices, and perhaps a colour.
    polygons = [line.split() for line in lines[vertex_count : vertex_count + face_count]]
    counts = np.array([int(polygon[0]) for polygon in polygons], dtype=np.int64)
    corners = parse_numbers([b" ".join(row[1 : n + 1]) for row, n in zip(polygons, counts, strict=True)], np.int64)
    return vertices, triangulate(vertices, corners, counts), []


def _split(path: Path, data: bytes) -> tuple[int, int, list[bytes]]:
    """The vertex count, the face count, and the lines after them, without comments and blank lines."""
    lines = [stripped for line in plain_text(data).split(b"\n") if (stripped := line.partition(b"#")[0].strip())]
    # Letters before OFF announce more numbers per vertex; 4 and n, that space has another number of dimensions.
    header = re.match(rb"(?:ST)?C?N?(4?n?)(?i:OFF)(?![A-Za-z])(.*)", lines[0]) if lines else None
    if header is None or header[1] or b"BINARY" in header[2].upper():
        raise MeshError(f"{path}: not a three-dimensional text OFF file; export it again as text OFF or as PLY")
    # The counts may follow in the same line.
    lines[:1] = [header[2].strip()] if header[2].strip() else []
    vertex_count, face_count = (int(token) for token in lines[0].split()[:2])
    if vertex_count < 0 or face_count < 0:
        raise ValueError("a count below zero")
    return vertex_count, face_count, lines[1:]


def _rearranged(tokens: list[bytes], vertex_count: int, face_count: int) -> list[bytes]:
    """One line per vertex and per face, whatever the line breaks of the file; [] if the number of tokens is wrong."""
    lines = [b" ".join(tokens[k : k + 3]) for k in range(0, 3 * vertex_count, 3)]
    at = 3 * vertex_count
    for _ in range(face_count):
        if at >= len(tokens) or not tokens[at].isdigit():
            return []
        after = at + 1 + int(tokens[at])
        lines.append(b" ".join(tokens[at:after]))
        at = after
    return lines if at == len(tokens) else []


def encode_off(vertices: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 -> an OFF in pieces; every float64 reads back as it was."""
    yield f"OFF\n{len(vertices)} {len(faces)} 0\n".encode()
    for batch in in_batches(vertices):
        # repr is the shortest text that reads back to the same float64.
        yield "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in batch.tolist()).encode()
    for batch in in_batches(faces):
        yield "".join(f"3 {a} {b} {c}\n" for a, b, c in batch.tolist()).encode()
