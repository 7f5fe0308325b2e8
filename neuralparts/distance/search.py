"""Closest points on a mesh: a float64 search over a tree of boxes, exact for needles and slivers too.

Comes in: vertices (V, 3) float64 in the domain, faces (F, 3), and (N, 3) points. Goes out: the closest points, their
triangles and the unsigned distances. Distances alone are found for packets of points (`packet_search_kernels`), closest
points for one point after the other. On each of thirty meshes it was faster than Open3D and libigl (docs/log.md).
"""

import numpy as np

from neuralparts.distance import packet_search_kernels, search_kernels
from neuralparts.distance.blocks import BLOCK, in_blocks
from neuralparts.machine import give_memory_back

NO_GUESS, NO_LIMIT = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
# A mesh is crowded if a point near it lies in the boxes of more triangles than this, on average over so many points
# within this distance (domain units) along each axis. Of 32 public meshes 31 have at most 5, a soup of 100 has 53.
# There packets find the closest points too. Elsewhere they do not, because the order in which a search meets triangles
# decides which of two equally near ones is found.
CROWDED, CROWD_SAMPLES, NEAR = 100, 64, 0.05
# Of a mesh of more triangles, what building the tree took is given back before the frames are made: 60 bytes each.
LARGE = 100_000
# A tree in which nothing is found: a search that begins with the nearest triangle ends there.
EMPTY_TREE = (np.full((1, 6), np.inf), np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int32))


class TriangleSearch:
    """Closest points on triangles.

    vertices: (V, 3) float64. faces: (F, 3) int64. searched: (S,) ascending numbers of the triangles that the tree
    holds; by default all. The others can only be found as a guess. block: points that a thread takes at a time. For the
    kernels it holds tree and frames, as `search_kernels.search_block` takes them, and face (F,), the face at each
    position. No array of all corners is made: the frames of a million triangles alone take 120 MB.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, searched: np.ndarray | None = None, block: int = BLOCK):
        every = np.arange(len(faces))
        held = faces if searched is None else faces[searched]
        searched = every if searched is None else searched
        order, boxes, first, count = search_kernels.build_tree(*search_kernels.triangle_boxes(vertices, held))
        self.tree = (boxes, first, count)
        self.is_crowded = _triangles_around(vertices, held, self.tree) > CROWDED
        if len(faces) > LARGE:
            give_memory_back()
        # (F,) the face at each position: those of the tree in the order of its leaves, then the others in ascending
        # order. The kernels know triangles by position.
        self.face = np.concatenate([searched[order], np.delete(every, searched)])
        self.frames = search_kernels.triangle_frames(vertices, faces, self.face)
        self._block = block

    def nearest(
        self,
        points: np.ndarray,
        with_points: bool = True,
        guess: np.ndarray = NO_GUESS,
        limit: np.ndarray = NO_LIMIT,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Closest points (N, 3) float32, or (0, 3) unless with_points; their faces (N,) int64; distances (N,) float32.

        points: (N, 3) float32 or float64. guess: (N,) int32 positions of triangles that may be the nearest. A position
        counts the triangles of the tree first, then the others in ascending order. limit: (N,) float32 distances. For a
        point that is not nearer than its limit, the triangle is any, and the distance any from the limit on; that takes
        less time. Unless with_points, the triangle is any of those that are equally near.
        """
        closest = np.empty((len(points) if with_points else 0, 3), dtype=np.float32)
        face, distance = np.empty(len(points), dtype=np.int64), np.empty(len(points), dtype=np.float32)

        def fill(block: slice) -> None:
            block_points = np.ascontiguousarray(points[block], dtype=np.float64)
            position = np.empty(len(block_points), dtype=np.int32)
            start, tree = guess[block], self.tree
            if len(guess) == 0 and (self.is_crowded or not with_points):
                found = block_points, limit[block], self.tree, self.frames, position, distance[block]
                packet_search_kernels.search_packets(*found)
                start, tree = position.copy(), EMPTY_TREE
            if with_points or len(guess) > 0:
                outputs = position, closest[block], distance[block]
                search_kernels.search_block(block_points, start, limit[block], tree, self.frames, *outputs)
            face[block] = self.face[position]

        in_blocks(fill, len(points), self._block)
        return closest, face, distance


def _triangles_around(
    vertices: np.ndarray, faces: np.ndarray, tree: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> float:
    """How many of the faces (S, 3) of a tree have boxes that hold a point near them, on average."""
    some = vertices[faces[:: -(-len(faces) // CROWD_SAMPLES) or 1]].mean(axis=1)
    points = some + np.random.default_rng(0).uniform(-NEAR, NEAR, some.shape)
    return packet_search_kernels.triangles_around(points, *tree)
