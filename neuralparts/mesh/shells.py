"""Shells: the surfaces of a mesh that are flipped as one, and their volumes, boxes and sample faces.

A patch is a set of faces linked by edges with exactly two uses. A patch that is closed by itself is a shell; the others
are joined over the edges that they have in common. In these functions label (F,) is the shell of each face, S the
number of shells, and corners (F, 3, 3) are positions of the faces' corners.
"""

from dataclasses import dataclass

import numpy as np

from neuralparts.mesh.topology import EdgeTable, connected_components
from neuralparts.triangles import cross, triangle_areas

# A shell whose |volume| is under this fraction of area^1.5 has no inside of its own (both sides of a sheet).
LEAST_VOLUME = 1e-9
# Sample faces of a group of faces, to judge if it lies within a surface.
SHELL_SAMPLES = 9
# Fraction of the sample faces that must lie within a surface for the group to lie within it: some may touch it.
MOST_OF = 0.7


@dataclass(frozen=True)
class Shells:
    """label: (F,) int, the shell of each face. closed: (S,) bool. orientation: (S,) int, 1 if outward, -1 for a void,
    0 if open or without an inside of its own."""

    label: np.ndarray
    closed: np.ndarray
    orientation: np.ndarray

    @property
    def all_closed(self) -> bool:
        """True if the mesh is closed. No open shell balances another: open patches with a common edge are one shell."""
        return bool(self.closed.all())


def label_shells(edges: EdgeTable, patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join patches to shells. patch: (F,) patch of each face. Returns label (F,) and closed (S,) bool.

    edges: of faces whose winding is consistent within each patch.
    """
    unfinished = _unbalanced(edges, patch)  # (patches,) bool
    count, face_mask = patch.max() + 1, unfinished[patch]
    # The sides (3 a face) of all faces of unfinished patches: their edges and their patches.
    edge = edges.edge[face_mask].ravel()
    owner = np.repeat(patch[face_mask], 3)
    # Link each such patch with its edges of more than two uses: patches with a common edge form one component.
    several = edges.uses[edge] > 2
    joined = connected_components(owner[several], count + edge[several], count + len(edges.uses))[:count]
    label = np.unique(joined, return_inverse=True)[1][patch]
    return label, ~_unbalanced(edges, label)


def _unbalanced(edges: EdgeTable, label: np.ndarray) -> np.ndarray:
    """(L,) bool: the faces with this label use some edge more often in one direction than in the other.

    Edges with two uses must lie within one label.
    """
    # An edge with two opposite uses cannot unbalance its label. Sum the directions of the others label by label.
    plain = (edges.uses == 2) & (edges.balance == 0)
    face, corner = np.nonzero(~plain[edges.edge])
    key = label[face] * len(edges.uses) + edges.edge[face, corner]  # one number for a label and an edge
    unique, number = np.unique(key, return_inverse=True)
    balance = np.bincount(number, weights=edges.direction[face, corner])
    result = np.zeros(label.max() + 1, dtype=bool)
    result[unique[balance != 0] // len(edges.uses)] = True
    return result


def shell_volumes(corners: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(S,) signed volume of each shell, positive if outward; 0 if it is only a rounding of the shell's area."""
    count, faces = label.max() + 1, np.bincount(label)
    # (S, 3): the mean of each shell's centroids. Volumes about it lose no digits far from the origin.
    middle = corners.mean(axis=1)
    center = np.stack([np.bincount(label, weights=middle[:, k]) / faces for k in range(3)], axis=1)
    local = corners - center[label][:, None]
    # (F,): volume of the tetrahedron between each triangle and the centre.
    wedge = np.einsum("ij,ij->i", local[:, 0], cross(local[:, 1], local[:, 2])) / 6
    volume = np.bincount(label, weights=wedge, minlength=count)
    area = np.bincount(label, weights=triangle_areas(corners), minlength=count)
    return np.where(np.abs(volume) > LEAST_VOLUME * area**1.5, volume, 0.0)


def shell_boxes(corners: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner, (S, 3) each, of the box about each shell."""
    low, high = np.full((label.max() + 1, 3), np.inf), np.full((label.max() + 1, 3), -np.inf)
    np.minimum.at(low, label, corners.min(axis=1))
    np.maximum.at(high, label, corners.max(axis=1))
    return low, high


def faces_by_shell(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """order (F,): the face numbers sorted by shell; starts (S + 1,): shell s has order[starts[s] : starts[s + 1]]."""
    return np.argsort(label, kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(label))])


def sample_faces(label: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """At most count faces of each shell, evenly spread in the order of the file.

    Returns face (N,), the face numbers, and owner (N,), their shells, sorted by shell.
    """
    order, starts = faces_by_shell(label)
    # (S, count): places in `order`, at the middles of `count` equal parts of each shell; small shells repeat some.
    steps = (np.arange(count) + 0.5) / count
    chosen = starts[:-1, None] + np.floor(steps * np.diff(starts)[:, None]).astype(np.int64)
    face = order[np.unique(chosen.ravel())]
    return face, label[face]


def true_for_most(condition: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """(count,) bool: the condition (N,) holds for more than MOST_OF of each owner's entries; owner: (N,) numbers.

    False for an owner without entries.
    """
    return np.bincount(owner, weights=condition, minlength=count) > MOST_OF * np.bincount(owner, minlength=count)
