"""Reading OFF."""

import re

import pytest

from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import MeshError, read_triangles
from tests.mesh_files.handmade import QUADS
from tests.meshes import box

HEADERS = ["OFF\n8 6 12\n", "OFF 8 6 0\n", "# made by hand\nCOFF\n\n8 6 0 # counts\n", "off\r8 6\r"]
HEADERS += ["\ufeffOFF\n8 6 0\n", "OFF8 6 0\n", "Off\n8 6 0\n"]


@pytest.mark.parametrize("header", HEADERS)
def test_off_dialects(tmp_path, header):
    colour = " 255 0 0 255" if header.startswith("# made") else ""
    rows = ["{} {} {}".format(*v) + colour for v in box()[0]]
    quads = ["4 {} {} {} {}".format(*quad) for quad in QUADS]
    (tmp_path / "part.off").write_bytes((header + "\n".join(rows + quads) + "\n").encode())
    mesh = load_mesh(tmp_path / "part.off")
    assert mesh.closed and len(mesh.faces) == 12


def test_off_with_all_numbers_in_one_line(tmp_path):
    numbers = ["{} {} {}".format(*v) for v in box()[0]] + ["3 {} {} {}".format(*f) for f in box()[1]]
    (tmp_path / "part.off").write_text("OFF\n8 12 0\n" + " ".join(numbers))
    assert load_mesh(tmp_path / "part.off").closed
    (tmp_path / "part.off").write_text("OFF\n8 12 0\n" + " ".join(numbers)[:-2])
    with pytest.raises(MeshError, match="cut short"):
        read_triangles(tmp_path / "part.off")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["0 0", "1 0 0 0", "0 1 0", "3 0 1 2"], "vertex 1 (row 1 after the header) has 2 coordinates"),
        (["0 0 0", "1 0 0", "0 1 0.5.5", "3 0 1 2"], "'0.5.5' is not a number"),
        (["0 0 0", "1 0 0", "0 1 0", "4 0 1 2"], "face 1 (row 4 after the header) promises 4 corners"),
        (["0 0 0", "1 0 0", "0 1", "3 0 1 2 0"], "vertex 3 (row 3 after the header) has 2 coordinates"),
        (["0 0 0", "1 0 0", "0 1 0", "3 0 1-2"], "promises 3 corners"),
    ],
)
def test_damaged_row_is_refused_not_cut_anew(tmp_path, rows, words):
    (tmp_path / "part.off").write_text("\n".join(["OFF", "3 1 0", *rows]) + "\n")
    with pytest.raises(MeshError, match=rf"part\.off: .*{re.escape(words)}"):
        read_triangles(tmp_path / "part.off")


BREAKS = {
    "faces over several lines": lambda rows, quads: "\n".join(rows + [q.replace(" ", "\n", 3) for q in quads]),
    "two vertices a line": lambda rows, quads: "\n".join(
        [f"{a} {b}" for a, b in zip(rows[::2], rows[1::2], strict=True)] + quads
    ),
    "a number a line": lambda rows, quads: " ".join(rows + quads).replace(" ", "\n"),
    "colours, and faces over several lines": lambda rows, quads: "\n".join(
        [f"{row} 255 0 0" for row in rows] + [q.replace(" ", "\n", 2) for q in quads]
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_numbers_may_be_broken_into_lines_in_any_way(tmp_path, broken):
    rows = ["{} {} {}".format(*v) for v in box()[0]]
    quads = ["4 {} {} {} {}".format(*quad) for quad in QUADS]
    (tmp_path / "part.off").write_text("OFF\n8 6 0\n" + BREAKS[broken](rows, quads) + "\n")
    assert load_mesh(tmp_path / "part.off").closed
    (tmp_path / "part.off").write_text("OFF 8 6 0 " + " ".join(rows + quads))
    assert load_mesh(tmp_path / "part.off").closed
