"""A marched mesh with fewer triangles: a fraction of them, or as few as stay within a length of the marched surface.

In and out: vertices (V, 3) float64 in the domain and faces (F, 3) int64. What comes out is closed if the mesh that came
in is, and has no fold that it did not have. Edges are contracted by quadric errors (Garland and Heckbert 1997).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from neuralparts.choices import SIMPLIFY_ERROR
from neuralparts.distance import DistanceOracle
from neuralparts.domain import Transform
from neuralparts.mesh import EdgeTable, Mesh
from neuralparts.sampling import points_on_surface
from neuralparts.triangles import contracted, unit_normals

# Fewer triangles close no volume.
FEWEST_TRIANGLES = 4
# A mesh that is open or folded is tried again with this many times the triangles.
MORE = 1.25
# The search for the fewest triangles within a length ends at this ratio of the counts that it lies between.
COUNT_RATIO = 1.05
# Two neighbours whose normals have a smaller cosine are folded onto each other.
FOLD_COSINE = -0.99


class Simplified(NamedTuple):
    """vertices (V, 3), faces (F, 3). error: largest distance between this mesh and the marched one, domain units, at
    the vertices of both and at as many random points of this one as the marched mesh has vertices."""

    vertices: np.ndarray
    faces: np.ndarray
    error: float


def simplify(
    vertices: np.ndarray,
    faces: np.ndarray,
    wanted: float | str,
    scale: float,
    progress: Callable[[float], None] | None = None,
) -> Simplified:
    """The mesh with fewer triangles; unchanged, with the error 0, where no smaller one will do.

    wanted: a value of --simplify: the fraction of the triangles that is kept, above 0 and below 1, or `error:` and the
    largest error in file units. scale: domain units per file unit. progress: takes the fraction done, 0 to 1.
    """
    marched = _Marched(vertices, faces)
    if isinstance(wanted, str):
        return _fewest_within(marched, float(wanted.removeprefix(SIMPLIFY_ERROR)) * scale, progress)
    count = max(FEWEST_TRIANGLES, round(wanted * len(faces)))
    while count < len(faces):
        if (result := marched.reduced(count)) is not None:
            return result
        count = math.ceil(count * MORE)
    return marched.unchanged


def not_simplified(wanted: float | str) -> str:
    """The line on a mesh that `simplify` left unchanged. wanted: the value of --simplify."""
    if isinstance(wanted, str):
        length = wanted.removeprefix(SIMPLIFY_ERROR)
        return f"not simplified: no smaller mesh was found within {length} (file units); raise --simplify {wanted}"
    return f"not simplified: every smaller mesh that was tried has holes or folds; raise --simplify {wanted:g}"


def _fewest_within(marched: "_Marched", length: float, progress: Callable[[float], None] | None) -> Simplified:
    """The mesh with about the fewest triangles whose error is at most a length, domain units, found by bisection."""
    best, low, high = marched.unchanged, FEWEST_TRIANGLES, len(marched.mesh.faces)
    rounds = math.log2(math.log(max(high / low, 2)) / math.log(COUNT_RATIO))
    done = 0
    while high > low * COUNT_RATIO and high - low > 1:
        count = round(math.sqrt(low * high))
        result = marched.reduced(count)
        if result is not None and result.error <= length:
            best, high = result, count
        else:
            low = count
        done += 1
        if progress is not None:
            progress(min(1.0, done / rounds))
    return best


class _Marched:
    """The mesh as it was marched, and what every simplified mesh is compared with."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray):
        self.mesh = _as_mesh(vertices, faces)
        self.unchanged = Simplified(vertices, faces, 0.0)
        self._oracle = DistanceOracle(self.mesh)
        self._flaws = _flaws(vertices, faces)

    def reduced(self, count: int) -> Simplified | None:
        """The mesh with about `count` triangles, or None if it is open or folded where this one is not."""
        fewer, faces = contracted(self.mesh.vertices, self.mesh.faces, count)
        if not len(faces) or any(new > old for new, old in zip(_flaws(fewer, faces), self._flaws, strict=True)):
            return None
        return Simplified(fewer, faces, self._error(fewer, faces))

    def _error(self, vertices: np.ndarray, faces: np.ndarray) -> float:
        """The largest distance between a mesh and this one, as in `Simplified`."""
        mesh = _as_mesh(vertices, faces)
        there = DistanceOracle(mesh).distance(self.mesh.vertices)
        points, _ = points_on_surface(mesh, len(self.mesh.vertices), np.random.default_rng(0))
        back = self._oracle.distance(np.concatenate([vertices, points.astype(np.float64)]))
        return float(max(there.max(), back.max()))


def _as_mesh(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    """Arrays as a Mesh that lies in the domain already."""
    return Mesh(vertices, faces, Transform(np.zeros(3), 1.0), closed=True, diagnosis={}, path=Path())


def _flaws(vertices: np.ndarray, faces: np.ndarray) -> tuple[int, int, int]:
    """How often a mesh is open (sides of triangles without an opposite side), how many of its edges have more than two
    triangles, and how many neighbours are folded onto each other."""
    edges = EdgeTable(faces)
    pairs, _ = edges.pairs()
    normals = unit_normals(vertices[faces])
    cosines = (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(axis=1)
    return int(np.abs(edges.balance).sum()), int((edges.uses > 2).sum()), int((cosines < FOLD_COSINE).sum())
