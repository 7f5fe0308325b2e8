"""Why a reconstruction lacks a part of the surface: too thin for the grid, not learnt, or no boundary of an inside."""

import numpy as np

from neuralparts.distance import DistanceOracle
from neuralparts.metrics.function_errors import DomainFunction
from neuralparts.metrics.surface_comparison import as_mesh
from neuralparts.sampling import points_on_surface
from neuralparts.triangles import unit_normals

# Fraction of the input's surface that a reconstruction may lack before the user gets a reason.
LARGEST_MISSED_FRACTION = 0.01
# Points of the surface that are looked for in the reconstruction, and how many of the missed ones are looked into.
SAMPLES, MOST_MISSED = 5_000, 200
# A wall or a gap at a missed point is measured in steps of this fraction of a cell, up to so many steps.
DEPTH_STEP, DEPTH_STEPS = 1 / 32, 64
# Percentile of the thicknesses from which the proposed resolution follows, so that it shows most of the walls.
THIN_PERCENTILE = 10


def explain_missed(
    domain_function: DomainFunction,
    vertices: np.ndarray,
    faces: np.ndarray,
    oracle: DistanceOracle,
    generator: np.random.Generator,
    cell: float,
) -> str:
    """One line on why a reconstruction lacks a part of the oracle's mesh: the commonest reason. '' if it lacks nothing.

    vertices (V, 3) in the domain and faces (F, 3): the reconstruction. cell: edge of a cell of its grid, domain units;
    points of the surface farther than that from the reconstruction are missed. The reasons at a missed point:

    - The mesh does not separate inside from outside there: a face within a union of bodies, an open sheet.
    - The function changes its sign there as the mesh does, so the wall or the gap is too thin for the grid.
    - The function does not change its sign there: the network has not learnt the part.
    """
    mesh = oracle.mesh
    points, face = points_on_surface(mesh, SAMPLES, generator)
    missed = DistanceOracle(as_mesh(vertices, faces, mesh), oracle.engine).distance(points) > cell
    if not missed.any():
        return ""
    # (n, 3): the missed points that are looked into, and the normals there.
    points, face = points[missed][:MOST_MISSED], face[missed][:MOST_MISSED]
    normals = unit_normals(mesh.vertices[mesh.faces[face]])
    step = DEPTH_STEP * cell
    two_sided, below, above = _sides(domain_function, oracle, points, normals, step)
    known = two_sided & (below > 1) & (above > 1)
    head = f"the reconstruction lacks {missed.mean():.0%} of the surface, by more than a cell of the grid"
    reasons = {
        "one side": (~two_sided).sum(),
        "thin": known.sum(),
        "unlearnt": (two_sided & ~known).sum(),
    }
    reason = max(reasons, key=reasons.get)
    if reason == "one side":
        return f"{head}: most of it bounds no inside (faces within a union of bodies, open sheets)"
    if reason == "unlearnt":
        return f"{head}, most of which the network has not learnt: more samples or a larger network may help"
    thinnest = step * np.percentile(np.minimum(below, above)[known], THIN_PERCENTILE)
    return (
        f"{head}, which the network has: walls or gaps are thinner than a cell, most are seen from about "
        f"--reconstructionRes {int(np.ceil(2.0 / thinnest)) + 1:,} on; marching.py makes that mesh without another fit"
    )


def _sides(
    domain_function: DomainFunction,
    oracle: DistanceOracle,
    points: np.ndarray,
    normals: np.ndarray,
    step: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What lies beneath and above points (n, 3) of the surface with normals (n, 3), in steps of a length `step`.

    Returns, (n,) each: whether the mesh has its inside on one side only; and how many steps beneath and above the
    function has the right sign before it has the wrong one.
    """
    # (DEPTH_STEPS, n, 3) points on either side.
    depths = step * np.arange(1, DEPTH_STEPS + 1)[:, None, None]
    beneath, over = (points + (side * depths * normals) for side in (-1.0, 1.0))
    two_sided = oracle.inside(beneath[0]) != oracle.inside(over[0])
    below, above = _right_signs(domain_function, beneath, -1.0), _right_signs(domain_function, over, 1.0)
    return two_sided, below, above


def _right_signs(domain_function: DomainFunction, places: np.ndarray, side: float) -> np.ndarray:
    """(depths, n, 3) places -> (n,): how many of each column, from the first on, have the sign `side`."""
    values = domain_function(places.reshape(-1, 3).astype(np.float32)).reshape(len(places), -1)
    return np.logical_and.accumulate(side * values > 0, axis=0).sum(axis=0)
