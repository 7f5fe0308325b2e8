"""Wavefront OBJ: reads and writes positions and polygons; normals, textures, lines and groups are ignored."""

import re
from collections.abc import Iterator

import numpy as np

from neuralparts.mesh_files.batches import in_batches
from neuralparts.mesh_files.polygons import triangulate
from neuralparts.mesh_files.source import SourceFile
from neuralparts.mesh_files.text import SLASH, parse_numbers, plain_text, row_widths, word_starts
from neuralparts.wording import counted, quoted

MOST_SLASHES = 2  # in a corner: position/texture/normal


def read_obj(source: SourceFile) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """An OBJ file -> vertices (V, 3) float64, faces (F, 3) int64, notes; see `read_triangles`. Raises ValueError."""
    # Comments are removed and continued lines joined, in this order: a comment may end in a backslash.
    data = re.sub(rb"#[^\n]*", b"", plain_text(source.data)).replace(b"\\\n", b" ")
    vertices = _positions(re.findall(rb"^[ \t]*v(?!\S)(.*)", data, re.MULTILINE))
    polygons = re.findall(rb"^[ \t]*f(?!\S)(.*)", data, re.MULTILINE)  # P lines
    counts = row_widths(polygons)  # (P,) corners of each
    corners = _corners(polygons, int(counts.sum()))  # (C,) indices as the file has them: from 1, or negative
    vertices_before = len(vertices)
    if (corners < 0).any():
        # A negative index counts back from the last vertex before its face: (C,) vertices before each corner's face.
        kinds = np.array(re.findall(rb"^[ \t]*([vf])(?!\S)", data, re.MULTILINE))
        vertices_before = np.repeat(np.cumsum(kinds == b"v")[kinds == b"f"], counts)
    indices = np.where(corners < 0, vertices_before + corners, corners - 1)
    return vertices, *triangulate(vertices, indices, counts)


def _positions(rows: list[bytes]) -> np.ndarray:
    """'v' lines without their 'v' -> (V, 3) float64; a weight or a colour after x, y and z is ignored."""
    widths = row_widths(rows)  # (V,)
    if len(rows) and widths.min() < 3:
        short = int(np.argmax(widths < 3))
        raise ValueError(f"vertex {short + 1:,} has {counted(int(widths[short]), 'coordinate')}, not 3")
    if len(rows) and widths.min() == widths.max():
        try:
            return parse_numbers(rows, np.float64, int(widths.sum())).reshape(len(rows), -1)[:, :3].copy()
        except ValueError:  # words after the numbers
            pass
    return parse_numbers([b" ".join(row.split()[:3]) for row in rows], np.float64, 3 * len(rows)).reshape(-1, 3)


def _corners(polygons: list[bytes], count: int) -> np.ndarray:
    """'f' lines without their 'f' -> (count,) int64, the position of each corner: the 7 of 7, 7/8, 7//9 and 7/8/9."""
    joined = b"\n".join(polygons)
    numbers_each = _numbers_in_each_corner(joined) if b"/" in joined else 1
    if numbers_each:
        numbers = parse_numbers([joined.replace(b"/", b" ")], np.int64, count * numbers_each)
        return numbers[::numbers_each]
    # Corner by corner: slower.
    corners = joined.split()
    if wrong := next((corner for corner in corners if corner.count(b"/") > MOST_SLASHES), None):
        raise ValueError(f"'{quoted(wrong)}' is no corner of a face")
    return parse_numbers([corner.partition(b"/")[0] for corner in corners], np.int64, count)


def _numbers_in_each_corner(joined: bytes) -> int:
    """The number of indices of every corner, if all corners have the same form, with an index at both ends; else 0."""
    text = np.frombuffer(joined, np.uint8)
    slashes = np.flatnonzero(text == SLASH)  # (S,)
    starts = word_starts(text)  # (C,)
    # (C,) slashes of each corner: those before its end without those before its start.
    each = np.diff(np.searchsorted(slashes, starts), append=len(slashes))
    if (
        each.min() != each.max()
        or each[0] > MOST_SLASHES
        or (text[starts] == SLASH).any()
        or re.search(rb"/(\s|$)", joined)
    ):
        return 0
    doubles = joined.count(b"//")
    if doubles == 0:
        return int(each[0]) + 1
    return 2 if doubles == len(starts) and each[0] == 2 else 0


def encode_obj(vertices: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 -> an OBJ in pieces; every float64 reads back as it was."""
    for batch in in_batches(vertices):
        # repr is the shortest text that reads back to the same float64.
        yield "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in batch.tolist()).encode()
    for batch in in_batches(faces):
        yield "".join(f"f {a} {b} {c}\n" for a, b, c in (batch + 1).tolist()).encode()
