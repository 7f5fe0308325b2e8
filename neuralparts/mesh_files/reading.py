"""Reading a mesh file of any format: the reader by suffix, and one line for every failure."""

import os
from collections.abc import Callable

import numpy as np

from neuralparts.mesh_files.gltf import read_gltf
from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.mesh_kinds import kind_of
from neuralparts.mesh_files.obj import read_obj
from neuralparts.mesh_files.off import read_off
from neuralparts.mesh_files.ply import read_ply
from neuralparts.mesh_files.source import SourceFile, read_source
from neuralparts.mesh_files.stl import read_stl
from neuralparts.mesh_files.threemf import read_3mf
from neuralparts.wording import quoted

# A reader returns the same as `read_triangles`, and may raise any exception.
READERS: dict[str, Callable[[SourceFile], tuple[np.ndarray, np.ndarray, list[str]]]] = {
    ".stl": read_stl,
    ".obj": read_obj,
    ".ply": read_ply,
    ".off": read_off,
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".3mf": read_3mf,
}
# Characters of a reason that a parser gives.
LONGEST_REASON = 160


def read_triangles(path: str | os.PathLike | SourceFile) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read a mesh file as it is: no vertices merged, no triangles dropped, polygons cut into triangles.

    path: a file with one of MESH_SUFFIXES, in any case of letters, or such a file as `read_source` returns it. Returns
    vertices (V, 3) float64 in file units, faces (F, 3) int64, which are not yet checked against V, and a list of
    sentences about what was ignored. Raises MeshError for a file that is missing, unreadable, damaged or cut short, and
    MemoryError.
    """
    source = path if isinstance(path, SourceFile) else read_source(path)
    suffix = source.path.suffix.lower()
    try:
        vertices, faces, notes = READERS[suffix](source)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can make a parser fail in any way
        _refuse_other_kinds(source, suffix)
        if isinstance(error, MeshError):
            raise
        reason = quoted(str(error).strip().partition("\n")[0], LONGEST_REASON) or type(error).__name__
        raise MeshError(
            f"{source.path}: not a readable {suffix[1:].upper()} file ({reason}); export it again"
        ) from None
    if len(faces) == 0:
        _refuse_other_kinds(source, suffix)
    return vertices, faces, notes


def _refuse_other_kinds(source: SourceFile, suffix: str) -> None:
    """Raise MeshError if a file that gave no triangles is plainly of another kind than its suffix says."""
    if found := kind_of(source.data, suffix):
        is_this, what_to_do = found
        article = "an" if suffix in (".stl", ".obj", ".off") else "a"
        raise MeshError(f"{source.path}: is {is_this}, not {article} {suffix[1:].upper()} file; {what_to_do}") from None
