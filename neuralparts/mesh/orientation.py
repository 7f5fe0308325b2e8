"""Orientation: the winding of each shell becomes consistent, and inside-out shells are flipped, except voids.

In: vertices (V, 3) in the unit box, and faces (F, 3). Out: faces, outward if they have an outside, and their shells.
Closed shells are judged by their volume and by what lies around them, open ones by winding numbers beside them.
"""

from collections.abc import Callable

import numpy as np

from neuralparts.mesh.box_sweep import BoxSweep
from neuralparts.mesh.consistency import flips_for_consistency
from neuralparts.mesh.shells import (
    SHELL_SAMPLES,
    Shells,
    faces_by_shell,
    label_shells,
    sample_faces,
    shell_boxes,
    shell_volumes,
    true_for_most,
)
from neuralparts.mesh.solid_angles import (
    JUST_BESIDE,
    MOST_EXACT_PAIRS,
    affordable_step,
    points_beside,
    winding_number,
)
from neuralparts.mesh.topology import EdgeTable, connected_components, flip_faces
from neuralparts.triangles import triangle_areas
from neuralparts.wording import counted

# Closed shells, the largest first, for which the shells within them are looked for.
MOST_SHELLS = 20_000
# Pairs of a sample and a triangle of another shell after which no more shells within each other are looked for: some
# seconds. A file gets there only with thousands of bodies that lie in part within each other.
MOST_PAIRS_WITHIN = 100_000_000
# Closed shells above which a compiled loop sums their solid angles: NumPy's calls take longer than the sums of one.
MANY_SHELLS = 1000
# Open shells judged one by one, the largest first.
MOST_OPEN_SHELLS = 200
# Surface points from which the open shells are judged, as a set.
OPEN_SAMPLES = 500
# In a set that is inside out, more than this fraction of the points beside it has a winding number under -0.5.
OPEN_SET_INVERTED = 0.05
# In such a set, the points with a winding number over 0.5 are fewer than this fraction of those under -0.5.
OPEN_SET_INSIDE = 0.1
# About so many triangles of an open shell are sampled to judge it alone. Smaller shells than the second are not judged.
OPEN_SHELL_SAMPLES, LEAST_OPEN_FACES = 32, 4
# It is inside out if the mean of its own winding number over its surface is under this: a closed inside-out shell has
# -0.5, a flat sheet 0.
OPEN_SHELL_INSIDE_OUT = -0.25


def orient(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, Shells, dict[str, int], list[str]]:
    """Make the winding of each shell consistent and flip inside-out shells outward, except voids.

    vertices: (V, 3) float64 in the unit box. Returns faces (F, 3), their Shells, the numbers of flawed edges and
    inside-out bodies in the mesh as given (keys of the diagnosis), and a sentence for each change.

    Bodies that touch along faces or along a closed ring of edges are one shell, judged by their volume together.
    """
    edges = EdgeTable(faces)
    pairs, clash = edges.pairs()
    patch = connected_components(pairs[:, 0], pairs[:, 1], len(faces))
    # First within each patch, then shell by shell. flipped (F,): the faces that differ from those given.
    flipped = flips_for_consistency(pairs, clash, patch, triangle_areas(vertices[faces]))
    consistent = flip_faces(faces, flipped)
    label, closed = label_shells(EdgeTable(consistent) if flipped.any() else edges, patch)
    shell_flipped, orientation = _inside_out_shells(vertices[consistent], label, closed)
    flipped ^= shell_flipped[label]
    fraction = np.bincount(label, weights=flipped) / np.bincount(label)  # (S,) of its faces that were flipped
    found = {
        "boundary_edges": int((edges.uses == 1).sum()),
        "non_manifold_edges": int((edges.uses > 2).sum()),
        "inconsistent_edges": int(clash.sum()),
        "inside_out_bodies": int((fraction == 1).sum()),
    }
    changes = _sentences(fraction, flipped, label)
    return flip_faces(faces, flipped), Shells(label, closed, orientation), found, changes


def _sentences(fraction: np.ndarray, flipped: np.ndarray, label: np.ndarray) -> list[str]:
    """Up to two sentences: on shells flipped whole, and on shells flipped in part.

    fraction: (S,) of each shell's faces that were flipped; flipped: (F,) bool; label: (F,) shell of each face.
    """
    changes = []
    if (fraction == 1).any():
        changes.append(f"Flipped {counted((fraction == 1).sum(), 'inside-out body')} outward.")
    mixed = (fraction > 0) & (fraction < 1)
    if mixed.any():
        changes.append(
            f"Flipped {counted((flipped & mixed[label]).sum(), 'triangle')} to make the winding of "
            f"{counted(mixed.sum(), 'body')} consistent."
        )
    return changes


def _inside_out_shells(corners: np.ndarray, label: np.ndarray, closed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which shells to flip: flip (S,) bool, and orientation (S,) after it, as in Shells. corners: (F, 3, 3)."""
    # All open shells as one set first, since they may surround the closed ones; then the closed ones; then each open
    # shell alone. Each step sees the corners as flipped by those before.
    set_flip = ~closed & _set_is_inside_out(corners[~closed[label]])
    corners = flip_faces(corners, set_flip[label])
    closed_flip, orientation = _flips_of_closed(corners, label, closed, set_flipped=set_flip.any())
    corners = flip_faces(corners, closed_flip[label])
    return set_flip ^ closed_flip ^ _flips_of_open(corners, label, closed), orientation


# ------------------------------------------------------------------------------------------------- closed shells


def _flips_of_closed(
    corners: np.ndarray, label: np.ndarray, closed: np.ndarray, set_flipped: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Which closed shells to flip: flip (S,) bool, and orientation (S,) after it, as in Shells.

    From the outermost inward: a shell of negative volume stays (a void) if the shells around it, as flipped so far,
    give a winding number over 0.5; else it is flipped. Directly within a shell that was flipped, there are two readings
    of the file: all of it is inside out, or the outer shell alone. Both make the inner shell the opposite of the outer
    (a void in a solid, a solid in a void), so it becomes that. set_flipped: the open shells were flipped, as a set.
    """
    volume = np.where(closed, shell_volumes(corners, label), 0.0)
    flip, orientation = np.zeros(len(closed), dtype=bool), np.sign(volume).astype(int)
    if (volume >= 0).all() and not set_flipped:
        return flip, orientation
    order, parent, extra = _containment(corners, label, volume)
    in_open = _within_open(corners, label, closed)
    around = np.zeros(len(closed), dtype=int)  # (S,) winding number of the shells around each, as flipped so far
    for inner in order:
        outer = parent[inner]
        if outer >= 0:
            around[inner] = around[outer] + orientation[outer] + orientation[extra.get(inner, [])].sum()
        if outer >= 0 and flip[outer]:
            flip[inner] = orientation[inner] == orientation[outer]
        elif outer < 0 and set_flipped and in_open[inner]:
            flip[inner] = orientation[inner] > 0
        elif volume[inner] < 0:
            # Winding number around it: the sum of the shells around it, plus one within the open set.
            flip[inner] = around[inner] + in_open[inner] <= 0
        orientation[inner] *= -1 if flip[inner] else 1
    return flip, orientation


def _containment(
    corners: np.ndarray, label: np.ndarray, volume: np.ndarray
) -> tuple[list[int], np.ndarray, dict[int, list[int]]]:
    """Which closed shells lie wholly within which. volume: (S,).

    Returns order, the shells with a volume from the largest to the smallest; parent (S,), the smallest shell around
    each, or -1; and extra: {shell: those around it that are not around its parent}, which bodies that overlap have.
    """
    # A shell can only lie within a larger one.
    order = np.flatnonzero(volume)
    order = order[np.argsort(-np.abs(volume[order]), kind="stable")]
    low, high = shell_boxes(corners, label)
    by_shell, starts = faces_by_shell(label)
    # Sample faces sorted by shell; those of shell s have the indices first[s] to first[s + 1].
    face, owner = sample_faces(label, SHELL_SAMPLES)
    first = np.searchsorted(owner, np.arange(len(volume) + 1))
    middle = corners[face].mean(axis=1)
    parent, children, extra = np.full(len(volume), -1), {}, {}
    # From the smallest to the largest, so that the first shell found around another is its parent. What lies within a
    # shell lies within all shells around that one. So the shells without a parent are compared, and the children of
    # those that lie in part outside. Only those are looked at that have a box within the box, or hold one that has.
    sweep, root, pairs = BoxSweep(low, high), np.arange(len(volume)), 0  # root (S,): the outermost around each so far
    sweep.add(order[MOST_SHELLS:])
    winding = _winding_of_one(len(order))
    for outer in order[:MOST_SHELLS][::-1]:
        is_near = np.zeros(len(volume), dtype=bool)
        is_near[root[sweep.within(outer)]] = True
        compared = np.flatnonzero(is_near)
        while len(compared) and pairs < MOST_PAIRS_WITHIN:
            in_box = (low[compared] >= low[outer]).all(axis=1) & (high[compared] <= high[outer]).all(axis=1)
            inner = compared[in_box]
            within = np.zeros(len(inner), dtype=bool)
            if len(inner):
                sampled = np.concatenate([np.arange(first[i], first[i + 1]) for i in inner])
                surface = corners[by_shell[starts[outer] : starts[outer + 1]]]
                pairs += len(sampled) * len(surface)
                inside = np.abs(winding(middle[sampled], surface)) > 0.5
                within = true_for_most(inside, owner[sampled], len(volume))[inner]
            for index in inner[within].tolist():
                if parent[index] < 0:
                    parent[index] = outer
                    root[root == index] = outer
                    children.setdefault(int(outer), []).append(index)
                else:
                    extra.setdefault(index, []).append(int(outer))
            apart = np.setdiff1d(compared, inner[within]).tolist()
            compared = np.array([child for index in apart for child in children.get(index, [])], dtype=int)
        sweep.add(outer)
    return order.tolist(), parent, extra


def _winding_of_one(shells: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """`winding_number`, or the same as a compiled loop for so many shells that most are small."""
    if shells <= MANY_SHELLS:
        return winding_number
    from neuralparts.mesh.containment_kernels import solid_angle_winding_numbers

    def winding(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        few = len(points) * len(triangles) <= MOST_EXACT_PAIRS
        return (solid_angle_winding_numbers if few else winding_number)(points, triangles)

    return winding


def _within_open(corners: np.ndarray, label: np.ndarray, closed: np.ndarray) -> np.ndarray:
    """(S,) bool: the winding number of all open shells together is over 0.5 on most of a closed shell."""
    face, owner = sample_faces(label, SHELL_SAMPLES)
    sampled = closed[owner]
    if closed.all() or not sampled.any():
        return np.zeros(len(closed), dtype=bool)
    points, owner, surface = corners[face[sampled]].mean(axis=1), owner[sampled], corners[~closed[label]]
    step = affordable_step(points, surface)
    return true_for_most(winding_number(points[::step], surface) > 0.5, owner[::step], len(closed))


# --------------------------------------------------------------------------------------------------- open shells


def _set_is_inside_out(corners: np.ndarray) -> bool:
    """Judge the open triangles (F, 3, 3) as one set: many points beside them have a winding number under -0.5, almost
    none has one over 0.5.

    As one set, because single patches of a surface that was not sewn are often flat or seen from within, so they do not
    show which side is inside. A soup of random triangles has as much over 0.5, so it stays.
    """
    areas = triangle_areas(corners)
    if not areas.any():
        return False
    # Triangles drawn by area, and for each a point before and a point behind it: winding (2 * OPEN_SAMPLES,). The seed
    # is fixed, because a file is repaired in the same way in every run.
    chosen = corners[np.random.default_rng(0).choice(len(corners), OPEN_SAMPLES, p=areas / areas.sum())]
    chosen = chosen[:: affordable_step(np.concatenate([chosen, chosen])[:, 0], corners)]
    winding = winding_number(_both_sides(chosen), corners)
    inside, inverted = (winding > 0.5).mean(), (winding < -0.5).mean()
    return bool(inverted > OPEN_SET_INVERTED and inside < OPEN_SET_INSIDE * inverted)


def _flips_of_open(corners: np.ndarray, label: np.ndarray, closed: np.ndarray) -> np.ndarray:
    """Which open shells to flip one by one: (S,) bool. Nearly closed, inside out, and no void in the other shells."""
    flip = np.zeros(len(closed), dtype=bool)
    order, starts = faces_by_shell(label)
    sizes = np.diff(starts) * ~closed
    largest = np.argsort(-sizes, kind="stable")[:MOST_OPEN_SHELLS]
    # Those that are inside out by themselves: the shell, its triangles, samples (N, 3, 3) of them, the weights of these
    # (N,) and their winding number in the shell alone (N,).
    found = []
    for shell in largest[sizes[largest] >= LEAST_OPEN_FACES]:
        own = corners[order[starts[shell] : starts[shell + 1]]]
        sampled = own[:: max(1, len(own) // OPEN_SHELL_SAMPLES)]
        weights = np.maximum(triangle_areas(sampled), np.finfo(float).tiny)  # their sum must not be 0
        alone = _surface_winding(sampled, own)
        if np.average(alone, weights=weights) < OPEN_SHELL_INSIDE_OUT:
            found.append((shell, own, sampled, weights, alone))
    if not found:
        return flip
    # Fewer of them, the largest, if that would take too long.
    points = np.concatenate([_both_sides(sampled) for _, _, sampled, _, _ in found])
    found = found[: -(-len(found) // affordable_step(points, corners))]
    # In a solid of the other shells it is a void and stays. Samples of all of them, one shell after the other, and
    # their winding number in the whole mesh, which every flip changes.
    ends = np.cumsum([len(weights) for *_, weights, _ in found])
    everywhere = np.concatenate([sampled for _, _, sampled, _, _ in found])
    around = _surface_winding(everywhere, corners)
    for (shell, own, _, weights, alone), end in zip(found, ends, strict=True):
        if np.average(around[end - len(weights) : end] - alone, weights=weights) <= 0.5:
            flip[shell] = True
            if end < len(around):
                around[end:] -= 2 * _surface_winding(everywhere[end:], own)
    return flip


def _surface_winding(sampled: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(N,) winding number of triangles (F, 3, 3) on the sampled triangles (N, 3, 3): the mean of both sides."""
    return winding_number(_both_sides(sampled), corners).reshape(2, -1).mean(axis=0)


def _both_sides(corners: np.ndarray) -> np.ndarray:
    """(2N, 3) points just before the triangles (N, 3, 3), then points just behind them."""
    return np.concatenate([points_beside(corners, JUST_BESIDE), points_beside(corners, -JUST_BESIDE)])
