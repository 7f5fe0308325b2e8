"""Writing a mesh file of any format: the encoder by suffix, and the note about coordinates that a format rounds."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from neuralparts.mesh_files.gltf import encode_glb
from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.obj import encode_obj
from neuralparts.mesh_files.off import encode_off
from neuralparts.mesh_files.ply import encode_ply
from neuralparts.mesh_files.stl import encode_stl
from neuralparts.mesh_files.threemf import encode_3mf
from neuralparts.triangles import check_mesh_arrays
from neuralparts.whole_file import whole_file

# An encoder takes vertices (V, 3) float64 and faces (F, 3) int64 and yields the file in pieces.
ENCODERS: dict[str, Callable[[np.ndarray, np.ndarray], Iterator[bytes]]] = {
    ".stl": encode_stl,
    ".ply": encode_ply,
    ".obj": encode_obj,
    ".off": encode_off,
    ".glb": encode_glb,
    ".3mf": encode_3mf,
}
# A float32 step above this fraction of a grid cell shows in the triangles.
VISIBLE_STEP = 0.01


def write_mesh(path: str | os.PathLike, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write a mesh file, whole: under another name in the same folder first, then renamed.

    path: its suffix, in any case of letters, is the format: .stl (binary, float32), .ply (binary, float64), .obj, .off
    and .3mf (text, all digits), .glb (float32 about a float64 offset). vertices: (V, 3) float64 in file units. faces:
    (F, 3) int, outward. The file is encoded in pieces of some MiB, but .glb and .3mf as a whole in memory. Raises
    MeshError for a suffix that is not written, ValueError for wrong shapes, OSError if the folder refuses the file.
    """
    path = Path(path)
    vertices = np.asarray(vertices, dtype=np.float64)
    faces = np.asarray(faces, dtype=np.int64)
    check_mesh_arrays(vertices, faces)
    encoder = ENCODERS.get(path.suffix.lower())
    if encoder is None:
        raise MeshError(f"{path}: cannot write a '{path.suffix}' file; use one of {' '.join(ENCODERS)}")
    with whole_file(path) as file:
        file.writelines(encoder(vertices, faces))


def rounding_note(path: str | os.PathLike, vertices: np.ndarray, cell: float) -> str:
    """A sentence if the format of path rounds the vertices so coarsely that a grid cell shows it, else ''.

    vertices: (V, 3) in file units. cell: edge of a cell of the reconstruction grid, file units. Only STL rounds so:
    .glb keeps its float32 about the middle of the part.
    """
    step = float(np.spacing(np.float32(np.abs(vertices).max(initial=0.0))))
    if Path(path).suffix.lower() != ".stl" or step <= VISIBLE_STEP * cell:
        return ""
    return f"{path}: STL stores float32, which comes in steps of {step:.2g} here, and a grid cell is {cell:.2g}"
