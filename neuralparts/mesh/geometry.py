"""Mesh files in, checked and normalised triangle meshes out.

Owns: checking what a mesh file holds, repairing what may be repaired, the diagnosis, the normalisation to the
domain and the way back to file units. mesh_files.py reads and writes the formats; its names are handed on from here.

In: the path of a mesh file (.stl .obj .ply .off .glb .gltf .3mf, any case of letters).

Out: a `Mesh` whose vertices lie in the domain (bounding sphere of radius 0.9 about the origin), with the `Transform`
that leads back and a `diagnosis` of what was found and what was changed. A file that cannot be used raises
`MeshError`, whose message is the one line that a user reads.
"""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from neuralparts.domain import DOMAIN_RADIUS, Transform, grid_cell
from neuralparts.mesh_files import MeshError, read_triangles
from neuralparts.triangles import cross, doubled_normals, triangle_areas, unit_normals
from neuralparts.wording import counted


@dataclass
class Mesh:
    """A checked triangle mesh in the domain.

    vertices: (V, 3) float64 in the domain, each used by a face; faces: (F, 3) int64, outward where outward is
    defined; transform: to and from file units; diagnosis: JSON-able findings, see `load_mesh`; path: the file
    it came from.
    """

    vertices: np.ndarray
    faces: np.ndarray
    transform: Transform
    diagnosis: dict
    path: Path

    @property
    def closed(self):
        """True where every edge is used as often in one direction as in the other.

        That is the exact condition for the winding number to be an integer off the surface (the boundary of
        the chain of triangles vanishes); it allows edges with four or more faces, as where two bodies touch.
        """
        return self.diagnosis["closed"]


def load_mesh(path, reconstruction_res=256):
    """Read, check, repair and normalise a mesh file.

    path: file with one of MESH_SUFFIXES. reconstruction_res: points along an edge of the reconstruction grid
    (0 for none), used only to judge the thinnest feature. Returns a Mesh. Raises MeshError where the file is
    missing, unreadable, cut short, without triangles or flat.

    Keys of the diagnosis. Of the mesh as used: triangles, vertices, size (longest side of the box, file
    units), bodies (pieces that hang together by vertices), boundary_edges (one triangle), non_manifold_edges
    (more than two), closed (see Mesh.closed), void_bodies, overlapping_bodies (pairs of closed bodies that
    share volume, an estimate from below), thinnest_feature (an estimate) and cell (both in file units, None
    where unknown), thin_against_grid, sign_method, coordinate_step (see `coordinate_step`). Of the file as
    found, before the repair: inconsistent_edges (two triangles that run along the edge in the same
    direction), inside_out_bodies, duplicate_triangles, degenerate_triangles. changes: a sentence for each
    thing that was changed.
    """
    path = Path(path)
    vertices, faces, changes = read_triangles(path)
    _check_triangles(path, vertices, faces)
    vertices, faces = _used_only(vertices, faces)
    vertices, faces, degenerate = _weld(vertices, faces, changes)
    faces, slivers = _drop_slivers(path, _unit_box(vertices), faces, changes)
    faces, duplicates = _drop_duplicates(_unit_box(vertices), faces, changes)
    vertices, faces = _used_only(vertices, faces)
    _check_thickness(path, vertices)
    faces, shells, found = _orient(_unit_box(vertices), faces, changes)
    transform = _bounding_transform(vertices)
    found |= {"degenerate_triangles": degenerate + slivers, "duplicate_triangles": duplicates}
    found["coordinate_step"] = coordinate_step(vertices)
    mesh = Mesh(transform.to_domain(vertices), faces, transform, {}, path)
    mesh.diagnosis = _diagnose(mesh, shells, reconstruction_res) | found | {"changes": changes}
    return mesh


def _diagnose(mesh, shells, reconstruction_res):
    """The part of the diagnosis that describes the mesh as used, see `load_mesh`."""
    # An open shell cannot be balanced by another: those that share an edge are one shell.
    closed = bool(shells.closed.all())
    piece = _components(mesh.faces[:, [0, 1]].ravel(), mesh.faces[:, [1, 2]].ravel(), len(mesh.vertices))
    overlapping = _overlapping_shells(mesh.vertices[mesh.faces], shells)
    tangled = overlapping > 0 or not closed
    thinnest = _thinnest_feature(mesh.vertices, mesh.faces, tangled)
    cell = grid_cell(reconstruction_res) if reconstruction_res > 1 else None
    to_file = mesh.transform.length_to_file
    return {
        "triangles": len(mesh.faces),
        "vertices": len(mesh.vertices),
        "size": float(to_file(np.ptp(mesh.vertices, axis=0).max())),
        "bodies": int(piece.max()) + 1,
        "overlapping_bodies": overlapping,
        "void_bodies": int((shells.orientation < 0).sum()),
        "closed": closed,
        "thinnest_feature": None if thinnest is None else float(to_file(thinnest)),
        "cell": None if cell is None else float(to_file(cell)),
        "thin_against_grid": thinnest is not None and cell is not None and thinnest < cell,
        "sign_method": "integer winding number" if closed else "generalised winding number",
    }


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


def diagnosis_lines(diagnosis):
    """The diagnosis that `load_mesh` gives -> a few lines of plain words for the log; nothing that is 0."""
    state = "closed" if diagnosis["closed"] else "not closed"
    lines = [
        f"{diagnosis['triangles']:,} triangles, {diagnosis['vertices']:,} vertices, "
        f"{counted(diagnosis['bodies'], 'body')}, {state}: sign by {diagnosis['sign_method']}"
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


def _check_triangles(path, vertices, faces):
    if len(faces) == 0:
        what = f"{len(vertices)} points but no triangles" if len(vertices) else "no triangles"
        raise MeshError(f"{path}: the file has {what}; export the part as a triangle mesh")
    if faces.min() < 0 or faces.max() >= len(vertices):
        wrong = faces.min() if faces.min() < 0 else faces.max()
        raise MeshError(
            f"{path}: a face names vertex {wrong} (counted from 0) but there are {len(vertices)} vertices; "
            "export it again"
        )
    broken = int((~np.isfinite(vertices[faces]).all(axis=(1, 2))).sum())
    if broken:
        raise MeshError(
            f"{path}: {broken} of {len(faces)} triangles have a coordinate that is not a number or infinite; "
            "export it again"
        )


def _unit_box(vertices):
    """(V, 3) vertices moved and scaled to a box of longest side 1: tolerances are shares of the size."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return (vertices - (low + (high - low) / 2)) / ((high - low).max() or 1.0)


# -------------------------------------------------------------------------------------------------- repairing

# Vertices this many steps of the file's coordinates apart may be one vertex that was rounded twice. Two
# roundings of one number differ by one step; two leave room for a sum.
CRACK_STEPS = 2
# Share of the size that two vertices of a file in decimal or float64 may differ by: the resolution of
# float32, since most such files come from programs that hold float32.
TEXT_STEP = 2.0**-23
# Share of the size over which steps of the coordinates are worth a word: they show in a reconstruction of
# 1000^3.
COARSE_STEP = 1e-3
# Height of a triangle over its longest side, as a share of the mesh's size, under which its corners count as
# collinear: the rounding of float64 for a part 10^6 of its sizes from the origin.
SLIVER_HEIGHT = 1e-10
# Thickness of a mesh as a share of its size under which it is flat: about the rounding of float32.
FLAT_THICKNESS = 1e-6


class EdgeTable:
    """The undirected edges of (F, 3) faces and how they are used.

    edge (F, 3): number of the edge from corner k to corner k + 1; direction (F, 3): 1 where the face runs
    along it from the smaller vertex to the larger, else -1; uses (E,): times that edge e is used; balance
    (E,): sum of its directions.
    """

    def __init__(self, faces):
        tail, head = faces, faces[:, [1, 2, 0]]
        key = np.minimum(tail, head) * (int(faces.max(initial=0)) + 1) + np.maximum(tail, head)
        edge = np.unique(key, return_inverse=True)[1].reshape(-1, 3)
        self.edge = edge
        self.direction = np.where(tail < head, 1, -1)
        self.uses = np.bincount(edge.ravel())
        self.balance = np.bincount(edge.ravel(), weights=self.direction.ravel()).astype(np.int64)

    def pairs(self):
        """The faces at each edge with two uses: (P, 2), and (P,) bool: both run along it the same way."""
        order = np.argsort(self.edge.ravel(), kind="stable")
        double = np.flatnonzero(self.uses == 2)
        first = (np.cumsum(self.uses) - self.uses)[double]
        return np.stack([order[first], order[first + 1]], axis=1) // 3, self.balance[double] != 0


def _components(first, second, count):
    """Number of the connected component of each of count nodes, given links first[i] - second[i]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(first), dtype=bool), (first, second)), shape=(count, count))
    return connected_components(links, directed=False)[1]


def _equal_rows(rows):
    """Group equal rows of an (N, 3) array of 64-bit numbers.

    Returns number (N,) of each row's group, groups counted in the order of appearance, and the first row of
    each group.
    """
    words = np.ascontiguousarray(rows + rows.dtype.type(0)).view(np.uint64)  # adding 0 makes -0.0 into 0.0
    mixed = np.zeros(len(words), dtype=np.uint64)
    for k in range(3):
        mixed = (mixed ^ words[:, k]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    _, first, number = np.unique(mixed, return_index=True, return_inverse=True)
    if (words[first][number] != words).any():  # two different rows with one hash: once in a billion meshes
        _, first, number = np.unique(words, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    order = np.argsort(first)
    rank[order] = np.arange(len(first))
    return rank[number.ravel()], first[order]


def _used_only(vertices, faces):
    """Drop vertices that no face uses."""
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    return vertices[used], (np.cumsum(used) - 1)[faces]


def _distinct(faces):
    """(F,) bool: the three corners are three vertices."""
    return (faces != faces[:, [1, 2, 0]]).all(axis=1)


def _weld(vertices, faces, changes):
    """Merge vertices at the same place, close cracks of a rounding, drop triangles that lose a corner by it.

    Returns vertices, faces and the number of triangles dropped.
    """
    number, first = _equal_rows(vertices)
    if len(first) < len(vertices):
        changes.append(f"Merged {len(vertices):,} vertices into {len(first):,} places.")
    vertices, faces = vertices[first], number[faces]
    faces, joined, closed_edges = _close_cracks(vertices, faces)
    if joined:
        changes.append(
            f"Joined {counted(joined, 'vertex')} with a neighbour a rounding away, which closed "
            f"{counted(closed_edges, 'open edge')}."
        )
    keep = _distinct(faces)
    dropped = int((~keep).sum())
    if dropped:
        changes.append(f"Dropped {counted(dropped, 'triangle')} with two corners in one place.")
    return vertices, faces[keep], dropped


def _close_cracks(vertices, faces):
    """Join vertices of open edges that lie a rounding apart: (faces, vertices joined, open edges closed).

    Only vertices on edges with an odd number of triangles may move, and only if that leaves fewer such edges:
    a fine feature of a closed surface is never touched, however small. Nor is the rim of an open one that is as
    fine as the coordinates: chains longer than the reach stay apart, and so do vertices along an edge of a
    triangle if the surface would still be open there.
    """
    from scipy.spatial import cKDTree

    edges = EdgeTable(faces[_distinct(faces)])
    loose = _ends(faces[_distinct(faces)], edges, edges.uses % 2 == 1)
    # In reaches of each axis, for a part may be far from the origin along one of them alone.
    places = vertices[loose] / (CRACK_STEPS * _coordinate_steps(vertices))
    tree = cKDTree(places) if len(loose) else None
    # A stray triangle far away can make the step larger than the whole part: then nothing can be told apart.
    if tree is None or tree.count_neighbors(tree, 1.0, p=np.inf) > 50 * len(loose):
        return faces, 0, 0
    close = tree.query_pairs(1.0, p=np.inf, output_type="ndarray")
    group = _components(close[:, 0], close[:, 1], len(loose))
    low, high = np.full((len(loose), 3), np.inf), np.full((len(loose), 3), -np.inf)
    np.minimum.at(low, group, places)
    np.maximum.at(high, group, places)
    apart = (high - low > 1.0).any(axis=1)  # by group
    first = loose[np.unique(group, return_index=True)[1]]  # of each group, the vertex that stands for it
    label = np.arange(len(vertices))
    label[loose] = np.where(apart[group], loose, first[group])
    # Of groups with an edge of a triangle in them only those may be joined that are whole then.
    tail, head = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    doubtful = np.unique(label[tail[(tail != head) & (label[tail] == label[head])]])
    joined = label[faces][_distinct(label[faces])]
    joined_edges = EdgeTable(joined)
    torn = np.intersect1d(doubtful, _ends(joined, joined_edges, joined_edges.uses % 2 == 1))
    back = np.isin(label, torn)
    label[back] = np.flatnonzero(back)
    joined = label[faces]
    left = int((EdgeTable(joined[_distinct(joined)]).uses % 2).sum())
    closed_edges = int((edges.uses % 2).sum()) - left
    if closed_edges <= 0:
        return faces, 0, 0
    return joined, int((label != np.arange(len(vertices))).sum()), closed_edges


def _ends(faces, edges, chosen):
    """Sorted vertices at the ends of the chosen edges (bool per edge)."""
    mask = chosen[edges.edge]
    return np.unique(np.concatenate([faces[mask], faces[:, [1, 2, 0]][mask]]))


def coordinate_step(vertices):
    """Distance of two neighbouring coordinates in a file with these (V, 3) float64 vertices, in file units.

    If every coordinate is a float32 (as in STL), the spacing of float32 at the largest; else a share of the
    size, so that a part far from the origin in a format with digits enough keeps all of them.
    """
    return float(_coordinate_steps(vertices).max())


def _coordinate_steps(vertices):
    """As `coordinate_step`, along each axis: (3,)."""
    largest = np.abs(vertices).max(axis=0)
    with np.errstate(over="ignore"):
        if largest.max() < np.finfo(np.float32).max and (vertices.astype(np.float32) == vertices).all():
            return np.spacing(largest.astype(np.float32)).astype(np.float64)
    return np.full(3, np.ptp(vertices, axis=0).max() * TEXT_STEP)


def _drop_slivers(path, vertices, faces, changes):
    """Drop triangles of no area (three corners on a line) where that opens nothing.

    A sliver between two others closes the gap of a T-junction, so those whose removal would leave more edges
    with an odd number of triangles stay: they do no harm, having no solid angle. vertices: in the unit box.
    Returns the faces left and the number of slivers found. Raises MeshError if there is nothing else.
    """
    corners = vertices[faces]
    sides = np.linalg.norm(corners - corners[:, [1, 2, 0]], axis=2).max(axis=1, initial=0)
    sliver = 2 * triangle_areas(corners) <= SLIVER_HEIGHT * sides
    if sliver.all():
        raise MeshError(f"{path}: all triangles are degenerate (without area); export the part as a triangle mesh")
    if not sliver.any():
        return faces, 0
    dropped = np.zeros(len(faces), dtype=bool)
    dropped[sliver] = _odd_edges_gained(EdgeTable(faces), sliver)[0] <= 0
    if dropped.any():
        changes.append(f"Dropped {counted(dropped.sum(), 'triangle')} without area.")
    return faces[~dropped], int(sliver.sum())


def _odd_edges_gained(edges, candidates):
    """What removing candidate faces (bool per face) would do, group by group of candidates that share edges.

    Returns for each candidate the number of edges with an odd number of triangles that the removal of its
    group would add (negative: closes some), and the number of the group. A closed surface has no odd edge.
    """
    touched = edges.edge[candidates]
    count, edge_count = len(touched), len(edges.uses)
    face = np.repeat(np.arange(count), 3)
    group = _components(face, count + touched.ravel(), count + edge_count)
    left = edges.uses - np.bincount(touched.ravel(), minlength=edge_count)
    gained = np.bincount(group[count:], weights=left % 2 - edges.uses % 2)
    return gained[group[:count]], group[:count]


def _drop_duplicates(vertices, faces, changes):
    """Drop triangles with the same three corners as an earlier one, where that is a repair.

    Decided for each group of extra copies that hang together by edges: A group that is a surface of its own,
    doubled as a whole, is made single, also where the copies face each other (both sides of a sheet written
    out: the winding number would vanish everywhere); where it lies within the other triangles, as a body that
    fills a void does, both sides go, for there is no surface. Else the copies go if that leaves fewer edges with an
    odd number of triangles, or as many and all copies face the same way: a doubled triangle would make the
    winding number a fraction around it. Then pairs that face each other go if one of their edges belongs to
    them alone: fins without thickness. What stays: faces in which two solids touch or end flush, since each
    solid needs its own. Returns the faces left and the number of extra copies found.
    """
    number, first = _equal_rows(np.sort(faces, axis=1))
    extra = np.ones(len(faces), dtype=bool)
    extra[first] = False
    if not extra.any():
        return faces, 0
    edges = EdgeTable(faces)
    gained, group = _odd_edges_gained(edges, extra)
    opposed = np.bincount(group, weights=(_parity(faces) != _parity(faces[first])[number])[extra])[group] > 0
    copied = np.bincount(number)[number] > 1
    lonely = np.bincount(edges.edge[copied].ravel(), minlength=len(edges.uses)) == edges.uses
    alone = np.bincount(group, weights=~lonely[edges.edge[extra]].all(axis=1))[group] == 0
    dropped = extra.copy()
    dropped[extra] = alone | (gained < 0) | ((gained == 0) & ~opposed)
    if dropped.any():
        changes.append(f"Dropped {counted(dropped.sum(), 'duplicate triangle')}.")
    within = _groups_within(vertices[faces], np.flatnonzero(extra), group, alone & opposed, ~copied)
    if within.any():
        both = np.isin(number, number[np.flatnonzero(extra)[within]])
        changes.append(f"Dropped {counted(both.sum(), 'triangle')} within the part that face each other.")
        dropped |= both
    faces, fins = _drop_fins(faces[~dropped])
    if fins:
        changes.append(f"Dropped {counted(fins, 'triangle')} of fins without thickness.")
    return faces, int(extra.sum())


def _groups_within(corners, extra, group, asked, others):
    """Which of the faces `extra` belong to a group that lies within a surface of the `others` (bool by face).

    corners (F, 3, 3); group and asked: by face of `extra`. Asked are some faces of each group that is `asked`; the
    others may be turned inward as a whole.
    """
    result = np.zeros(len(extra), dtype=bool)
    if not asked.any() or not others.any():
        return result
    face, owner = _sample_faces(np.unique(group, return_inverse=True)[1], SHELL_SAMPLES)
    face, owner = face[asked[face]], owner[asked[face]]
    within = np.abs(_winding_number(corners[extra[face]].mean(axis=1), corners[others])) > 0.5
    share = np.bincount(owner, weights=within, minlength=owner.max() + 1) / np.maximum(np.bincount(owner), 1)
    number = np.unique(group, return_inverse=True)[1]
    result[asked] = share[number[asked]] > MOST_OF
    return result


def _parity(faces):
    """(F,) bool: the corners are an odd permutation of their sorted order."""
    return (faces[:, 0] > faces[:, 1]) ^ (faces[:, 1] > faces[:, 2]) ^ (faces[:, 0] > faces[:, 2])


def _drop_fins(faces):
    """Peel off pairs of opposite triangles, from their free edges inward: faces left, number dropped."""
    number, _ = _equal_rows(np.sort(faces, axis=1))
    balance = np.bincount(number, weights=1 - 2 * _parity(faces))
    paired = (np.bincount(number) == 2) & (balance == 0)
    edges = EdgeTable(faces)
    fin_faces, dropped = np.flatnonzero(paired[number]), np.zeros(len(faces), dtype=bool)
    uses = edges.uses.copy()
    while len(fin_faces):
        free = (uses[edges.edge[fin_faces]] == 2).any(axis=1)
        if not free.any():
            break
        dropped[fin_faces[free]] = True
        uses -= np.bincount(edges.edge[fin_faces[free]].ravel(), minlength=len(uses))
        fin_faces = fin_faces[~free]
    if dropped.all():  # nothing but a sheet without thickness: it stays for the check of the thickness to judge
        return faces, 0
    return faces[~dropped], int(dropped.sum())


def _check_thickness(path, vertices):
    """MeshError where all vertices lie in a plane, by their extent along the least principal direction."""
    points = _unit_box(vertices)
    points = points - points.mean(axis=0)
    directions = np.linalg.eigh(points.T @ points)[1]
    thickness = np.ptp(points @ directions, axis=0).min()
    if thickness <= FLAT_THICKNESS:
        raise MeshError(f"{path}: the mesh is flat: no volume, so no inside; give a solid or a curved surface")


# -------------------------------------------------------------------------------------------------- orienting

# Points of each shell at which winding numbers are asked for.
SHELL_SAMPLES = 9
# Share of a shell's points that must lie within another for the shell to lie within it: some may touch it.
MOST_OF = 0.7
# Shells that are asked what lies within them, the largest first: the time grows with their square.
MOST_SHELLS = 20_000
# Open shells judged one by one, the largest first: each asks the whole mesh.
MOST_OPEN_SHELLS = 200
# Surface points from which the open shells are judged, as a set.
OPEN_SAMPLES = 500
# The set is inside out where at least this share of the points beside it has a winding number under -0.5 ...
OPEN_SET_INVERTED = 0.05
# ... and no more than this share of them as many over 0.5.
OPEN_SET_INSIDE = 0.1
# About so many triangles of an open shell are asked to judge it alone.
OPEN_SHELL_SAMPLES = 32
# It is inside out if the mean of its own winding number over its surface is under this: a closed inside-out
# shell has -0.5, a flat sheet 0.
OPEN_SHELL_INSIDE_OUT = -0.25
# Distance from the surface, as a share of the mesh's size, at which a point counts as just beside it: larger
# than the rounding of float32, smaller than any wall that can be fitted.
JUST_BELOW = 1e-5
# Points of a piece's surface at which its bodies are seen to touch without overlapping, and the share at which they
# must: beside a hole the winding number is a fraction.
TOUCH_SAMPLES, TOUCH_RIGHT = 500, 0.98
# Most pairs of points and triangles of a piece that is asked where its bodies touch: some seconds.
MOST_CROSSINGS = 10_000_000
# A shell of |volume| under this share of area^1.5 has no inside of its own (both sides of a sheet).
LEAST_VOLUME = 1e-9


@dataclass
class Shells:
    """Surfaces that are turned as one: triangles linked by edges, closed ones that only touch kept apart.

    label (F,) int: the shell of each face; closed (S,) bool; orientation (S,) int: 1 outward, -1 a void, 0
    open or without an inside of its own.
    """

    label: np.ndarray
    closed: np.ndarray
    orientation: np.ndarray


def _orient(vertices, faces, changes):
    """Make the winding of each shell consistent and turn inside-out shells outward, voids excepted.

    vertices: in the unit box. Returns faces, Shells, and the edges and inside-out bodies found.
    """
    edges = EdgeTable(faces)
    pairs, clash = edges.pairs()
    patch = _components(pairs[:, 0], pairs[:, 1], len(faces))
    turned = _flood(pairs, clash, patch, vertices[faces])
    oriented = _turn(faces, turned) if turned.any() else faces
    oriented_edges = EdgeTable(oriented) if turned.any() else edges
    further, further_clash = _pairs_of_solids(vertices, oriented, oriented_edges, patch)
    if len(further):
        pairs = np.concatenate([pairs, further])
        clashes = np.append(oriented_edges.pairs()[1], further_clash)
        patch, turned_again = _flood_solids(pairs, clashes, len(further), patch, vertices[oriented])
        turned ^= turned_again
        oriented = _turn(oriented, turned_again)
        oriented_edges = EdgeTable(oriented)
    label, closed = _join_patches(oriented_edges, patch)
    corners = vertices[oriented]
    # The open shells as one set first: they may hold the closed ones.
    flip = ~closed & _set_inside_out(corners[~closed[label]])
    corners = _turn(corners, flip[label])
    closed_flip, orientation = _inside_out(corners, label, closed, set_turned=flip.any())
    corners = _turn(corners, closed_flip[label])
    flip = flip ^ closed_flip ^ _open_inside_out(corners, label, closed)
    turned ^= flip[label]
    share = np.bincount(label, weights=turned) / np.bincount(label)
    _tell_turned(share, turned, label, changes)
    found = {
        "boundary_edges": int((edges.uses == 1).sum()),
        "non_manifold_edges": int((edges.uses > 2).sum()),
        "inconsistent_edges": int(clash.sum()),
        "inside_out_bodies": int((share == 1).sum()),
    }
    return _turn(faces, turned), Shells(label, closed, orientation), found


def _tell_turned(share, turned, shell, changes):
    if (share == 1).any():
        changes.append(f"Turned {counted((share == 1).sum(), 'inside-out body')} outward.")
    mixed = (share > 0) & (share < 1)
    if mixed.any():
        changes.append(
            f"Turned {counted((turned & mixed[shell]).sum(), 'triangle')} round to make the winding of "
            f"{counted(mixed.sum(), 'body')} consistent."
        )


def _turn(triples, mask):
    """Faces (F, 3) or corners (F, 3, 3) with the order of corners reversed at a mask (F,) or at indices."""
    turned = triples.copy()
    turned[mask] = triples[mask][:, [0, 2, 1]]
    return turned


def _flood(pairs, clash, patch, corners):
    """Which faces to turn so that neighbours agree: (F,) bool, the smaller part (by area) of each patch.

    pairs (P, 2) of neighbours, clash (P,) bool: they disagree now. Breadth-first over the patches with a
    clash; a patch that cannot be oriented (a Moebius strip) keeps some clashes.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import breadth_first_order

    turned = np.zeros(len(patch), dtype=bool)
    if not clash.any():
        return turned
    troubled = np.zeros(patch.max() + 1, dtype=bool)
    troubled[patch[pairs[clash, 0]]] = True
    nodes = np.flatnonzero(troubled[patch])
    place = np.full(len(patch), -1)
    place[nodes] = np.arange(len(nodes))
    chosen = troubled[patch[pairs[:, 0]]]
    first, second = place[np.sort(pairs[chosen], axis=1)].T
    single = np.unique(first * len(nodes) + second, return_index=True)[1]
    first, second, weight = first[single], second[single], clash[chosen][single] + 1
    # One node above one face of each patch: a single walk then visits them all.
    root = np.full(troubled.sum(), len(nodes))
    start = np.unique(patch[nodes], return_index=True)[1]
    size = len(nodes) + 1
    rows, columns = np.concatenate([first, second, root]), np.concatenate([second, first, start])
    graph = coo_matrix((np.concatenate([weight, weight, root * 0 + 1]), (rows, columns)), (size, size)).tocsr()
    parent = breadth_first_order(graph, len(nodes))[1]
    parent[-1] = len(nodes)
    parity = np.asarray(graph[parent[:-1], np.arange(len(nodes))]).ravel() == 2
    turned[nodes] = _parity_to_root(parent, np.append(parity, False))[:-1]
    areas = triangle_areas(corners)
    part = np.bincount(patch, weights=areas * turned)
    return turned ^ (troubled & (2 * part > np.bincount(patch, weights=areas)))[patch]


def _pairs_of_solids(vertices, faces, edges, patch):
    """Pairs of faces (P, 2) that bound one body at an edge with four uses or more, where bodies touch, and (P,) bool:
    both run along it the same way.

    vertices: in the unit box; faces: of one orientation within each patch (faces linked by edges with two uses). Around
    such an edge matter and air take turns, so one look at a wedge between two faces tells which wedges are matter: the
    two faces of each belong together. The look counts the crossings of a ray, which no orientation spoils. Edges with
    an odd number of uses, and with triangles of no area, say nothing; pieces of too many patches are left alone.
    """
    busy = (edges.uses > 2) & (edges.uses % 2 == 0)
    if not busy.any():
        return np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=bool)
    face, corner = np.nonzero(busy[edges.edge])
    edge, direction = edges.edge[face, corner], edges.direction[face, corner]
    angle, tie, flat = _angles_about(vertices, faces, face, corner)
    order = np.lexsort((tie, angle, edge))
    face, edge, direction, angle, flat = face[order], edge[order], direction[order], angle[order], flat[order]
    starts = np.flatnonzero(np.append(True, edge[1:] != edge[:-1]))
    uses = np.diff(np.append(starts, len(edge)))
    group = np.repeat(np.arange(len(starts)), uses)
    after = np.arange(1, len(edge) + 1)
    after[starts + uses - 1] = starts
    gap = angle[after] - angle + np.where(after <= np.arange(len(edge)), 2 * np.pi, 0.0)
    widest = np.lexsort((-gap, group))[starts]
    # The wedge behind a face is on the side of its normal where it runs along the edge from the smaller vertex.
    sides = _matter_beside(vertices, faces, edges, patch)[patch[face[widest]], (direction[widest] < 0).astype(int)]
    told = (sides >= 0) & (np.bincount(group, weights=flat) == 0)
    matter = (np.arange(len(edge)) - widest[group]) % 2 == 1 - sides[group]
    chosen = np.flatnonzero(matter & told[group])
    pairs = np.stack([face[chosen], face[after[chosen]]], axis=1)
    return pairs, direction[chosen] == direction[after[chosen]]


def _angles_about(vertices, faces, face, corner):
    """Of the edges from `corner` (H,) of `face` (H,): the angle of each face about its edge, an order among copies of
    one triangle, the same about all its edges, and whether the triangle is too flat to tell."""
    tail, head = faces[face, corner], faces[face, (corner + 1) % 3]
    start, end = vertices[np.minimum(tail, head)], vertices[np.maximum(tail, head)]
    axis = end - start
    length = np.linalg.norm(axis, axis=1)
    axis /= length[:, None]
    into = vertices[faces[face, (corner + 2) % 3]] - start
    into -= (into * axis).sum(axis=1)[:, None] * axis
    flat = np.linalg.norm(into, axis=1) <= SLIVER_HEIGHT * length
    # Angles from the direction in which the axis is least, so that they are the same for all faces of an edge.
    first = np.eye(3)[np.abs(axis).argmin(axis=1)]
    first -= (first * axis).sum(axis=1)[:, None] * axis
    angle = np.arctan2((into * cross(axis, first)).sum(axis=1), (into * first).sum(axis=1))
    corners = vertices[np.sort(faces[face], axis=1)]
    upward = (doubled_normals(corners) * cross(axis, into)).sum(axis=1) > 0
    # Of two copies the one that faces upward lies below, as in bodies that are right as they are.
    rank = face + _parity(faces)[face] * len(faces)
    return angle, np.where(upward, rank, -rank), flat


def _matter_beside(vertices, faces, edges, patch):
    """(patches, 2) int: whether matter lies in front of a patch and behind it, 1 or 0; -1 where nobody asked.

    Asked of the largest face of each patch, by the crossings of three rays with the patches that hang together with it,
    its piece. Only pieces in trouble are asked: their winding number has both signs, or faces where bodies touch run
    along an edge more often one way than the other. In the others bodies may overlap, and what two of them have in
    common would count as air.
    """
    count = patch.max() + 1
    result = np.full((count, 2), -1)
    several = (edges.uses > 2)[edges.edge].any(axis=1)
    owner = np.repeat(patch, 3)
    shared = (edges.uses > 2)[edges.edge.ravel()]
    piece = _components(owner[shared], count + edges.edge.ravel()[shared], count + len(edges.uses))[:count]
    areas = triangle_areas(vertices[faces])
    largest = np.lexsort((-areas, patch))
    largest = largest[np.unique(patch[largest], return_index=True)[1]]
    piece = np.unique(piece, return_inverse=True)[1]
    skew = ((edges.uses > 2) & (edges.uses % 2 == 0) & (edges.balance != 0))[edges.edge].any(axis=1)
    unbalanced = np.bincount(piece[patch], weights=skew) > 0
    faces_of, starts = _sort_by_shell(piece[patch])
    patches_of, first = _sort_by_shell(piece)
    touching = np.zeros(count, dtype=bool)
    touching[patch[several]] = True
    for number in range(len(starts) - 1):
        own = patches_of[first[number] : first[number + 1]]
        piece_faces = faces_of[starts[number] : starts[number + 1]]
        if not touching[own].all() or 2 * len(own) * len(piece_faces) > MOST_CROSSINGS:
            continue
        corners, asked = vertices[faces[piece_faces]], vertices[faces[largest[own]]]
        points = np.concatenate([_beside(asked, JUST_BELOW), _beside(asked, -JUST_BELOW)])
        winding = _winding_number(points, corners)
        if unbalanced[number] or (winding.min() < -0.5 and winding.max() > 0.5):
            result[own] = _is_odd(points, corners).reshape(2, -1).T
    return result


def _is_odd(points, corners):
    """(N,) bool: rays from points cross triangles (F, 3, 3) an odd number of times, by most of three rays."""
    odd = np.zeros(len(points), dtype=int)
    edge_b, edge_c = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    step = max(1, WINDING_CHUNK // max(1, len(corners)))
    for ray in np.random.default_rng(0).normal(size=(3, 3)):
        across = cross(np.broadcast_to(ray, edge_c.shape), edge_c)
        scale = (across * edge_b).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            for start in range(0, len(points), step):
                seen = points[start : start + step, None] - corners[None, :, 0]
                u = np.einsum("nfk,fk->nf", seen, across) / scale
                turned = np.cross(seen, edge_b)
                v = turned @ ray / scale
                far = np.einsum("nfk,fk->nf", turned, edge_c) / scale
                odd[start : start + step] += ((u >= 0) & (v >= 0) & (u + v <= 1) & (far > 0)).sum(axis=1) % 2
    return odd >= 2


def _flood_solids(pairs, clash, further, patch, corners):
    """As `_flood`, over all pairs, the last `further` of which are those of bodies that touch: (patch, turned) by face.

    patch (F,): without the further pairs. Where a piece cannot be turned one way with its further pairs, or is not made
    of bodies that touch and nowhere overlap then, it is as it was without them.
    """
    usable = np.ones(len(pairs), dtype=bool)
    piece = _components(patch[pairs[:, 0]], patch[pairs[:, 1]], patch.max() + 1)[patch]
    for _ in range(2):
        patch = _components(pairs[usable, 0], pairs[usable, 1], len(corners))
        turned = _flood(pairs[usable], clash[usable], patch, corners)
        left = usable & (clash ^ turned[pairs[:, 0]] ^ turned[pairs[:, 1]])
        bad = np.zeros(piece.max() + 1, dtype=bool)
        bad[piece[pairs[left, 0]]] = True
        for number in np.unique(piece[pairs[-further:][usable[-further:], 0]]):
            own = np.flatnonzero(piece == number)
            bad[number] |= not _bodies_only_touch(_turn(corners[own], turned[own]), patch[own])
        if not bad[piece[pairs[-further:][usable[-further:], 0]]].any():
            break
        usable[-further:] &= ~bad[piece[pairs[-further:, 0]]]
    return patch, turned


def _bodies_only_touch(corners, label):
    """Whether faces (F, 3, 3), each body of a label turned outward, have matter once behind them, never twice or less
    than once anywhere beside them."""
    label = np.unique(label, return_inverse=True)[1]
    corners = _turn(corners, (_volumes(corners, label) < 0)[label])
    areas, generator = triangle_areas(corners), np.random.default_rng(0)
    chosen = corners[generator.choice(len(corners), TOUCH_SAMPLES, p=areas / areas.sum())]
    weights = generator.dirichlet(np.ones(3), TOUCH_SAMPLES)
    points, aside = np.einsum("nk,nkd->nd", weights, chosen), JUST_BELOW * unit_normals(chosen)
    winding = _winding_number(np.concatenate([points - aside, points + aside]), corners)
    behind, before = winding[:TOUCH_SAMPLES], winding[TOUCH_SAMPLES:]
    right = (behind > 0.5) & (behind < 1.5) & (before > -0.5) & (before < 1.5)
    return right.mean() > TOUCH_RIGHT


def _parity_to_root(parent, parity):
    """Sum modulo 2 of parity along the way from each node to the root, by doubling the stride."""
    while (parent[parent] != parent).any():
        parity = parity ^ parity[parent]
        parent = parent[parent]
    return parity


def _join_patches(edges, patch):
    """Join patches (faces linked by edges with two uses) to shells: label (F,) and closed (S,) bool.

    A patch that is closed by itself is a shell; the others are joined over the edges that they share.
    """
    unfinished = _unbalanced(edges, patch)
    count, face_mask = patch.max() + 1, unfinished[patch]
    shared = edges.edge[face_mask]
    owner = np.repeat(patch[face_mask], 3)
    several = (edges.uses > 2)[shared.ravel()]
    joined = _components(owner[several], count + shared.ravel()[several], count + len(edges.uses))[:count]
    shell = np.unique(joined, return_inverse=True)[1][patch]
    return shell, ~_unbalanced(edges, shell)


def _unbalanced(edges, label):
    """(L,) bool: the faces with this label use some edge more often in one direction than in the other."""
    # An edge with two uses lies within one label; only the others need to be counted label by label.
    plain = (edges.uses == 2) & (edges.balance == 0)
    face, corner = np.nonzero(~plain[edges.edge])
    key = label[face] * len(edges.uses) + edges.edge[face, corner]
    unique, number = np.unique(key, return_inverse=True)
    balance = np.bincount(number, weights=edges.direction[face, corner])
    result = np.zeros(label.max() + 1, dtype=bool)
    result[unique[balance != 0] // len(edges.uses)] = True
    return result


def _volumes(corners, label):
    """Signed volume (S,) of each shell about its own centre, 0 where it is a rounding of its area."""
    count, faces = label.max() + 1, np.bincount(label)
    middle = corners.mean(axis=1)
    center = np.stack([np.bincount(label, weights=middle[:, k]) / faces for k in range(3)], axis=1)
    local = corners - center[label][:, None]
    wedge = np.einsum("ij,ij->i", local[:, 0], cross(local[:, 1], local[:, 2])) / 6
    volume = np.bincount(label, weights=wedge, minlength=count)
    area = np.bincount(label, weights=triangle_areas(corners), minlength=count)
    return np.where(np.abs(volume) > LEAST_VOLUME * area**1.5, volume, 0.0)


def _inside_out(corners, label, closed, set_turned):
    """Which closed shells to turn: flip (S,) bool, and orientation (S,) after it, as in Shells.

    From the outermost inward: a shell of negative volume stays as it is (a void) where the shells around it,
    as turned so far, give a winding number over 0.5; else it is turned. Directly within a shell that was
    turned, both readings of the file (the whole of it inside out; the outer shell alone) make the inner one
    its opposite (in a solid a void, in a void a solid), so that is what it becomes. set_turned: the open
    shells were turned.
    """
    volume = np.where(closed, _volumes(corners, label), 0.0)
    flip, orientation = np.zeros(len(closed), dtype=bool), np.sign(volume).astype(int)
    if (volume >= 0).all() and not set_turned:
        return flip, orientation
    around, in_open = _containers(corners, label, volume), _within_open(corners, label, closed)
    for inner in sorted(around, key=lambda shell: -abs(volume[shell])):
        outer = around[inner]
        parent = min(outer, key=lambda shell: abs(volume[shell]), default=None)
        if parent is not None and flip[parent]:
            flip[inner] = orientation[inner] == orientation[parent]
        elif parent is None and set_turned and in_open[inner]:
            flip[inner] = orientation[inner] > 0
        elif volume[inner] < 0:
            flip[inner] = orientation[outer].sum() + in_open[inner] <= 0
        orientation[inner] *= -1 if flip[inner] else 1
    return flip, orientation


def _containers(corners, label, volume):
    """{shell: array of the closed shells that it lies wholly within}, for every shell that has a volume."""
    solid = np.flatnonzero(volume)
    solid = solid[np.argsort(-np.abs(volume[solid]))]
    low, high = _boxes(corners, label)
    order, starts = _sort_by_shell(label)
    face, owner = _sample_faces(label, SHELL_SAMPLES)
    first_asked, asked_of = np.searchsorted(owner, np.arange(len(volume) + 1)), np.bincount(owner)
    around = {int(inner): [] for inner in solid}
    for position, outer in enumerate(solid[:MOST_SHELLS]):
        smaller = solid[position + 1 :]
        inner = smaller[(low[smaller] >= low[outer]).all(axis=1) & (high[smaller] <= high[outer]).all(axis=1)]
        if not len(inner):
            continue
        asked = np.concatenate([np.arange(first_asked[i], first_asked[i + 1]) for i in inner])
        points, shell = corners[face[asked]].mean(axis=1), corners[order[starts[outer] : starts[outer + 1]]]
        within = np.abs(_winding_number(points, shell)) > 0.5
        count = np.bincount(owner[asked], weights=within, minlength=len(volume))
        for index in inner[count[inner] > MOST_OF * asked_of[inner]]:
            around[int(index)].append(int(outer))
    return {inner: np.array(outer, dtype=int) for inner, outer in around.items()}


def _within_open(corners, label, closed):
    """(S,) bool: the winding number of the open shells together is over 0.5 on most of a closed shell."""
    face, owner = _sample_faces(label, SHELL_SAMPLES)
    asked = closed[owner]
    if closed.all() or not asked.any():
        return np.zeros(len(closed), dtype=bool)
    within = _winding_number(corners[face[asked]].mean(axis=1), corners[~closed[label]]) > 0.5
    return np.bincount(owner[asked], weights=within, minlength=len(closed)) > MOST_OF * np.bincount(owner)


def _boxes(corners, label):
    """Lowest and highest corner (S, 3) of the box about each shell."""
    low, high = np.full((label.max() + 1, 3), np.inf), np.full((label.max() + 1, 3), -np.inf)
    np.minimum.at(low, label, corners.min(axis=1))
    np.maximum.at(high, label, corners.max(axis=1))
    return low, high


def _sort_by_shell(label):
    """Faces ordered by shell, and the place (S + 1,) where each shell's faces start."""
    return np.argsort(label, kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(label))])


def _sample_faces(label, count):
    """At most count faces of each shell, evenly spread in the order of the file: (faces, their shells), by shell."""
    order, starts = _sort_by_shell(label)
    steps = (np.arange(count) + 0.5) / count
    chosen = starts[:-1, None] + np.floor(steps * np.diff(starts)[:, None]).astype(np.int64)
    face = order[np.unique(chosen.ravel())]
    return face, label[face]


def _set_inside_out(corners):
    """Open triangles (F, 3, 3) as one set: beside them much lies under -0.5, next to nothing over 0.5.

    As one set, since the patches of a surface that was not sewn are often flat or seen from within, and say
    nothing alone. A soup of random triangles has as much over 0.5, so it stays as it is.
    """
    areas = triangle_areas(corners)
    if not areas.any():
        return False
    chosen = corners[np.random.default_rng(0).choice(len(corners), OPEN_SAMPLES, p=areas / areas.sum())]
    beside = np.concatenate([_beside(chosen, JUST_BELOW), _beside(chosen, -JUST_BELOW)])
    winding = _winding_number(beside, corners)
    inside, inverted = (winding > 0.5).mean(), (winding < -0.5).mean()
    return bool(inverted > OPEN_SET_INVERTED and inside < OPEN_SET_INSIDE * inverted)


def _open_inside_out(corners, label, closed):
    """Which open shells to turn one by one: (S,) bool, nearly closed, inside out, no void in the others."""
    flip = np.zeros(len(closed), dtype=bool)
    order, starts = _sort_by_shell(label)
    sizes = np.diff(starts) * ~closed
    largest = np.argsort(-sizes, kind="stable")[:MOST_OPEN_SHELLS]
    for shell in largest[sizes[largest] > 3]:
        own = order[starts[shell] : starts[shell + 1]]
        asked = corners[own[:: max(1, len(own) // OPEN_SHELL_SAMPLES)]]
        weights = np.maximum(triangle_areas(asked), np.finfo(float).tiny)
        alone = _surface_winding(asked, corners[own])
        if np.average(alone, weights=weights) >= OPEN_SHELL_INSIDE_OUT:
            continue
        others = _surface_winding(asked, corners) - alone
        if np.average(others, weights=weights) <= 0.5:
            flip[shell] = True
            corners = _turn(corners, own)
    return flip


def _surface_winding(asked, corners):
    """Winding number of triangles (F, 3, 3) on the triangles asked (N, 3, 3): the mean of both sides."""
    both = _winding_number(np.concatenate([_beside(asked, JUST_BELOW), _beside(asked, -JUST_BELOW)]), corners)
    return both.reshape(2, -1).mean(axis=0)


def _beside(corners, distance):
    """Points (N, 3) at a distance from the middle of triangles (N, 3, 3), along their normals."""
    return corners.mean(axis=1) + distance * unit_normals(corners)


# ------------------------------------------------------------------------------------------------ normalising

# A point counts as within a bounding sphere if it is outside by less than this share of the radius: a few
# roundings.
SPHERE_TOLERANCE = 1e-12


def _bounding_transform(vertices):
    """The Transform that takes the smallest sphere about (V, 3) vertices to the origin and DOMAIN_RADIUS."""
    center, radius = bounding_sphere(vertices)
    return Transform(center, DOMAIN_RADIUS / radius)


def bounding_sphere(points):
    """Smallest sphere about (N, 3) float64 points: center (3,) and radius, in the points' units.

    The farthest point outside the present sphere enters its support until none is left: the pivoting of
    Gaertner, "Fast and robust smallest enclosing balls" (1999). Points far from the origin, tiny or huge are
    scaled to a unit box first.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    middle, extent = low + (high - low) / 2, float((high - low).max()) or 1.0
    local = (points - middle) / extent
    center, squared = np.zeros(3), -1.0
    support = local[:0]
    while True:  # in practice about ten rounds; the sphere grows in each, so it cannot circle
        distances = ((local - center) ** 2).sum(axis=1)
        farthest = int(distances.argmax())
        if distances[farthest] <= squared * (1 + SPHERE_TOLERANCE):
            break
        support, center, grown = _smallest_sphere(np.vstack([support, local[farthest]]))
        if grown <= squared:
            break
        squared = grown
    center = center * extent + middle
    # Over the extent, so that squares of tiny and huge lengths stay finite.
    return center, float(np.sqrt((((points - center) / extent) ** 2).sum(axis=1).max()) * extent)


def _smallest_sphere(points):
    """Smallest sphere of up to five points by trying all subsets: (points on it, center, squared radius)."""
    best = None
    for size in range(1, min(len(points), 4) + 1):
        for subset in map(list, combinations(range(len(points)), size)):
            center = _circumcenter(points[subset])
            # To all points, not to the subset: the smallest sphere is the one about the best of these
            # centers, and no tolerance is needed to tell which subset it belongs to.
            squared = ((points - center) ** 2).sum(axis=1).max()
            if best is None or squared < best[2]:
                best = points[subset], center, squared
    return best


def _circumcenter(points):
    """The point at equal distance from 1 to 4 points that lies in their affine hull."""
    edges = points[1:] - points[0]
    if len(edges) == 0:
        return points[0]
    weights = np.linalg.lstsq(2 * edges @ edges.T, (edges**2).sum(axis=1), rcond=None)[0]
    return points[0] + weights @ edges


# -------------------------------------------------------------------------------------------------- measuring

# Surface points that are asked for the thickness below them, and the share of them that may be thinner than
# the answer.
THICKNESS_SAMPLES = 4000
THICKNESS_PERCENTILE = 1.0
# The wall across counts as the other side of a feature if the ray leaves it within 37 degrees of its normal: not the
# other flank of an edge with a chamfer of 45 degrees.
OPPOSITE_COSINE = 0.8
# Share of rays that must find an opposite wall for the answer to mean something.
LEAST_RAYS_ANSWERED = 0.05


def _thinnest_feature(vertices, faces, tangled):
    """An estimate of the thinnest wall, in the units of the vertices; None if few points have one.

    From points uniform on the surface a ray goes inward along the normal to the first wall; the percentile of
    the lengths to walls that face the other way. Cost: a tree over the triangles and a fixed number of rays.
    Features on less than the percentile of the area go unseen. tangled: shells overlap or are open, so that a
    ray may begin or end within the material; the others are then left out.
    """
    import igl

    corners = vertices[faces]
    areas = triangle_areas(corners)
    chosen = corners[np.random.default_rng(0).choice(len(faces), THICKNESS_SAMPLES, p=areas / areas.sum())]
    inward = -unit_normals(chosen)
    weights = np.random.default_rng(1).dirichlet([1, 1, 1], THICKNESS_SAMPLES)
    surface = np.einsum("nk,nkj->nj", weights, chosen)
    tree = igl.AABB()
    tree.init(vertices, faces)
    hit, length, _ = tree.intersect_ray_first(vertices, faces, surface + JUST_BELOW * inward, inward)
    # A ray that hits nothing has the number -1, so some face, but the mask passes over it.
    across = np.einsum("ij,ij->i", inward, unit_normals(corners[hit]))
    opposite = (hit >= 0) & (across > OPPOSITE_COSINE)
    surface, inward, length = surface[opposite], inward[opposite], length[opposite] + JUST_BELOW
    if tangled:
        beyond = surface + (length[:, None] + JUST_BELOW) * inward
        both = _winding_number(np.concatenate([beyond, surface - JUST_BELOW * inward]), corners)
        length = length[(both.reshape(2, -1) <= 0.5).all(axis=0)]
    if len(length) < LEAST_RAYS_ANSWERED * THICKNESS_SAMPLES:
        return None
    return float(np.percentile(length, THICKNESS_PERCENTILE))


# Points asked in all, to find bodies that overlap.
OVERLAP_SAMPLES = 20_000


def _overlapping_shells(corners, shells):
    """Pairs of closed outward shells that share volume, counted from below: an estimate of bounded cost.

    From each shell some points just below its surface; where the winding number of all closed shells together
    is 2 or more, the shells whose box the point lies in are asked one by one. An overlap that holds none of
    the points (a thin bar through a plate, between two samples) goes unseen. Voids do not overlap what they
    are hollowed out of.
    """
    solid = np.flatnonzero(shells.orientation > 0)
    if len(solid) < 2:
        return 0
    face, owner = _sample_faces(shells.label, max(1, min(64, OVERLAP_SAMPLES // len(shells.closed))))
    asked = shells.orientation[owner] > 0
    points, owner = _beside(corners[face[asked]], -JUST_BELOW), owner[asked]
    deep = _winding_number(points, corners[shells.closed[shells.label]]) > 1.5
    points, owner = points[deep], owner[deep]
    if not len(points):
        return 0
    pairs, (low, high), (order, starts) = set(), _boxes(corners, shells.label), _sort_by_shell(shells.label)
    for other in solid[:MOST_SHELLS]:
        near = (owner != other) & ((points >= low[other]) & (points <= high[other])).all(axis=1)
        if near.any():
            own = corners[order[starts[other] : starts[other + 1]]]
            within = _winding_number(points[near], own) > 0.5
            pairs |= {(int(min(a, other)), int(max(a, other))) for a in owner[near][within]}
    return len(pairs)


# ---------------------------------------------------------------------------------------------------- winding

# Point-triangle pairs evaluated at a time: their temporaries (some 30 MB) stay near the processor.
WINDING_CHUNK = 1 << 17
# Point-triangle pairs up to which the exact sum is taken where only "over 0.5" is asked: about a third of a
# second.
MOST_EXACT_PAIRS = 4_000_000


def solid_angle_winding_number(points, triangles):
    """Exact generalised winding number by summing solid angles, in float64; the slow truth.

    points: (N, 3); triangles: (F, 3, 3) corner positions in the same units. Returns (N,) float64: the signed
    solid angle of all triangles seen from each point over 4 pi; 1 within an outward closed body, 0 outside
    it. Time grows with N * F. ValueError for other shapes. Source: van Oosterom and Strackee, "The solid
    angle of a plane triangle" (1983).
    """
    points = np.asarray(points, dtype=np.float64)
    triangles = np.asarray(triangles, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 3 or triangles.shape[1:] != (3, 3):
        raise ValueError(f"expected points (N, 3) and triangles (F, 3, 3), got {points.shape} and {triangles.shape}")
    total = np.zeros(len(points))
    face_step = min(max(len(triangles), 1), WINDING_CHUNK)
    point_step = max(1, WINDING_CHUNK // face_step)
    for i in range(0, len(points), point_step):
        for j in range(0, len(triangles), face_step):
            total[i : i + point_step] += _solid_angles(points[i : i + point_step], triangles[j : j + face_step])
    return total / (4 * np.pi)


def _solid_angles(points, triangles):
    """(N,) signed solid angles in steradians of all F triangles seen from each of N points."""
    seen = [[triangles[:, k, axis] - points[:, axis, None] for axis in range(3)] for k in range(3)]
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = seen
    a, b, c = (np.sqrt(x * x + y * y + z * z) for x, y, z in seen)
    triple = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    lower = a * b * c + (ax * bx + ay * by + az * bz) * c
    lower += (bx * cx + by * cy + bz * cz) * a + (cx * ax + cy * ay + cz * az) * b
    return 2 * np.arctan2(triple, lower).sum(axis=1)


def _winding_number(points, triangles):
    """As `solid_angle_winding_number`; where that is slow to about 0.01 (Barill et al. 2018, libigl)."""
    if len(points) * len(triangles) <= MOST_EXACT_PAIRS:
        return solid_angle_winding_number(points, triangles)
    import igl

    return igl.fast_winding_number(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3), points)
