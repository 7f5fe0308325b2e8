"""Object File Format (OFF), as text: reads and writes positions and polygons; colours and normals are ignored."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuralparts.mesh_files.batches import in_batches
from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.polygons import triangulate
from neuralparts.mesh_files.source import SourceFile
from neuralparts.mesh_files.text import parse_count, parse_numbers, plain_text, row_widths
from neuralparts.wording import counted

# The vertices (V, 3) float64, the corners (C,) int64 of all faces, and the number of corners (F,) of each.
Parsed = tuple[np.ndarray, np.ndarray, np.ndarray]


def read_off(source: SourceFile) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """An OFF file -> vertices (V, 3) float64, faces (F, 3) int64, notes; see `read_triangles`.

    A row is a line in most files. The numbers may be broken into lines in any other way, if their total fits. Raises
    MeshError or ValueError.
    """
    vertex_count, face_count, lines = _split(source.path, source.data)
    widths = row_widths(lines)  # (L,) numbers in each line
    rows = vertex_count + face_count
    if len(lines) == rows:  # these are the rows: none is cut anew
        ways = [_by_rows]
    elif len(lines) > rows:
        ways = [_by_rows, _by_vertex_rows, _by_numbers]
    else:
        ways = [_by_numbers, _by_vertex_rows]
    reason = ""
    # Every vertex has three numbers at least, every face one: more are not there, whatever the header says.
    if 3 * vertex_count + face_count <= widths.sum():
        for way in ways:
            try:
                vertices, corners, counts = way(lines, widths, vertex_count, face_count)
            except ValueError as error:
                reason = reason or str(error)
            else:
                return vertices, *triangulate(vertices, corners, counts)
    if len(lines) >= rows and reason:
        raise ValueError(reason)
    raise MeshError(
        f"{source.path}: the header promises {counted(vertex_count, 'vertex')} and {counted(face_count, 'face')}, and "
        f"the {counted(int(widths.sum()), 'number')} after it do not make them up: the file is cut short or damaged; "
        "export it again"
    )


def _split(path: Path, data: bytes) -> tuple[int, int, list[bytes]]:
    """The vertex count, the face count, and the lines after them, without comments and blank lines."""
    lines = [stripped for line in plain_text(data).split(b"\n") if (stripped := line.partition(b"#")[0].strip())]
    # Letters before OFF announce more numbers per vertex; 4 and n, that space has another number of dimensions.
    header = re.match(rb"(?:ST)?C?N?(4?n?)(?i:OFF)(?![A-Za-z])(.*)", lines[0]) if lines else None
    if header is None or header[1] or b"BINARY" in header[2].upper():
        raise MeshError(f"{path}: not a three-dimensional text OFF file; export it again as text OFF or as PLY")
    # The counts may follow in the same line.
    lines[:1] = [header[2].strip()] if header[2].strip() else []
    counts = lines[0].split() if lines else []
    if len(counts) < 2:
        raise ValueError("no counts of vertices and faces")
    vertex_count, face_count = map(parse_count, counts[:2])
    # In a file without line breaks the numbers follow the three counts in their line.
    rest = lines[1:] if len(lines) > 1 or len(counts) < 4 else [b" ".join(counts[3:])]
    return vertex_count, face_count, rest


def _by_rows(lines: list[bytes], widths: np.ndarray, vertex_count: int, face_count: int) -> Parsed:
    """One line per vertex and per face; what follows the numbers of a row is ignored. Raises ValueError."""
    vertices = _vertex_rows(lines, widths, vertex_count)
    faces = slice(vertex_count, vertex_count + face_count)
    lines, widths = lines[faces], widths[faces]
    # A face is its number of corners, their indices, and perhaps a colour.
    try:
        numbers = parse_numbers(lines, np.int64, int(widths.sum()))
        starts = np.cumsum(widths) - widths  # (F,) where a row begins in numbers
        counts = numbers[starts]
        _check_corners(counts, widths, vertex_count)
        place = np.arange(len(numbers)) - np.repeat(starts, widths)  # of a number in its row
        corners = numbers[(place > 0) & (place <= np.repeat(counts, widths))]
    except ValueError:  # colours of float
        polygons = [line.split() for line in lines]
        counts = np.array([parse_count(polygon[0]) for polygon in polygons], dtype=np.int64)
        _check_corners(counts, widths, vertex_count)
        words = [b" ".join(row[1 : n + 1]) for row, n in zip(polygons, counts, strict=True)]
        corners = parse_numbers(words, np.int64, int(counts.sum()))
    return vertices, corners, counts


def _check_corners(counts: np.ndarray, widths: np.ndarray, vertex_count: int) -> None:
    """Raise ValueError unless each of F rows has a number of corners, and so many after it."""
    wrong = (counts < 0) | (counts >= widths)  # (F,)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"face {row + 1:,} (row {vertex_count + row + 1:,} after the header) promises {counts[row]:,} corners in a "
            f"row of {counted(int(widths[row]), 'number')}"
        )


def _vertex_rows(lines: list[bytes], widths: np.ndarray, vertex_count: int) -> np.ndarray:
    """Vertices (V, 3) of the first lines, one in each; what follows their coordinates is ignored. Raises ValueError."""
    widths = widths[:vertex_count]
    if len(widths) < vertex_count or (widths < 3).any():
        row = int(np.argmax(widths < 3))
        found = counted(int(widths[row]), "coordinate") if len(widths) else "no line"
        raise ValueError(f"vertex {row + 1:,} (row {row + 1:,} after the header) has {found}, not 3")
    if (widths == 3).all():
        rows = lines[:vertex_count]
    else:
        rows = [b" ".join(line.split()[:3]) for line in lines[:vertex_count]]
    return parse_numbers(rows, np.float64, 3 * vertex_count).reshape(-1, 3)


def _by_vertex_rows(lines: list[bytes], widths: np.ndarray, vertex_count: int, face_count: int) -> Parsed:
    """One line per vertex, and faces that are broken into lines in any way. Raises ValueError."""
    vertices = _vertex_rows(lines, widths, vertex_count)
    return vertices, *_polygons(b" ".join(lines[vertex_count:]).split(), face_count)


def _by_numbers(lines: list[bytes], widths: np.ndarray, vertex_count: int, face_count: int) -> Parsed:
    """Numbers that are broken into lines in any way. Raises ValueError."""
    words = b" ".join(lines).split()
    vertices = parse_numbers(words[: 3 * vertex_count], np.float64, 3 * vertex_count).reshape(-1, 3)
    return vertices, *_polygons(words[3 * vertex_count :], face_count)


def _polygons(words: list[bytes], face_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces one after the other, without colours -> corners (C,), counts (F,). Raises ValueError unless all words are
    of them."""
    numbers = parse_numbers(words, np.int64, len(words))
    starts, at = np.zeros(face_count, np.int64), 0
    for face in range(face_count):
        if at >= len(words) or numbers[at] < 0:
            raise ValueError("the numbers do not add up to so many faces")
        starts[face] = at
        at += 1 + int(numbers[at])
    if at != len(words):
        raise ValueError("the numbers do not add up to so many faces")
    return np.delete(numbers, starts), numbers[starts]


def encode_off(vertices: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 -> an OFF in pieces; every float64 reads back as it was."""
    yield f"OFF\n{len(vertices)} {len(faces)} 0\n".encode()
    for batch in in_batches(vertices):
        # repr is the shortest text that reads back to the same float64.
        yield "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in batch.tolist()).encode()
    for batch in in_batches(faces):
        yield "".join(f"3 {a} {b} {c}\n" for a, b, c in batch.tolist()).encode()
