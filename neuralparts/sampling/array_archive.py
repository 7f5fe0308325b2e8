"""Plain arrays of an .npz archive, read so that no promise of the file is believed before its bytes are there.

An .npz is a zip of .npy files: each a magic string, a header that names dtype, order and shape, then the numbers.
numpy's own reader evaluates the header as Python and sets memory aside for any shape that it names.
"""

import math
import os
import re
import struct
import zipfile
import zlib
from typing import BinaryIO

import numpy as np

from neuralparts.foreign_files import fault_of_kind
from neuralparts.wording import quoted

# An array may take this many times its stored size, or the second number of bytes if that is more. Labelled points
# shrink to a third or so, and only arrays of one repeated value shrink to a hundredth.
LARGEST_RATIO, ALWAYS_ALLOWED = 100, 2**20
# Bytes of a header: numpy writes 128, and takes 10,000 at most.
_LONGEST_HEADER = 10_000
_MAGIC = b"\x93NUMPY"
# The three entries of a header, each in the one form that a plain array has, and the header that consists of them.
_ENTRIES = (
    r"(?P<q1>['\"])descr(?P=q1): ?(?P<q2>['\"])(?P<descr>[<>|=]?[a-zA-Z]\d{0,6})(?P=q2)",
    r"(?P<q3>['\"])fortran_order(?P=q3): ?(?P<order>True|False)",
    r"(?P<q4>['\"])shape(?P=q4): ?\((?P<shape>[\d, L]{0,200})\)",
)
_ENTRY = re.compile("|".join(_ENTRIES))
# A dimension with more digits is no number of anything in a file.
_MOST_DIGITS = 15


def read_arrays(source: str | os.PathLike | BinaryIO, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the arrays `names` that an .npz file holds, by name. source: its path, or the open file.

    Raises ValueError with the reason in one line, which does not name the file: no regular file, no zip, an array that
    is not of plain numbers or text, or that promises more bytes than are there or far more than are stored.
    """
    try:
        if isinstance(source, str | os.PathLike) and (fault := fault_of_kind(source)):
            raise ValueError(fault)
        with zipfile.ZipFile(source) as archive:
            members = {info.filename: info for info in archive.infolist()}
            return {
                name: _read_member(archive, members[f"{name}.npy"], name) for name in names if f"{name}.npy" in members
            }
    except (
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(quoted(reason, 200)) from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    """One array. Raises ValueError, and whatever zipfile raises for a damaged archive."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
        raise ValueError(f"{name} is encrypted, or packed in a way that numpy does not write")
    if member.file_size > max(LARGEST_RATIO * member.compress_size, ALWAYS_ALLOWED):
        raise ValueError(
            f"{name} would grow from {member.compress_size:,} bytes to {member.file_size:,}, more than "
            f"{LARGEST_RATIO} times; write it with numpy.savez"
        )
    with archive.open(member) as file:
        try:
            dtype, shape, order, header = _read_header(file)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name}: {quoted(error, 200)}") from error
        promised, held = math.prod(shape) * dtype.itemsize, member.file_size - header
        if promised > held:
            raise ValueError(f"{name} promises {quoted(shape)} of {dtype}, {promised:,} bytes, and holds {held:,}")
        data = file.read(promised)
        file.read(1)  # at the end of a member zipfile compares its checksum
    if len(data) < promised:
        raise ValueError(f"{name} ends after {len(data):,} of {promised:,} bytes")
    return np.ndarray(shape, dtype, data, order=order)


def _read_header(file: zipfile.ZipExtFile) -> tuple[np.dtype, tuple[int, ...], str, int]:
    """(dtype, shape, order 'C' or 'F', bytes read) of an .npy file. Raises ValueError or TypeError."""
    start = file.read(8)
    if start[:6] != _MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
        raise ValueError("not a .npy file")
    # Version 1 has the header's length in two bytes, the others in four.
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    header = " ".join(file.read(length).decode("latin1").split())
    found: dict[str, str] = {}
    for match in _ENTRY.finditer(header):
        found |= {key: value for key, value in match.groupdict().items() if value is not None}
    # What is left of the header beside the entries are the braces and commas.
    if re.sub(r"[ ,]", "", _ENTRY.sub("", header)) != "{}" or not {"descr", "order", "shape"} <= found.keys():
        raise ValueError(f"not the header of a plain array: '{quoted(header)}'")
    dtype, order = np.dtype(found["descr"]), "F" if found["order"] == "True" else "C"
    if dtype.hasobject:
        raise ValueError("an array of Python objects; store plain numbers")
    return dtype, _parse_shape(found["shape"]), order, 8 + width + length


def _parse_shape(text: str) -> tuple[int, ...]:
    """The dimensions of '3, 4', '3,' or '': numbers between commas, as Python 2 wrote them too. Raises ValueError."""
    words = text.replace("L", "").replace(" ", "").removesuffix(",").split(",")
    if any(len(word) > _MOST_DIGITS for word in words) or len(words) > 8:
        raise ValueError(f"the shape ({quoted(text)}) is none that an array can have")
    return tuple(int(word) for word in words) if words != [""] else ()
