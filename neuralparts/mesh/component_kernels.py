"""Compiled loops over the links of a graph: its connected components."""

import numpy as np

from neuralparts.compiled import cached_njit


@cached_njit(nogil=True)
def label_components(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """(count,) int32: number of the connected component of each node, in the order of their first nodes.

    first, second (L,): the nodes at the ends of each link. Union by the smaller number, with halved paths (Tarjan and
    van Leeuwen 1984).
    """
    above = np.arange(count)  # a node nearer to the first node of its component, or that node itself
    for link in range(len(first)):
        a, b = first[link], second[link]
        while above[a] != a:
            above[a] = above[above[a]]
            a = above[a]
        while above[b] != b:
            above[b] = above[above[b]]
            b = above[b]
        above[max(a, b)] = min(a, b)
    label, found = np.empty(count, dtype=np.int32), 0
    for node in range(count):
        if above[node] == node:
            label[node] = found
            found += 1
        else:
            label[node] = label[above[node]]  # what is above has a smaller number, so its label is known
    return label
