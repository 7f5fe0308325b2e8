"""Meshes in the domain for the tests of the metrics, and the exact distance of a sphere."""

from pathlib import Path

import numpy as np
import trimesh

from neuralparts.domain import Transform
from neuralparts.mesh import Mesh

RADIUS, OFFSET = 0.6, 0.02
# An icosphere of 20480 faces lies at most this far inside its sphere.
SAGITTA = 4e-4
# Points for an error, and the edge of a grid cell.
COUNT = 40_000
CELL = 2.0 / 127


def as_domain_mesh(shape):
    """A trimesh as a Mesh whose file units are those of the domain."""
    vertices, faces = np.asarray(shape.vertices, float), np.asarray(shape.faces, np.int64)
    return Mesh(vertices, faces, Transform(np.zeros(3), 1.0), True, {}, Path("shape.stl"))


def ball(radius, center=(0, 0, 0)):
    shape = trimesh.creation.icosphere(5, radius)
    shape.apply_translation(center)
    return shape


def sphere_function(radius):
    return lambda points: (np.linalg.norm(points, axis=1) - radius).astype(np.float32)


def generator(seed=0):
    return np.random.default_rng(seed)
