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
from neuralparts.mesh_files.source import SourceFile
from neuralparts.mesh_files.text import parse_count, parse_numbers
from neuralparts.wording import quoted

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


def read_ply(source: SourceFile) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A PLY file -> vertices (V, 3) float64, faces (F, 3) int64, notes; see `read_triangles`.

    Positions in text are read as float64 whatever type the header names, so no digit is lost. Raises MeshError, and
    KeyError or ValueError for a damaged header.
    """
    elements, take, at = _open(source.path, source.data)
    vertices, corners, counts = np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64)
    strips = np.zeros((0, 3), np.int64)
    for element in elements:
        try:
            columns, at = take(at, element)
        except (ValueError, IndexError) as error:
            name = quoted(element.name)
            raise MeshError(
                f"{source.path}: the PLY file ends or breaks within its {element.count:,} '{name}' rows "
                f"({quoted(error)}); export it again"
            ) from None
        if element.name == "vertex":
            vertices = np.stack([_scalar(columns, axis) for axis in "xyz"], axis=1)
        elif element.name == "face" and element.count:
            counts, corners = _list(columns)
        elif element.name == "tristrips" and element.count:
            strips = _cut_strips(*_list(columns))
    faces, notes = triangulate(vertices, corners, counts)
    return vertices, np.concatenate([faces, strips]), notes


def _scalar(columns: Columns, name: str) -> np.ndarray:
    """A column of scalars as (N,) float64. Raises ValueError."""
    column = columns.get(name)
    if not isinstance(column, np.ndarray):
        raise ValueError(f"its vertices have no {name}")
    return column.astype(np.float64)


def _list(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """The column of vertex indices: its lengths (N,) and its values. Raises ValueError."""
    column = columns.get("vertex_indices", columns.get("vertex_index"))
    if not isinstance(column, tuple):
        raise ValueError("its faces have no list vertex_indices")
    return column


def _cut_strips(lengths: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rows of strips, in which -1 ends a strip -> triangles (F, 3); every other one of a strip runs the other way.

    lengths: (N,). values: (sum of lengths,).
    """
    # One row of strips: a -1 before and after every row.
    line = np.insert(values.astype(np.int64), np.concatenate([[0], np.cumsum(lengths)]), -1)
    ends = line == -1
    place = np.arange(len(line)) - np.maximum.accumulate(
        np.where(ends, np.arange(len(line)), 0)
    )  # in its strip, from 1
    faces = np.stack([line[:-2], line[1:-1], line[2:]], axis=1)  # (L - 2, 3)
    odd = place[:-2] % 2 == 0
    faces[odd] = faces[odd][:, [0, 2, 1]]
    return faces[~(ends[:-2] | ends[1:-1] | ends[2:])]


def _open(path: Path, data: bytes) -> tuple[list[Element], Callable[[int, Element], tuple[Columns, int]], int]:
    """Returns the elements, a function (start, element) -> (columns, end), and the start of the first element."""
    # The last line ends as the first does, if it can: the first byte of binary data may look like a line ending.
    found = re.match(
        rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)(.*?[\r\n])??end_header[ \t]*(?:\1|\r\n|\n|\r)", data, re.DOTALL
    )
    if found is None:
        raise MeshError(f"{path}: not a PLY file (no header from 'ply' to 'end_header'); export it again")
    order, elements = _parse_header(found[2] or b"")
    if order is not None:
        return elements, partial(_take_binary, data, order), found.end()
    lines = [line for line in data[found.end() :].splitlines() if line.strip()]
    if b"comment" in data[found.end() :]:
        lines = [line for line in lines if line.split(None, 1)[0] != b"comment"]
    return elements, partial(_take_text, lines), 0


def _parse_header(text: bytes) -> tuple[str | None, list[Element]]:
    """The byte order, None for text, and the elements. Raises KeyError or ValueError."""
    order, elements = None, []
    # Lines of bytes: those of str would also end at a form feed and the like in a comment.
    for words in (line.decode("ascii", "replace").split() for line in text.splitlines()):
        if words[:1] == ["format"]:
            order = BYTE_ORDERS[words[1]]
        elif words[:1] == ["element"]:
            elements.append(Element(words[1], parse_count(words[2]), []))
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
            columns[name] = parse_numbers(words, np.float64, len(rows))
            start = [i + 1 for i in start]
            continue
        lengths = [parse_count(row[i]) for row, i in zip(rows, start, strict=True)]
        ends = [i + 1 + n for i, n in zip(start, lengths, strict=True)]
        words = [word for row, i, j in zip(rows, start, ends, strict=True) for word in row[i + 1 : j]]
        if len(words) < sum(lengths):
            raise ValueError("a line is too short")
        number = np.float64 if kind in ("f4", "f8") else np.int64
        columns[name] = np.array(lengths, dtype=np.int64), parse_numbers(words, number, len(words))
        start = ends
    return columns, end


def _take_binary(data: bytes, order: str, at: int, element: Element) -> tuple[Columns, int]:
    """An element that begins at byte `at`. Raises ValueError or IndexError."""
    if not element.properties:
        return {}, at
    least = sum(np.dtype(count_type or kind).itemsize for _, kind, count_type in element.properties)
    if element.count * least > len(data) - at:
        raise ValueError("too few bytes")
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
            _check_length(length, kind, data, at if element.count else 0)
            fields.append((name + " count", order + count_type))
            at += np.dtype(count_type).itemsize
        fields.append((name, order + kind, () if count_type is None else (length,)))
        at += length * np.dtype(kind).itemsize
    return np.dtype(fields)


def _check_length(length: int, kind: str | np.dtype, data: bytes, at: int) -> None:
    """Raise ValueError if a list at byte `at` has a negative length, or more values than there are bytes."""
    if not 0 <= length * np.dtype(kind).itemsize <= len(data) - at:
        raise ValueError(f"a list of {length:,} values")


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
                _check_length(length, kind, data, at)
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
