"""geometry.py and mesh_files.py: reading, refusing, repairing, turning outward, normalising, measuring, writing."""

import json
import re
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralparts.choices import MESH_SUFFIXES
from neuralparts.domain import Transform
from neuralparts.mesh import geometry, load_mesh, solid_angle_winding_number
from neuralparts.mesh.geometry import _components
from neuralparts.mesh_files import MeshError, write_mesh
from neuralparts.mesh_files import files as mesh_files
from tests.meshes import BOX_FACES, box, loaded, real, sphere, together, winding_at

# ---------------------------------------------------------------------------------------------------- reading


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
    back, faces, _ = geometry.read_triangles(path)
    assert np.array_equal(back, vertices) and np.array_equal(faces, BOX_FACES)


def test_glb_far_from_the_origin_keeps_its_shape(tmp_path):
    vertices, faces = box((1e6, -1e6, 0), 1)
    write_mesh(tmp_path / "far.glb", vertices, faces)
    back, faces, _ = geometry.read_triangles(tmp_path / "far.glb")
    assert np.abs(np.sort(back[faces].ravel()) - np.sort(vertices[BOX_FACES].ravel())).max() < 1e-7


def stl_text(vertices, faces, ending="endsolid part\n"):
    lines = ["solid vertex facet part"]
    for corners in vertices[faces]:
        lines += ["facet normal 0 0 0", " outer loop"]
        lines += ["  vertex {} {} {}".format(*corner) for corner in corners] + [" endloop", "endfacet"]
    return "\n".join(lines) + "\n" + ending


def stl_binary(vertices, faces, header=b"binary", promised=None):
    body = b"".join(
        struct.pack("<12fH", 0, 0, 0, *corners.ravel(), 0) for corners in vertices[faces].astype(np.float32)
    )
    return header.ljust(80) + struct.pack("<I", len(faces) if promised is None else promised) + body


@pytest.mark.parametrize("header", [b"binary", b"solid of a CAD program"])
def test_binary_stl_whatever_its_header_says(tmp_path, header):
    (tmp_path / "part.stl").write_bytes(stl_binary(*box(), header=header))
    mesh = load_mesh(tmp_path / "part.stl")
    assert mesh.closed and len(mesh.faces) == 12


@pytest.mark.parametrize("promised", [0, 2**32 - 1])
def test_binary_stl_that_was_written_before_its_triangles_were_counted(tmp_path, promised):
    (tmp_path / "part.stl").write_bytes(stl_binary(*box(), promised=promised))
    mesh = load_mesh(tmp_path / "part.stl")
    assert mesh.closed and any(f"counts {promised} triangles; all 12" in line for line in mesh.diagnosis["changes"])


def test_few_bytes_after_the_last_triangle_are_passed_over_and_told(tmp_path):
    (tmp_path / "part.stl").write_bytes(stl_binary(*box()) + b"xy")
    mesh = load_mesh(tmp_path / "part.stl")
    assert mesh.closed and any("2 bytes" in change for change in mesh.diagnosis["changes"])


STL_DIALECTS = {
    "plain": lambda text: text.encode(),
    "carriage returns and line feeds": lambda text: text.replace("\n", "\r\n").encode(),
    "carriage returns": lambda text: text.replace("\n", "\r").encode(),
    "capitals": lambda text: text.upper().encode(),
    "space around": lambda text: b"\n \t\n" + text.replace("\n", " \t\n").replace(" ", "\t").encode() + b"\n\n",
    "a facet a line": lambda text: re.sub(r"\n +(?=outer|vertex|endloop)", " ", text).encode(),
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
def test_text_stl(tmp_path, dialect):
    (tmp_path / "part.stl").write_bytes(STL_DIALECTS[dialect](stl_text(*box())))
    mesh = load_mesh(tmp_path / "part.stl")
    assert mesh.closed and len(mesh.faces) == 12
    assert winding_at(mesh, [0.1, 0.2, 0.3])[0] == pytest.approx(1)


OBJ_QUADS = "f 1 3 4 2\nf 5 6 8 7\nf 1 2 6 5\nf 3 7 8 4\nf 1 5 7 3\nf 2 4 8 6\n"


def obj_text(faces, line="v {} {} {}"):
    return "\n".join(["# a box", *(line.format(*v) for v in box()[0])]) + "\n" + faces


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


OFF_HEADERS = ["OFF\n8 6 12\n", "OFF 8 6 0\n", "# made by hand\nCOFF\n\n8 6 0 # counts\n", "off\r8 6\r"]
OFF_HEADERS += ["\ufeffOFF\n8 6 0\n", "OFF8 6 0\n", "Off\n8 6 0\n"]


@pytest.mark.parametrize("header", OFF_HEADERS)
def test_off_dialects(tmp_path, header):
    colour = " 255 0 0 255" if header.startswith("# made") else ""
    rows = ["{} {} {}".format(*v) + colour for v in box()[0]]
    quads = ["4 " + " ".join(str(int(i) - 1) for i in line.split()[1:]) for line in OBJ_QUADS.splitlines()]
    (tmp_path / "part.off").write_bytes((header + "\n".join(rows + quads) + "\n").encode())
    mesh = load_mesh(tmp_path / "part.off")
    assert mesh.closed and len(mesh.faces) == 12


def test_off_with_all_numbers_in_one_line(tmp_path):
    numbers = ["{} {} {}".format(*v) for v in box()[0]] + ["3 {} {} {}".format(*f) for f in box()[1]]
    (tmp_path / "part.off").write_text("OFF\n8 12 0\n" + " ".join(numbers))
    assert load_mesh(tmp_path / "part.off").closed
    (tmp_path / "part.off").write_text("OFF\n8 12 0\n" + " ".join(numbers)[:-2])
    with pytest.raises(MeshError, match="cut short"):
        load_mesh(tmp_path / "part.off")


def ply_bytes(order, polygons, extra=b""):
    """A PLY with scalar properties about the lists, in text or binary."""
    kind = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    head = (
        f"ply\nformat {kind} 1.0\ncomment by hand\nelement vertex 8\nproperty float x\nproperty float y\n"
        f"property float z\nproperty uchar red\nelement face {len(polygons)}\nproperty uchar flag\n"
        "property list uchar int vertex_indices\nproperty float quality\nend_header\n"
    ).encode()
    rows = b""
    for vertex in box()[0]:
        rows += struct.pack(order + "fffB", *vertex, 7) if order else "{} {} {} 7\n".format(*vertex).encode()
    for polygon in polygons:
        numbers = (1, len(polygon), *polygon, 0.5)
        text = (" ".join(map(str, numbers)) + "\n").encode()
        rows += struct.pack(f"{order}BB{len(polygon)}if", *numbers) if order else text
    return head + rows + extra


QUADS = [[int(i) - 1 for i in line.split()[1:]] for line in OBJ_QUADS.splitlines()]


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("polygons", [QUADS, [QUADS[0][:3], [0, 3, 1], *QUADS[1:]], BOX_FACES.tolist()])
def test_ply_dialects(tmp_path, order, polygons):
    (tmp_path / "part.ply").write_bytes(ply_bytes(order, polygons))
    mesh = load_mesh(tmp_path / "part.ply")
    assert mesh.closed and len(mesh.faces) == 12
    assert winding_at(mesh, [0.1, 0.2, 0.3])[0] == pytest.approx(1)


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_ply_header_with_other_line_ends(tmp_path, order, end):
    head, mark, body = ply_bytes(order, QUADS).partition(b"end_header\n")
    head = head.replace(b"comment by hand", b"comment by hand, no end_header")
    body = b"\n" + body[1:] if order == "<" else body  # a first byte that could be taken for the end of a line
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
    assert geometry.read_triangles(tmp_path / "part.ply")[0][0, 0] == -0.5000000001


def test_scene_nodes_are_placed_and_mirrors_turned_back(tmp_path):
    import trimesh

    scene = trimesh.Scene()
    piece = trimesh.Trimesh(*box(size=(1, 2, 3)), process=False)
    turn = trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0], [0, 0, 0])
    turn[:3, 3] = [10, 0, 0]
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[:3, 3] = [-10, 0, 0]
    scene.add_geometry(piece, geom_name="piece", transform=turn)
    scene.add_geometry(piece, geom_name="again", transform=mirror)
    scene.export(tmp_path / "scene.glb")
    mesh = load_mesh(tmp_path / "scene.glb")
    assert mesh.closed and mesh.diagnosis["bodies"] == 2 and mesh.diagnosis["inside_out_bodies"] == 0
    inside = winding_at(mesh, [[10, 1.4, 0.9], [10, 0.9, 1.4], [-10, 0.9, 1.4], [0, 0, 0]])
    assert np.allclose(inside, [1, 0, 1, 0], atol=1e-9)


def test_gltf_beside_its_buffers(tmp_path):
    import trimesh

    files = trimesh.Scene(trimesh.Trimesh(*box(), process=False)).export(file_type="gltf")
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert load_mesh(tmp_path / "model.gltf").closed
    header = json.loads((tmp_path / "model.gltf").read_text())
    buffer = tmp_path / header["buffers"][0]["uri"]
    (tmp_path / "elsewhere").mkdir()
    for uri, place in (("my%20part.bin", "my part.bin"), ("elsewhere/b.bin", "elsewhere/b.bin")):
        header["buffers"][0]["uri"] = uri
        (tmp_path / "model.gltf").write_text(json.dumps(header))
        buffer = buffer.rename(tmp_path / place)
        assert (
            load_mesh(tmp_path / "model.gltf").closed and mesh_files.files_beside(tmp_path / "model.gltf")[0] == place
        )
    buffer.unlink()
    with pytest.raises(MeshError, match=r"model\.gltf"):
        load_mesh(tmp_path / "model.gltf")
    (tmp_path / "model.gltf").write_text('{"buffers": [{"uri": 5}]}')
    assert mesh_files.files_beside(tmp_path / "model.gltf") == []


def model_3mf(path, build, more=""):
    """A 3MF with a unit box as object 1, further objects, and the items to build."""
    vertices, faces = box()
    corners = "".join('<vertex x="{}" y="{}" z="{}"/>'.format(*v) for v in vertices)
    triangles = "".join('<triangle v1="{}" v2="{}" v3="{}"/>'.format(*f) for f in faces)
    mesh = f"<mesh><vertices>{corners}</vertices><triangles>{triangles}</triangles></mesh>"
    schemas = "http://schemas.microsoft.com/3dmanufacturing"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "3D/3dmodel.model",
            f'<?xml version="1.0"?><model unit="inch" xmlns="{schemas}/core/2015/02"><resources>'
            f'<object id="1" type="model">{mesh}</object>{more}</resources><build>{build}</build></model>',
        )
        file.writestr(
            "_rels/.rels",
            '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Target="/3D/3dmodel.model" Id="r" Type="{schemas}/2013/01/3dmodel"/></Relationships>',
        )


@pytest.mark.parametrize("inner", ["1 0 0 0 1 0 0 0 1 2 0 0", "0 1 0 -1 0 0 0 0 1 2 0 0", "-1 0 0 0 1 0 0 0 1 2 0 0"])
def test_3mf_items_and_components_are_placed(tmp_path, inner):
    component = f'<components><component objectid="1" transform="{inner}"/></components>'
    model_3mf(
        tmp_path / "part.3mf",
        '<item objectid="1"/><item objectid="2" transform="2 0 0 0 2 0 0 0 2 10 0 0"/>',
        f'<object id="2" type="model">{component}</object>',
    )
    mesh = load_mesh(tmp_path / "part.3mf")
    ends = mesh.transform.to_file(mesh.vertices)
    assert np.allclose([ends.min(axis=0), ends.max(axis=0)], [[-0.5, -1, -1], [15, 1, 1]])
    assert mesh.closed and mesh.diagnosis["bodies"] == 2 and mesh.diagnosis["inside_out_bodies"] == 0
    assert np.allclose(winding_at(mesh, [[0, 0, 0], [14, 0, 0], [10, 0, 0]]), [1, 1, 0], atol=1e-9)


def cube_3mf(number, size):
    """An object element: a cube about the origin."""
    vertices, faces = box(size=size)
    corners = "".join('<vertex x="{}" y="{}" z="{}"/>'.format(*v) for v in vertices)
    triangles = "".join('<triangle v1="{}" v2="{}" v3="{}"/>'.format(*f) for f in faces)
    mesh = f"<mesh><vertices>{corners}</vertices><triangles>{triangles}</triangles></mesh>"
    return f'<object id="{number}">{mesh}</object>'


def bodies_of(mesh):
    """[(lowest x, highest x)] of the bodies, by the lowest."""
    label = _components(np.repeat(np.arange(len(mesh.faces)), 3), len(mesh.faces) + mesh.faces.ravel(), 10_000)
    x = mesh.transform.to_file(mesh.vertices)[mesh.faces][:, :, 0]
    number = label[: len(mesh.faces)]
    return sorted((round(x[number == k].min(), 6), round(x[number == k].max(), 6)) for k in np.unique(number))


def test_3mf_objects_of_other_files(tmp_path):
    """Components and items may name objects of other model files, each with numbers of its own."""
    components = "".join(
        f'<component xmlns:p="p" p:path="/3D/other.model" objectid="{k}" transform="1 0 0 0 1 0 0 0 1 {10 * k} 0 0"/>'
        for k in (1, 2)
    )
    more = f'<object id="3" type="model"><components>{components}</components></object>'
    item = '<item xmlns:p="p" p:path="/3D/other.model" objectid="2" transform="1 0 0 0 1 0 0 0 1 40 0 0"/>'
    model_3mf(tmp_path / "part.3mf", '<item objectid="1"/><item objectid="3"/>' + item, more)
    with zipfile.ZipFile(tmp_path / "part.3mf", "a") as file:
        file.writestr("3D/other.model", f"<model><resources>{cube_3mf(1, 3)}{cube_3mf(2, 5)}</resources></model>")
    bounds = [(-0.5, 0.5), (8.5, 11.5), (17.5, 22.5), (37.5, 42.5)]
    assert bodies_of(load_mesh(tmp_path / "part.3mf")) == bounds


def test_3mf_items_of_one_part_number(tmp_path):
    items = "".join(f'<item objectid="1" partnumber="bolt" transform="1 0 0 0 1 0 0 0 1 {x} 0 0"/>' for x in (0, 5, 10))
    model_3mf(tmp_path / "part.3mf", items)
    assert bodies_of(load_mesh(tmp_path / "part.3mf")) == [(-0.5, 0.5), (4.5, 5.5), (9.5, 10.5)]


@pytest.mark.parametrize(
    ("build", "more", "words"),
    [
        ('<item objectid="7"/>', "", "no object 7"),
        (
            '<item objectid="2"/>',
            '<object id="2"><components><component objectid="2"/></components></object>',
            "components that hold each other",
        ),
    ],
)
def test_3mf_that_names_what_is_not_there(tmp_path, build, more, words):
    model_3mf(tmp_path / "part.3mf", build, more)
    with pytest.raises(MeshError, match=rf"part\.3mf: .*{words}.*export it again"):
        load_mesh(tmp_path / "part.3mf")


def test_3mf_unit_is_told(tmp_path):
    model_3mf(tmp_path / "part.3mf", '<item objectid="1"/>')
    assert any("unit is the inch" in line for line in load_mesh(tmp_path / "part.3mf").diagnosis["changes"])


@pytest.mark.parametrize("lost", ["compression", "sparse", "fans", "instances", "normalized", "unknown"])
def test_gltf_that_would_lose_pieces_is_refused(tmp_path, lost):
    import trimesh

    files = trimesh.Scene(trimesh.Trimesh(*box(), process=False)).export(file_type="gltf")
    header = json.loads(files["model.gltf"])
    shape = header["meshes"][0]["primitives"][0]
    if lost == "compression":
        header["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    elif lost in ("instances", "unknown"):
        name = "EXT_mesh_gpu_instancing" if lost == "instances" else "VENDOR_shape"
        header["nodes"][-1]["extensions"] = {name: {}}
        header["extensionsRequired"] = [name] if lost == "unknown" else []
    elif lost in ("sparse", "normalized"):
        header["accessors"][shape["attributes"]["POSITION"]][lost] = {"count": 1} if lost == "sparse" else True
    else:
        shape["mode"] = 6
    for name, data in (files | {"model.gltf": json.dumps(header).encode()}).items():
        (tmp_path / name).write_bytes(data)
    word = {"instances": "EXT_mesh_gpu_instancing", "unknown": "VENDOR_shape"}.get(lost, lost)
    with pytest.raises(MeshError, match=rf"model\.gltf: .*{word}"):
        load_mesh(tmp_path / "model.gltf")


def prism(outline, height=1.0):
    """A closed prism of polygons: vertices and polygon lines of an OBJ."""
    count = len(outline)
    vertices = [(*p, z) for z in (0, height) for p in outline]
    ring = list(range(count))
    polygons = [ring[::-1], [i + count for i in ring]]
    polygons += [[i, (i + 1) % count, (i + 1) % count + count, i + count] for i in ring]
    lines = ["v {} {} {}".format(*v) for v in vertices]
    return "\n".join(lines + ["f " + " ".join(str(i + 1) for i in p) for p in polygons]) + "\n"


COMB = [(0, 0), (5, 0), (5, 3), (4, 3), (4, 1), (3, 1), (3, 3), (2, 3), (2, 1), (1, 1), (1, 3), (0, 3)]


@pytest.mark.parametrize(("outline", "area"), [(COMB, 11.0), ([(0, 0), (2, 1), (0, 2), (0.5, 1)], 1.5)])
def test_polygons_that_are_not_convex_are_covered_once(tmp_path, outline, area):
    (tmp_path / "comb.obj").write_text(prism(outline))
    mesh = load_mesh(tmp_path / "comb.obj")
    corners = mesh.transform.to_file(mesh.vertices)[mesh.faces]
    top = (corners[:, :, 2] > 0.99).all(axis=1)
    doubled = np.cross(corners[top, 1] - corners[top, 0], corners[top, 2] - corners[top, 0])
    assert (doubled[:, 2] > 0).all() and doubled[:, 2].sum() / 2 == pytest.approx(area)
    assert mesh.closed and len(mesh.faces) == 2 * (len(outline) - 2) + 2 * len(outline)


# --------------------------------------------------------------------------------------------------- refusing


def soup_obj(*rows):
    return "".join(f"{row}\n" for row in rows).encode()


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
    "cut.off": (b"OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "cut short"),
    "comments.off": (b"# OFF\n# 8 6 12\n", "OFF"),
    "four.off": (b"4OFF\n0 0 0\n", "OFF"),
    "cut.ply": (ply_bytes("<", QUADS)[:-30], "'face'"),
    "cut_mixed.ply": (ply_bytes(">", [*QUADS, [0, 1, 2]])[:-3], "'face'"),
    "cut_text.ply": (ply_bytes("", QUADS)[:-30], "'face'"),
    "cut_early.ply": (ply_bytes("<", QUADS)[:350], "'vertex'"),
    "header.ply": (b"ply\nformat ascii 1.0\nelement", "header"),
    "garbage.ply": (bytes(range(256)), "not a PLY"),
    "garbage.glb": (bytes(range(256)), "not a readable GLB"),
    "garbage.3mf": (bytes(range(256)), "not a readable 3MF"),
    "garbage.gltf": (bytes(range(256)), "not a readable GLTF"),
    "plane.obj": (b"v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n", "a vertex with 2 coordinates"),
    "flat.obj": (soup_obj("v 0 0 0", "v 1 0 1", "v 0 1 0", "v 1 1 1", "f 1 2 3", "f 2 4 3"), "flat"),
    "line.obj": (soup_obj("v 0 0 0", "v 1 1 1", "v 2 2 2", "v 5 5 5", "f 1 2 3", "f 2 3 4"), "degenerate"),
    "dot.obj": (soup_obj("v 1 1 1", "v 1 1 1", "v 1 1 1", "f 1 2 3", "f 1 1 1"), "degenerate"),
    "part.step": (b"ISO-10303-21;", "'.step' is not a mesh format"),
    "part": (b"ISO-10303-21;", "without suffix"),
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
        load_mesh(tmp_path / "missing.stl")
    (tmp_path / "folder.stl").mkdir()
    with pytest.raises(MeshError, match="is a folder"):
        load_mesh(tmp_path / "folder.stl")
    (tmp_path / "loop.stl").symlink_to(tmp_path / "loop.stl")
    with pytest.raises(MeshError, match=r"loop\.stl"):
        load_mesh(tmp_path / "loop.stl")


@pytest.mark.parametrize("thickness", [1e-3, 1e-5])
def test_thin_plate_is_not_flat(tmp_path, thickness):
    assert loaded(tmp_path, *box(size=(1, 1, thickness))).closed


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


# -------------------------------------------------------------------------------------------------- repairing


def test_crack_of_one_rounding_is_closed(tmp_path):
    vertices, faces = sphere(2, 10.0, (100, 50, 20))
    corners = vertices[faces].astype(np.float32)
    steps = np.random.default_rng(0).integers(-1, 2, corners.shape)
    cracked = np.where(steps > 0, np.nextafter(corners, np.float32(np.inf)), corners)
    (tmp_path / "crack.stl").write_bytes(stl_binary(cracked.reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3)))
    mesh = load_mesh(tmp_path / "crack.stl")
    assert mesh.closed and len(mesh.faces) == len(faces) and len(mesh.vertices) == len(vertices)
    assert any("rounding" in change for change in mesh.diagnosis["changes"])


def test_zeros_of_both_signs_are_one_place(tmp_path):
    vertices, faces = box((0.5, 0.5, 0.5))
    corners = vertices[faces]
    corners[::2] = np.where(corners[::2] == 0, -0.0, corners[::2])
    (tmp_path / "zero.stl").write_bytes(stl_binary(corners.reshape(-1, 3), np.arange(36).reshape(-1, 3)))
    mesh = load_mesh(tmp_path / "zero.stl")
    assert mesh.closed and mesh.diagnosis["changes"] == ["Merged 36 vertices into 8 places."]


def test_tiny_feature_of_a_closed_mesh_survives(tmp_path):
    # A ball 10^-6 of the size of the box beside it: some of its vertices are a float32 step apart.
    mesh = loaded(tmp_path, *together(box(size=2), sphere(3, 1e-6, (1.5, 0, 0))), suffix=".ply")
    assert mesh.closed and len(mesh.faces) == 12 + 1280
    feature = loaded(tmp_path, *together(box(size=2), sphere(2, 1e-6, (1.5, 0, 0))), suffix=".stl")
    assert feature.closed and feature.diagnosis["bodies"] == 2


def test_cracks_far_from_the_origin_in_stl(tmp_path):
    mesh = loaded(tmp_path, *sphere(2, 0.5, (100, 100, 100)), suffix=".stl")
    assert mesh.closed and len(mesh.faces) == 320
    assert abs(np.linalg.norm(mesh.vertices, axis=1).max() - 0.9) < 1e-9


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
def test_open_rim_as_fine_as_its_coordinates_stays(tmp_path, spacing):
    """A terrain in metres, far along y: its coordinates come in steps of 0.5."""
    x, y = np.meshgrid(np.arange(60) * spacing, np.arange(60) * spacing, indexing="ij")
    vertices = np.stack([450_000 + x, 5_400_000 + y, 30 * np.sin(x / 9) * np.cos(y / 7)], axis=2).reshape(-1, 3)
    corner = (np.arange(59)[:, None] * 60 + np.arange(59)).ravel()[:, None]
    faces = np.concatenate([np.add(corner, [0, 60, 61]), np.add(corner, [0, 61, 1])])
    mesh = loaded(tmp_path, vertices, faces, suffix=".stl")
    assert not mesh.closed and len(mesh.faces) == len(faces) and len(mesh.vertices) == len(vertices)


def test_a_crack_with_a_tiny_edge_at_one_side_is_closed(tmp_path):
    """One side of the seam has a corner once, the other twice, a rounding apart."""
    vertices, faces = box(size=20, center=(30, 30, 30))
    twin = np.nextafter(vertices[7].astype(np.float32), np.float32(np.inf)).astype(float)
    split = faces.copy()
    users = np.flatnonzero((split == 7).any(axis=1))
    split[users[0]] = np.where(split[users[0]] == 7, 8, split[users[0]])
    other = split[users[0]]
    at = list(other).index(8)
    split = np.vstack([split, [[7, 8, other[(at + 1) % 3]]]])
    mesh = loaded(tmp_path, np.vstack([vertices, twin]), split, suffix=".stl")
    assert mesh.closed and len(mesh.faces) == 12


def test_an_open_ball_of_fine_triangles_far_away_keeps_them(tmp_path):
    vertices, faces = sphere(4, 10.0, (2e6, 0, 0))
    bowl = faces[vertices[faces][:, :, 2].max(axis=1) < 5]
    whole = vertices.astype(np.float32)
    mesh = loaded(tmp_path, vertices, bowl, suffix=".stl")
    three = (whole[bowl] != whole[bowl[:, [1, 2, 0]]]).any(axis=2).all(axis=1)
    assert len(mesh.faces) == three.sum() and not mesh.closed


def test_unused_vertices_do_not_count(tmp_path):
    text = obj_text(OBJ_QUADS) + "v 1000 0 0\nv nan 0 0\n"
    (tmp_path / "part.obj").write_text(text)
    mesh = load_mesh(tmp_path / "part.obj")
    assert len(mesh.vertices) == 8 and np.allclose(mesh.transform.center, 0)
    assert mesh.transform.scale == pytest.approx(0.9 / np.sqrt(0.75))


def test_degenerate_triangles_are_dropped_and_told(tmp_path):
    vertices, faces = box()
    mesh = loaded(tmp_path, vertices, np.concatenate([faces, [[0, 0, 1], [3, 3, 3]]]))
    assert mesh.closed and len(mesh.faces) == 12 and mesh.diagnosis["degenerate_triangles"] == 2
    assert any("Dropped 2 triangles" in change for change in mesh.diagnosis["changes"])


def t_junction():
    """A box whose bottom is split at the middle of an edge, closed there by a sliver of no area."""
    vertices, faces = box()
    vertices = np.vstack([vertices, (vertices[0] + vertices[1]) / 2])
    bottom = [[0, 2, 8], [8, 2, 1], [1, 2, 3]]  # 0-8-1 is straight; the side 0, 1, 4 has the whole edge
    return vertices, np.concatenate([bottom, faces[2:], [[0, 8, 1]]])


def test_sliver_that_closes_a_t_junction_stays(tmp_path):
    vertices, faces = t_junction()
    mesh = loaded(tmp_path, vertices, faces)
    assert mesh.closed and len(mesh.faces) == 14 and mesh.diagnosis["degenerate_triangles"] == 1
    without = loaded(tmp_path, vertices, faces[:-1])
    assert not without.closed and without.diagnosis["boundary_edges"] == 3


def test_sliver_that_closes_nothing_goes(tmp_path):
    vertices, faces = box()
    loose = (np.array([[2, 0, 0], [2.5, 0, 0], [3, 0, 0.0]]), np.array([[0, 1, 2]]))
    mesh = loaded(tmp_path, *together((vertices, faces), loose))
    assert mesh.closed and len(mesh.faces) == 12 and len(mesh.vertices) == 8


@pytest.mark.parametrize("copies", [[0], [0, 1], [4, 4, 7], list(range(12)), [*range(12), *range(12)]])
def test_doubled_triangles_are_made_single(tmp_path, copies):
    vertices, faces = box()
    mesh = loaded(tmp_path, vertices, np.concatenate([faces, faces[copies]]))
    assert mesh.closed and len(mesh.faces) == 12
    assert mesh.diagnosis["duplicate_triangles"] == len(copies)
    assert winding_at(mesh, [0, 0, 0])[0] == pytest.approx(1)


def test_doubled_with_the_copy_reversed(tmp_path):
    vertices, faces = box()
    # One back side too many: a repair. All back sides: the box was written out from both sides.
    for copies in ([3], range(12)):
        mesh = loaded(tmp_path, vertices, np.concatenate([faces[:, ::-1][list(copies)], faces]))
        assert mesh.closed and len(mesh.faces) == 12
        assert winding_at(mesh, [0, 0, 0])[0] == pytest.approx(1)


def test_open_bowl_written_from_both_sides_is_made_single(tmp_path):
    vertices, faces = sphere(3)
    bowl = faces[vertices[faces][:, :, 2].max(axis=1) < 0.5]
    mesh = loaded(tmp_path, vertices, np.concatenate([bowl, bowl[:, ::-1]]))
    assert len(mesh.faces) == len(bowl) and not mesh.closed
    assert winding_at(mesh, [0, 0, -0.5])[0] > 0.5


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_body_that_fills_a_void_makes_one_solid(tmp_path, order):
    pieces = box(size=3), box(inside_out=True), box()
    mesh = loaded(tmp_path, *together(*(pieces[k] for k in order)))
    assert mesh.closed and len(mesh.faces) == 12
    assert np.allclose(winding_at(mesh, [[0, 0, 0], [1, 1, 1], [2, 0, 0]]), [1, 1, 0])
    assert any("face each other" in line for line in mesh.diagnosis["changes"])


def test_a_free_sheet_within_a_solid_goes(tmp_path):
    sheet = np.array([[-0.2, -0.2, 0], [0.2, -0.2, 0], [0, 0.2, 0.0]]), np.array([[0, 1, 2], [0, 2, 1]])
    mesh = loaded(tmp_path, *together(box(), sheet))
    assert mesh.closed and len(mesh.faces) == 12


def test_fin_without_thickness_is_dropped(tmp_path):
    vertices, faces = box()
    vertices = np.vstack([vertices, [[-0.5, -0.5, 2], [0.5, -0.5, 2]]])
    sheet = np.array([[4, 5, 8], [5, 9, 8]])
    mesh = loaded(tmp_path, vertices, np.concatenate([faces, sheet, sheet[:, ::-1]]))
    assert mesh.closed and len(mesh.faces) == 12 and len(mesh.vertices) == 8
    assert any("fins" in change for change in mesh.diagnosis["changes"])


def test_faces_in_which_two_solids_meet_stay(tmp_path):
    # Two boxes that share a face (opposite copies), and two of different height flush at the bottom (equal copies).
    meeting = loaded(tmp_path, *together(box(), box((1, 0, 0))))
    assert meeting.closed and len(meeting.faces) == 24
    assert np.allclose(winding_at(meeting, [[0, 0, 0], [1, 0, 0], [2, 0, 0]]), [1, 1, 0])
    flush = loaded(tmp_path, *together(box((0, 0, 0.5), 1), box((0, 0, 1), (1, 1, 2))))
    assert flush.closed and np.allclose(winding_at(flush, [[0, 0, 0.5], [0, 0, 1.5]]), [2, 1])


# ------------------------------------------------------------------------------------------------- orienting


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_any_faces_turned_are_turned_back(seed, share):
    vertices, faces = together(sphere(1), sphere(1, 0.5, (3, 0, 0)))
    turned = np.random.default_rng(seed).random(len(faces)) < share
    damaged = np.where(turned[:, None], faces[:, ::-1], faces)
    mended, shells, _ = geometry._orient(geometry._unit_box(vertices), damaged, [])
    assert shells.closed.all() and (shells.orientation == 1).all()
    same = (np.sort(mended, axis=1) == np.sort(faces, axis=1)).all()
    assert same and (geometry._parity(mended) == geometry._parity(faces)).all()


def test_open_sheet_keeps_the_side_of_most_of_it(tmp_path):
    x, y = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8), indexing="ij")
    vertices = np.stack([x, y, x * x - y * y], axis=-1).reshape(-1, 3)
    corner = (8 * np.arange(7)[:, None] + np.arange(7)).reshape(-1, 1)
    sheet = np.concatenate([corner + np.array([0, 8, 9]), corner + np.array([0, 9, 1])])
    for faces in (sheet, sheet[:, ::-1].copy()):
        damaged = faces.copy()
        damaged[[0, 1, 20, 60]] = damaged[[0, 1, 20, 60]][:, ::-1]
        mesh = loaded(tmp_path, vertices, damaged)
        assert (geometry._parity(mesh.faces) == geometry._parity(faces)).all()
        assert any("Turned 4 triangles" in change for change in mesh.diagnosis["changes"])


def test_soup_has_no_side_to_turn(tmp_path):
    generator = np.random.default_rng(1)
    vertices, faces = generator.uniform(-1, 1, (240, 3)), np.arange(240).reshape(-1, 3)
    for soup in (faces, faces[:, ::-1]):
        mesh = loaded(tmp_path, vertices, soup)
        assert mesh.diagnosis["inside_out_bodies"] == 0 and len(mesh.faces) == 80


def test_one_face_turned_is_told(tmp_path):
    vertices, faces = box()
    faces[5] = faces[5, ::-1]
    mesh = loaded(tmp_path, vertices, faces)
    assert mesh.closed and mesh.diagnosis["inconsistent_edges"] == 3
    assert mesh.diagnosis["inside_out_bodies"] == 0
    assert any("1 triangle " in change for change in mesh.diagnosis["changes"])
    assert winding_at(mesh, [0, 0, 0])[0] == pytest.approx(1)


# Shells from the outside inward, + outward and - inward as in the file; the winding numbers wanted between them.
NESTED = {
    "+": [1],
    "-": [1],
    "++": [1, 2],
    "+-": [1, 0],
    "-+": [1, 0],
    "--": [1, 0],
    "+-+": [1, 0, 1],
    "-+-": [1, 0, 1],
    "+--": [1, 0, 1],
    "++-": [1, 2, 1],
    "+-+-": [1, 0, 1, 0],
    "-+-+": [1, 0, 1, 0],
}


@pytest.mark.parametrize("signs", NESTED)
@pytest.mark.parametrize("order", [1, -1])
def test_nested_shells(tmp_path, signs, order):
    sizes = 4.0 - np.arange(len(signs))
    shells = [box(size=size, inside_out=sign == "-") for size, sign in zip(sizes, signs, strict=True)]
    mesh = loaded(tmp_path, *together(*shells[::order]))
    between = np.stack([sizes / 2 - 0.25, 0 * sizes, 0 * sizes], axis=1)
    assert mesh.closed and edges_balance(mesh.faces)
    assert np.allclose(winding_at(mesh, between), NESTED[signs], atol=1e-9)
    steps = np.diff([0, *NESTED[signs]])
    assert mesh.diagnosis["void_bodies"] == (steps < 0).sum()
    assert mesh.diagnosis["inside_out_bodies"] == sum(
        (step > 0) != (sign == "+") for step, sign in zip(steps, signs, strict=True)
    )


def test_inside_out_bodies_side_by_side(tmp_path):
    mesh = loaded(tmp_path, *together(box(inside_out=True), box((3, 0, 0)), box((6, 0, 0), inside_out=True)))
    assert mesh.diagnosis["inside_out_bodies"] == 2
    assert np.allclose(winding_at(mesh, [[0, 0, 0], [3, 0, 0], [6, 0, 0]]), 1)
    assert any("Turned 2 inside-out bodies" in change for change in mesh.diagnosis["changes"])


def test_inside_out_body_that_pokes_out_of_another_is_no_void(tmp_path):
    mesh = loaded(tmp_path, *together(box(size=2), box((1, 0, 0), inside_out=True)))
    assert np.allclose(winding_at(mesh, [[-0.5, 0, 0], [0.75, 0, 0], [1.25, 0, 0]]), [1, 2, 1])


def pierced(inside_out=False, size=2.0):
    """A fine box with one triangle missing."""
    import trimesh

    vertices, faces = trimesh.remesh.subdivide(*box(size=size, inside_out=inside_out))
    vertices, faces = trimesh.remesh.subdivide(vertices, faces)
    return vertices, faces[1:]


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("inner", [False, True])
def test_void_in_an_open_shell(tmp_path, outer, inner):
    mesh = loaded(tmp_path, *together(pierced(outer), box(inside_out=inner)))
    winding = winding_at(mesh, [[0.75, 0.1, 0.1], [0, 0.1, 0.1]])
    assert not mesh.closed and winding[0] == pytest.approx(1, abs=0.1)
    # Only two outward shells are a union; each of the others has a reading with a void.
    assert winding[1] == pytest.approx(0 if outer or inner else 2, abs=0.1)


def test_open_mesh_inside_out_is_turned(tmp_path):
    for vertices, faces in (pierced(True), sphere(3)):
        faces = faces[vertices[faces][:, :, 2].max(axis=1) < 0.6]
        outward = faces if winding_sign(vertices, faces) > 0 else faces[:, ::-1]
        for given_faces, count in ((outward, 0), (outward[:, ::-1], 1)):
            mesh = loaded(tmp_path, vertices, given_faces)
            assert mesh.diagnosis["inside_out_bodies"] == count and not mesh.closed
            assert winding_at(mesh, [0, 0, 0])[0] > 0.5


def winding_sign(vertices, faces):
    return np.sign(solid_angle_winding_number(np.zeros((1, 3)), vertices[faces])[0])


def test_surface_that_was_not_sewn(tmp_path):
    # A tube of six separate patches; the patches of the bore are seen from within, which is right. Gaps all round.
    import trimesh

    outer = trimesh.creation.cylinder(radius=2, height=6, sections=64)
    bore = trimesh.creation.cylinder(radius=0.5, height=6, sections=64)
    gap = 1e-3
    side = [np.abs(part.face_normals[:, 2]) < 0.5 for part in (outer, bore)]
    lids = trimesh.creation.annulus(r_min=0.5, r_max=2 - gap, height=6 - gap, sections=64)
    lid_faces = lids.faces[np.abs(lids.face_normals[:, 2]) > 0.5]
    patches = [
        (np.asarray(outer.vertices), outer.faces[side[0]]),
        (np.asarray(bore.vertices) * [1 - gap, 1 - gap, 1], bore.faces[side[1]][:, ::-1]),
        (np.asarray(lids.vertices), lid_faces),
    ]
    vertices, faces = together(*patches)
    for turned in (faces, faces[:, ::-1]):
        mesh = loaded(tmp_path, vertices, turned)
        winding = winding_at(mesh, [[1.2, 0.1, 0], [0.1, 0, 0], [3, 0, 0]])
        assert np.allclose(winding, [1, 0, 0], atol=0.05)


def test_moebius_strip_cannot_be_oriented(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    along = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    across = np.stack([np.cos(angle / 2) * along[:, 0], np.cos(angle / 2) * along[:, 1], np.sin(angle / 2)], axis=1)
    vertices = np.stack([along - 0.3 * across, along + 0.3 * across], axis=1).reshape(-1, 3)
    faces = []
    for i in range(40):
        a, b = 2 * i, 2 * i + 1
        c, d = ((2 * i + 2), (2 * i + 3)) if i < 39 else (1, 0)
        faces += [[a, c, b], [b, c, d]]
    mesh = loaded(tmp_path, vertices, np.array(faces))
    assert not mesh.closed and mesh.diagnosis["sign_method"] == "generalised winding number"


def touching(shape, inside_out):
    """Bodies that share vertices, as (vertices, faces), those of the numbers `inside_out` inverted; points in each."""
    if shape == "row":
        middles = [(k, 0, 0) for k in range(3)]
        pieces = [box(middle, inside_out=k in inside_out) for k, middle in enumerate(middles)]
    elif shape == "slab":
        middles = [(x, y, 0) for x in range(3) for y in range(3)]
        pieces = [box(middle, inside_out=k in inside_out) for k, middle in enumerate(middles)]
    else:  # stacked cylinders
        middles = [(0, 0, 0.5), (0, 0, 1.5)]
        ring = np.stack([np.cos(np.arange(48) * np.pi / 24), np.sin(np.arange(48) * np.pi / 24)], axis=1)
        pieces = []
        for k in range(2):
            ends = [np.column_stack([ring, np.full(48, float(k + end))]) for end in (0, 1)]
            vertices = np.vstack([*ends, [[0, 0, k], [0, 0, k + 1]]])
            i, j = np.arange(48), (np.arange(48) + 1) % 48
            faces = np.concatenate(
                [
                    np.stack([i, j, j + 48], axis=1),
                    np.stack([i, j + 48, i + 48], axis=1),
                    np.stack([j, i, 0 * i + 96], axis=1),
                    np.stack([i + 48, j + 48, 0 * i + 97], axis=1),
                ]
            )
            pieces.append((vertices, faces[:, ::-1] if k in inside_out else faces))
    return together(*pieces), np.array(middles, float)


@pytest.mark.parametrize(
    ("shape", "inside_out"),
    [("row", [1]), ("row", [0, 2]), ("row", [0, 1, 2]), ("cylinders", [1]), ("slab", [4]), ("slab", [0, 1, 5, 8])],
)
def test_inside_out_bodies_that_touch_others_are_turned(tmp_path, shape, inside_out):
    (vertices, faces), middles = touching(shape, inside_out)
    mesh = loaded(tmp_path, vertices, faces, suffix=".stl")
    assert mesh.closed and np.allclose(winding_at(mesh, middles), 1)
    assert np.allclose(winding_at(mesh, np.add(middles, [0, 0, 9])), 0)
    assert any(line.startswith("Turned") for line in mesh.diagnosis["changes"])


@pytest.mark.parametrize("flaw", ["a triangle lacks", "an inverted body", "none"])
def test_bodies_that_overlap_and_share_an_edge_stay_as_they_are(tmp_path, flaw):
    """A plate and a rib that stands in it, flush at one side: parity would call what they share air."""
    plate, rib = box((5, 3, 0.5), (10, 6, 1)), box((5, 0.5, 2.5), (10, 1, 5))
    pieces = [plate, rib]
    if flaw == "a triangle lacks":
        pieces[0] = plate[0], plate[1][1:]
    if flaw == "an inverted body":
        pieces.append(box((10.5, -0.5, 0.5), inside_out=True))
    mesh = loaded(tmp_path, *together(*pieces), suffix=".stl")
    winding = winding_at(mesh, [[5, 5, 0.5], [5, 0.5, 0.5], [5, 0.5, 3], [5, 5, 3]])
    assert (np.abs(winding - [1, 2, 1, 0]) < 0.45).all()  # beside a hole a fraction


def test_boxes_of_whole_numbers_with_one_inverted(tmp_path):
    """What overlaps or not, the inside is at least as often right as by the file's own winding."""
    generator, worse = np.random.default_rng(0), 0
    for _ in range(40):
        low = generator.integers(0, 4, (3, 3))
        pieces = [(start, start + generator.integers(1, 4, 3)) for start in low]
        turned = generator.integers(3)
        shapes = [box((a + b) / 2, b - a, inside_out=k == turned) for k, (a, b) in enumerate(pieces)]
        mesh = loaded(tmp_path, *together(*shapes), suffix=".stl")
        asked = generator.uniform(0, 7, (200, 3))
        truth = np.any([((asked > a) & (asked < b)).all(axis=1) for a, b in pieces], axis=0)
        as_it_is = solid_angle_winding_number(asked, np.concatenate([v[f] for v, f in shapes])) > 0.5
        wrong = (winding_at(mesh, asked) > 0.5) != truth
        worse += wrong.sum() > (as_it_is != truth).sum()
    assert worse == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.3))
def test_triangles_turned_in_bodies_that_touch_are_turned_back(seed, share):
    (vertices, faces), middles = touching("slab", [])
    generator = np.random.default_rng(seed)
    mask = generator.random(len(faces)) < share
    number, first = geometry._equal_rows(vertices)
    mended, shells, _ = geometry._orient(geometry._unit_box(vertices[first]), geometry._turn(number[faces], mask), [])
    winding = solid_angle_winding_number(middles, vertices[first][mended])
    assert shells.closed.all() and np.allclose(winding, 1)


def test_bodies_that_touch_along_an_edge_are_turned_apart(tmp_path):
    mesh = loaded(tmp_path, *together(box(), box((1, 1, 0), inside_out=True)), suffix=".stl")
    assert mesh.closed and mesh.diagnosis["non_manifold_edges"] == 1
    assert np.allclose(winding_at(mesh, [[0, 0, 0], [1, 1, 0], [0, 1, 0]]), [1, 1, 0], atol=1e-9)


def test_balanced_edges_not_two_faces_make_a_mesh_closed(tmp_path):
    inner_wall = together(box(), box((1, 0, 0)))
    assert loaded(tmp_path, *inner_wall).closed
    vertices, faces = inner_wall
    assert not loaded(tmp_path, vertices, faces[:-1]).closed


# ----------------------------------------------------------------------------------------------- normalising


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(-6, 6), st.integers(-6, 6), st.integers(1, 3))
def test_bounding_sphere_is_the_smallest(seed, count, size, offset, dimensions):
    generator = np.random.default_rng(seed)
    points = np.zeros((count, 3))
    points[:, :dimensions] = generator.normal(size=(count, dimensions)).round(int(generator.integers(1, 8)))
    points = (points + generator.normal(size=3) * 10.0**offset) * 10.0**size
    center, radius = geometry.bounding_sphere(points)
    distances = np.linalg.norm(points - center, axis=1)
    assert distances.max() <= radius * (1 + 1e-12)
    # It is the smallest if the center lies in the convex hull of the points on it: no direction leads away from all.
    touching = points[distances > radius * (1 - 1e-6) - 1e-9 * 10.0 ** (size + offset)] - center
    away = generator.normal(size=(500, 3))
    assert ((touching @ away.T).max(axis=0) >= -1e-5 * (radius + 1e-9 * 10.0 ** (size + offset))).all()


@pytest.mark.parametrize("size", [1e-200, 1e-6, 1.0, 1e6, 1e200])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_small_large_and_far_parts_lose_nothing(tmp_path, size, offset):
    base, faces = sphere(2)
    reference = loaded(tmp_path, base, faces)
    mesh = loaded(tmp_path, (base + np.array([offset, -offset, offset])) * size, faces)
    assert mesh.closed and np.linalg.norm(mesh.vertices, axis=1).max() <= 0.9 + 1e-9
    # 10^6 sizes away float64 itself has steps of 10^-10 of the size.
    assert np.abs(mesh.vertices - reference.vertices).max() < (1e-9 if offset else 1e-13)
    assert np.array_equal(mesh.faces, reference.faces)
    assert mesh.diagnosis["thinnest_feature"] == pytest.approx(reference.diagnosis["thinnest_feature"] * size, rel=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_transform_round_trip(center, scale, seed):
    transform = Transform(np.array(center), scale)
    domain = np.random.default_rng(seed).uniform(-1, 1, (20, 3))
    file_points = transform.to_file(domain)
    assert file_points.dtype == np.float64
    rounding = 4e-16 * (np.abs(center).max() + 1 / scale) * scale
    assert np.abs(transform.to_domain(file_points) - domain).max() <= 4 * rounding + 1e-15
    assert transform.length_to_file(transform.scale) == pytest.approx(1)


def test_coarse_coordinates_are_told(tmp_path):
    far = loaded(tmp_path, *box((1e5, 0, 0)), suffix=".stl")
    assert any("far from the origin" in line for line in geometry.diagnosis_lines(far.diagnosis))
    near = loaded(tmp_path, *box((100, 0, 0)), suffix=".stl")
    assert not any("far from the origin" in line for line in geometry.diagnosis_lines(near.diagnosis))


# --------------------------------------------------------------------------------------------------- winding


def test_winding_number_of_a_square_against_its_formula():
    # A unit square seen from height h over its middle fills 4 atan(1 / (2 h sqrt(4 h^2 + 2))) steradians.
    square = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    triangles = square[[[0, 1, 2], [0, 2, 3]]]
    heights = np.array([0.01, 0.3, 1.0, 7.0])
    expected = 4 * np.arctan(1 / (2 * heights * np.sqrt(4 * heights**2 + 2))) / (4 * np.pi)
    below = np.stack([0 * heights, 0 * heights, -heights], axis=1)
    assert np.allclose(solid_angle_winding_number(below, triangles), expected, atol=1e-14)
    assert np.allclose(solid_angle_winding_number(-below, triangles), -expected, atol=1e-14)


def test_winding_number_against_libigl_and_across_chunks(monkeypatch):
    import igl

    vertices, faces = together(sphere(2), sphere(2, 0.8, (0.5, 0, 0)), box((0, 3, 0), inside_out=True))
    faces = faces[:-40]
    points = np.random.default_rng(0).uniform(-2, 4, (300, 3))
    exact = solid_angle_winding_number(points, vertices[faces])
    assert np.allclose(exact, igl.winding_number(vertices, faces.astype(np.int64), points), atol=1e-9)
    monkeypatch.setattr(geometry, "WINDING_CHUNK", 100)
    assert np.allclose(solid_angle_winding_number(points, vertices[faces]), exact, atol=1e-12)
    monkeypatch.setattr(geometry, "MOST_EXACT_PAIRS", 0)
    assert np.abs(geometry._winding_number(points, vertices[faces]) - exact).max() < 0.02


def test_winding_number_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        solid_angle_winding_number(np.zeros((4, 2)), np.zeros((1, 3, 3)))
    with pytest.raises(ValueError, match=r"\(5, 3\)"):
        solid_angle_winding_number(np.zeros((4, 3)), np.zeros((5, 3)))


# -------------------------------------------------------------------------------------------------- measuring


@pytest.mark.parametrize("thickness", [0.3, 0.05, 0.002])
def test_thinnest_wall_of_plates_and_hollow_boxes(tmp_path, thickness):
    plate = loaded(tmp_path, *box(size=(3, 2, thickness)))
    assert plate.diagnosis["thinnest_feature"] == pytest.approx(thickness, rel=0.02)
    hollow = together(box(size=2), box(size=2 - 2 * thickness, inside_out=True))
    assert loaded(tmp_path, *hollow).diagnosis["thinnest_feature"] == pytest.approx(thickness, rel=0.02)


def test_depth_of_an_overlap_is_no_wall(tmp_path):
    mesh = loaded(tmp_path, *together(box(), box((0.999, 0, 0)), box((0, 0.999, 0.2))))
    assert mesh.diagnosis["thinnest_feature"] > 0.9


def test_thin_against_the_grid(tmp_path):
    vertices, faces = box(size=(1, 1, 0.01))
    radius = np.sqrt(0.5 + 0.01**2 / 4)
    for resolution, thin in ((64, True), (1024, False)):
        diagnosis = loaded(tmp_path, vertices, faces, reconstruction_res=resolution).diagnosis
        assert diagnosis["cell"] == pytest.approx(2 / (resolution - 1) * radius / 0.9)
        assert diagnosis["thin_against_grid"] == thin
        assert any("reconstructionRes" in line for line in geometry.diagnosis_lines(diagnosis)) == thin
    off = loaded(tmp_path, vertices, faces, reconstruction_res=0).diagnosis
    assert off["cell"] is None and not off["thin_against_grid"]


@pytest.mark.parametrize(
    ("pieces", "pairs"),
    [
        ([box(), box((3, 0, 0))], 0),
        ([box(), box((0.5, 0.1, 0.1))], 1),
        ([box(), box((0.5, 0.1, 0.1)), box((0.3, 0.6, 0.2))], 3),
        ([box(), box((1, 0, 0))], 0),
        ([box(size=3), box()], 1),
        ([box(size=3), box(inside_out=True)], 0),
        ([box(size=3), box(size=2, inside_out=True), box()], 0),
        ([sphere(2), sphere(2, 1.0, (1.5, 0, 0)), sphere(2, 1.0, (5, 0, 0))], 1),
    ],
)
def test_pairs_of_bodies_that_overlap(tmp_path, pieces, pairs):
    assert loaded(tmp_path, *together(*pieces)).diagnosis["overlapping_bodies"] == pairs


def test_diagnosis_is_plain_and_told(tmp_path):
    vertices, faces = together(box(inside_out=True), box((0.5, 0.2, 0.1)), pierced(size=0.5))
    mesh = loaded(tmp_path, vertices, np.concatenate([faces, faces[:1]]))
    assert json.loads(json.dumps(mesh.diagnosis)) == mesh.diagnosis
    lines = geometry.diagnosis_lines(mesh.diagnosis)
    assert "not closed: sign by generalised winding number" in lines[0]
    assert "1 bodies inside out" not in lines[1] and "3 boundary edges" in lines[1]
    assert set(mesh.diagnosis["changes"]) <= set(lines) and all("\n" not in line for line in lines)
    clean = geometry.diagnosis_lines(loaded(tmp_path, *box()).diagnosis)
    assert len(clean) == 1 and "1 body, closed" in clean[0]


# ------------------------------------------------------------------------------------------------- real files

REFUSED = {"empty.stl": "no triangles", "alligator.obj": "flat"}
# Closed or not, bodies, pairs that overlap (None: not known independently).
REAL = {
    "parts/1002_tray_bottom.STL": (True, 1, 0),
    "parts/ADIS16480.STL": (True, 1, 0),
    "parts/angle_block.STL": (True, 1, 0),
    "parts/counter.unitsmm.STL": (True, 6, None),
    "parts/featuretype.STL": (True, 1, 0),
    "parts/idler_riser.STL": (True, 1, 0),
    "parts/octagonal_pocket.stl": (True, 1, 0),
    "parts/plate_holes.STL": (True, 1, 0),
    "parts/round.stl": (True, 1, 0),
    "parts/torus.STL": (True, 1, 0),
    "organic/cow.obj": (True, 1, 0),
    "organic/homer.obj": (True, 1, 0),
    "wild/beetle.obj": (False, None, None),
    "wild/box.STL": (True, 10, None),
    "wild/bunny.ply": (False, 1, 0),
    "wild/busted.STL": (True, 1, 0),
    "wild/cycloidal.ply": (True, 100, None),
    "wild/multibody.stl": (True, 2, None),
    "wild/quadknot.obj": (True, 1, 0),
    "wild/shared.STL": (True, 1, 0),
    "wild/soup.stl": (False, 100, 0),
    "wild/spot.obj": (True, 1, 0),
    "wild/suzanne.obj": (False, None, None),
    "wild/teapot.stl": (False, 3, 0),
}


def edges_balance(faces):
    """Every directed edge has as many opposites: the slow twin of Mesh.closed."""
    uses = {}
    for a, b in faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).tolist():
        uses[a, b] = uses.get((a, b), 0) + 1
        uses[b, a] = uses.get((b, a), 0) - 1
    return not any(uses.values())


@pytest.mark.parametrize("name", REAL)
def test_real_file(name):
    closed, bodies, pairs = REAL[name]
    mesh = load_mesh(real(name))
    assert mesh.closed == closed == edges_balance(mesh.faces)
    assert bodies is None or mesh.diagnosis["bodies"] == bodies
    assert pairs is None or mesh.diagnosis["overlapping_bodies"] == pairs
    assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(0.9, abs=1e-9)
    winding = solid_angle_winding_number(np.random.default_rng(0).uniform(-1, 1, (40, 3)), mesh.vertices[mesh.faces])
    if closed:
        assert np.abs(winding - winding.round()).max() < 1e-6 and winding.min() > -0.5


@pytest.mark.parametrize("name", REFUSED)
def test_real_file_that_is_refused(name):
    with pytest.raises(MeshError, match=REFUSED[name]):
        load_mesh(real("wild/" + name))


def test_soup_keeps_its_sign():
    mesh = load_mesh(real("wild/soup.stl"))
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    points = np.random.default_rng(0).uniform(low, high, (3000, 3))
    share = (solid_angle_winding_number(points, mesh.vertices[mesh.faces]) > 0.5).mean()
    assert share == pytest.approx(1 / 7, abs=0.03)


# --------------------------------------------------------------------------------------------------- writing


def test_every_suffix_but_gltf_is_written():
    assert set(mesh_files.ENCODERS) == set(MESH_SUFFIXES) - {".gltf"}


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "part.stl"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mesh_files.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_mesh(path, *box())
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_write_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(MeshError, match=r"\.step"):
        write_mesh(tmp_path / "part.step", *box())
    with pytest.raises(ValueError, match=r"\(8, 2\)"):
        write_mesh(tmp_path / "part.stl", box()[0][:, :2], box()[1])
    with pytest.raises(OSError):
        write_mesh(tmp_path / "nowhere" / "part.stl", *box())
    assert not list(tmp_path.iterdir())


def test_stl_normals_point_outward(tmp_path):
    write_mesh(tmp_path / "part.stl", *box())
    records = np.frombuffer((tmp_path / "part.stl").read_bytes(), dtype=mesh_files.STL_RECORD, offset=84)
    middle = records["corners"].mean(axis=1)
    assert np.allclose(np.linalg.norm(records["normal"], axis=1), 1)
    assert (np.einsum("ij,ij->i", middle, records["normal"]) > 0.4).all()
