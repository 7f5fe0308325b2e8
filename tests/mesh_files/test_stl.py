"""Reading and writing STL."""

import re

import numpy as np
import pytest

from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import read_triangles, write_mesh
from tests.mesh_files.handmade import stl_binary, stl_text
from tests.meshes import box, winding_at


@pytest.mark.parametrize("header", [b"binary", b"solid of a CAD program"])
def test_binary_stl_is_recognised_whatever_its_header_says(tmp_path, header):
    (tmp_path / "part.stl").write_bytes(stl_binary(*box(), header=header))
    mesh = load_mesh(tmp_path / "part.stl")
    assert mesh.closed and len(mesh.faces) == 12


@pytest.mark.parametrize("promised", [0, 2**32 - 1])
def test_binary_stl_whose_header_was_written_before_the_count_was_known(tmp_path, promised):
    (tmp_path / "part.stl").write_bytes(stl_binary(*box(), promised=promised))
    mesh = load_mesh(tmp_path / "part.stl")
    assert mesh.closed and any(f"counts {promised:,} triangles; all 12" in line for line in mesh.diagnosis["changes"])


def test_a_few_bytes_after_the_last_triangle_are_ignored_with_a_note(tmp_path):
    (tmp_path / "part.stl").write_bytes(stl_binary(*box()) + b"xy")
    vertices, faces, notes = read_triangles(tmp_path / "part.stl")
    assert np.array_equal(vertices[faces], box()[0][box()[1]]) and notes == ["Ignored 2 bytes after the last triangle."]
    assert load_mesh(tmp_path / "part.stl").closed


STL_DIALECTS = {
    "plain": lambda text: text.encode(),
    "carriage returns and line feeds": lambda text: text.replace("\n", "\r\n").encode(),
    "carriage returns": lambda text: text.replace("\n", "\r").encode(),
    "capitals": lambda text: text.upper().encode(),
    "white space around words": lambda text: (
        b"\n \t\n" + text.replace("\n", " \t\n").replace(" ", "\t").encode() + b"\n\n"
    ),
    "a facet per line": lambda text: re.sub(r"\n +(?=outer|vertex|endloop)", " ", text).encode(),
    "two solids": lambda text: text.replace("endfacet\n", "endfacet\nendsolid a\nsolid facet b\n", 1).encode(),
    "no names": lambda text: text.replace("solid vertex facet part", "solid").replace("solid part", "solid").encode(),
    "end solid": lambda text: text.replace("endsolid", "end solid").encode(),
    "end facet, end loop": lambda text: text.replace("endfacet", "end facet").replace("endloop", "end loop").encode(),
    "comments": lambda text: text.replace(" outer", "; the first facet of them\n outer").encode(),
    "no normals": lambda text: text.replace("facet normal 0 0 0", "facet").encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Latin-1": lambda text: text.replace("solid vertex", "solid Größe").encode("latin-1"),
}


@pytest.mark.parametrize("dialect", STL_DIALECTS)
def test_text_stl_dialects(tmp_path, dialect):
    (tmp_path / "part.stl").write_bytes(STL_DIALECTS[dialect](stl_text(*box())))
    mesh = load_mesh(tmp_path / "part.stl")
    assert mesh.closed and len(mesh.faces) == 12
    assert winding_at(mesh, [0.1, 0.2, 0.3])[0] == pytest.approx(1)


def test_normals_of_a_written_stl_point_outward(tmp_path):
    write_mesh(tmp_path / "part.stl", *box())
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    records = np.frombuffer((tmp_path / "part.stl").read_bytes(), dtype=record, offset=84)
    middle = records["corners"].mean(axis=1)
    assert np.allclose(np.linalg.norm(records["normal"], axis=1), 1)
    assert (np.einsum("ij,ij->i", middle, records["normal"]) > 0.4).all()
