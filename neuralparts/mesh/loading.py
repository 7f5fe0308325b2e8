"""A mesh file becomes a checked, repaired, normalised triangle mesh: `load_mesh` is the whole way in one screen."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuralparts.domain import Transform
from neuralparts.mesh.diagnosis import diagnose
from neuralparts.mesh.orientation import orient
from neuralparts.mesh.repair import drop_duplicates, drop_slivers, find_slivers
from neuralparts.mesh.sphere import bounding_transform
from neuralparts.mesh.topology import drop_unused_vertices
from neuralparts.mesh.welding import coordinate_step, weld
from neuralparts.mesh_files import MeshError, SourceFile, read_triangles

# Thickness of a mesh, as a fraction of its size, up to which it counts as flat: about the rounding of float32.
FLAT_THICKNESS = 1e-6
# Coordinates farther out, and parts smaller than this, file units: their differences leave the range of float64.
LARGEST_COORDINATE, SMALLEST_SIZE = 1e300, 1e-300
# A surface has two triangles a vertex, a solid of tetrahedra with all its faces a dozen.
MOST_TRIANGLES_A_VERTEX = 100


@dataclass(frozen=True)
class Mesh:
    """A checked triangle mesh in the domain.

    vertices: (V, 3) float64 in the domain, each used by a face. faces: (F, 3) int64, outward if they have an outside.
    transform: to and from file units. closed: every edge is used as often in one direction as in the other. That is the
    exact condition for the winding number to be an integer off the surface (the boundary of the chain of triangles
    vanishes). Edges with four or more faces are allowed, as where two bodies touch. diagnosis: JSON-able findings, see
    `load_mesh`. path: the file it came from.
    """

    vertices: np.ndarray
    faces: np.ndarray
    transform: Transform
    closed: bool
    diagnosis: dict
    path: Path


def load_mesh(path: str | Path | SourceFile, reconstruction_res: int = 256) -> Mesh:
    """Read, check, repair, orient and normalise a mesh file.

    path: file with one of MESH_SUFFIXES, or one that is read already. reconstruction_res: nodes along an edge of the
    reconstruction grid (0 for none), only used to judge the thinnest feature. Raises MeshError if the file is missing,
    unreadable, cut short, without triangles or flat.

    Keys of the diagnosis. Of the mesh as used: triangles, vertices, size (longest side of the box, file units), bodies
    (pieces linked by vertices), overlapping_bodies (pairs of closed bodies with volume in common, an estimate from
    below), void_bodies, closed (see Mesh), boundary_edges (one triangle), non_manifold_edges (more than two),
    thinnest_feature (an estimate) and cell (both in file units, None if unknown), thin_against_grid, sign_method,
    coordinate_step (see the function). Of the file, before the repair: inconsistent_edges (two triangles that run along
    the edge in the same direction), inside_out_bodies, duplicate_triangles, degenerate_triangles. changes: a sentence
    for each thing that was changed.
    """
    vertices, faces, changes = read_triangles(path)
    path = Path(path)
    _check_triangles(path, vertices, faces)
    # Repair: merge vertices, then drop triangles that bound nothing. In the unit box a tolerance is a fraction of the
    # size.
    vertices, faces = drop_unused_vertices(vertices, faces)
    vertices, faces, collapsed, weld_changes = weld(vertices, faces)
    in_unit_box = _unit_box(vertices)
    sliver = find_slivers(in_unit_box, faces)
    if sliver.all():
        raise MeshError(f"{path}: all triangles are degenerate (without area); export the part as a triangle mesh")
    faces, sliver_changes = drop_slivers(faces, sliver)
    faces, duplicates, duplicate_changes = drop_duplicates(in_unit_box, faces)
    vertices, faces = drop_unused_vertices(vertices, faces)
    _check_joined(path, vertices, faces)
    _check_thickness(path, vertices)
    # Orient and normalise.
    faces, shells, flawed, orient_changes = orient(_unit_box(vertices), faces)
    transform = bounding_transform(vertices)
    placed = transform.to_domain(vertices)
    diagnosis = diagnose(placed, faces, shells, transform, reconstruction_res) | flawed
    diagnosis["degenerate_triangles"] = collapsed + int(sliver.sum())
    diagnosis["duplicate_triangles"] = duplicates
    diagnosis["coordinate_step"] = coordinate_step(vertices)
    diagnosis["changes"] = [*changes, *weld_changes, *sliver_changes, *duplicate_changes, *orient_changes]
    return Mesh(placed, faces, transform, shells.all_closed, diagnosis, path)


def _check_joined(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Raise MeshError if many triangles join few vertices: they cross one another everywhere, and bound no part."""
    if len(faces) > MOST_TRIANGLES_A_VERTEX * len(vertices):
        raise MeshError(
            f"{path}: {len(faces):,} different triangles join only {len(vertices):,} vertices, so they are no surface; "
            "export the part as a triangle mesh"
        )


def _check_triangles(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Raise MeshError unless there are faces, they name vertices that exist, and those have finite coordinates."""
    if len(faces) == 0:
        content = f"{len(vertices)} points but no triangles" if len(vertices) else "no triangles"
        raise MeshError(f"{path}: the file has {content}; export the part as a triangle mesh")
    if faces.min() < 0 or faces.max() >= len(vertices):
        wrong = faces.min() if faces.min() < 0 else faces.max()
        raise MeshError(
            f"{path}: a face names vertex {wrong} (counted from 0) but there are {len(vertices)} vertices; "
            "export it again"
        )
    broken = int((~np.isfinite(vertices[faces]).all(axis=(1, 2))).sum())
    if broken:
        raise MeshError(
            f"{path}: {broken} of {len(faces)} triangles have a coordinate that is not a number or infinite; "
            "export it again"
        )
    _check_range(path, vertices[faces].reshape(-1, 3))


def _check_range(path: Path, points: np.ndarray) -> None:
    """Raise MeshError for points (N, 3), file units, that are too large or too near to each other for arithmetic."""
    largest = np.abs(points).max()
    if largest <= LARGEST_COORDINATE and not 0 < np.ptp(points, axis=0).max() < SMALLEST_SIZE:
        return
    reason = f"coordinates up to {largest:.3g} are {'too large' if largest > 1 else 'too near to each other'}"
    raise MeshError(f"{path}: {reason} to compute with; export it in another unit")


def _check_thickness(path: Path, vertices: np.ndarray) -> None:
    """Raise MeshError if all vertices lie in a plane, by their extent along the least principal direction."""
    points = _unit_box(vertices)
    points = points - points.mean(axis=0)
    directions = np.linalg.eigh(points.T @ points)[1]  # (3, 3), one principal direction a column
    thickness = np.ptp(points @ directions, axis=0).min()
    if thickness <= FLAT_THICKNESS:
        raise MeshError(f"{path}: the mesh is flat: no volume, so no inside; give a solid or a curved surface")


def _unit_box(vertices: np.ndarray) -> np.ndarray:
    """(V, 3) vertices -> the same moved and scaled so that their box is about the origin, with longest side 1."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return (vertices - (low + (high - low) / 2)) / ((high - low).max() or 1.0)
