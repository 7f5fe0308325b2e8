"""The arrays of a glTF: accessors, each checked against the bytes that are there before an array is made."""

import numpy as np

from neuralparts.mesh_files.gltf_container import items
from neuralparts.wording import quoted

# numpy's codes of the component types.
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


class Accessors:
    """The accessors of a glTF by their indices."""

    def __init__(self, header: dict, buffers: list[bytes | None]):
        """header: the JSON. buffers: the bytes of each buffer, or None."""
        self.accessors, self.views, self.buffers = items(header, "accessors"), items(header, "bufferViews"), buffers

    def count(self, index: int) -> int:
        """Rows of an accessor. Raises ValueError if its bytes are not there."""
        accessor = entry(self.accessors, index, "accessor")
        count = natural(accessor, "count")
        if "bufferView" in accessor:
            self._located(accessor, accessor.get("componentType"), count, WIDTHS.get(accessor.get("type"), 1))
        elif "sparse" not in accessor:
            raise ValueError(f"accessor {index} has no data (no bufferView)")
        return count

    def read(self, index: int, width: int) -> np.ndarray:
        """An accessor of rows of `width` numbers -> (count, width), as stored; float64 if it is normalized.

        Raises ValueError for a damaged accessor, or one without any data.
        """
        accessor = entry(self.accessors, index, "accessor")
        if WIDTHS.get(accessor.get("type")) != width:
            raise ValueError(f"accessor {index} is of the type {quoted(accessor.get('type'))}, of another width")
        count = self.count(index)
        if "bufferView" in accessor:
            rows = self._rows(accessor, accessor.get("componentType"), count, width)
        else:  # zeros, of which the sparse part replaces some
            rows = np.zeros((count, width), _component(accessor.get("componentType")))
        if "sparse" in accessor:
            rows = self._with_sparse(rows, accessor["sparse"], accessor.get("componentType"))
        if accessor.get("normalized") and rows.dtype.kind in "iu":
            # Section 3.6.2.2 of the specification: the most negative integer is -1 as well.
            rows = np.maximum(rows.astype(np.float64) / np.iinfo(rows.dtype).max, -1.0)
        return rows

    def _rows(self, place: dict, component: int, count: int, width: int) -> np.ndarray:
        """Rows (count, width) at a bufferView and an offset in it. place: names both."""
        kind, buffer, start, stride = self._located(place, component, count, width)
        if not count:
            return np.zeros((0, width), kind)
        return np.ndarray((count, width), kind, buffer, start, (stride, kind.itemsize))

    def _located(self, place: dict, component: int, count: int, width: int) -> tuple[np.dtype, bytes, int, int]:
        """The type of a number, the buffer, the byte at which the rows begin in it and those from a row to the next.

        Raises ValueError unless `count` rows are there.
        """
        view = entry(self.views, place["bufferView"], "bufferView")
        buffer = entry(self.buffers, view.get("buffer"), "buffer")
        kind = _component(component)
        start, length = natural(view, "byteOffset", 0), natural(view, "byteLength")
        if start + length > len(buffer):
            raise ValueError(f"bufferView {place['bufferView']} ends beyond its buffer of {len(buffer):,} bytes")
        offset, row_bytes = natural(place, "byteOffset", 0), width * kind.itemsize
        stride = natural(view, "byteStride", 0) or row_bytes
        if count and offset + stride * (count - 1) + row_bytes > length:
            raise ValueError(f"an accessor promises {count:,} rows but its bufferView holds fewer")
        return kind, buffer, start + offset, stride

    def _with_sparse(self, rows: np.ndarray, sparse: dict, component: int) -> np.ndarray:
        """A copy of rows (N, width) with some replaced, as the sparse part of an accessor says."""
        if not isinstance(sparse, dict):
            raise ValueError("the sparse part of an accessor is damaged")
        count = natural(sparse, "count")
        places, values = part(sparse, "indices"), part(sparse, "values")
        indices = self._rows(places, places.get("componentType"), count, 1)[:, 0]  # (count,)
        if count and (indices.dtype.kind != "u" or indices.max() >= len(rows)):
            raise ValueError("the sparse part of an accessor names rows beyond its end")
        rows = rows.copy()
        rows[indices] = self._rows(values, component, count, rows.shape[1])
        return rows


def entry(found: list, index: int, kind: str) -> dict | bytes:
    """An entry of a list of the JSON. Raises ValueError for one that is missing."""
    if type(index) is not int or not 0 <= index < len(found) or found[index] is None:
        raise ValueError(f"there is no {kind} {quoted(index)}, or it has no data")
    return found[index]


def part(value: dict, name: str, default: dict | None = None) -> dict:
    """An object within an object of the JSON. Raises ValueError for anything else."""
    found = value.get(name, default)
    if not isinstance(found, dict):
        raise ValueError(f"'{name}' is missing or no object")
    return found


def natural(value: dict, name: str, default: int | None = None) -> int:
    """A natural number or 0 of an object of the JSON. Raises ValueError for anything else."""
    number = value.get(name, default)
    if type(number) is not int or not 0 <= number < 2**53:
        raise ValueError(f"'{name}' is no natural number: {quoted(number)}")
    return number


def _component(code: int) -> np.dtype:
    """The dtype of a component type. Raises ValueError for one that is not of glTF."""
    if type(code) is not int or code not in COMPONENTS:
        raise ValueError(f"there is no component type {quoted(code)}")
    return np.dtype(COMPONENTS[code])
