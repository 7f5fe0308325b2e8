"""Topology of triangles: edges and how faces use them, connected components, equal rows, flips of faces.

Everything here works on (F, 3) integer faces, numbers of vertices counted from 0. No function looks at distances.
"""

import numpy as np

from neuralparts.mesh.component_kernels import label_components


class EdgeTable:
    """The undirected edges of F faces, and how the faces use them.

    faces: (F, 3) integers. Side k of a face runs from its corner k to its corner k + 1.

    edge: (F, 3) int64, number of the edge under each side. direction: (F, 3) int64, 1 if the side runs from the smaller
    vertex number to the larger, else -1. uses: (E,) int64, number of sides on each edge. balance: (E,) int64, sum of
    their directions: 0 if the edge is used as often in one direction as in the other.
    """

    def __init__(self, faces: np.ndarray):
        # (F, 3): the vertices at which each side starts and ends.
        tail, head = faces, faces[:, [1, 2, 0]]
        # (F, 3): one number for both directions of an edge, smaller vertex * number of vertices + larger vertex.
        key = np.minimum(tail, head) * (int(faces.max(initial=0)) + 1) + np.maximum(tail, head)
        # The edges are numbered in the order of their keys.
        edge = np.unique(key, return_inverse=True)[1].reshape(-1, 3)
        self.edge = edge
        self.direction = np.where(tail < head, 1, -1)
        self.uses = np.bincount(edge.ravel())
        self.balance = np.bincount(edge.ravel(), weights=self.direction.ravel()).astype(np.int64)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """The two faces at each edge with exactly two uses.

        Returns pairs (P, 2) int64 of face numbers, and clash (P,) bool: both faces run along the edge in the same
        direction, so their windings disagree.
        """
        # The 3F sides sorted by edge. Those of edge e start where the sides of all edges before it end.
        order = np.argsort(self.edge.ravel(), kind="stable")
        double = np.flatnonzero(self.uses == 2)
        first = (np.cumsum(self.uses) - self.uses)[double]
        # Side i belongs to face i // 3.
        pairs = np.stack([order[first], order[first + 1]], axis=1) // 3
        return pairs, self.balance[double] != 0


def connected_components(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """(count,) int32: number of the connected component of each node, given (L,) links first[i] - second[i]."""
    return label_components(np.ascontiguousarray(first, np.int64), np.ascontiguousarray(second, np.int64), count)


def equal_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group the equal rows of an (N, 3) array of int64 or float64 numbers. 0.0 equals -0.0.

    Returns group (N,) int64, the number of each row's group, counted in the order of appearance, and first (G,) int64,
    the first row of each group.
    """
    # (N, 3): the bits of each number. Adding 0 makes -0.0 into 0.0.
    words = np.ascontiguousarray(rows + rows.dtype.type(0)).view(np.uint64)
    # (N,): one hash a row. To sort one number a row is several times faster than to sort whole rows.
    mixed = np.zeros(len(words), dtype=np.uint64)
    for k in range(3):
        mixed = (mixed ^ words[:, k]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    _, first, group = np.unique(mixed, return_index=True, return_inverse=True)
    # Two different rows with one hash: about once in a billion meshes. Then the whole rows are sorted.
    if (words[first][group] != words).any():
        _, first, group = np.unique(words, axis=0, return_index=True, return_inverse=True)
    # Groups are numbered by hash so far. Number them by their first rows instead.
    rank = np.empty(len(first), dtype=np.int64)
    order = np.argsort(first)
    rank[order] = np.arange(len(first))
    return rank[group.ravel()], first[order]


def drop_unused_vertices(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """vertices (V, 3), faces (F, 3) -> the same without the vertices that no face uses, the rest in the same order."""
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    # A used vertex becomes the number of used vertices before it.
    return vertices[used], (np.cumsum(used) - 1)[faces]


def corners_differ(faces: np.ndarray) -> np.ndarray:
    """(F,) bool: the three corners are three different vertices."""
    return (faces != faces[:, [1, 2, 0]]).all(axis=1)


def corner_parity(faces: np.ndarray) -> np.ndarray:
    """(F,) bool: the corners are an odd permutation of their sorted order. Two copies of a triangle face the same way
    if they have the same parity."""
    return (faces[:, 0] > faces[:, 1]) ^ (faces[:, 1] > faces[:, 2]) ^ (faces[:, 0] > faces[:, 2])


def flip_faces(triples: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Faces (F, 3) or corners (F, 3, 3) -> a copy in which the chosen triangles face the other way.

    chosen: (F,) bool, or the numbers of the triangles.
    """
    flipped = triples.copy()
    flipped[chosen] = triples[chosen][:, [0, 2, 1]]
    return flipped
