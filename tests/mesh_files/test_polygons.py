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
