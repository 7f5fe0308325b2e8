"""Reading PLY."""

import numpy as np
import pytest

from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import read_triangles
from tests.mesh_files.handmade import QUADS, ply_bytes
from tests.meshes import BOX_FACES, winding_at


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("polygons", [QUADS, [QUADS[0][:3], [0, 3, 1], *QUADS[1:]], BOX_FACES.tolist()])
def test_ply_dialects(tmp_path, order, polygons):
    (tmp_path / "part.ply").write_bytes(ply_bytes(order, polygons))
    mesh = load_mesh(tmp_path / "part.ply")
    assert mesh.closed and len(mesh.faces) == 12
    assert winding_at(mesh, [0.1, 0.2, 0.3])[0] == pytest.approx(1)


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_ply_header_with_other_line_endings(tmp_path, order, end):
    head, mark, body = ply_bytes(order, QUADS).partition(b"end_header\n")
    head = head.replace(b"comment by hand", b"comment by hand, no end_header")
    body = b"\n" + body[1:] if order == "<" else body  # a first byte that could be taken for a line ending
    (tmp_path / "part.ply").write_bytes((head + mark).replace(b"\n", end.encode()) + body)
    assert len(load_mesh(tmp_path / "part.ply").faces) == 12


def test_text_ply_with_texture_coordinates(tmp_path):
    head, mark, body = ply_bytes("", QUADS).partition(b"end_header\n")
    lines = body.decode().splitlines()
    lines = lines[:8] + [f"{line} 8 0 0 0.5 0 1 1 0 1" for line in lines[8:]]
    head += b"property list uchar float texcoord\n"
    (tmp_path / "part.ply").write_bytes(head + mark + "\n".join(lines).encode())
    mesh = load_mesh(tmp_path / "part.ply")
    assert mesh.closed and len(mesh.faces) == 12


def test_text_ply_is_not_rounded_to_the_type_in_its_header(tmp_path):
    data = ply_bytes("", BOX_FACES.tolist()).replace(b"-0.5 -0.5 -0.5 7", b"-0.5000000001 -0.5 -0.5 7")
    (tmp_path / "part.ply").write_bytes(data)
    assert read_triangles(tmp_path / "part.ply")[0][0, 0] == -0.5000000001


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_ply_whose_header_ends_in_another_newline_than_its_lines(tmp_path, order):
    head, _, body = ply_bytes(order, QUADS).partition(b"end_header\n")
    for lines, last in ((b"\n", b"\r\n"), (b"\r\n", b"\n")):
        (tmp_path / "part.ply").write_bytes(head.replace(b"\n", lines) + b"end_header" + last + body)
        assert len(load_mesh(tmp_path / "part.ply").faces) == 12


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_comments_among_the_properties_are_no_properties(tmp_path, order):
    comment = b"comment made \x0bproperty float w\x1cby \xc2\x85 hand\nobj_info element face 3\n"
    data = ply_bytes(order, QUADS).replace(b"property float y\n", comment + b"property float y\n" + comment)
    if not order:
        data += b"comment at the end\n"
    (tmp_path / "part.ply").write_bytes(data)
    assert len(load_mesh(tmp_path / "part.ply").faces) == 12


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian"])
def test_triangle_strips(tmp_path, order):
    """A tetrahedron by two rows of strips; -1 parts the strips of a row."""
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    rows = [[0, 2, 1, 3, -1, 0, 3, 2], [0, 1, 3]]
    head = (
        f"ply\nformat {order} 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
        "element tristrips 2\nproperty list int int vertex_indices\nend_header\n"
    )
    if order == "ascii":
        lines = corners + [[len(row), *row] for row in rows]
        body = "".join(" ".join(map(str, line)) + "\n" for line in lines).encode()
    else:
        body = np.array(corners, "<f4").tobytes()
        body += b"".join(np.array([len(row), *row], "<i4").tobytes() for row in rows)
    (tmp_path / "part.ply").write_bytes(head.encode() + body)
    assert read_triangles(tmp_path / "part.ply")[1].tolist() == [[0, 2, 1], [2, 3, 1], [0, 3, 2], [0, 1, 3]]
    mesh = load_mesh(tmp_path / "part.ply")
    assert mesh.closed and mesh.diagnosis["inside_out_bodies"] == 0 and mesh.diagnosis["inconsistent_edges"] == 0
