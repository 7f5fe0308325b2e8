"""Healthy mesh files of every format, small and varied: the seeds that mesh mutants are made of."""

import base64
import io
import struct
import zipfile
from pathlib import Path

import numpy as np

from tests.fuzz.mutations import pack_glb
from tests.mesh_files.handmade import (
    OBJ_QUADS,
    QUADS,
    add_accessor,
    minimal,
    obj_text,
    object_3mf,
    ply_bytes,
    stl_binary,
    stl_text,
    write_3mf,
)
from tests.meshes import box, together

# A name of a file beside a .gltf, and its bytes.
BESIDE = "beside.bin"


def stl_files() -> list[bytes]:
    """Binary and text: a box, two bodies, an open box, a void; a binary file that begins with 'solid'."""
    two, hollow = together(box(), box((3, 0, 0))), together(box(size=3), box(inside_out=True))
    cut = box()[0], box()[1][2:]
    text = stl_text(*box())
    files = [stl_binary(*shape) for shape in (box(), two, cut, hollow)]
    files += [stl_binary(*box(), header=b"solid part"), text.encode(), text.replace("\n", "\r\n").encode()]
    return [*files, text.upper().encode(), stl_text(*hollow).encode(), stl_text(*box(), "endsolid\n" + text).encode()]


def obj_files() -> list[bytes]:
    """Quads, triangles, a polygon with a notch, all forms of a corner, colours, weights, groups, comments."""
    triangles = "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in box()[1])
    full = OBJ_QUADS.replace("f ", "usemtl m\ns 1\ng a b\no part\nf ")
    with_normals = "vn 0 0 1\nvt 0 0\n" + "\n".join(
        "f " + " ".join(f"{i}/1/1" for i in line.split()[1:]) for line in OBJ_QUADS.splitlines()
    )
    negative = "\n".join("f " + " ".join(str(i - 8) for i in quad) for quad in QUADS) + "\n"
    notch = ["0 0", "4 0", "4 4", "2 1", "0 4"]
    prism = "".join(f"v {xy} {z}\n" for z in (0, 1) for xy in notch) + "f 5 4 3 2 1\nf 6 7 8 9 10\n"
    prism += "".join(f"f {i} {i % 5 + 1} {i % 5 + 6} {i + 5}\n" for i in range(1, 6))
    files = [
        obj_text(OBJ_QUADS),
        obj_text(triangles),
        obj_text(full),
        obj_text(with_normals),
        obj_text(negative),
        prism,
    ]
    files += [obj_text(OBJ_QUADS, "v {} {} {} 1 0.5 0"), obj_text(OBJ_QUADS, "v {} {} {} 1 # corner")]
    files += [obj_text(with_normals.replace("/1/1", "//1")), obj_text(OBJ_QUADS.replace(" 3 ", " \\\n3 ", 2))]
    return [file.encode() for file in files]


def ply_files() -> list[bytes]:
    """Text and binary of both orders: quads, polygons of several sizes, normals and colours, strips, comments."""
    mixed = [*QUADS[:-1], [1, 3, 7], [1, 7, 5]]
    files = [ply_bytes(order, polygons) for order in ("", "<", ">") for polygons in (QUADS, mixed)]
    rows = "".join("{} {} {} 0 0 1 255 0 0 255\n".format(*v) for v in box()[0])
    rows += "".join("3 {} {} {}\n".format(*f) for f in box()[1])
    axes = "".join(f"property float {name}\n" for name in ("x", "y", "z", "nx", "ny", "nz"))
    colours = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue", "alpha"))
    head = "ply\nformat {} 1.0\ncomment made\nobj_info here\nelement vertex 8\n"
    text = head.format("ascii") + axes + colours
    text += f"element face 12\nproperty list uchar int vertex_index\nend_header\n{rows}"
    strips = head.format("binary_little_endian") + axes[: axes.index("property float nx")]
    strips += "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    line = [0, 1, 2, 3, -1, *(i for face in box()[1] for i in (*face, -1))]
    binary = np.asarray(box()[0], "<f4").tobytes() + struct.pack(f"<i{len(line)}i", len(line), *line)
    return [*files, text.encode(), text.replace("\n", "\r\n").encode(), strips.encode() + binary]


def off_files() -> list[bytes]:
    """Quads, colours of faces and of vertices, comments, counts on the first line, all in one line."""
    vertices = ["{} {} {}".format(*v) for v in box()[0]]
    faces = ["4 " + " ".join(map(str, quad)) for quad in QUADS]
    triangles = ["3 {} {} {}".format(*f) for f in box()[1]]
    files = [["OFF", "8 6 0", *vertices, *faces], ["# a box", "OFF 8 12 18", "", *vertices, "# faces", *triangles]]
    files += [["OFF", "8 6 12", *vertices, *(f"{face} 0.5 0.5 0.5" for face in faces)]]
    files += [["COFF", "8 6 0", *(f"{v} 255 0 0 255" for v in vertices), *(f"{face} 3" for face in faces)]]
    files += [["NOFF", "8 6 0", *(f"{v} 0 0 1" for v in vertices), *(face.replace(" ", "\n", 2) for face in faces)]]
    texts = ["\n".join(lines) + "\n" for lines in files]
    return [text.encode() for text in [*texts, " ".join(files[0]), texts[0].replace("\n", "\r\n")]]


def gltf_headers() -> list[dict]:
    """The JSON of glTFs: a scene with nodes in nodes, morph targets, a skin, sparse and quantised positions, strips."""
    made = [minimal() for _ in range(9)]
    scene, morph, skin, sparse, quantised, strip, mesh_only, interleaved, no_index = made
    moves = {"translation": [1, 2, 3], "rotation": [0, 0, 0.6, 0.8], "scale": [1, -2, 1]}
    scene["nodes"] = [{"children": [1, 2], "matrix": np.diag([1, 2, 3, 1.0]).ravel().tolist()}, {"mesh": 0, **moves}]
    scene["nodes"] += [{"mesh": 0, "name": "b", "translation": [5, 0, 0]}]
    target = add_accessor(morph, np.ones((4, 3), "<f4"), min=[1, 1, 1], max=[1, 1, 1])
    morph["meshes"][0]["primitives"][0]["targets"] = [{"POSITION": target}, {"POSITION": 0}]
    morph["meshes"][0]["weights"] = [0.5, 0.25]
    matrices = np.tile(np.eye(4, dtype="<f4").ravel(), (2, 1))
    joints = add_accessor(skin, np.array([[0, 1, 0, 0]] * 4, "u1"))
    weights = add_accessor(skin, np.array([[0.5, 0.5, 0, 0]] * 4, "<f4"))
    skin["meshes"][0]["primitives"][0]["attributes"] |= {"JOINTS_0": joints, "WEIGHTS_0": weights}
    skin["nodes"] = [{"children": [1]}, {"mesh": 0, "skin": 0}, {"translation": [0, 1, 0], "children": [3]}, {}]
    skin["skins"] = [{"joints": [2, 3], "inverseBindMatrices": add_accessor(skin, matrices)}]
    skin["scenes"][0]["nodes"] = [0, 2]
    values = {"count": 2, "indices": {"bufferView": 2, "componentType": 5121}, "values": {"bufferView": 3}}
    add_accessor(sparse, np.array([0, 3], "u1")), add_accessor(sparse, np.array([[0, 0, -1], [0, 0, 2]], "<f4"))
    sparse["accessors"][0]["sparse"] = values
    short = add_accessor(quantised, np.array([[0, 0, 0], [99, 0, 0], [0, 99, 0], [0, 0, 99]], "<i2"), normalized=True)
    quantised["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = short
    quantised["extensionsRequired"] = quantised["extensionsUsed"] = ["KHR_mesh_quantization"]
    strip["meshes"][0]["primitives"] = [{"attributes": {"POSITION": 0}, "mode": mode} for mode in (5, 6, 1)]
    strip["meshes"][0]["primitives"] += minimal()["meshes"][0]["primitives"]
    del mesh_only["nodes"], mesh_only["scenes"], mesh_only["scene"]
    rows = np.zeros((4, 6), "<f4")
    rows[1:, :3] = np.eye(3)
    interleaved["accessors"][0]["bufferView"] = interleaved["accessors"][add_accessor(interleaved, rows.ravel())][
        "bufferView"
    ]
    interleaved["bufferViews"][2]["byteStride"] = 24
    corners = np.array(box()[0][box()[1]], "<f4").reshape(-1, 3)
    separate = add_accessor(no_index, corners)
    no_index["meshes"][0]["primitives"] = [{"attributes": {"POSITION": separate}, "material": 0}]
    no_index["materials"], no_index["images"] = [{"name": "m"}], [{"uri": "no.png"}]
    return made


def in_one_buffer(header: dict) -> tuple[dict, bytes]:
    """The JSON of a glTF with all its buffers joined into one without a uri, and that buffer's bytes."""
    binary, starts = b"", []
    for buffer in header["buffers"]:
        starts.append(len(binary))
        data = base64.b64decode(buffer["uri"].partition(",")[2])
        binary += data + bytes(-len(data) % 4)
    for view in header["bufferViews"]:
        view["byteOffset"] = starts[view["buffer"]] + view.get("byteOffset", 0)
        view["buffer"] = 0
    header["buffers"] = [{"byteLength": len(binary)}]
    return header, binary


def gltf_files(folder: Path) -> list[bytes]:
    """Each of `gltf_headers` with its buffers within, and a file whose buffer lies beside it, which is written."""
    import json

    header, binary = in_one_buffer(minimal())
    header["buffers"][0]["uri"] = BESIDE
    (folder / BESIDE).write_bytes(binary)
    return [json.dumps(one).encode() for one in (*gltf_headers(), header)]


def glb_files() -> list[bytes]:
    """Each of `gltf_headers` as a .glb."""
    import json

    return [pack_glb(json.dumps(header).encode(), binary) for header, binary in map(in_one_buffer, gltf_headers())]


def three_mf_files(folder: Path) -> list[bytes]:
    """Items and components with transforms, a second model file, a slicer's notes, another unit."""
    moved = 'transform="1 0 0 0 1 0 0 0 1 10 0 0"'
    parts = (
        f'<object id="2"><components><component objectid="1"/><component objectid="1" {moved}/></components></object>'
    )
    nested = parts + f'<object id="3"><components><component objectid="2" {moved}/></components></object>'
    items = f'<item objectid="1"/><item objectid="1" {moved}/>'
    support = object_3mf(2).replace('type="model"', 'type="support"')
    builds = [('<item objectid="1"/>', ""), (items, ""), ('<item objectid="2"/>', parts)]
    builds += [(f'<item objectid="3" {moved}/>', nested), (items + '<item objectid="2"/>', support)]
    files = []
    for build, more in builds:
        write_3mf(folder / "healthy.3mf", build, more)
        files.append((folder / "healthy.3mf").read_bytes())
    config = '<config><object id="1"><volume firstid="0" lastid="3"><metadata key="volume_type" value="ModelPart"/>'
    config += '</volume><volume firstid="4" lastid="7"><metadata key="modifier" value="1"/></volume></object></config>'
    other = f'<model><resources>{object_3mf(7, 2)}</resources><build><item objectid="7"/></build></model>'
    component = '<component xmlns:p="p" p:path="/3D/other.model" objectid="7"/>'
    write_3mf(
        folder / "healthy.3mf",
        '<item objectid="2"/><item objectid="1"/>',
        f'<object id="2"><components>{component}</components></object>',
    )
    packed = io.BytesIO((folder / "healthy.3mf").read_bytes())
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("3D/other.model", other)
        archive.writestr("Metadata/Slic3r_PE_model.config", config)
    return [*files, packed.getvalue()]


def mesh_files(kind: str, folder: Path) -> list[bytes]:
    """The healthy files of a format, named by its suffix without the dot. folder: for what lies beside them."""
    simple = {"stl": stl_files, "obj": obj_files, "ply": ply_files, "off": off_files, "glb": glb_files}
    return simple[kind]() if kind in simple else {"gltf": gltf_files, "3mf": three_mf_files}[kind](folder)
