"""Closest points on a mesh: a float64 search over a tree of boxes, exact for needles and slivers too.

Comes in: triangles (F, 3, 3) float64 in the domain and (N, 3) points. Goes out: the closest points, their triangles and
the unsigned distances. On each of thirty meshes it was faster than Open3D and libigl (docs/log.md).
"""

import numpy as np

from neuralparts.distance import search_kernels
from neuralparts.distance.blocks import BLOCK, in_blocks

NO_GUESS = np.empty(0, dtype=np.int32)


class TriangleSearch:
    """Closest points on triangles.

    triangles: (F, 3, 3) float64 corners. searched: (S,) ascending numbers of the triangles that the tree holds; by
    default all. The others can only be found as a guess. block: points that a thread takes at a time. For the kernels
    it holds tree and frames, as `search_kernels.search_block` takes them, and face (F,), the face at each position.
    """

    def __init__(self, triangles: np.ndarray, searched: np.ndarray | None = None, block: int = BLOCK):
        every = np.arange(len(triangles))
        corners = triangles if searched is None else triangles[searched]
        searched = every if searched is None else searched
        order, boxes, first, count = search_kernels.build_tree(corners.min(axis=1), corners.max(axis=1))
        del corners  # memory for the frames
        self.tree = (boxes, first, count)
        # (F,) the face at each position: those of the tree in the order of its leaves, then the others in ascending
        # order. The kernels know triangles by position.
        self.face = np.concatenate([searched[order], np.delete(every, searched)])
        self.frames = search_kernels.triangle_frames(triangles[self.face])
        self._block = block

    def nearest(
        self, points: np.ndarray, with_points: bool = True, guess: np.ndarray = NO_GUESS
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Closest points (N, 3) float32, or (0, 3) unless with_points; their faces (N,) int64; distances (N,) float32.

        points: (N, 3) float32 or float64. guess: (N,) int32 positions of triangles that may be the nearest. A position
        counts the triangles of the tree first, then the others in ascending order.
        """
        closest = np.empty((len(points) if with_points else 0, 3), dtype=np.float32)
        face, distance = np.empty(len(points), dtype=np.int64), np.empty(len(points), dtype=np.float32)

        def fill(block: slice) -> None:
            block_points = np.ascontiguousarray(points[block], dtype=np.float64)
            position = np.empty(len(block_points), dtype=np.int32)
            outputs = (position, closest[block], distance[block])
            search_kernels.search_block(block_points, guess[block], self.tree, self.frames, *outputs)
            face[block] = self.face[position]

        in_blocks(fill, len(points), self._block)
        return closest, face, distance
