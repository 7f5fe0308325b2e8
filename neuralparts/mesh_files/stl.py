"""STL: reads binary and text, writes binary. STL has no shared vertices: every triangle brings its three corners."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuralparts.mesh_files.batches import in_batches
from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.source import SourceFile
from neuralparts.mesh_files.text import parse_numbers, plain_text
from neuralparts.wording import counted

# A binary STL begins with 80 bytes of any text and the count of triangles, a little-endian uint32.
HEADER_BYTES = 84
# Then one record per triangle.
RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
# Counts that a program leaves in the header if it wrote the header before it knew the number of triangles.
UNKNOWN_COUNTS = (0, 2**32 - 1)


def read_stl(source: SourceFile) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """An STL file -> vertices (3F, 3) float64, faces (F, 3) int64, notes; see `read_triangles`. Raises MeshError.

    The file is binary if its size fits the count in its header, because some binary files begin with 'solid' too.
    Otherwise it is text if it begins with 'solid'.
    """
    path, data = source.path, source.data
    promised = int.from_bytes(data[80:84], "little") if len(data) >= HEADER_BYTES else None
    if promised is not None and len(data) == HEADER_BYTES + promised * RECORD.itemsize:
        return _read_binary(path, data, promised)
    start = plain_text(data[:HEADER_BYTES])
    if start.lstrip()[:5].lower() == b"solid" and b"\0" not in start:
        return _read_text(path, plain_text(data).lower())
    if promised is None:
        raise MeshError(f"{path}: {len(data)} bytes are too few for a binary STL, whose header has 84; export it again")
    return _read_binary(path, data, promised)


def _read_binary(path: Path, data: bytes, promised: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """promised: the count of triangles in the header."""
    held, surplus = divmod(len(data) - HEADER_BYTES, RECORD.itemsize)
    uncounted = promised in UNKNOWN_COUNTS and held > 0 and surplus == 0
    if held != promised and not uncounted:
        reason = "the file is cut short" if held < promised else "the header or the file is damaged"
        raise MeshError(
            f"{path}: the STL header promises {counted(promised, 'triangle')} but the file holds {held:,}: {reason}; "
            "export it again"
        )
    records = np.frombuffer(data, dtype=RECORD, count=held, offset=HEADER_BYTES)
    vertices = records["corners"].reshape(-1, 3).astype(np.float64)  # (F, 3, 3) -> (3F, 3)
    notes = [f"Ignored {counted(surplus, 'byte')} after the last triangle."] if surplus else []
    if uncounted:
        notes.append(f"The STL header counts {counted(promised, 'triangle')}; all {held:,} in the file are used.")
    return vertices, np.arange(3 * held).reshape(-1, 3), notes


def _read_text(path: Path, text: bytes) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """text: in lower case, as `plain_text` returns it."""
    # The name of a solid may contain any words, such as 'facet', so the lines with names are removed first.
    # White space is looked for within a line only: beyond it, a search of n blank lines would take n^2 steps.
    body = re.sub(rb"^[^\S\n]*(end[^\S\n]*)?solid\b.*", b"", text, flags=re.MULTILINE)
    rows = re.findall(rb"\bvertex\s+(\S+\s+\S+\s+\S+)", body)  # 3F rows 'x y z'
    # Each match is what stands in the group: b"" for 'facet', b"end " for 'end facet', which begins none.
    facets = re.findall(rb"(end\s*)?\bfacet\s+(?:normal|outer)\b", body).count(b"")
    names = re.findall(rb"^[^\S\n]*(end[^\S\n]*)?solid\b", text, flags=re.MULTILINE)
    ended = len(names) > 0 and names[-1] != b""
    if 3 * facets != len(rows) or not ended:
        raise MeshError(
            f"{path}: the text STL is cut short or damaged ({counted(facets, 'facet')}, {len(rows):,} of "
            f"{3 * facets:,} corners, {'an' if ended else 'no'} 'endsolid' at the end); export it again"
        )
    vertices = parse_numbers(rows, np.float64, 3 * len(rows)).reshape(len(rows), 3)
    return vertices, np.arange(len(rows)).reshape(-1, 3), []


def encode_stl(vertices: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 -> a binary STL in pieces; coordinates round to float32."""
    from neuralparts.triangle_kernels import face_normals  # brings Numba, which reading needs not

    yield b"binary STL".ljust(80) + len(faces).to_bytes(4, "little")
    for batch in in_batches(faces):
        records = np.zeros(len(batch), dtype=RECORD)
        records["normal"] = face_normals(vertices, batch)
        records["corners"] = vertices[batch]  # (B, 3, 3)
        yield records.tobytes()
