"""Slivers, duplicates and fins go if that opens nothing; faces that bound something stay."""

from itertools import pairwise

import numpy as np
import pytest

from tests.meshes import box, loaded, sphere, together, winding_at

# ---------------------------------------------------------------------------------------------------- slivers


def t_junction():
    """A box whose bottom is split at the middle of an edge, closed there by a sliver of no area."""
    vertices, faces = box()
    vertices = np.vstack([vertices, (vertices[0] + vertices[1]) / 2])
    bottom = [[0, 2, 8], [8, 2, 1], [1, 2, 3]]  # 0-8-1 is straight; the side 0, 1, 4 has the whole edge
    return vertices, np.concatenate([bottom, faces[2:], [[0, 8, 1]]])


def test_sliver_that_closes_a_t_junction_stays(tmp_path):
    vertices, faces = t_junction()
    mesh = loaded(tmp_path, vertices, faces)
    assert mesh.closed and len(mesh.faces) == 14 and mesh.diagnosis["degenerate_triangles"] == 1
    without = loaded(tmp_path, vertices, faces[:-1])
    assert not without.closed and without.diagnosis["boundary_edges"] == 3


def test_sliver_that_closes_nothing_goes(tmp_path):
    vertices, faces = box()
    loose = (np.array([[2, 0, 0], [2.5, 0, 0], [3, 0, 0.0]]), np.array([[0, 1, 2]]))
    mesh = loaded(tmp_path, *together((vertices, faces), loose))
    assert mesh.closed and len(mesh.faces) == 12 and len(mesh.vertices) == 8


# ------------------------------------------------------------------------------------------------- duplicates


@pytest.mark.parametrize("copies", [[0], [0, 1], [4, 4, 7], list(range(12)), [*range(12), *range(12)]])
def test_doubled_triangles_become_single(tmp_path, copies):
    vertices, faces = box()
    mesh = loaded(tmp_path, vertices, np.concatenate([faces, faces[copies]]))
    assert mesh.closed and len(mesh.faces) == 12
    assert mesh.diagnosis["duplicate_triangles"] == len(copies)
    assert winding_at(mesh, [0, 0, 0])[0] == pytest.approx(1)


def test_doubled_with_the_copy_reversed(tmp_path):
    vertices, faces = box()
    # One back side too many: a repair. All back sides: the box was written from both sides.
    for copies in ([3], range(12)):
        mesh = loaded(tmp_path, vertices, np.concatenate([faces[:, ::-1][list(copies)], faces]))
        assert mesh.closed and len(mesh.faces) == 12
        assert winding_at(mesh, [0, 0, 0])[0] == pytest.approx(1)


def test_open_bowl_written_from_both_sides_becomes_single(tmp_path):
    vertices, faces = sphere(3)
    bowl = faces[vertices[faces][:, :, 2].max(axis=1) < 0.5]
    mesh = loaded(tmp_path, vertices, np.concatenate([bowl, bowl[:, ::-1]]))
    assert len(mesh.faces) == len(bowl) and not mesh.closed
    assert winding_at(mesh, [0, 0, -0.5])[0] > 0.5


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_body_that_fills_a_void_makes_one_solid(tmp_path, order):
    pieces = box(size=3), box(inside_out=True), box()
    mesh = loaded(tmp_path, *together(*(pieces[k] for k in order)))
    assert mesh.closed and len(mesh.faces) == 12
    assert np.allclose(winding_at(mesh, [[0, 0, 0], [1, 1, 1], [2, 0, 0]]), [1, 1, 0])
    assert any("face each other" in line for line in mesh.diagnosis["changes"])


def test_free_sheet_within_a_solid_goes(tmp_path):
    sheet = np.array([[-0.2, -0.2, 0], [0.2, -0.2, 0], [0, 0.2, 0.0]]), np.array([[0, 1, 2], [0, 2, 1]])
    mesh = loaded(tmp_path, *together(box(), sheet))
    assert mesh.closed and len(mesh.faces) == 12


def test_faces_in_which_two_solids_meet_stay(tmp_path):
    # Two boxes that share a face (opposite copies), and two of different height flush at the bottom (equal copies).
    meeting = loaded(tmp_path, *together(box(), box((1, 0, 0))))
    assert meeting.closed and len(meeting.faces) == 24
    assert np.allclose(winding_at(meeting, [[0, 0, 0], [1, 0, 0], [2, 0, 0]]), [1, 1, 0])
    flush = loaded(tmp_path, *together(box((0, 0, 0.5), 1), box((0, 0, 1), (1, 1, 2))))
    assert flush.closed and np.allclose(winding_at(flush, [[0, 0, 0.5], [0, 0, 1.5]]), [2, 1])


# ------------------------------------------------------------------------------------------------------- fins


@pytest.mark.parametrize("width", [1, 4])
def test_fin_without_thickness_is_dropped(tmp_path, width):
    """A sheet of both sides that stands on an edge of a box, one or several strips of triangles high."""
    vertices, faces = box()
    heights = np.linspace(0.5, 2, width + 1)[1:]
    rim = np.array([[[-0.5, -0.5, z], [0.5, -0.5, z]] for z in heights]).reshape(-1, 3)
    number = np.concatenate([[4, 5], 8 + np.arange(2 * width)]).reshape(-1, 2)  # (width + 1, 2) vertices of the strips
    strips = [[(a, b, c), (b, d, c)] for (a, b), (c, d) in pairwise(number)]
    sheet = np.array(strips).reshape(-1, 3)
    mesh = loaded(tmp_path, np.vstack([vertices, rim]), np.concatenate([faces, sheet, sheet[:, ::-1]]))
    assert mesh.closed and len(mesh.faces) == 12 and len(mesh.vertices) == 8
    assert any("fins" in change for change in mesh.diagnosis["changes"])
