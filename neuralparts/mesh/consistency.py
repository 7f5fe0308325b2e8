"""Consistent winding: which faces to flip so that neighbours run along their common edge in opposite directions.

A patch is a set of faces linked by edges with exactly two uses. Each patch is walked through from one face; a face is
flipped if the way to it passes an odd number of clashes (edges along which both faces run in the same direction).
"""

import numpy as np


def flips_for_consistency(pairs: np.ndarray, clash: np.ndarray, patch: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """(F,) bool: the faces to flip so that the winding of each patch is consistent, by area the smaller part of it.

    pairs: (P, 2) neighbouring faces; clash: (P,) bool, their windings disagree; patch: (F,) patch of each face; areas:
    (F,). A patch that cannot be oriented (a Moebius strip) keeps some clashes.
    """
    flipped = np.zeros(len(patch), dtype=bool)
    if not clash.any():
        return flipped
    # Only the faces of patches with a clash are walked through: N nodes. place (F,): the node of a face, or -1.
    clashing = np.zeros(patch.max() + 1, dtype=bool)
    clashing[patch[pairs[clash, 0]]] = True
    nodes = np.flatnonzero(clashing[patch])
    place = np.full(len(patch), -1)
    place[nodes] = np.arange(len(nodes))
    chosen = clashing[patch[pairs[:, 0]]]
    links = place[np.sort(pairs[chosen], axis=1)]
    flipped[nodes] = _parity_from_start(links, clash[chosen], patch[nodes])
    # The walk may have started at a wrong face. If it flips more than half of a patch's area, flip the rest instead.
    total, part = np.bincount(patch, weights=areas), np.bincount(patch, weights=areas * flipped)
    return flipped ^ (clashing & (2 * part > total))[patch]


def _parity_from_start(links: np.ndarray, clash: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """(N,) bool: the number of clashes on the breadth-first way from the first node of its patch to the node is odd.

    links: (L, 2) node numbers, the smaller first; clash: (L,) bool; patch: (N,) patch of each node.
    """
    from scipy.sparse import coo_matrix  # only meshes with a clash wait for scipy
    from scipy.sparse.csgraph import breadth_first_order

    count = len(patch)
    # Two faces may have two edges in common: keep the first link of each pair.
    first, second = links.T
    single = np.unique(first * count + second, return_index=True)[1]
    # Weights of the graph: 2 for a clash, 1 for none, since a sparse matrix drops zeros.
    first, second, weight = first[single], second[single], clash[single] + 1
    # One more node, number `count`, linked to the first node of each patch: a single walk from it visits them all.
    start = np.unique(patch, return_index=True)[1]
    root = np.full(len(start), count)
    rows, columns = np.concatenate([first, second, root]), np.concatenate([second, first, start])
    weights = np.concatenate([weight, weight, np.ones_like(root)])
    graph = coo_matrix((weights, (rows, columns)), (count + 1, count + 1)).tocsr()
    parent = breadth_first_order(graph, count)[1]
    parent[-1] = count  # the root is its own parent
    clash_above = np.asarray(graph[parent[:-1], np.arange(count)]).ravel() == 2
    return _parity_to_root(parent, np.append(clash_above, False))[:-1]


def _parity_to_root(parent: np.ndarray, parity: np.ndarray) -> np.ndarray:
    """Sum modulo 2 of parity along the way from each node of a tree to its root, by doubling the stride.

    parent: (N,), the root is its own parent. parity: (N,) bool, False at the root.
    """
    while (parent[parent] != parent).any():
        parity = parity ^ parity[parent]
        parent = parent[parent]
    return parity
