"""Wavefront OBJ: reads and writes positions and polygons; normals, textures, lines and groups are ignored."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuralparts.mesh_files.batches import in_batches
from neuralparts.mesh_files.polygons import triangulate
from neuralparts.mesh_files.text import parse_numbers, plain_text


def read_obj(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """An OBJ file -> vertices (V, 3) float64, faces (F, 3) int64, notes; see `read_triangles`. Raises ValueError."""
    # Comments are removed and continued lines joined, in this order: a comment may end in a backslash.
    data = re.sub(rb"#[^\n]*", b"", plain_text(data)).replace(b"\\\n", b" ")
    vertices = _positions(re.findall(rb"^[ \t]*v[ \t]+([^\r\n#]*)", data, re.MULTILINE))
    polygons = re.findall(rb"^[ \t]*f[ \t]+([^\r\n#]*)", data, re.MULTILINE)  # P lines
    counts = np.array([len(polygon.split()) for polygon in polygons], dtype=np.int64)  # (P,) corners of each
    corners = _corners(polygons, counts)  # (C,) indices as the file has them: from 1, or negative
    vertices_before = len(vertices)
    if (corners < 0).any():
        # A negative index counts back from the last vertex before its face: (C,) vertices before each corner's face.
        kinds = np.array(re.findall(rb"^[ \t]*([vf])[ \t]", data, re.MULTILINE))
        vertices_before = np.repeat(np.cumsum(kinds == b"v")[kinds == b"f"], counts)
    indices = np.where(corners < 0, vertices_before + corners, corners - 1)
    return vertices, triangulate(vertices, indices, counts), []


def _positions(rows: list[bytes]) -> np.ndarray:
    """'v' lines without their 'v' -> (V, 3) float64; a weight or a colour after x, y and z is ignored."""
    width = len(rows[0].split()) if rows else 3
    if width < 3:
        raise ValueError(f"a vertex with {width} coordinates")
    try:
        numbers = parse_numbers(rows, np.float64).reshape(len(rows), width)
    except ValueError:  # lines of different lengths, or words after the numbers
        numbers = parse_numbers([b" ".join(row.split()[:3]) for row in rows], np.float64).reshape(len(rows), 3)
    return numbers[:, :3].copy()


def _corners(polygons: list[bytes], counts: np.ndarray) -> np.ndarray:
    """'f' lines without their 'f' -> (C,) int64, the position index of each corner: the 7 of 7, 7/8, 7//9 and 7/8/9."""
    try:
        return _corners_alike(polygons, counts)
    except ValueError:  # corner by corner: slower
        return parse_numbers(
            [corner.partition(b"/")[0] for polygon in polygons for corner in polygon.split()], np.int64
        )


def _corners_alike(polygons: list[bytes], counts: np.ndarray) -> np.ndarray:
    """As `_corners`, fast, if all corners of the file have the same form. Raises ValueError if they do not."""
    first = polygons[0].split()[0].replace(b"//", b"/") if polygons else b""
    slashes = first.count(b"/")  # of each corner
    text = [polygon.replace(b"//", b"/") for polygon in polygons] if slashes else polygons
    if slashes and any(p.count(b"/") != slashes * n for p, n in zip(text, counts, strict=True)):
        raise ValueError("corners of several forms")
    joined = b"\n".join(text)
    if slashes and re.search(rb"/(\s|$)", joined):
        raise ValueError("corners that end in a slash, as '7/' and '7//'")
    # Each corner is slashes + 1 numbers, the first of which is the position.
    return parse_numbers([joined.replace(b"/", b" ") if slashes else joined], np.int64)[:: slashes + 1]


def encode_obj(vertices: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 -> an OBJ in pieces; every float64 reads back as it was."""
    for batch in in_batches(vertices):
        # repr is the shortest text that reads back to the same float64.
        yield "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in batch.tolist()).encode()
    for batch in in_batches(faces):
        yield "".join(f"f {a} {b} {c}\n" for a, b, c in (batch + 1).tolist()).encode()
