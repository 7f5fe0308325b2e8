"""Helpers of the tests of distance and sampling: made meshes in the domain, and slow twins of distance and sign.

The slow twins: float64 distances to all triangles, and summed solid angles.
"""

from pathlib import Path

import numpy as np
import pytest

from neuralparts.distance import DistanceOracle
from neuralparts.domain import Transform
from neuralparts.errors import UserError
from neuralparts.mesh import EdgeTable, Mesh, load_mesh, solid_angle_winding_number

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
ENGINES = ("numba", "open3d")
# The error that the oracle promises, and the one that float32 results of a float64 search really reach.
DISTANCE_TOLERANCE = 1e-5
FLOAT32_TOLERANCE = 1e-7
# Nearer to the surface than this, rounding in the sum of solid angles hides the side.
SIGN_DOUBT = 1e-5


# ------------------------------------------------------------------------------------------------------- slow twins


def brute_distance(points, mesh):
    """(N,) the least float64 distance of (N, 3) points to the triangles of a mesh, each of them compared."""
    triangles = mesh.vertices[mesh.faces]
    points = np.asarray(points, dtype=np.float64)
    step = max(1, 1_000_000 // len(triangles))
    parts = [_least_distance(points[i : i + step, None], triangles) for i in range(0, len(points), step)]
    return np.concatenate(parts)


def _least_distance(points, triangles):
    """(N,) for (N, 1, 3) points and (F, 3, 3) triangles: to the sides, or to the plane if the foot lies within."""
    corners = [triangles[None, :, k] for k in range(3)]
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    size2 = (normal**2).sum(axis=1)
    # (N, F) the least squared distance to a side, and whether the point lies over the triangle.
    best = np.full((len(points), len(triangles)), np.inf)
    over = np.broadcast_to(size2 > 0, best.shape).copy()
    for k in range(3):
        start, side, offset = corners[k], corners[(k + 1) % 3] - corners[k], points - corners[k]
        length2 = (side**2).sum(axis=2)
        fraction = np.clip((offset * side).sum(axis=2) / np.where(length2 > 0, length2, 1), 0, 1)
        best = np.minimum(best, ((points - start - fraction[..., None] * side) ** 2).sum(axis=2))
        over &= (np.cross(side, offset) * normal).sum(axis=2) >= 0
    height2 = ((points - corners[0]) * normal).sum(axis=2) ** 2 / np.where(size2 > 0, size2, 1)
    return np.sqrt(np.where(over, np.minimum(best, height2), best).min(axis=1))


def brute_winding(points, mesh):
    """(N,) winding numbers of (N, 3) points by summed solid angles."""
    return solid_angle_winding_number(np.asarray(points, dtype=np.float64), mesh.vertices[mesh.faces])


def oracle_of(mesh, engine):
    """A DistanceOracle, or a skip if the engine's library cannot be imported."""
    try:
        return DistanceOracle(mesh, engine)
    except UserError as error:
        pytest.skip(str(error))


# ----------------------------------------------------------------------------------------------------------- shapes


def as_mesh(vertices, faces):
    """A Mesh of domain coordinates, without the repairs of load_mesh."""
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int64)
    closed = bool((EdgeTable(faces).balance == 0).all())
    return Mesh(vertices, faces, Transform(np.zeros(3), 1.0), closed, {}, Path("made.stl"))


def joined(*meshes):
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes])
    faces = [m.faces + start for m, start in zip(meshes, starts[:-1], strict=True)]
    return as_mesh(np.concatenate([m.vertices for m in meshes]), np.concatenate(faces))


def without(mesh, faces):
    """The mesh without some faces."""
    return as_mesh(mesh.vertices, np.delete(mesh.faces, faces, axis=0))


def rotated(mesh, generator):
    """The mesh under a random rotation."""
    matrix = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    return as_mesh(mesh.vertices @ (matrix * np.sign(np.linalg.det(matrix))).T, mesh.faces)


def box(low=(-0.5, -0.5, -0.5), high=(0.5, 0.5, 0.5), inward=False):
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))])
    low, high = np.asarray(low, float), np.asarray(high, float)
    return as_mesh(low + corners * (high - low), faces[:, ::-1] if inward else faces)


def torus(major=0.55, minor=0.2, around=24, across=12):
    u, v = np.meshgrid(np.arange(around), np.arange(across), indexing="ij")
    ring = major + minor * np.cos(2 * np.pi * v / across)
    angle = 2 * np.pi * u / around
    vertices = np.stack([ring * np.cos(angle), ring * np.sin(angle), minor * np.sin(2 * np.pi * v / across)], axis=-1)
    index = lambda i, j: (i % around) * across + j % across  # noqa: E731
    a, b, c, d = index(u, v), index(u + 1, v), index(u + 1, v + 1), index(u, v + 1)
    faces = np.concatenate([np.stack(f, axis=-1).reshape(-1, 3) for f in ((a, b, c), (a, c, d))])
    return as_mesh(vertices.reshape(-1, 3), faces)


def needles(generator, count=60):
    """Triangles of length about 1 whose height falls from a tenth to a billionth."""
    start, along, across = generator.uniform(-0.5, 0.5, (3, count, 3))
    height = 10.0 ** -generator.uniform(1, 9, (count, 1))
    fraction = generator.uniform(-0.2, 1.2, (count, 1))
    vertices = np.stack([start, start + along, start + fraction * along + height * across], axis=1)
    return as_mesh(vertices.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))


def soup(generator, count):
    """Loose triangles."""
    corners = generator.uniform(-0.5, 0.5, (count, 1, 3)) + generator.uniform(-0.2, 0.2, (count, 3, 3))
    return as_mesh(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3))


# Shapes by name: functions of a generator.
CLOSED = {
    "box": lambda g: box(),
    "torus": lambda g: torus(),
    "rotated box": lambda g: rotated(box(), g),
    "rotated torus": lambda g: rotated(torus(), g),
    "overlapping": lambda g: joined(box(), rotated(box(), g), torus()),
    "nested solids": lambda g: joined(box(), box((-0.2,) * 3, (0.2,) * 3)),
    "void": lambda g: joined(box(), box((-0.2,) * 3, (0.2,) * 3, inward=True)),
    "void in overlap": lambda g: joined(box(), rotated(box(), g), box((-0.2,) * 3, (0.2,) * 3, inward=True)),
    "touching faces": lambda g: joined(box((-0.5, -0.5, -0.5), (0, 0.5, 0.5)), box((0, -0.5, -0.5), (0.5, 0.5, 0.5))),
    "touching at an edge": lambda g: joined(box((-0.5,) * 3, (0, 0, 0.5)), box((0, 0, -0.5), (0.5, 0.5, 0.5))),
    "touching at a vertex": lambda g: joined(box((-0.5,) * 3, (0, 0, 0)), box((0, 0, 0), (0.5,) * 3)),
    "the same body twice": lambda g: joined(torus(), torus()),
}
OPEN = {
    "box without a triangle": lambda g: without(rotated(box(), g), [3]),
    "box without a side": lambda g: without(rotated(box(), g), [2, 3]),
    "torus with holes": lambda g: without(torus(), [5, 6, 100, 101, 102, 300]),
    "two sheets": lambda g: joined(without(torus(), range(0, 200)), without(torus(), range(0, 200))),
    "a flipped triangle": lambda g: as_mesh(box().vertices, np.concatenate([box().faces[1:], box().faces[:1, ::-1]])),
    "soup": lambda g: soup(g, 100),
}


# ----------------------------------------------------------------------------------------------- real files, points


def real_mesh(name):
    """A mesh of ../shared/data, or a skip."""
    if not (DATA / name).exists():
        pytest.skip(f"no {name}: the folder ../shared/data is absent")
    return load_mesh(DATA / name)


def points_around(mesh, count, generator):
    """Points over the cube, within 0.01 of the surface, within 1e-5 of it and on it: (4 count, 3) float32."""
    triangles = mesh.vertices[mesh.faces]
    corners = triangles[generator.integers(0, len(triangles), count)]
    surface = (corners * generator.dirichlet((1, 1, 1), count)[..., None]).sum(axis=1)
    spread = [surface + deviation * generator.normal(size=surface.shape) for deviation in (0.01, 1e-5, 0)]
    return np.concatenate([generator.uniform(-1, 1, (count, 3)), *spread]).astype(np.float32)
