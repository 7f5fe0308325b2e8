"""Reading any format: every format reads back as it was written, and every file that is refused gets one line."""

import gzip
import json
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralparts.choices import MESH_SUFFIXES
from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import MeshError, read_triangles, write_mesh
from neuralparts.mesh_files.reading import READERS
from tests.mesh_files.handmade import (
    OBJ_QUADS,
    QUADS,
    minimal,
    obj_lines,
    obj_text,
    ply_bytes,
    stl_binary,
    stl_text,
    write_3mf,
)
from tests.meshes import BOX_FACES, box, winding_at


def test_every_suffix_has_a_reader():
    assert set(READERS) == set(MESH_SUFFIXES)


@pytest.mark.parametrize("suffix", [".stl", ".obj", ".ply", ".off", ".glb", ".3mf"])
@pytest.mark.parametrize("upper", [False, True])
def test_written_mesh_reads_back(tmp_path, suffix, upper):
    vertices, faces = box((3, 2, 1), (1, 2, 3))
    path = tmp_path / f"part{suffix.upper() if upper else suffix}"
    write_mesh(path, vertices, faces)
    mesh = load_mesh(path)
    assert mesh.closed and len(mesh.vertices) == 8 and len(mesh.faces) == 12
    assert np.allclose(mesh.transform.to_file(mesh.vertices).min(axis=0), [2.5, 1, -0.5])
    assert np.allclose(mesh.transform.to_file(mesh.vertices).max(axis=0), [3.5, 3, 2.5])
    assert winding_at(mesh, [3, 2, 1])[0] == pytest.approx(1)
    assert mesh.path == path


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-1e9, 1e9), st.sampled_from([".obj", ".ply", ".off", ".3mf"]))
def test_float64_formats_keep_every_bit(tmp_path_factory, seed, offset, suffix):
    vertices = np.random.default_rng(seed).normal(size=(8, 3)) + offset
    path = tmp_path_factory.mktemp("bits") / f"part{suffix}"
    write_mesh(path, vertices, BOX_FACES)
    back, faces, notes = read_triangles(path)
    assert np.array_equal(back, vertices) and np.array_equal(faces, BOX_FACES) and notes == []


# Files that the reader refuses, and after them those whose triangles the mesh stage refuses: bytes, words in the line.
BAD_FILES = {
    "nothing.stl": (b"", "empty"),
    "short.stl": (b"\0" * 50, "too few"),
    "cut.stl": (stl_binary(*box())[:-30], "promises 12 triangles but the file holds 11"),
    "promise.stl": (stl_binary(*box(), promised=99), "promises 99 triangles but the file holds 12"),
    "few.stl": (stl_binary(*box(), promised=3), "promises 3 triangles but the file holds 12"),
    "solid.stl": (stl_binary(*box(), header=b"solid part")[:-30], "promises 12"),
    "cut_text.stl": (stl_text(*box())[:-40].encode(), "cut short"),
    "open_text.stl": (stl_text(*box(), ending="").encode(), "endsolid"),
    "cut_second.stl": ((2 * stl_text(*box()))[:-700].encode(), "no 'endsolid'"),
    "word_text.stl": (stl_text(*box()).replace("0.5", "half").encode(), "not a readable STL"),
    "cut.off": (b"OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "cut short"),
    "negative.off": (b"OFF\n-3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "a count below zero"),
    "comments.off": (b"# OFF\n# 8 6 12\n", "OFF"),
    "four.off": (b"4OFF\n0 0 0\n", "OFF"),
    "cut.ply": (ply_bytes("<", QUADS)[:-30], "'face'"),
    "cut_mixed.ply": (ply_bytes(">", [*QUADS, [0, 1, 2]])[:-3], "'face'"),
    "cut_text.ply": (ply_bytes("", QUADS)[:-30], "'face'"),
    "cut_early.ply": (ply_bytes("<", QUADS)[:350], "'vertex'"),
    "negative.ply": (ply_bytes("", QUADS).replace(b"vertex 8", b"vertex -8"), "a count below zero"),
    "header.ply": (b"ply\nformat ascii 1.0\nelement", "header"),
    "garbage.ply": (bytes(range(256)), "not a PLY"),
    "garbage.glb": (bytes(range(256)), "not a readable GLB"),
    "garbage.3mf": (bytes(range(256)), "not a readable 3MF"),
    "garbage.gltf": (bytes(range(256)), "not a readable GLTF"),
    "plane.obj": (b"v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n", "vertex 1 has 2 coordinates"),
    "part.step": (b"ISO-10303-21;", "'.step' is not a mesh format"),
    "points.npy": (b"ISO-10303-21;", "samples too, .npz"),
    "part": (b"ISO-10303-21;", "without suffix"),
    # Refused by the mesh stage.
    "hollow.stl": (b"solid Empty\nendsolid Empty", "no triangles"),
    "zero.stl": (stl_binary(box()[0], np.zeros((0, 3), int)), "no triangles"),
    "nan.stl": (stl_binary(box()[0] * [1, 1, np.nan], box()[1]), "not a number"),
    "inf.obj": (obj_text(OBJ_QUADS).replace("-0.5", "inf", 1).encode(), "not a number or infinite"),
    "nan.obj": (obj_text(OBJ_QUADS).replace("-0.5", "nan", 1).encode(), "of 12 triangles"),
    "points.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "3 points but no triangles"),
    "cloud.ply": (ply_bytes("<", []), "8 points but no triangles"),
    "index.obj": (obj_text(OBJ_QUADS + "f 1 2 9\n").encode(), "vertex 8 "),
    "zero_index.obj": (obj_text(OBJ_QUADS + "f 0 1 2\n").encode(), "vertex -1 "),
    "before.obj": (obj_text(OBJ_QUADS + "f -9 1 2\n").encode(), "vertex -1 "),
    "index.ply": (ply_bytes("<", [*QUADS, [0, 1, 8]]), "vertex 8 "),
    "index.off": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 3\n", "vertex 3 "),
    "flat.obj": (obj_lines("v 0 0 0", "v 1 0 1", "v 0 1 0", "v 1 1 1", "f 1 2 3", "f 2 4 3"), "flat"),
    "line.obj": (obj_lines("v 0 0 0", "v 1 1 1", "v 2 2 2", "v 5 5 5", "f 1 2 3", "f 2 3 4"), "degenerate"),
    "dot.obj": (obj_lines("v 1 1 1", "v 1 1 1", "v 1 1 1", "f 1 2 3", "f 1 1 1"), "degenerate"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_gets_one_line_that_names_it(tmp_path, name):
    data, expected = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MeshError) as refusal:
        load_mesh(tmp_path / name)
    message = str(refusal.value)
    assert expected in message and str(tmp_path / name) in message
    assert "\n" not in message and re.search(r"; (export|give|use)", message)  # says what to do


def test_missing_file_folder_and_unreadable_file(tmp_path):
    with pytest.raises(MeshError, match="no such file"):
        read_triangles(tmp_path / "missing.stl")
    for name in ("folder.stl", "folder"):
        (tmp_path / name).mkdir()
        with pytest.raises(MeshError, match="is a folder"):
            read_triangles(tmp_path / name)
    (tmp_path / "loop.stl").symlink_to(tmp_path / "loop.stl")
    with pytest.raises(MeshError, match=r"loop\.stl"):
        read_triangles(tmp_path / "loop.stl")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_binary_stl_is_read_or_refused_but_never_crashes(tmp_path_factory, data):
    whole = bytearray(stl_binary(*box()))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "part.stl"
    path.write_bytes(bytes(whole[: data.draw(st.integers(1, len(whole)))]))
    try:
        mesh = load_mesh(path)
    except MeshError as refusal:
        assert str(path) in str(refusal) and "\n" not in str(refusal)
    else:
        assert np.isfinite(mesh.vertices).all() and len(mesh.faces) > 0


HOSTILE = "EVIL\n\x1b[2J\x1b]0;owned\x07\u202e\x9b31m" + "A" * 100_000
TEXT_OF_FILES = {
    "extension.gltf": json.dumps(minimal() | {"extensionsRequired": [HOSTILE]}).encode(),
    "type.gltf": json.dumps(minimal() | {"accessors": [{"type": HOSTILE, "count": 1, "bufferView": 0}]}).encode(),
    "uri.gltf": json.dumps(minimal() | {"buffers": [{"uri": "../" + HOSTILE}]}).encode(),
    "missing.gltf": json.dumps(minimal() | {"buffers": [{"uri": HOSTILE[:80]}]}).encode(),
    "word.obj": f"v 0 0 {HOSTILE.split()[1]}\n".encode(),
    "word.stl": stl_text(*box()).replace("0.5", "\x1b[31m" + "5" * 9999 + "x", 1).encode(),
    "word.off": b"OFF\n1 1 0\n0 0 \x1b[2J" + b"9" * 9999 + b"\n3 0 0 0\n",
    "count.off": b"OFF\n\x1b[2J" + b"9" * 9999 + b" 1 0\n",
    "element.ply": ply_bytes("", QUADS).replace(b"element vertex 8", b"element \x1b[2J" + b"e" * 999 + b" 99"),
    "count.ply": ply_bytes("", QUADS).replace(b"vertex 8", b"vertex \x1b[2J8"),
    "type.ply": ply_bytes("", QUADS).replace(b"float x", b"\x1b[2J" + b"t" * 9999 + b" x"),
}


@pytest.mark.parametrize("name", TEXT_OF_FILES)
def test_text_of_a_file_reaches_messages_in_short_printable_form(tmp_path, name):
    (tmp_path / name).write_bytes(TEXT_OF_FILES[name])
    with pytest.raises(MeshError) as refusal:
        read_triangles(tmp_path / name)
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path / name}: ") and message.isprintable()
    assert len(message) < len(str(tmp_path / name)) + 300


def test_text_of_a_file_reaches_notes_in_short_printable_form(tmp_path):
    write_3mf(tmp_path / "part.3mf", '<item objectid="1"/>')
    with zipfile.ZipFile(tmp_path / "part.3mf") as file:
        text = file.read("3D/3dmodel.model").decode()
    with zipfile.ZipFile(tmp_path / "part.3mf", "w") as file:
        file.writestr("3D/3dmodel.model", text.replace('"inch"', f'"inch&#10;done&#x9b;{"x" * 5000}"'))
    (note,) = read_triangles(tmp_path / "part.3mf")[2]
    assert note.isprintable() and "inch\\ndone\\x9b" in note and len(note) < 250


OTHER_KINDS = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "pointer of Git LFS.*git lfs pull"),
    "html": (b"\n<!DOCTYPE html><html>404</html>" * 9, "is a web page"),
    "gzip": (gzip.compress(stl_binary(*box())), "compressed by gzip.*unpack"),
    "zip": (b"PK\x03\x04" + bytes(200), "is a zip archive.*unpack"),
    "obj": (obj_text(OBJ_QUADS).encode(), r"is an OBJ file.*name it \*\.obj"),
    "stl": (stl_text(*box()).encode(), r"is an STL file.*name it \*\.stl"),
    "ply": (ply_bytes("", QUADS), r"is a PLY file.*name it \*\.ply"),
    "off": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n" * 3, r"is an OFF file.*name it \*\.off"),
    "glb": (b"glTF" + bytes(200), r"is a GLB file.*name it \*\.glb"),
    "step": (b"ISO-10303-21;\nHEADER;\n" * 9, "is a STEP file"),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("suffix", [".stl", ".obj", ".ply", ".off", ".gltf", ".3mf"])
def test_file_of_another_kind_is_called_what_it_is(tmp_path, kind, suffix):
    data, words = OTHER_KINDS[kind]
    if suffix[1:] == kind or (kind, suffix) in (("glb", ".gltf"), ("zip", ".3mf")):
        return
    (tmp_path / f"part{suffix}").write_bytes(data)
    with pytest.raises(MeshError, match=rf"part\{suffix}: .*{words}"):
        read_triangles(tmp_path / f"part{suffix}")


def test_decimal_commas_are_named(tmp_path):
    for name, text in (
        ("part.stl", stl_text(*box())),
        ("part.obj", obj_text(OBJ_QUADS)),
        ("part.off", "OFF\n3 1 0\n0.5 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"),
        ("part.ply", ply_bytes("", QUADS).decode()),
    ):
        (tmp_path / name).write_text(re.sub(r"(\d)\.(\d)", r"\1,\2", text).replace("ascii 1,0", "ascii 1.0"))
        with pytest.raises(MeshError, match=rf"{name}: .*0,5' is not a number: its decimal mark is a comma"):
            read_triangles(tmp_path / name)
