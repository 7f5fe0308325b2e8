"""Cutting polygons into triangles."""

import numpy as np
import pytest

from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import read_triangles


def prism(outline, height=1.0):
    """A closed prism as an OBJ of polygons. outline: its corners (x, y), counter-clockwise."""
    count = len(outline)
    vertices = [(*p, z) for z in (0, height) for p in outline]
    ring = list(range(count))
    polygons = [ring[::-1], [i + count for i in ring]]
    polygons += [[i, (i + 1) % count, (i + 1) % count + count, i + count] for i in ring]
    lines = ["v {} {} {}".format(*v) for v in vertices]
    return "\n".join(lines + ["f " + " ".join(str(i + 1) for i in p) for p in polygons]) + "\n"


COMB = [(0, 0), (5, 0), (5, 3), (4, 3), (4, 1), (3, 1), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)]
ARROW = [(0, 0), (2, 1), (0, 2), (0.5, 1)]


@pytest.mark.parametrize(("outline", "area"), [(COMB, 11.0), (ARROW, 1.5)])
def test_polygons_that_are_not_convex_are_covered_once(tmp_path, outline, area):
    (tmp_path / "prism.obj").write_text(prism(outline))
    mesh = load_mesh(tmp_path / "prism.obj")
    corners = mesh.transform.to_file(mesh.vertices)[mesh.faces]
    top = (corners[:, :, 2] > 0.99).all(axis=1)
    doubled = np.cross(corners[top, 1] - corners[top, 0], corners[top, 2] - corners[top, 0])
    assert (doubled[:, 2] > 0).all() and doubled[:, 2].sum() / 2 == pytest.approx(area)
    assert mesh.closed and len(mesh.faces) == 2 * (len(outline) - 2) + 2 * len(outline)


def test_polygon_that_crosses_itself_gives_as_many_triangles_as_any(tmp_path):
    rows = ["v 0 0 0", "v 1 1 0", "v 1 0 0", "v 0 1 0", "f 1 2 3 4"]
    (tmp_path / "bow.obj").write_text("\n".join(rows))
    assert sorted(np.unique(read_triangles(tmp_path / "bow.obj")[1])) == [0, 1, 2, 3]
    assert len(read_triangles(tmp_path / "bow.obj")[1]) == 2


def quads(*heights, flat=0.0):
    """An OBJ of unit squares in a row, each with its third corner at one of the heights."""
    lines = []
    for k, height in enumerate(heights):
        lines += [
            f"v {2 * k} 0 {flat}",
            f"v {2 * k + 1} 0 {flat}",
            f"v {2 * k + 1} 1 {flat + height}",
            f"v {2 * k} 1 {flat}",
        ]
    return "\n".join(lines + [f"f {4 * k + 1} {4 * k + 2} {4 * k + 3} {4 * k + 4}" for k in range(len(heights))]) + "\n"


def areas(vertices, faces):
    corners = vertices[faces]
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2


def test_bent_quads_are_cut_along_the_diagonal_with_the_smaller_area(tmp_path):
    (tmp_path / "part.obj").write_text(quads(0.0, 0.5, 1e-5, -0.5))
    vertices, faces, notes = read_triangles(tmp_path / "part.obj")
    assert faces[[0, 1]].tolist() == [[0, 1, 2], [0, 2, 3]] and faces[[4, 5]].tolist() == [[8, 9, 10], [8, 10, 11]]
    for k in (1, 3):
        ring = 4 * k + np.arange(4)
        both = [areas(vertices, ring[np.array(fan)]).sum() for fan in ([[0, 1, 2], [0, 2, 3]], [[1, 2, 3], [1, 3, 0]])]
        assert areas(vertices, faces[[2 * k, 2 * k + 1]]).sum() == pytest.approx(min(both)) and both[0] > both[1]
        # Both triangles keep the winding of the quad.
        assert (np.cross(*np.diff(vertices[faces[[2 * k, 2 * k + 1]]], axis=1).swapaxes(0, 1))[:, 2] > 0).all()
    assert len(notes) == 1 and "2 polygons of 4" in notes[0] and "2 quads" in notes[0]


def test_flat_polygons_are_cut_as_fans_whatever_their_rounding(tmp_path):
    (tmp_path / "part.obj").write_text(quads(0.0, 1e-5, -1e-5, flat=1e3))
    _, faces, notes = read_triangles(tmp_path / "part.obj")
    assert notes == [] and (faces[::2, 0] == faces[1::2, 0]).all() and (faces[::2, 2] == faces[1::2, 1]).all()


def test_bent_polygons_with_more_corners_are_counted(tmp_path):
    rows = ["v 0 0 0", "v 2 0 0", "v 3 1 1", "v 2 2 0", "v 0 2 0", "f 1 2 3 4 5"]
    (tmp_path / "part.obj").write_text("\n".join(rows))
    _, faces, notes = read_triangles(tmp_path / "part.obj")
    assert len(faces) == 3 and notes == ["Bent, with corners that lie in no plane: 1 polygon of 1."]
