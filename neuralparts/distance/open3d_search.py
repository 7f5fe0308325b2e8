"""Closest points with the help of Open3D's ray-casting scene (Embree, float32): `--distanceEngine open3d`.

Open3D alone is wrong by up to a thousandth of the domain on ordinary CAD parts, because float32 is too coarse for their
slivers. Here it only names the nearest of the triangles that it gets right. The float64 search of `search.py` compares
that one with the slivers and computes the distance.
"""

import re

import numpy as np

from neuralparts.distance.blocks import BLOCK
from neuralparts.distance.search import NO_GUESS, NO_LIMIT, TriangleSearch
from neuralparts.machine import thread_count
from neuralparts.triangles import cross

# A triangle whose height is under this fraction of its longest side is a sliver. Measured on single triangles of side
# 1.5, points 0.001 to 1 away: an error of at most 1e-6 at 0.1, and of 3e-4 at 0.01.
TRUSTED_HEIGHT = 0.1
# Points that Open3D gets at a time, to bound the memory of its answer (40 bytes a point).
CHUNK = 2**20


class Open3dSearch:
    """Closest points on triangles (F, 3, 3) float64, as `TriangleSearch` finds them.

    block: points that a thread takes at a time; chunk: points that Open3D gets at a time. Raises ImportError if Open3D
    cannot be imported.
    """

    def __init__(self, triangles: np.ndarray, block: int = BLOCK, chunk: int = CHUNK):
        sliver = relative_height(triangles) < TRUSTED_HEIGHT
        self._sliver_count = np.count_nonzero(sliver)
        corners = triangles.reshape(-1, 3)
        faces = np.arange(len(corners)).reshape(-1, 3)
        self._search = TriangleSearch(corners, faces, np.flatnonzero(sliver), block)
        self._scene = None if sliver.all() else _scene(triangles[~sliver])
        self._chunk = chunk

    def nearest(
        self, points: np.ndarray, with_points: bool = True, limit: np.ndarray = NO_LIMIT
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `TriangleSearch.nearest`."""
        guess = NO_GUESS if self._scene is None else self._guesses(points)
        return self._search.nearest(points, with_points, guess, limit)

    def _guesses(self, points: np.ndarray) -> np.ndarray:
        """(N,) int32 positions of the triangles that Open3D takes for the nearest; they come after the slivers."""
        guess = np.empty(len(points), dtype=np.int32)
        for start in range(0, len(points), self._chunk):
            chunk = slice(start, start + self._chunk)
            float32 = np.ascontiguousarray(points[chunk], dtype=np.float32)
            answer = self._scene.compute_closest_points(float32, nthreads=thread_count())
            guess[chunk] = answer["primitive_ids"].numpy().astype(np.int32) + np.int32(self._sliver_count)
        return guess


def _scene(triangles: np.ndarray):
    """Open3D's scene of (F, 3, 3) triangles, each with its own three vertices."""
    import open3d

    scene = open3d.t.geometry.RaycastingScene(nthreads=thread_count())
    corners = triangles.reshape(-1, 3).astype(np.float32)
    scene.add_triangles(corners, np.arange(len(corners), dtype=np.uint32).reshape(-1, 3))
    return scene


def relative_height(triangles: np.ndarray) -> np.ndarray:
    """(F, 3, 3) triangles -> (F,) height over the longest side, as a fraction of that side; 0 for a single point."""
    # (F, 3, 3) side k runs from corner k to corner k + 1; (F,) squared length of the longest.
    sides = np.roll(triangles, -1, axis=1) - triangles
    longest2 = (sides**2).sum(axis=2).max(axis=1)
    # The doubled area is height times longest side.
    doubled_area = np.linalg.norm(cross(sides[:, 0], sides[:, 1]), axis=1)
    return doubled_area / np.where(longest2 > 0, longest2, 1)


# -------------------------------------------------------------------------------------------------- import errors


def open3d_problem() -> str:
    """Why Open3D cannot be imported, in a few words, or ''."""
    try:
        import open3d  # noqa: F401
    except (ImportError, OSError) as error:
        return explain_import_error(error)
    return ""


def explain_import_error(error: Exception) -> str:
    """An ImportError for a person: the missing library and the Debian package that holds it."""
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name} is not installed"
    library = re.search(r"lib[\w.+-]+?\.so(\.\d+)*", str(error))
    if library and "cannot open shared object file" in str(error):
        return f"{library.group()} is missing (on Debian: apt-get install {_debian_package(library.group())})"
    return " ".join(str(error).split())


def _debian_package(library: str) -> str:
    """libX11.so.6 -> libx11-6: the name in small letters, then the version; a hyphen parts them after a digit."""
    name, _, version = library.partition(".so")
    name, version = name.lower(), version.strip(".").partition(".")[0]
    return f"{name}-{version}" if version and name[-1].isdigit() else name + version
