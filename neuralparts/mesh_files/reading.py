"""Reading a mesh file of any format: the checks before it, the reader by suffix, and one line for every failure."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neuralparts.choices import MESH_SUFFIXES
from neuralparts.mesh_files.gltf import read_gltf
from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.obj import read_obj
from neuralparts.mesh_files.off import read_off
from neuralparts.mesh_files.ply import read_ply
from neuralparts.mesh_files.stl import read_stl
from neuralparts.mesh_files.threemf import read_3mf

# A reader takes the path, for its messages, and the bytes of the file. It returns the same as `read_triangles`, and may
# raise any exception.
READERS: dict[str, Callable[[Path, bytes], tuple[np.ndarray, np.ndarray, list[str]]]] = {
    ".stl": read_stl,
    ".obj": read_obj,
    ".ply": read_ply,
    ".off": read_off,
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".3mf": read_3mf,
}


def read_triangles(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read a mesh file as it is: no vertices merged, no triangles dropped, polygons cut into triangles.

    path: a file with one of MESH_SUFFIXES, in any case of letters. Returns vertices (V, 3) float64 in file units, faces
    (F, 3) int64, which are not yet checked against V, and a list of sentences about what was ignored. Raises MeshError
    for a file that is missing, unreadable, damaged or cut short, and MemoryError.
    """
    path = Path(path)
    kind = path.suffix.lower()
    try:
        _check_file(path)
        return READERS[kind](path, path.read_bytes())
    except (MeshError, MemoryError):
        raise
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        raise MeshError(f"{path}: cannot be read ({reason}); check the file and your right to read it") from None
    except Exception as error:  # a damaged file can make a parser fail in any way
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise MeshError(f"{path}: not a readable {kind[1:].upper()} file ({reason}); export it again") from None


def _check_file(path: Path) -> None:
    """Raise MeshError unless path is a file with a suffix that is read and at least one byte."""
    if path.suffix.lower() not in MESH_SUFFIXES:
        kind = f"suffix '{path.suffix}'" if path.suffix else "a name without suffix"
        raise MeshError(f"{path}: {kind} is not a mesh format; use one of {' '.join(MESH_SUFFIXES)}")
    if not path.exists():
        raise MeshError(f"{path}: no such file; check the spelling of the path")
    if path.is_dir():
        raise MeshError(f"{path}: is a folder, not a mesh file; name a file in it")
    if path.stat().st_size == 0:
        raise MeshError(f"{path}: the file is empty (0 bytes); export it again")
