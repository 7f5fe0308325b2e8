"""Why a reconstruction lacks a part of the surface: too thin for the grid, not learnt, or no boundary of an inside."""

import numpy as np

from neuralparts.distance import DistanceOracle, RunSearch
from neuralparts.metrics.domain_function import DomainFunction
from neuralparts.metrics.surface_comparison import as_mesh, bounds_no_inside
from neuralparts.sampling import points_on_surface
from neuralparts.triangles import unit_normals

# Fraction of the input's surface that a reconstruction may lack before the user gets a reason.
LARGEST_MISSED_FRACTION = 0.01
# Points of the surface that are looked for in the reconstruction, and how many of the missed ones are looked into.
SAMPLES, MOST_MISSED = 5_000, 200
# What is nearer than the fit's own error is not missed, however fine the grid is: this multiple of the lower quartile
# of the points' distances, within these limits. Presets round edges by up to the lower one (docs/log.md).
ERROR_FACTOR, ERROR_LIMITS = 20, (0.005, 0.015)
# The zero level is searched along so many lines at a missed point and beside it, all parallel to the normal, in steps
# of this fraction of the reach, so many on either side.
LINES, LINE_STEP, LINE_STEPS = 6, 1 / 32, 64
# Percentile of the thicknesses from which the proposed resolution follows. A grid shows a part of the thinner ones too.
THIN_PERCENTILE = 25
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
    Points of the surface farther than that from the reconstruction are missed, but see ERROR_FACTOR; "reach" is the
    larger of the two. The reasons at a missed point, of which the line gives each that counts:

    - The zero level of the function is as near to the point as the reconstruction should be, so a finer grid shows it.
    - The zero level is not near, and the mesh does not separate inside from outside there: a face within a union of
      bodies, an open sheet.
    - The zero level is not near, though the mesh does: the network has not learnt the part.
    """
    mesh = oracle.mesh
    points, face = points_on_surface(mesh, SAMPLES, generator)
    reconstruction = as_mesh(vertices, faces, mesh)
    distance = RunSearch(reconstruction.vertices, reconstruction.faces).nearest(points)[1]
    reach = max(cell, float(np.clip(ERROR_FACTOR * np.percentile(distance, 25), *ERROR_LIMITS)))
    missed = distance > reach
    if missed.mean() <= LARGEST_MISSED_FRACTION:
        return ""
    # (n, 3): the missed points that are looked into, and the normals there.
    points, face = points[missed][:MOST_MISSED].astype(np.float64), face[missed][:MOST_MISSED]
    normals = unit_normals(mesh.vertices[mesh.faces[face]])
    one_sided = bounds_no_inside(oracle, points, normals)
    thickness = _thickness(domain_function, points, normals, reach, generator)
    learnt = thickness > 0
    reasons = {
        _thin_reason(thickness[learnt]): learnt.mean(),
        "the network has not learnt {}: more samples or a larger network may help": (~learnt & ~one_sided).mean(),
        "{} bounds no inside (faces within a union of bodies, open sheets)": (~learnt & one_sided).mean(),
    }
    least = min(LEAST_FRACTION, max(reasons.values()))
    said = [reason.format(f"{fraction:.0%} of it") for reason, fraction in reasons.items() if fraction >= least]
    head = f"the reconstruction lacks {missed.mean():.0%} of the surface, by more than a cell of the grid"
    return f"{head}: {'; '.join(said)}"


def _thin_reason(thickness: np.ndarray) -> str:
    """The reason for points that a finer grid shows, from the thickness (k,) of the walls or gaps there."""
    resolution = 0 if len(thickness) == 0 else int(np.ceil(2.0 / np.percentile(thickness, THIN_PERCENTILE))) + 1
    return (
        "the network has {}, in walls, gaps or edges too thin for the grid: most are seen from about "
        f"--reconstructionRes {resolution} on; marching.py makes that mesh without another fit"
    )


def _thickness(
    domain_function: DomainFunction,
    points: np.ndarray,
    normals: np.ndarray,
    reach: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """How thick the walls or gaps are that the function has around points (n, 3) of a surface with normals (n, 3).

    Returns (n,) lengths in domain units: the thickest within `reach` of the point, since a grid that shows this one
    shows a surface near enough; 0 if the zero level is not within reach. Of a wall and a gap that meet, the thinner
    counts.
    """
    step = LINE_STEP * reach
    # (L, n, 3) feet of the lines in the tangent planes, the first of them the points; (S, L, n, 3) places on the lines.
    feet = generator.standard_normal((LINES, len(points), 3))
    feet -= (feet * normals).sum(axis=-1, keepdims=True) * normals
    away = reach * np.linspace(0, 1, LINES, endpoint=False)[:, None]  # (L, 1)
    feet *= away[..., None] / np.linalg.norm(feet, axis=-1, keepdims=True)
    along = step * (np.arange(-LINE_STEPS, LINE_STEPS) + 0.5)
    places = points + feet + along[:, None, None, None] * normals
    inside = (domain_function(places.reshape(-1, 3).astype(np.float32)) < 0).reshape(places.shape[:-1])
    crossed = inside[1:] != inside[:-1]  # (S - 1, L, n): between a place and the next
    between = np.arange(len(crossed))[:, None, None]
    # (L, n) the crossing that is nearest to the foot, and those before and after it; the ends where there is none.
    steps_away = np.where(crossed, np.abs(between - (LINE_STEPS - 1)), len(crossed))
    nearest = steps_away.argmin(axis=0)
    before = np.where(crossed & (between < nearest), between, -1).max(axis=0)
    after = np.where(crossed & (between > nearest), between, len(crossed)).min(axis=0)
    within = np.hypot(step * steps_away.min(axis=0), away) <= reach
    return step * np.where(within, np.minimum(nearest - before, after - nearest), 0).max(axis=0)
