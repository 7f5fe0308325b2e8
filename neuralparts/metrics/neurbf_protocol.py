"""Errors by the protocol of NeuRBF, so that a fit can be compared with published figures.

Chen et al., NeuRBF: A Neural Fields Representation with Adaptive Radial Basis Functions (2023), and the code that they
released. The mesh is moved so that the centre of its bounding box is 0, and scaled so that its farthest vertex is 0.99
away: the *frame*. Sides are compared on the nodes of a grid that spans [-1, 1]^3 of the frame, normals on meshes
marched on that grid.

In: a fitted function and the mesh, both in the domain. Out: a dictionary of floats by the names of `PROTOCOL_NAMES`.
The grid of 1024^3 nodes is searched sparsely (`marching`). The distance to a closed mesh rises by 1 per unit at most,
so a block that its surface cannot reach is certain. For an open mesh, whose signed distance jumps where the winding
number passes one half, and for the function, falls are measured and audited, as for every marched mesh.
"""

import dataclasses

import numpy as np

from neuralparts.choices import PROTOCOL_POINTS, PROTOCOL_RESOLUTION
from neuralparts.distance import DistanceOracle
from neuralparts.domain import Transform
from neuralparts.marching import MarchResult, SideCounts, count_sides, march
from neuralparts.mesh import Mesh
from neuralparts.metrics.domain_function import DomainFunction
from neuralparts.metrics.surface_comparison import as_mesh
from neuralparts.sampling import points_on_surface
from neuralparts.triangles import unit_normals

# Distance of the farthest vertex from the centre of the box, in the frame.
FARTHEST = 0.99
# The slope of an exact distance, and what its rounding to float32 may add over the smallest distance that counts.
LIPSCHITZ = 1.001
# Names of the errors, and what they are.
PROTOCOL_NAMES = {
    "iou_inside": "intersection over union of the nodes inside",
    "iou_outside": "the same of the nodes outside",
    "iou_loss_inside": "1 - iou_inside",
    "iou_loss_outside": "1 - iou_outside",
    "normal_error": "angle between normals, degrees, of the marched mesh of the function and that of the mesh",
    "normal_error_code": "the mean of that angle, one way, and of the cosine, as the released code has it",
    "mesh_normal_error": "as normal_error, with the triangles of the mesh itself",
    "mesh_normal_error_code": "as normal_error_code, with the triangles of the mesh itself",
}


def protocol_errors(
    domain_function: DomainFunction,
    mesh: Mesh,
    generator: np.random.Generator,
    resolution: int = PROTOCOL_RESOLUTION,
    count: int = PROTOCOL_POINTS,
) -> dict[str, float]:
    """The errors of a function against a mesh, both in the domain, by the protocol; no lengths are among them.

    resolution: nodes along an edge of the grid. count: points on each of two surfaces whose normals are compared.
    Raises NoSurfaceError if all nodes lie on one side of either surface.
    """
    frame = protocol_frame(mesh)
    framed = in_frame(mesh, frame)
    oracle = DistanceOracle(framed)
    fitted = march(function_in_frame(domain_function, frame), resolution, generator=generator, keep_signs=True)
    bound = LIPSCHITZ if mesh.closed else None
    exact = march(oracle.signed_distance, resolution, generator=generator, lipschitz=bound, keep_signs=True)
    errors = iou_errors(count_sides(fitted.signs, exact.signs))
    surfaces = [_oriented_points(_marched(made, framed), count, generator) for made in (fitted, exact)]
    errors |= _normal_errors("normal_error", *surfaces)
    return errors | _normal_errors("mesh_normal_error", surfaces[0], _oriented_points(framed, count, generator))


def protocol_frame(mesh: Mesh) -> Transform:
    """The map from the domain of a mesh to the frame."""
    center = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    return Transform(center, FARTHEST / np.linalg.norm(mesh.vertices - center, axis=1).max())


def in_frame(mesh: Mesh, frame: Transform) -> Mesh:
    """The mesh with its vertices in the frame, and the transform from file units to there."""
    own = mesh.transform
    to_frame = Transform(own.to_file(frame.center[None])[0], own.scale * frame.scale)
    return dataclasses.replace(mesh, vertices=frame.to_domain(mesh.vertices), transform=to_frame)


def function_in_frame(domain_function: DomainFunction, frame: Transform) -> DomainFunction:
    """A function of the domain as one of the frame: (N, 3) float32 points -> (N,) values, both in its units."""

    def function(points: np.ndarray) -> np.ndarray:
        return domain_function(frame.to_file(points).astype(np.float32)) * np.float32(frame.scale)

    return function


def iou_errors(sides: SideCounts) -> dict[str, float]:
    """Intersection over union of the insides and of the outsides, and what each lacks to 1, from counts of nodes."""
    different = sides.outside_first + sides.outside_second
    # What lacks is computed from the few nodes that differ, not as a difference of two numbers near 1.
    inside, outside = (different / (different + same) for same in (sides.inside, sides.outside))
    return {
        "iou_inside": 1.0 - inside,
        "iou_outside": 1.0 - outside,
        "iou_loss_inside": inside,
        "iou_loss_outside": outside,
    }


def _marched(made: MarchResult, framed: Mesh) -> Mesh:
    """A marched surface as a Mesh."""
    return as_mesh(made.vertices, made.faces, framed)


def _oriented_points(mesh: Mesh, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3) points uniform by area on a mesh, and the normals (count, 3) of their triangles."""
    points, face = points_on_surface(mesh, count, generator)
    return points, unit_normals(mesh.vertices[mesh.faces[face]])


def _normal_errors(
    name: str, fitted: tuple[np.ndarray, np.ndarray], exact: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """The normal error `name` by both definitions. Points of each surface are compared with the nearest of the other.

    By the paper (equation 12) it is the mean angle between the two normals, whatever their orientation, averaged over
    both directions. The released code averages the angle and the cosine of one direction: from the mesh to the
    function.
    """
    there, back = _cosines(fitted, exact), _cosines(exact, fitted)
    angle_there, angle_back = (float(np.degrees(np.arccos(cosines)).mean()) for cosines in (there, back))
    return {
        name: (angle_there + angle_back) / 2,
        f"{name}_code": (angle_back + float(back.mean())) / 2,
    }


def _cosines(start: tuple[np.ndarray, np.ndarray], end: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(N,) |cosine| between the normal of each point of `start` and that of the nearest point of `end`."""
    from scipy.spatial import cKDTree  # the usual errors do not wait for scipy

    nearest = cKDTree(end[0]).query(start[0], workers=-1)[1]
    return np.minimum(np.abs((start[1] * end[1][nearest]).sum(axis=1)), 1.0)
