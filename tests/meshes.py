"""Meshes for the tests of mesh_files and mesh: boxes and balls as (vertices (V, 3), faces (F, 3)), and real files."""

from pathlib import Path

import numpy as np
import pytest

from neuralparts.mesh import load_mesh, solid_angle_winding_number
from neuralparts.mesh_files import write_mesh

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
BOX_FACES = np.array(
    [[0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4],
     [2, 6, 3], [3, 6, 7], [0, 4, 2], [2, 4, 6], [1, 3, 5], [3, 7, 5]]
)  # fmt: skip


def box(center=(0, 0, 0), size=(1, 1, 1), inside_out=False):
    """Outward box: vertices (8, 3), faces (12, 3)."""
    signs = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]) / 2
    faces = BOX_FACES[:, ::-1] if inside_out else BOX_FACES
    return signs * np.broadcast_to(size, 3) + np.asarray(center, float), faces.copy()


def together(*pieces):
    """Several (vertices, faces) in one mesh."""
    offsets = np.cumsum([0] + [len(vertices) for vertices, _ in pieces])
    faces = [faces + offset for (_, faces), offset in zip(pieces, offsets, strict=False)]
    return np.concatenate([vertices for vertices, _ in pieces]), np.concatenate(faces)


def sphere(subdivisions=3, radius=1.0, center=(0, 0, 0)):
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.asarray(ball.vertices) + np.asarray(center, float), np.asarray(ball.faces)


def pierced(inside_out=False, size=2.0):
    """A box of fine triangles with one of them missing."""
    import trimesh

    vertices, faces = trimesh.remesh.subdivide(*box(size=size, inside_out=inside_out))
    vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    return vertices, faces[1:]


def separate_triangles(corners):
    """Corners (F, 3, 3) as vertices (3F, 3) and faces (F, 3) that have no vertex in common."""
    return corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3)


def directed_edge_balance(faces):
    """True if every directed edge has as many opposites: the slow twin of Mesh.closed."""
    uses = {}
    for a, b in faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).tolist():
        uses[a, b] = uses.get((a, b), 0) + 1
        uses[b, a] = uses.get((b, a), 0) - 1
    return not any(uses.values())


def loaded(folder, vertices, faces, suffix=".obj", **options):
    path = folder / f"part{suffix}"
    write_mesh(path, vertices, faces)
    return load_mesh(path, **options)


def winding_at(mesh, points):
    """Winding number of a loaded mesh at points in file units."""
    return solid_angle_winding_number(mesh.transform.to_domain(np.atleast_2d(points)), mesh.vertices[mesh.faces])


def real(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no {name} beside the checkout (../shared/data)")
    return path
