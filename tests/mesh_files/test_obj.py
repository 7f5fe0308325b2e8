"""Reading OBJ."""

import re

import pytest

from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import MeshError, read_triangles
from tests.mesh_files.handmade import OBJ_QUADS, obj_lines, obj_text
from tests.meshes import winding_at


@pytest.mark.parametrize(
    "text",
    [
        obj_text(OBJ_QUADS),
        obj_text(re.sub(r"(\d)", r"\1/1", OBJ_QUADS)),
        obj_text(re.sub(r"(\d)", r"\1//9", OBJ_QUADS)),
        obj_text(re.sub(r"(\d)", r"\1/1/9", OBJ_QUADS)),
        obj_text(re.sub(r"f (\d) (\d)", r"f \1/1 \2//4", OBJ_QUADS)),
        obj_text(re.sub(r"(\d)", lambda found: str(int(found[1]) - 9), OBJ_QUADS)),
        obj_text(OBJ_QUADS.replace("f 1 3 4 2", "f 1 3 4\nf 1 4 2")),
        obj_text(OBJ_QUADS.replace("f 1 3 4 2", "f\t1 3 \\\n 4 2 # bottom")),
        obj_text(re.sub(r"(\d)", r"\1//", OBJ_QUADS)),
        obj_text(re.sub(r"(\d)", r"\1/", OBJ_QUADS)),
        obj_text(re.sub(r"(\d)", r"\1/1/", OBJ_QUADS)),
        obj_text("# C:\\parts\\\n" + OBJ_QUADS),
        obj_text(OBJ_QUADS, "v {} {} {} 0.5 0.5 0.5"),
        obj_text(OBJ_QUADS).replace("v -0.5 -0.5 -0.5", "v -0.5 -0.5 -0.5 1.0"),
        obj_text(OBJ_QUADS).replace("\n", "\r\n"),
        obj_text(OBJ_QUADS).replace("\n", "\r"),
        "\ufeff" + obj_text(OBJ_QUADS).partition("\n")[2],
        obj_text(OBJ_QUADS).replace("v -0.5 -0.5 -0.5", "v -0.5 -0.5 -0.5 1 0 0"),
        obj_text("o part\ng side\nusemtl steel\nvn 0 0 1\nvt 0 0\n" + OBJ_QUADS + "l 1 2\n"),
    ],
)
def test_obj_dialects(tmp_path, text):
    (tmp_path / "part.obj").write_bytes(text.encode())
    mesh = load_mesh(tmp_path / "part.obj")
    assert mesh.closed and len(mesh.faces) == 12 and len(mesh.vertices) == 8
    assert winding_at(mesh, [0.1, 0.2, 0.3])[0] == pytest.approx(1)
    assert mesh.diagnosis["inside_out_bodies"] == 0  # the quads were cut with their winding kept


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["v 0 0 0", "v 1 0 0 0", "v 0 1", "v 0 0 1", "f 1 3 2"], "vertex 3 has 2 coordinates"),
        (["v 0 0 0", "v 1 0 0", "v", "v 0 0 1", "f 1 3 2"], "vertex 3 has 0 coordinates"),
        (["v 0 0 0", "v 1 0 0", "v 0 1.0.5", "v 0 0 1", "f 1 3 2"], "vertex 3 has 2 coordinates"),
        (["v 0 0 0", "v 1 0 0", "v 0 1.0.5 0", "v 0 0 1", "f 1 3 2"], "'1.0.5' is not a number"),
        (
            ["v 0 0 0", "v 1 0 0", "v 0,5 1 0", "v 0 0 1", "f 1 3 2"],
            "'0,5' is not a number: its decimal mark is a comma",
        ),
        (["v 0 0 0", "v 1 0 0", "v 0 1 0", "v 0 0 1", "f 1/2/3/1/2 3 2/1/3"], "'1/2/3/1/2'"),
        (["v 0 0 0", "v 1 0 0", "v 0 1 0", "v 0 0 1", "f 1-3 2 4"], "'1-3' is not a whole number"),
        (["v 0 0 0", "v 1 0 0", "v 0 1 0", "v 0 0 1", "f 1.5 3 2"], "'1.5' is not a whole number"),
    ],
)
def test_damaged_row_is_refused_not_cut_anew(tmp_path, rows, words):
    (tmp_path / "part.obj").write_bytes(obj_lines(*rows))
    with pytest.raises(MeshError, match=rf"part\.obj: .*{re.escape(words)}"):
        read_triangles(tmp_path / "part.obj")


def test_faces_of_fewer_than_three_corners_are_ignored_with_a_note(tmp_path):
    (tmp_path / "part.obj").write_bytes(obj_lines("v 0 0 0", "v 1 0 0", "v 0 1 0", "f 1 2", "f", "f 1 2 3"))
    _, faces, notes = read_triangles(tmp_path / "part.obj")
    assert faces.tolist() == [[0, 1, 2]] and notes == ["Ignored 2 polygons of fewer than three corners."]
