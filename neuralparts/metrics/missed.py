"""Why a reconstruction lacks a part of the surface: too thin for the grid, not learnt, or no boundary of an inside."""

import numpy as np

from neuralparts.distance import DistanceOracle
from neuralparts.domain import grid_cell
from neuralparts.metrics.domain_function import DomainFunction
from neuralparts.metrics.surface_comparison import as_mesh
from neuralparts.sampling import points_on_surface
from neuralparts.triangles import unit_normals

# Fraction of the input's surface that a reconstruction may lack before the user gets a reason.
LARGEST_MISSED_FRACTION = 0.01
# Points of the surface that are looked for in the reconstruction, and how many of the missed ones are looked into.
SAMPLES, MOST_MISSED = 5_000, 100
# A point is not missed if it is no farther from the reconstruction than this multiple of the lower quartile of all
# points' distances: that is the error of the fit, not a missing part (docs/log.md has the measurements).
ERROR_FACTOR = 20
# The zero level is searched around a missed point on so many lines along the normal, at so many places on each.
LINES, PLACES = 8, 64
# How many times finer the grids are that are tried, until one shows this fraction of what the network has.
FINER, MOST_OF_IT = (1.5, 2, 3, 4, 6, 8), 0.9
# How far beneath and above a point the mesh is asked for its inside: more than the rounding of float32, and thinner
# than any wall that a network can hold.
SIDE_DEPTH = 1e-5
# A reason is given if it holds for this fraction of the missed points.
LEAST_FRACTION = 0.2


def explain_missed(
    domain_function: DomainFunction,
    vertices: np.ndarray,
    faces: np.ndarray,
    oracle: DistanceOracle,
    generator: np.random.Generator,
    cell: float,
) -> str:
    """One line on why a reconstruction lacks a part of the oracle's mesh; '' if it lacks too little to speak of.

    vertices (V, 3) in the domain and faces (F, 3): the reconstruction. cell: edge of a cell of its grid, domain units.
    Points of the surface farther than that from the reconstruction are missed, but see ERROR_FACTOR. The reasons at a
    missed point, of which the line gives each that counts:

    - The mesh does not separate inside from outside there: a face within a union of bodies, an open sheet.
    - The zero level of the function is as near to the point as the reconstruction should be, so a finer grid shows it.
    - The zero level is not near: the network has not learnt the part.
    """
    mesh = oracle.mesh
    points, face = points_on_surface(mesh, SAMPLES, generator)
    distance = DistanceOracle(as_mesh(vertices, faces, mesh), oracle.engine).distance(points)
    reach = max(cell, ERROR_FACTOR * float(np.percentile(distance, 25)))
    missed = distance > reach
    if missed.mean() <= LARGEST_MISSED_FRACTION:
        return ""
    # (n, 3): the missed points that are looked into, and the normals there.
    points, face = points[missed][:MOST_MISSED].astype(np.float64), face[missed][:MOST_MISSED]
    normals = unit_normals(mesh.vertices[mesh.faces[face]])
    one_sided = oracle.inside(points - SIDE_DEPTH * normals) == oracle.inside(points + SIDE_DEPTH * normals)
    learnt = ~one_sided & _level_is_near(domain_function, points, normals, reach, generator)
    reasons = {
        "the network has {}, and a finer grid shows it, "
        + _finer_grid(domain_function, points[learnt], reach, cell, generator)
        + "; marching.py makes that mesh without another fit": learnt.mean(),
        "the network has not learnt {}: more samples or a larger network may help": (~one_sided & ~learnt).mean(),
        "{} bounds no inside (faces within a union of bodies, open sheets)": one_sided.mean(),
    }
    least = min(LEAST_FRACTION, max(reasons.values()))
    said = [reason.format(f"{fraction:.0%} of it") for reason, fraction in reasons.items() if fraction >= least]
    head = f"the reconstruction lacks {missed.mean():.0%} of the surface, by more than a cell of the grid"
    return f"{head}: {'; '.join(said)}"


def _level_is_near(
    domain_function: DomainFunction,
    points: np.ndarray,
    normals: np.ndarray,
    reach: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """(n,) bool: the function has both signs within `reach` of points (n, 3) of a surface with normals (n, 3)."""
    # (L, n, 3) feet of the lines in the tangent planes, the first of them the points themselves.
    feet = generator.standard_normal((LINES, len(points), 3))
    feet -= (feet * normals).sum(axis=-1, keepdims=True) * normals
    away = np.linspace(0, 1, LINES, endpoint=False)[:, None, None]  # of the reach
    feet *= away * reach / np.linalg.norm(feet, axis=-1, keepdims=True)
    # (P, L, n, 3) places on the lines, as far as these lie in the ball.
    along = np.linspace(-1, 1, PLACES)[:, None, None, None] * reach * np.sqrt(1 - away**2)
    inside = _inside(domain_function, points + feet + along * normals)
    return inside.any(axis=(0, 1)) & ~inside.all(axis=(0, 1))


def _finer_grid(
    domain_function: DomainFunction, points: np.ndarray, reach: float, cell: float, generator: np.random.Generator
) -> str:
    """From which resolution on a grid shows a surface within `reach` of most of the points (n, 3)."""
    for times in FINER:
        resolution = round(2.0 / cell * times) + 1
        shown = _grid_shows(domain_function, points, reach, grid_cell(resolution), generator)
        if shown.sum() >= MOST_OF_IT * len(points):
            return f"most of it from about --reconstructionRes {resolution} on"
    return f"most of it only beyond --reconstructionRes {resolution}"


def _grid_shows(
    domain_function: DomainFunction, points: np.ndarray, reach: float, cell: float, generator: np.random.Generator
) -> np.ndarray:
    """(n,) bool: the function has both signs at the nodes of a grid of this cell within `reach` of points (n, 3).

    Then the grid's surface passes between these nodes. Each point has a grid of its own, shifted at random: a wall that
    lies in a plane of the true grid's nodes would be seen by luck, and missed by the next finer grid.
    """
    steps = np.arange(-int(reach / cell) - 1, int(reach / cell) + 2)
    # (K, n, 3) offsets of the nodes around each point, and (K, n) which of them are within reach.
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    offsets = (cube + generator.random((len(points), 3)) - 0.5) * cell
    near = np.linalg.norm(offsets, axis=-1) <= reach
    inside = np.zeros(near.shape, dtype=bool)
    inside[near] = _inside(domain_function, (points + offsets)[near])
    return inside.any(axis=0) & (inside < near).any(axis=0)


def _inside(domain_function: DomainFunction, places: np.ndarray) -> np.ndarray:
    """(..., 3) places -> (...) bool: the function is negative there."""
    return (domain_function(places.reshape(-1, 3).astype(np.float32)) < 0).reshape(places.shape[:-1])
