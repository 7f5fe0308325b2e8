"""Reading OFF."""

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
