"""Mesh files in, triangles out, and back: one file a format."""

from neuralparts.mesh_files.files import MeshError, coarseness, files_beside, read_triangles, write_mesh

__all__ = [
    "MeshError",
    "coarseness",
    "files_beside",
    "read_triangles",
    "write_mesh",
]
