"""The diagnosis of a mesh: a dictionary for the record, and a few lines in plain words for the log."""

import numpy as np

from neuralparts.domain import Transform, grid_cell
from neuralparts.mesh.orientation import MOST_SHELLS
from neuralparts.mesh.shells import Shells, faces_by_shell, sample_faces, shell_boxes
from neuralparts.mesh.solid_angles import JUST_BESIDE, affordable_step, points_beside, winding_number
from neuralparts.mesh.thickness import thinnest_feature
from neuralparts.mesh.topology import connected_components
from neuralparts.wording import counted

# Steps of the coordinates larger than this fraction of the size are worth a line: they show in a reconstruction of
# 1000^3.
COARSE_STEP = 1e-3
# Most sample points of all shells together, and of one shell, to find bodies that overlap.
OVERLAP_SAMPLES, OVERLAP_SAMPLES_PER_SHELL = 20_000, 64
# Of more shells than the first number, so many points in all: thousands of shells may lie within each other, and then
# no approximation of their winding number is quick.
MANY_SHELLS, OVERLAP_SAMPLES_OF_MANY = 1000, 4000
# Pairs of overlapping bodies after which no more are counted.
MOST_PAIRS = 100_000
# What `diagnosis_lines` calls the flaws, by key.
FLAWS = {
    "boundary_edges": "boundary edge",
    "non_manifold_edges": "edge with more than two triangles",
    "inconsistent_edges": "edge with inconsistent winding",
    "inside_out_bodies": "inside-out body",
    "duplicate_triangles": "duplicate triangle",
    "degenerate_triangles": "degenerate triangle",
    "overlapping_bodies": "pair with overlapping bodies",
    "void_bodies": "void",
}


def diagnose(
    vertices: np.ndarray, faces: np.ndarray, shells: Shells, transform: Transform, reconstruction_res: int
) -> dict:
    """The part of the diagnosis that describes the mesh as used; its keys are explained at `load_mesh`.

    vertices: (V, 3) float64 in the domain; faces: (F, 3) int64, oriented; transform: to file units.
    """
    closed = shells.all_closed
    body = connected_components(faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel(), len(vertices))  # (V,)
    overlapping = overlapping_shells(vertices[faces], shells)
    thinnest = thinnest_feature(vertices, faces, tangled=overlapping > 0 or not closed)
    cell = grid_cell(reconstruction_res) if reconstruction_res > 1 else None
    to_file = transform.length_to_file
    return {
        "triangles": len(faces),
        "vertices": len(vertices),
        "size": float(to_file(np.ptp(vertices, axis=0).max())),
        "bodies": int(body.max()) + 1,
        "overlapping_bodies": overlapping,
        "void_bodies": int((shells.orientation < 0).sum()),
        "closed": closed,
        "thinnest_feature": None if thinnest is None else float(to_file(thinnest)),
        "cell": None if cell is None else float(to_file(cell)),
        "thin_against_grid": thinnest is not None and cell is not None and thinnest < cell,
        "sign_method": "integer winding number" if closed else "generalised winding number",
    }


def diagnosis_lines(diagnosis: dict) -> list[str]:
    """The diagnosis of a Mesh as a few lines in plain words for the log; counts of 0 are left out."""
    state = "closed" if diagnosis["closed"] else "not closed"
    lines = [
        f"{diagnosis['triangles']:,} triangles, {diagnosis['vertices']:,} vertices, "
        f"{counted(diagnosis['bodies'], 'body')}, {state}: sign by {diagnosis['sign_method']}"
        + ("" if diagnosis["closed"] else ", which closes its openings")
    ]
    flaws = [counted(diagnosis[key], noun) for key, noun in FLAWS.items() if diagnosis[key]]
    lines += ["Found: " + ", ".join(flaws)] if flaws else []
    if diagnosis["thin_against_grid"]:
        lines.append(
            f"Thinnest wall about {diagnosis['thinnest_feature']:.3g} (file units), under a cell of the "
            f"reconstruction grid ({diagnosis['cell']:.3g}): it may vanish; raise --reconstructionRes"
        )
    if diagnosis["coordinate_step"] > COARSE_STEP * diagnosis["size"]:
        lines.append(
            f"The coordinates come in steps of {diagnosis['coordinate_step']:.2g} for a part of "
            f"{diagnosis['size']:.3g}: it lies far from the origin; move it there before you export it"
        )
    return lines + diagnosis["changes"]


def overlapping_shells(corners: np.ndarray, shells: Shells) -> int:
    """Pairs of closed outward shells that have volume in common, counted from below: an estimate of bounded cost.

    corners: (F, 3, 3). An overlap that holds none of the sample points (a thin bar through a plate, between two
    samples) goes unseen. Voids do not overlap the solid around them.
    """
    solid = np.flatnonzero(shells.orientation > 0)
    if len(solid) < 2:
        return 0
    # Points (N, 3) just below the surface of each outward shell, and the shell of each.
    most = OVERLAP_SAMPLES if len(shells.closed) <= MANY_SHELLS else OVERLAP_SAMPLES_OF_MANY
    per_shell = max(1, min(OVERLAP_SAMPLES_PER_SHELL, most // len(shells.closed)))
    face, owner = sample_faces(shells.label, per_shell)
    outward = shells.orientation[owner] > 0
    points, owner = points_beside(corners[face[outward]], -JUST_BESIDE), owner[outward]
    # Keep those that lie in two bodies or more, by the winding number of all closed shells together.
    surface = corners[shells.closed[shells.label]]
    step = affordable_step(points, surface)
    points, owner = points[::step], owner[::step]
    deep = winding_number(points, surface) > 1.5
    points, owner = points[deep], owner[deep]
    if not len(points):
        return 0
    # Find the other body of each: compare with the shells whose box holds the point, one by one. (P,) pairs of shells,
    # each as one number; a pair may come twice, once for either shell.
    pairs, found = [], 0
    (low, high), (order, starts) = shell_boxes(corners, shells.label), faces_by_shell(shells.label)
    for other in solid[:MOST_SHELLS]:
        near = (owner != other) & ((points >= low[other]) & (points <= high[other])).all(axis=1)
        if near.any():
            own = corners[order[starts[other] : starts[other + 1]]]
            shell = np.unique(owner[near][winding_number(points[near], own) > 0.5])
            pairs.append(np.minimum(shell, other) * len(shells.closed) + np.maximum(shell, other))
            found += len(shell)
            if found > MOST_PAIRS:
                break
    return len(np.unique(np.concatenate(pairs))) if pairs else 0
