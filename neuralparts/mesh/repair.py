"""Repair: slivers, duplicates and fins bound nothing. They are dropped if that opens no surface.

In: a welded mesh, vertices (V, 3) in the unit box and faces (F, 3). Out: the faces that are left. An edge is open if
it has an odd number of triangles; a closed surface has no open edge.
"""

import numpy as np

from neuralparts.mesh.shells import SHELL_SAMPLES, sample_faces, true_for_most
from neuralparts.mesh.solid_angles import affordable_step, winding_number
from neuralparts.mesh.topology import EdgeTable, connected_components, corner_parity, equal_rows
from neuralparts.triangles import triangle_areas
from neuralparts.wording import counted

# Height of a triangle over its longest side, as a fraction of the mesh's size, up to which its corners count as
# collinear: the rounding of float64 for a part that lies 10^6 of its sizes from the origin.
SLIVER_HEIGHT = 1e-10


def find_slivers(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) bool: triangles without area, their three corners on a line. vertices: in the unit box."""
    corners = vertices[faces]
    longest = np.linalg.norm(corners - corners[:, [1, 2, 0]], axis=2).max(axis=1, initial=0)
    return 2 * triangle_areas(corners) <= SLIVER_HEIGHT * longest


def drop_slivers(faces: np.ndarray, sliver: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Drop the slivers (F,) whose removal leaves no more open edges. Returns faces, and a sentence for each change.

    A sliver between two other triangles closes the gap of a T-junction. Such a sliver stays; it has no solid angle, so
    it does no harm.
    """
    if not sliver.any():
        return faces, []
    dropped = np.zeros(len(faces), dtype=bool)
    dropped[sliver] = _open_edges_gained(EdgeTable(faces), sliver)[0] <= 0
    changes = [f"Dropped {counted(dropped.sum(), 'triangle')} without area."] if dropped.any() else []
    return faces[~dropped], changes


def _open_edges_gained(edges: EdgeTable, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effect of removing candidate faces (F,) bool, group by group of candidates that are linked by edges.

    Returns for each of the C candidates: gained (C,), how many open edges the removal of its group adds (negative if it
    closes some), and group (C,), the number of its group.
    """
    touched = edges.edge[candidates]  # (C, 3)
    count, edge_count = len(touched), len(edges.uses)
    # Nodes are the candidates, then all edges. Each candidate is linked with its three edges.
    face = np.repeat(np.arange(count), 3)
    group = connected_components(face, count + touched.ravel(), count + edge_count)
    # (E,): uses of each edge without the candidates, and by group the change in its number of open edges. An edge
    # belongs to one group, so groups do not affect each other.
    left = edges.uses - np.bincount(touched.ravel(), minlength=edge_count)
    gained = np.bincount(group[count:], weights=left % 2 - edges.uses % 2)
    return gained[group[:count]], group[:count]


def drop_duplicates(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, int, list[str]]:
    """Drop triangles with the same three corners as an earlier one, if that is a repair; then drop fins as well.

    The extra copies are judged in groups that are linked by edges:
    - A surface that is doubled as a whole becomes single, even if the copies face each other (both sides of a sheet
      were written, so the winding number would be 0 everywhere). If they face each other within the other triangles,
      as a void and the body that exactly fills it, both go: there is no surface.
    - Other copies go if that leaves fewer open edges. If it leaves as many, they go if they all face the same way as
      the originals: a doubled triangle would make the winding number a fraction around it.
    - The rest stays: faces in which two solids touch or end flush. Each solid needs its own.

    Returns the faces left, the number of extra copies found, and a sentence for each change.
    """
    changes = []
    # triangle (F,): faces with the same three corners have the same number. first: the first face of each number.
    triangle, first = equal_rows(np.sort(faces, axis=1))
    extra = np.ones(len(faces), dtype=bool)
    extra[first] = False
    if not extra.any():
        return faces, 0, changes
    # By extra copy (C,): open edges gained without its group, the group, and two properties of the group.
    edges, copied = EdgeTable(faces), np.bincount(triangle)[triangle] > 1
    gained, group = _open_edges_gained(edges, extra)
    reversed_copy = (corner_parity(faces) != corner_parity(faces[first])[triangle])[extra]
    opposed = np.bincount(group, weights=reversed_copy)[group] > 0
    alone = _is_own_surface(edges, copied, extra, group)
    dropped = np.zeros(len(faces), dtype=bool)
    dropped[extra] = alone | (gained < 0) | ((gained == 0) & ~opposed)
    if dropped.any():
        changes.append(f"Dropped {counted(dropped.sum(), 'duplicate triangle')}.")
    # Of surfaces written from both sides within the others, the originals go as well.
    within = _groups_within(vertices[faces], np.flatnonzero(extra), group, alone & opposed, ~copied)
    if within.any():
        both = np.isin(triangle, triangle[np.flatnonzero(extra)[within]])
        changes.append(f"Dropped {counted(both.sum(), 'triangle')} within the part that face each other.")
        dropped |= both
    faces, fins = _drop_fins(faces[~dropped])
    if fins:
        changes.append(f"Dropped {counted(fins, 'triangle')} of fins without thickness.")
    return faces, int(extra.sum()), changes


def _is_own_surface(edges: EdgeTable, copied: np.ndarray, extra: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(C,) bool: no edge of the extra copy's group is used by a face without a copy.

    copied: (F,) bool, faces of which there are several. extra: (F,) bool, C copies. group: (C,) group of each copy.
    """
    # (E,): all uses of the edge are by copied faces.
    only_copies = np.bincount(edges.edge[copied].ravel(), minlength=len(edges.uses)) == edges.uses
    attached = ~only_copies[edges.edge[extra]].all(axis=1)
    return np.bincount(group, weights=attached)[group] == 0


def _groups_within(
    corners: np.ndarray, extra: np.ndarray, group: np.ndarray, candidate: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """(C,) bool: the extra copy is a candidate, and its group lies within the surface of the other faces.

    corners: (F, 3, 3). extra: (C,) face numbers. group: (C,). candidate: (C,) bool, equal within a group. others:
    (F,) bool; they may face inward as a whole, so the sign of the winding number does not count.
    """
    if not candidate.any() or not others.any():
        return np.zeros(len(extra), dtype=bool)
    number = np.unique(group, return_inverse=True)[1]  # (C,) groups counted from 0
    copy, owner = sample_faces(number, SHELL_SAMPLES)
    copy, owner = copy[candidate[copy]], owner[candidate[copy]]
    points, surface = corners[extra[copy]].mean(axis=1), corners[others]
    step = affordable_step(points, surface)
    within = np.abs(winding_number(points[::step], surface)) > 0.5
    return candidate & true_for_most(within, owner[::step], number.max() + 1)[number]


def _drop_fins(faces: np.ndarray) -> tuple[np.ndarray, int]:
    """Drop fins: pairs of triangles that face each other, peeled off from their free edges inward.

    A free edge is used by one such pair only. Pairs between two solids that touch have none, so they stay. Returns the
    faces left and the number dropped.
    """
    # Triangles that occur exactly twice, once in each direction.
    triangle, _ = equal_rows(np.sort(faces, axis=1))
    balance = np.bincount(triangle, weights=1 - 2 * corner_parity(faces))
    paired = (np.bincount(triangle) == 2) & (balance == 0)
    edges = EdgeTable(faces)
    is_fin, dropped = paired[triangle], np.zeros(len(faces), dtype=bool)
    uses = edges.uses.copy()
    # The faces at edge e are sides[starts[e] : starts[e + 1]] // 3.
    sides, starts = np.argsort(edges.edge.ravel(), kind="stable"), np.concatenate([[0], np.cumsum(uses)])
    outermost = np.flatnonzero(is_fin & (uses[edges.edge] == 2).any(axis=1))
    # Each round drops the outermost pairs, which frees edges of the next ones. Only those edges are looked at.
    while len(outermost):
        dropped[outermost] = True
        touched, fewer = np.unique(edges.edge[outermost], return_counts=True)
        uses[touched] -= fewer
        freed = touched[uses[touched] == 2]
        beside = np.concatenate([sides[:0], *(sides[starts[e] : starts[e + 1]] // 3 for e in freed)])
        outermost = np.unique(beside[is_fin[beside] & ~dropped[beside]])
    # If all is one sheet without thickness, it stays: the check for flat meshes has a message for it.
    if dropped.all():
        return faces, 0
    return faces[~dropped], int(dropped.sum())
