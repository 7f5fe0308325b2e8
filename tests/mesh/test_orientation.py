"""Consistent winding, inside-out shells, voids, open shells, and bodies that touch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralparts.mesh import solid_angle_winding_number
from neuralparts.mesh.topology import corner_parity
from tests.meshes import box, directed_edge_balance, loaded, pierced, sphere, together, winding_at

# ----------------------------------------------------------------------------------------- consistent winding


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_any_flipped_faces_are_flipped_back(tmp_path_factory, seed, fraction):
    vertices, faces = together(sphere(1), sphere(1, 0.5, (3, 0, 0)))
    flipped = np.random.default_rng(seed).random(len(faces)) < fraction
    damaged = np.where(flipped[:, None], faces[:, ::-1], faces)
    mesh = loaded(tmp_path_factory.mktemp("flipped"), vertices, damaged)
    assert mesh.closed and mesh.diagnosis["void_bodies"] == 0
    assert (np.sort(mesh.faces, axis=1) == np.sort(faces, axis=1)).all()
    assert (corner_parity(mesh.faces) == corner_parity(faces)).all()


def test_open_sheet_keeps_the_side_of_most_of_it(tmp_path):
    x, y = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8), indexing="ij")
    vertices = np.stack([x, y, x * x - y * y], axis=-1).reshape(-1, 3)
    corner = (8 * np.arange(7)[:, None] + np.arange(7)).reshape(-1, 1)
    sheet = np.concatenate([corner + np.array([0, 8, 9]), corner + np.array([0, 9, 1])])
    for faces in (sheet, sheet[:, ::-1].copy()):
        damaged = faces.copy()
        damaged[[0, 1, 20, 60]] = damaged[[0, 1, 20, 60]][:, ::-1]
        mesh = loaded(tmp_path, vertices, damaged)
        assert (corner_parity(mesh.faces) == corner_parity(faces)).all()
        assert any("Flipped 4 triangles" in change for change in mesh.diagnosis["changes"])


def test_soup_has_no_side_to_flip(tmp_path):
    generator = np.random.default_rng(1)
    vertices, faces = generator.uniform(-1, 1, (240, 3)), np.arange(240).reshape(-1, 3)
    for soup in (faces, faces[:, ::-1]):
        mesh = loaded(tmp_path, vertices, soup)
        assert mesh.diagnosis["inside_out_bodies"] == 0 and len(mesh.faces) == 80


def test_one_flipped_face_is_reported(tmp_path):
    vertices, faces = box()
    faces[5] = faces[5, ::-1]
    mesh = loaded(tmp_path, vertices, faces)
    assert mesh.closed and mesh.diagnosis["inconsistent_edges"] == 3
    assert mesh.diagnosis["inside_out_bodies"] == 0
    assert any("Flipped 1 triangle " in change for change in mesh.diagnosis["changes"])
    assert winding_at(mesh, [0, 0, 0])[0] == pytest.approx(1)


def test_moebius_strip_cannot_be_oriented(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    along = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    across = np.stack([np.cos(angle / 2) * along[:, 0], np.cos(angle / 2) * along[:, 1], np.sin(angle / 2)], axis=1)
    vertices = np.stack([along - 0.3 * across, along + 0.3 * across], axis=1).reshape(-1, 3)
    faces = []
    for i in range(40):
        a, b = 2 * i, 2 * i + 1
        c, d = ((2 * i + 2), (2 * i + 3)) if i < 39 else (1, 0)
        faces += [[a, c, b], [b, c, d]]
    mesh = loaded(tmp_path, vertices, np.array(faces))
    assert not mesh.closed and mesh.diagnosis["sign_method"] == "generalised winding number"


# ---------------------------------------------------------------------------------------------- closed shells

# Shells from the outside inward, + outward and - inward as in the file; the winding numbers wanted between them.
NESTED = {
    "+": [1],
    "-": [1],
    "++": [1, 2],
    "+-": [1, 0],
    "-+": [1, 0],
    "--": [1, 0],
    "+-+": [1, 0, 1],
    "-+-": [1, 0, 1],
    "+--": [1, 0, 1],
    "++-": [1, 2, 1],
    "+-+-": [1, 0, 1, 0],
    "-+-+": [1, 0, 1, 0],
}


@pytest.mark.parametrize("signs", NESTED)
@pytest.mark.parametrize("order", [1, -1])
def test_nested_shells(tmp_path, signs, order):
    sizes = 4.0 - np.arange(len(signs))
    shells = [box(size=size, inside_out=sign == "-") for size, sign in zip(sizes, signs, strict=True)]
    mesh = loaded(tmp_path, *together(*shells[::order]))
    between = np.stack([sizes / 2 - 0.25, 0 * sizes, 0 * sizes], axis=1)
    assert mesh.closed and directed_edge_balance(mesh.faces)
    assert np.allclose(winding_at(mesh, between), NESTED[signs], atol=1e-9)
    steps = np.diff([0, *NESTED[signs]])
    assert mesh.diagnosis["void_bodies"] == (steps < 0).sum()
    assert mesh.diagnosis["inside_out_bodies"] == sum(
        (step > 0) != (sign == "+") for step, sign in zip(steps, signs, strict=True)
    )


def test_inside_out_bodies_side_by_side(tmp_path):
    mesh = loaded(tmp_path, *together(box(inside_out=True), box((3, 0, 0)), box((6, 0, 0), inside_out=True)))
    assert mesh.diagnosis["inside_out_bodies"] == 2
    assert np.allclose(winding_at(mesh, [[0, 0, 0], [3, 0, 0], [6, 0, 0]]), 1)
    assert any("Flipped 2 inside-out bodies" in change for change in mesh.diagnosis["changes"])


def test_inside_out_body_that_pokes_out_of_another_is_no_void(tmp_path):
    mesh = loaded(tmp_path, *together(box(size=2), box((1, 0, 0), inside_out=True)))
    assert np.allclose(winding_at(mesh, [[-0.5, 0, 0], [0.75, 0, 0], [1.25, 0, 0]]), [1, 2, 1])


# ----------------------------------------------------------------------------------------- bodies that touch


def row(inside_out=()):
    """Three boxes in a row, each sharing a face with the next; those numbered in `inside_out` are inverted."""
    return together(*[box((k, 0, 0), inside_out=k in inside_out) for k in range(3)])


@pytest.mark.parametrize("inside_out", [(), (0, 1, 2)])
def test_bodies_that_share_faces_are_flipped_as_one(tmp_path, inside_out):
    mesh = loaded(tmp_path, *row(inside_out), suffix=".stl")
    assert mesh.closed and np.allclose(winding_at(mesh, [[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 0, 9]]), [1, 1, 1, 0])


def test_inside_out_body_that_shares_faces_with_others_stays_inside_out(tmp_path):
    """A known limit: bodies that share faces are one shell, so the one inverted body keeps the winding number -1."""
    mesh = loaded(tmp_path, *row(inside_out=(1,)), suffix=".stl")
    assert mesh.closed and np.allclose(winding_at(mesh, [[0, 0, 0], [1, 0, 0], [2, 0, 0]]), [1, -1, 1])
    assert mesh.diagnosis["inside_out_bodies"] == 0


def test_inside_out_body_that_touches_another_along_an_edge_is_flipped(tmp_path):
    mesh = loaded(tmp_path, *together(box(), box((1, 1, 0), inside_out=True)), suffix=".stl")
    assert mesh.closed and mesh.diagnosis["non_manifold_edges"] == 1
    assert np.allclose(winding_at(mesh, [[0, 0, 0], [1, 1, 0], [0, 1, 0]]), [1, 1, 0], atol=1e-9)


@pytest.mark.parametrize("missing", [0, 1])
def test_bodies_that_overlap_and_share_an_edge_unite(tmp_path, missing):
    """A plate and a rib that stands in it, flush at one side; perhaps a triangle of the plate is missing."""
    plate, rib = box((5, 3, 0.5), (10, 6, 1)), box((5, 0.5, 2.5), (10, 1, 5))
    mesh = loaded(tmp_path, *together((plate[0], plate[1][missing:]), rib), suffix=".stl")
    winding = winding_at(mesh, [[5, 5, 0.5], [5, 0.5, 0.5], [5, 0.5, 3], [5, 5, 3]])
    assert (np.abs(winding - [1, 2, 1, 0]) < 0.45).all()  # beside a hole a fraction


def test_boxes_of_whole_numbers_are_never_worse_than_in_the_file(tmp_path):
    """Three boxes that touch or overlap in any way, one of them inverted: the inside is right at least as often as by
    the winding of the file."""
    generator, worse = np.random.default_rng(0), 0
    for _ in range(40):
        low = generator.integers(0, 4, (3, 3))
        pieces = [(start, start + generator.integers(1, 4, 3)) for start in low]
        inverted = generator.integers(3)
        shapes = [box((a + b) / 2, b - a, inside_out=k == inverted) for k, (a, b) in enumerate(pieces)]
        mesh = loaded(tmp_path, *together(*shapes), suffix=".stl")
        points = generator.uniform(0, 7, (200, 3))
        truth = np.any([((points > a) & (points < b)).all(axis=1) for a, b in pieces], axis=0)
        as_in_the_file = solid_angle_winding_number(points, np.concatenate([v[f] for v, f in shapes])) > 0.5
        wrong = (winding_at(mesh, points) > 0.5) != truth
        worse += wrong.sum() > (as_in_the_file != truth).sum()
    assert worse == 0


def test_balanced_edges_not_two_faces_make_a_mesh_closed(tmp_path):
    vertices, faces = together(box(), box((1, 0, 0)))
    assert loaded(tmp_path, vertices, faces).closed
    assert not loaded(tmp_path, vertices, faces[:-1]).closed


# ------------------------------------------------------------------------------------------------ open shells


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_void_in_an_open_shell(tmp_path, outer, inner):
    mesh = loaded(tmp_path, *together(pierced(outer), box(inside_out=inner)))
    winding = winding_at(mesh, [[0.75, 0.1, 0.1], [0, 0.1, 0.1]])
    assert not mesh.closed and winding[0] == pytest.approx(1, abs=0.1)
    # Only two outward shells are a union; each of the others has a reading with a void.
    assert winding[1] == pytest.approx(0 if outer or inner else 2, abs=0.1)


def test_inside_out_open_mesh_is_flipped(tmp_path):
    for vertices, faces in (pierced(True), sphere(3)):
        faces = faces[vertices[faces][:, :, 2].max(axis=1) < 0.6]
        winding = solid_angle_winding_number(np.zeros((1, 3)), vertices[faces])[0]
        outward = faces if winding > 0 else faces[:, ::-1]
        for given_faces, count in ((outward, 0), (outward[:, ::-1], 1)):
            mesh = loaded(tmp_path, vertices, given_faces)
            assert mesh.diagnosis["inside_out_bodies"] == count and not mesh.closed
            assert winding_at(mesh, [0, 0, 0])[0] > 0.5


def test_surface_that_was_not_sewn(tmp_path):
    # A tube of six separate patches; the patches of the bore are seen from within, which is right. Gaps all round.
    import trimesh

    outer = trimesh.creation.cylinder(radius=2, height=6, sections=64)
    bore = trimesh.creation.cylinder(radius=0.5, height=6, sections=64)
    gap = 1e-3
    side = [np.abs(part.face_normals[:, 2]) < 0.5 for part in (outer, bore)]
    lids = trimesh.creation.annulus(r_min=0.5, r_max=2 - gap, height=6 - gap, sections=64)
    lid_faces = lids.faces[np.abs(lids.face_normals[:, 2]) > 0.5]
    patches = [
        (np.asarray(outer.vertices), outer.faces[side[0]]),
        (np.asarray(bore.vertices) * [1 - gap, 1 - gap, 1], bore.faces[side[1]][:, ::-1]),
        (np.asarray(lids.vertices), lid_faces),
    ]
    vertices, faces = together(*patches)
    for given_faces in (faces, faces[:, ::-1]):
        mesh = loaded(tmp_path, vertices, given_faces)
        winding = winding_at(mesh, [[1.2, 0.1, 0], [0.1, 0, 0], [3, 0, 0]])
        assert np.allclose(winding, [1, 0, 0], atol=0.05)


def test_nested_solids_that_overlap_others_are_judged_by_all_shells_around_them(tmp_path):
    """A chain of inside-out bodies lies where two boxes overlap; two more lie in one box, and in neither."""
    solids = [box(size=4), box(center=(3, 0, 0), size=3.9)]
    inner = [box(center=(1.6, 0, 0), size=0.4 - 0.05 * k, inside_out=True) for k in range(4)]
    alone = [box(center=(-1, 0, 0), size=0.3, inside_out=True), box(center=(9, 0, 0), size=0.3, inside_out=True)]
    mesh = loaded(tmp_path, *together(*solids, *inner, *alone))
    # Of the chain the first two bodies are voids in two solids; around the third nothing is left, so it is flipped.
    assert winding_at(mesh, [(1.6, 0, 0.19), (1.6, 0, 0.16), (1.6, 0, 0.14), (1.6, 0, 0)]).round().tolist() == [
        1,
        0,
        1,
        0,
    ]
    assert winding_at(mesh, [(-1, 0, 0), (9, 0, 0)]).round().tolist() == [0, 1]
    assert mesh.diagnosis["inside_out_bodies"] == 2
