"""A mesh file becomes a checked, repaired, normalised triangle mesh with a diagnosis."""

from neuralparts.mesh.diagnosis import diagnosis_lines
from neuralparts.mesh.loading import Mesh, load_mesh
from neuralparts.mesh.sphere import bounding_sphere
from neuralparts.mesh.topology import EdgeTable
from neuralparts.mesh.welding import coordinate_step
from neuralparts.mesh.winding import solid_angle_winding_number

__all__ = [
    "EdgeTable",
    "Mesh",
    "bounding_sphere",
    "coordinate_step",
    "diagnosis_lines",
    "load_mesh",
    "solid_angle_winding_number",
]
