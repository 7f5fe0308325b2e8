"""Reading OBJ."""

import re

import pytest

from neuralparts.mesh import load_mesh
from tests.mesh_files.handmade import OBJ_QUADS, obj_text
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
