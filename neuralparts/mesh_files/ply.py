"""Stanford PLY: reads text and binary of both byte orders, writes binary; colours and other properties are ignored."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neuralparts.mesh_files.batches import in_batches
from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.polygons import triangulate

# numpy's code, without the byte order, of each name of a type.
TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
BYTE_ORDERS = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}


class Property(NamedTuple):
    """A column of an element. type: of a value. count_type: of the length before a list; None for a scalar."""

    name: str
    type: str
    count_type: str | None


class Element(NamedTuple):
    """A table of a PLY file: its name ('vertex', 'face'), its number of rows and its columns."""

    name: str
    count: int
    properties: list[Property]


# The columns of an element by name. Of a scalar: (N,). Of a list: the lengths (N,) and the values (sum of lengths,).
Columns = dict[str, np.ndarray | tuple[np.ndarray, np.ndarray]]


def read_ply(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A PLY file -> vertices (V, 3) float64, faces (F, 3) int64, notes; see `read_triangles`.

    Positions in text are read as float64 whatever type the header names, so no digit is lost. Raises MeshError, and
    KeyError or ValueError for a damaged header.
    """
    elements, take, at = _open(path, data)
    vertices, corners, counts = np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64)
    for element in elements:
        try:
            columns, at = take(at, element)
        except (ValueError, IndexError):
            raise MeshError(
                f"{path}: the PLY file ends or breaks within its {element.count} '{element.name}' rows; export it again"
            ) from None
        if element.name == "vertex":
            vertices = np.stack([columns[axis].astype(np.float64) for axis in "xyz"], axis=1)
        elif element.name == "face" and element.count:
            counts, corners = columns["vertex_indices" if "vertex_indices" in columns else "vertex_index"]
    return vertices, triangulate(vertices, corners, counts), []


def _open(path: Path, data: bytes) -> tuple[list[Element], Callable[[int, Element], tuple[Columns, int]], int]:
    """Returns the elements, a function (start, element) -> (columns, end), and the start of the first element."""
    # The line ending of the first line must end the last one too: the first byte of binary data may look like one.
    found = re.match(rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)(.*?\1)?end_header[ \t]*\1", data, re.DOTALL)
    if found is None:
        raise MeshError(f"{path}: not a PLY file (no header from 'ply' to 'end_header'); export it again")
    order, elements = _parse_header((found[2] or b"").decode("ascii", "replace"))
    if order is not None:
        return elements, partial(_take_binary, data, order), found.end()
    lines = [line for line in data[found.end() :].splitlines() if line.strip()]
    return elements, partial(_take_text, lines), 0


def _parse_header(text: str) -> tuple[str | None, list[Element]]:
    """The byte order, None for text, and the elements. Raises KeyError or ValueError."""
    order, elements = None, []
    for words in (line.split() for line in text.splitlines()):
        if words[:1] == ["format"]:
            order = BYTE_ORDERS[words[1]]
        elif words[:1] == ["element"]:
            elements.append(Element(words[1], int(words[2]), []))
            if elements[-1].count < 0:
                raise ValueError("a count below zero")
        elif words[:2] == ["property", "list"]:
            elements[-1].properties.append(Property(words[4], TYPES[words[3]], TYPES[words[2]]))
        elif words[:1] == ["property"]:
            elements[-1].properties.append(Property(words[2], TYPES[words[1]], None))
    return order, elements


def _take_text(lines: list[bytes], at: int, element: Element) -> tuple[Columns, int]:
    """An element that begins at lines[at], one line per row. Raises ValueError or IndexError."""
    end = at + element.count
    rows = [line.split() for line in lines[at:end]]  # N rows of words
    if len(rows) < element.count:
        raise ValueError("too few lines")
    columns, start = {}, [0] * len(rows)  # start: of each row, the word at which the next property begins
    for name, kind, count_type in element.properties:
        if count_type is None:
            words = [row[i] for row, i in zip(rows, start, strict=True)]
            columns[name] = np.array(words, dtype="S").astype(np.float64)
            start = [i + 1 for i in start]
            continue
        lengths = [int(row[i]) for row, i in zip(rows, start, strict=True)]
        ends = [i + 1 + n for i, n in zip(start, lengths, strict=True)]
        words = [word for row, i, j in zip(rows, start, ends, strict=True) for word in row[i + 1 : j]]
        if len(words) < sum(lengths):
            raise ValueError("a line is too short")
        number = np.float64 if kind in ("f4", "f8") else np.int64
        columns[name] = np.array(lengths, dtype=np.int64), np.array(words, dtype="S").astype(number)
        start = ends
    return columns, end


def _take_binary(data: bytes, order: str, at: int, element: Element) -> tuple[Columns, int]:
    """An element that begins at byte `at`. Raises ValueError or IndexError."""
    return _take_rows_alike(data, order, at, element) or _take_rows_mixed(data, order, at, element)


def _take_rows_alike(data: bytes, order: str, at: int, element: Element) -> tuple[Columns, int] | None:
    """As `_take_binary`, by one structured array, if every list is as long as in the first row; None if one is not."""
    dtype = _row_type(data, order, at, element)
    end = at + element.count * dtype.itemsize
    if end > len(data):
        if any(count_type for _, _, count_type in element.properties):
            return None  # lists after the first may be shorter
        raise ValueError("too few bytes")
    rows = np.frombuffer(data, dtype, element.count, at)  # (N,)
    columns = {}
    for name, _, count_type in element.properties:
        if count_type is None:
            columns[name] = rows[name]
            continue
        lengths = rows[name + " count"].astype(np.int64)
        if (lengths != rows[name].shape[1]).any():
            return None
        columns[name] = lengths, rows[name].astype(np.int64).ravel()  # (N, length) -> (N length,)
    return columns, end


def _row_type(data: bytes, order: str, at: int, element: Element) -> np.dtype:
    """The structured type of the row that begins at byte `at`, from the lengths of the lists in it."""
    fields = []
    for name, kind, count_type in element.properties:
        length = 1
        if count_type is not None:
            length = int(np.frombuffer(data, order + count_type, 1, at)[0]) if element.count else 0
            fields.append((name + " count", order + count_type))
            at += np.dtype(count_type).itemsize
        fields.append((name, order + kind, () if count_type is None else (length,)))
        at += length * np.dtype(kind).itemsize
    return np.dtype(fields)


def _take_rows_mixed(data: bytes, order: str, at: int, element: Element) -> tuple[Columns, int]:
    """As `_take_binary`, row by row, for lists that differ in length; slower."""
    lengths = {name: [] for name, _, _ in element.properties}
    values = {name: [] for name, _, _ in element.properties}  # one array per row
    types = [
        (name, np.dtype(order + kind), count_type and np.dtype(order + count_type))
        for name, kind, count_type in element.properties
    ]
    for _ in range(element.count):
        for name, kind, count_type in types:
            length = 1
            if count_type is not None:
                length = int(np.frombuffer(data, count_type, 1, at)[0])
                at += count_type.itemsize
            lengths[name].append(length)
            values[name].append(np.frombuffer(data, kind, length, at))
            at += length * kind.itemsize
    columns = {}
    for name, _, count_type in types:
        flat = np.concatenate(values[name])
        columns[name] = flat if count_type is None else (np.array(lengths[name]), flat.astype(np.int64))
    return columns, at


def encode_ply(vertices: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 -> a little-endian binary PLY in pieces, positions as double."""
    yield (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property double x\nproperty double y\nproperty double z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()
    yield from (batch.astype("<f8").tobytes() for batch in in_batches(vertices))
    for batch in in_batches(faces):
        records = np.zeros(len(batch), dtype=[("count", "u1"), ("corners", "<i4", 3)])
        records["count"], records["corners"] = 3, batch
        yield records.tobytes()
