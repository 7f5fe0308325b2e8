"""Mesh files in, triangles out, and back: one file per format, with its reader and its encoder."""

from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.reading import read_triangles
from neuralparts.mesh_files.source import SourceFile, files_beside, hash_source, open_hashed, read_source
from neuralparts.mesh_files.writing import rounding_note, write_mesh

__all__ = [
    "MeshError",
    "SourceFile",
    "files_beside",
    "hash_source",
    "open_hashed",
    "read_source",
    "read_triangles",
    "rounding_note",
    "write_mesh",
]
