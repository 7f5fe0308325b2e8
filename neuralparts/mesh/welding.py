"""Welding: vertices at one place become one vertex, and vertices that were rounded apart are joined again.

In: vertices (V, 3) float64 in file units, faces (F, 3). Out: the same, welded, without the triangles that lose a corner
by it.
"""

import numpy as np

from neuralparts.mesh.topology import EdgeTable, connected_components, corners_differ, equal_rows
from neuralparts.wording import counted

# Vertices this many steps of the file's coordinates apart may be one vertex that was rounded twice. Two roundings of
# one number differ by one step; the second step is for a sum.
CRACK_STEPS = 2
# Step of the coordinates, as a fraction of the size, in a file of decimal or float64 numbers: the resolution of
# float32, since most such files come from programs that hold float32.
TEXT_STEP = 2.0**-23
# Cracks are left alone if loose vertices have more neighbours within reach than this on average. A stray triangle far
# away can make the step larger than the whole part: then no two vertices can be told apart.
MOST_NEIGHBOURS = 50


def weld(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, list[str]]:
    """Merge vertices at the same place, close cracks of a rounding, drop triangles that lose a corner by it.

    Returns vertices, some of which may be unused now, faces, the number of triangles dropped, and a sentence for each
    change.
    """
    changes = []
    place, first = equal_rows(vertices)
    if len(first) < len(vertices):
        changes.append(f"Merged {len(vertices):,} vertices into {len(first):,} places.")
    vertices, faces = vertices[first], place[faces]
    faces, joined, closed_edges = _close_cracks(vertices, faces)
    if joined:
        changes.append(
            f"Joined {counted(joined, 'vertex')} with a neighbour a rounding away, which closed "
            f"{counted(closed_edges, 'open edge')}."
        )
    keep = corners_differ(faces)
    dropped = int((~keep).sum())
    if dropped:
        changes.append(f"Dropped {counted(dropped, 'triangle')} with two corners in one place.")
    return vertices, faces[keep], dropped, changes


def _close_cracks(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Join vertices of open edges that lie a rounding apart. Returns faces, vertices joined, open edges closed.

    An edge is open if it has an odd number of triangles. Only vertices on open edges may move, and only if fewer open
    edges are left: a feature of a closed surface is never touched, however fine. The rim of an open surface that is as
    fine as the coordinates is not touched either: groups of neighbours that are larger than the reach stay apart, and
    so do vertices along an edge of a triangle, unless joining them closes the surface there.
    """
    whole = faces[corners_differ(faces)]
    edges = EdgeTable(whole)
    loose = _ends_of_open_edges(whole, edges)
    target = _merge_neighbours(vertices, loose)
    target = _undo_torn(target, faces)
    moved = target != np.arange(len(vertices))
    if not moved.any():
        return faces, 0, 0
    joined = target[faces]
    left = EdgeTable(joined[corners_differ(joined)])
    closed_edges = int((edges.uses % 2).sum()) - int((left.uses % 2).sum())
    if closed_edges <= 0:
        return faces, 0, 0
    return joined, int(moved.sum()), closed_edges


def _merge_neighbours(vertices: np.ndarray, loose: np.ndarray) -> np.ndarray:
    """(V,) the vertex that each vertex becomes if loose vertices within reach of each other are merged.

    loose: (L,) numbers of vertices. A group of neighbours that is larger than the reach is not merged.
    """
    target = np.arange(len(vertices))
    if not len(loose):
        return target
    from scipy.spatial import cKDTree  # only meshes with open edges wait for scipy

    # (L, 3) in reaches along each axis: a part may be far from the origin along one axis alone.
    places = vertices[loose] / (CRACK_STEPS * _coordinate_steps(vertices))
    tree = cKDTree(places)
    if tree.count_neighbors(tree, 1.0, p=np.inf) > MOST_NEIGHBOURS * len(loose):
        return target
    # (L,): the group of each loose vertex, linked by (M, 2) pairs within reach.
    close = tree.query_pairs(1.0, p=np.inf, output_type="ndarray")
    group = connected_components(close[:, 0], close[:, 1], len(loose))
    # (G, 3): the box about each group, in the first G rows. (G,): it is larger than the reach.
    low, high = np.full((len(loose), 3), np.inf), np.full((len(loose), 3), -np.inf)
    np.minimum.at(low, group, places)
    np.maximum.at(high, group, places)
    apart = (high - low > 1.0).any(axis=1)
    # (G,): the first vertex of each group stands for it.
    first = loose[np.unique(group, return_index=True)[1]]
    target[loose] = np.where(apart[group], loose, first[group])
    return target


def _undo_torn(target: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Undo the merges along an edge of a triangle that leave the surface open there. target (V,) -> (V,)."""
    # Merged vertices at both ends of a triangle's side: the merge removes that triangle.
    tail, head = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    doubtful = np.unique(target[tail[(tail != head) & (target[tail] == target[head])]])
    if not len(doubtful):
        return target
    # Those that still have an open edge after the merge become their own vertices again.
    joined = target[faces]
    joined = joined[corners_differ(joined)]
    torn = np.intersect1d(doubtful, _ends_of_open_edges(joined, EdgeTable(joined)))
    return np.where(np.isin(target, torn), np.arange(len(target)), target)


def _ends_of_open_edges(faces: np.ndarray, edges: EdgeTable) -> np.ndarray:
    """Sorted numbers of the vertices at the ends of edges with an odd number of triangles."""
    odd = (edges.uses % 2 == 1)[edges.edge]  # (F, 3)
    return np.unique(np.concatenate([faces[odd], faces[:, [1, 2, 0]][odd]]))


def coordinate_step(vertices: np.ndarray) -> float:
    """Distance between two neighbouring coordinates in a file with these (V, 3) float64 vertices, in file units.

    If every coordinate is a float32 (as in STL), it is the spacing of float32 at the largest coordinate. Otherwise it
    is a fraction of the size, so that a part far from the origin keeps its digits if its format has enough of them.
    """
    return float(_coordinate_steps(vertices).max())


def _coordinate_steps(vertices: np.ndarray) -> np.ndarray:
    """As `coordinate_step`, along each axis: (3,) float64."""
    largest = np.abs(vertices).max(axis=0)
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite, so it differs
        if largest.max() < np.finfo(np.float32).max and (vertices.astype(np.float32) == vertices).all():
            return np.spacing(largest.astype(np.float32)).astype(np.float64)
    return np.full(3, np.ptp(vertices, axis=0).max() * TEXT_STEP)
