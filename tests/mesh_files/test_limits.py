"""A count in a file is compared with the bytes that are there, before time or memory is spent on it.

Each small file here promises or expands to far more. It must be refused, or read, in little memory; the limit on the
memory of a child process makes it a failure, not a wait, if it is not.
"""

import resource
import struct
import subprocess
import sys
import zipfile

import pytest

from neuralparts.mesh_files import MeshError, read_triangles
from tests.mesh_files.handmade import minimal, object_3mf, write_3mf, write_gltf

# Bytes of memory, and seconds of processor, of a child: the imports take a third of the former.
MEMORY, SECONDS = 1_500_000_000, 20
PROGRAM = """
import sys
from neuralparts.mesh_files import MeshError, read_triangles
try:
    print(len(read_triangles(sys.argv[1])[1]), "triangles")
except MeshError as error:
    print("refused:", error)
"""


def read_in_child(path):
    """What reading a file prints, in a process with limits."""

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ":".join(p for p in sys.path if p)},
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


def ply_binary(vertex_count, face_count, rows, kind="list uchar int vertex_indices"):
    axes = "property float x\nproperty float y\nproperty float z\n"
    return (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {vertex_count}\n{axes}element face {face_count}\n"
        f"property {kind}\nend_header\n"
    ).encode() + rows


TRIANGLE = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
PROMISES = {
    "vertices.off": b"OFF\n1000000000000 1 0\n0 0 0\n",
    "faces.off": b"OFF\n3 1000000000000 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    "digits.off": b"OFF\n" + b"9" * 4000 + b" 1 0\n0 0 0\n",
    "polygon.off": b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n500000000 0 1 2\n",
    "negative_polygon.off": b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n-3 0 1 2\n",
    "one_line.off": b"OFF\n3 1 0\n0 0 0 1 0 0 0 1 0 500000000 0 1 2\n",
    "vertices.ply": ply_binary(10**12, 1, TRIANGLE),
    "faces.ply": ply_binary(3, 10**12, TRIANGLE + b"\3" + struct.pack("<3i", 0, 1, 2)),
    "list.ply": ply_binary(3, 1, TRIANGLE + struct.pack("<I", 2**31), "list uint int vertex_indices"),
    "negative_list.ply": ply_binary(3, 2, TRIANGLE + b"\xff" * 900, "list char int vertex_indices"),
    "text.ply": ply_binary(10**12, 0, b"0 0 0\n").replace(b"binary_little_endian", b"ascii"),
    "text_list.ply": ply_binary(3, 1, b"0 0 0\n1 0 0\n0 1 0\n900000000 0 1 2\n").replace(
        b"binary_little_endian", b"ascii"
    ),
    "triangles.stl": b"binary".ljust(80) + struct.pack("<I", 2**32 - 2) + bytes(500),
}


@pytest.mark.parametrize("name", PROMISES)
def test_promise_beyond_the_bytes_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(PROMISES[name])
    line = read_in_child(tmp_path / name)
    assert line.startswith(f"refused: {tmp_path / name}: ") and len(line) < len(str(tmp_path)) + 300


def test_long_word_in_a_text_ply_takes_no_memory_of_its_length_per_row(tmp_path):
    rows = b"1" * 400_000 + b" 0 0\n" + b"0 0 0\n" * 99_999
    data = ply_binary(100_000, 0, rows).replace(b"binary_little_endian", b"ascii")
    (tmp_path / "part.ply").write_bytes(data)
    assert read_in_child(tmp_path / "part.ply") == "0 triangles\n"


def doubled(levels, last):
    """Objects each of which has the next one twice as a component."""
    part = '<object id="{0}"><components><component objectid="{1}"/><component objectid="{1}"/></components></object>'
    return "".join(part.format(k, k + 1) for k in range(2, levels + 2)) + last.format(levels + 2)


@pytest.mark.parametrize("last", ['<object id="{}"><mesh/></object>', '<object id="{}"><components/></object>'])
def test_components_that_double_are_refused(tmp_path, last):
    write_3mf(tmp_path / "part.3mf", '<item objectid="2"/>', doubled(40, last))
    assert "places its pieces so often" in read_in_child(tmp_path / "part.3mf")


def test_items_without_end_are_refused(tmp_path):
    write_3mf(tmp_path / "part.3mf", '<item objectid="1"/>' * 200_000)
    assert "more than 100,000 objects, items" in read_in_child(tmp_path / "part.3mf")


def test_many_items_of_a_large_object_are_refused(tmp_path):
    vertices = '<vertex x="0" y="0" z="0"/>' * 100_000
    mesh = f'<object id="2"><mesh><vertices>{vertices}</vertices></mesh></object>'
    write_3mf(tmp_path / "part.3mf", '<item objectid="2"/>' * 3000, mesh)
    assert "refused" in read_in_child(tmp_path / "part.3mf")


def test_archive_that_expands_too_far_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "part.3mf", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("3D/3dmodel.model", "<model>" + " " * 200_000_000 + "</model>")
    assert "expands to more than" in read_in_child(tmp_path / "part.3mf")


def test_xml_that_nests_without_end_or_has_a_document_type_is_refused(tmp_path):
    for name, text in (("deep", "<a>" * 5_000_000), ("laughs", '<!DOCTYPE m [<!ENTITY x "y">]><model>&x;</model>')):
        with zipfile.ZipFile(tmp_path / f"{name}.3mf", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("3D/3dmodel.model", text)
        assert "refused" in read_in_child(tmp_path / f"{name}.3mf")


def test_other_compressions_than_that_of_3mf_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "part.3mf", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("3D/3dmodel.model", f"<model>{object_3mf(1)}</model>")
    with pytest.raises(MeshError, match="compressed in a way"):
        read_triangles(tmp_path / "part.3mf")


def without_data(header):
    del header["accessors"][0]["bufferView"]
    header["accessors"][0]["count"] = 30_000_000


def too_many_rows(header):
    header["accessors"][0]["count"] = 10**12


def far_stride(header):
    header["bufferViews"][0]["byteStride"] = 2**40


def many_nodes_and_primitives(header):
    header["meshes"][0]["primitives"] *= 5_000
    header["nodes"] *= 20_000
    header["scenes"][0]["nodes"] = list(range(20_000))


def doubled_nodes(header):
    header["nodes"] = [{"children": [k + 1, k + 1]} for k in range(60)] + header["nodes"]


def sparse_without_end(header):
    without_data(header)
    places = {"bufferView": 1, "componentType": 5123}
    header["accessors"][0]["sparse"] = {"count": 1, "indices": places, "values": {"bufferView": 0}}


@pytest.mark.parametrize(
    "damage",
    [without_data, too_many_rows, far_stride, many_nodes_and_primitives, doubled_nodes, sparse_without_end],
)
def test_gltf_that_promises_too_much_is_refused(tmp_path, damage):
    header = minimal()
    damage(header)
    assert "refused" in read_in_child(write_gltf(tmp_path, header))


def test_blank_lines_of_a_text_stl_take_linear_time(tmp_path):
    facet = "facet normal 0 0 0\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n"
    (tmp_path / "part.stl").write_text("solid a\n" + "\n \t" * 300_000 + facet + "\n" * 300_000 + "endsolid\n")
    assert read_in_child(tmp_path / "part.stl") == "1 triangles\n"


def test_many_concave_polygons_and_one_of_many_corners_take_little_time(tmp_path):
    arrow = "v 0 0 0\nv 2 1 0\nv 0 2 0\nv 0.5 1 0\nv 0 0.5 0\n"
    (tmp_path / "many.obj").write_text(arrow + "f 1 2 3 4 5\n" * 80_000)
    assert read_in_child(tmp_path / "many.obj") == "240000 triangles\n"
    zigzag = "".join(f"v {k} {k % 2} 0\n" for k in range(20_000)) + "v 20000 -9 0\nv -1 -9 0\n"
    (tmp_path / "one.obj").write_text(zigzag + "f " + " ".join(map(str, range(1, 20_003))) + "\n")
    assert read_in_child(tmp_path / "one.obj") == "20000 triangles\n"
