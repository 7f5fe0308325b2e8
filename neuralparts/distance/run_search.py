"""Nearest faces of a mesh that is asked few times: little is built, and little memory taken, before the first answer.

Comes in: vertices (V, 3) float64 in the domain, faces (F, 3), and (N, 3) points. Goes out: the nearest faces and the
unsigned distances, as exact as those of `search.py`. That one builds a tree over all triangles, and keeps 120 bytes of
each for fast queries; here the tree is over runs of triangles, which a marched mesh has in the order of its cells.
"""

import numpy as np

from neuralparts.distance import run_search_kernels, search_kernels
from neuralparts.distance.blocks import BLOCK, in_blocks

# A run is at most this many times as wide as a triangle is on average. In a mesh whose triangles come in no order every
# run is then one triangle, and the tree is that of `search.py`.
REACH = 4.0


class RunSearch:
    """Nearest faces of a mesh, for some ten thousand points rather than millions.

    vertices: (V, 3) float64. faces: (F, 3) int64, at least one. block: points that a thread takes at a time.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, block: int = BLOCK):
        if len(faces) == 0:
            raise ValueError("a mesh without faces has no nearest one")
        reach = REACH * run_search_kernels.mean_extent(vertices, faces)
        starts, low, high = run_search_kernels.cut_runs(vertices, faces, reach)
        order, *self._tree = search_kernels.build_tree(low, high)
        self._vertices, self._faces, self._runs, self._block = vertices, faces, (starts, order), block

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 3) float32 or float64 points -> the nearest faces (N,) int64, and their distances (N,) float32."""
        face, distance = np.empty(len(points), dtype=np.int64), np.empty(len(points), dtype=np.float32)
        mesh, tree = (self._vertices, self._faces, self._runs), tuple(self._tree)

        def fill(block: slice) -> None:
            block_points = np.ascontiguousarray(points[block], dtype=np.float64)
            run_search_kernels.search_runs(block_points, *mesh, tree, face[block], distance[block])

        in_blocks(fill, len(points), self._block)
        return face, distance
