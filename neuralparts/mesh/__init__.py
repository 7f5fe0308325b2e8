"""A mesh file becomes a checked, repaired, normalised triangle mesh with a diagnosis."""

from neuralparts.mesh.geometry import (
    EdgeTable,
    Mesh,
    bounding_sphere,
    coordinate_step,
    diagnosis_lines,
    load_mesh,
    solid_angle_winding_number,
)

__all__ = [
    "EdgeTable",
    "Mesh",
    "bounding_sphere",
    "coordinate_step",
    "diagnosis_lines",
    "load_mesh",
    "solid_angle_winding_number",
]
