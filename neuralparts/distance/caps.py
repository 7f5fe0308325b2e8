"""Caps: triangles that close the boundary of an open mesh, in a tree that gives their winding number with a bound.

Comes in: the directed boundary edges of a mesh. Goes out: caps (T, 3, 3), and a `CapTree` for `cap_kernels`.

The mesh without the caps, which is the mesh and the caps flipped, is closed. So its winding number at a point is an
integer that rays count, and the winding number of the mesh is that integer plus the winding number of the caps. Far
groups of caps are summed by their moments, as Barill et al. do for a whole mesh ("Fast winding numbers for soups and
clouds", 2018). The remainder of each sum is bounded, so the side of one half is known for certain or known to be open.
"""

from typing import NamedTuple

import numpy as np

from neuralparts.distance import cap_kernels, search_kernels


class CapTree(NamedTuple):
    """A tree over T caps. moments: (M, MOMENT_COLUMNS) of the M nodes; first, count: (M,) int32 as `build_tree` returns
    them; corners: (T, 3, 3) float64 caps in the order of the leaves."""

    moments: np.ndarray
    first: np.ndarray
    count: np.ndarray
    corners: np.ndarray


def close_boundary(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(T, 3) int64 vertices of caps whose boundary is the given one.

    starts, ends: (B,) int64 vertices of the boundary edges in the direction in which the mesh uses them. As many edges
    begin at a vertex as end there, so they form rings.
    """
    # (B,) the next edge of each edge's ring: the k-th that begins at a vertex follows the k-th that ends there.
    following = np.empty(len(starts), dtype=np.int64)
    following[np.argsort(ends, kind="stable")] = np.argsort(starts, kind="stable")
    return cap_kernels.cut_rings(starts, following)


def cap_tree(caps: np.ndarray) -> CapTree:
    """The tree over caps (T, 3, 3) float64."""
    order, boxes, first, count = search_kernels.build_tree(caps.min(axis=1), caps.max(axis=1))
    corners = np.ascontiguousarray(caps[order])
    return CapTree(cap_kernels.node_moments(corners, boxes, first, count), first, count, corners)
