"""Mesh files in the dialects of other programs, made without the encoders: the oracle of the readers."""

import base64
import json
import struct
import zipfile

import numpy as np

from tests.meshes import box

# The sides of `box()`, outward: as the faces of an OBJ, whose indices begin with 1, and as indices from 0.
OBJ_QUADS = "f 1 3 4 2\nf 5 6 8 7\nf 1 2 6 5\nf 3 7 8 4\nf 1 5 7 3\nf 2 4 8 6\n"
QUADS = [[int(i) - 1 for i in line.split()[1:]] for line in OBJ_QUADS.splitlines()]


def stl_text(vertices, faces, ending="endsolid part\n"):
    """A text STL, whose name holds the words of the format."""
    lines = ["solid vertex facet part"]
    for corners in vertices[faces]:
        lines += ["facet normal 0 0 0", " outer loop"]
        lines += ["  vertex {} {} {}".format(*corner) for corner in corners] + [" endloop", "endfacet"]
    return "\n".join(lines) + "\n" + ending


def stl_binary(vertices, faces, header=b"binary", promised=None):
    """A binary STL. promised: the count in its header, if not the true one."""
    body = b"".join(
        struct.pack("<12fH", 0, 0, 0, *corners.ravel(), 0) for corners in vertices[faces].astype(np.float32)
    )
    return header.ljust(80) + struct.pack("<I", len(faces) if promised is None else promised) + body


def obj_text(faces, line="v {} {} {}"):
    """An OBJ with the vertices of a box. line: the form of a vertex."""
    return "\n".join(["# a box", *(line.format(*v) for v in box()[0])]) + "\n" + faces


def obj_lines(*rows):
    """An OBJ of these lines."""
    return "".join(f"{row}\n" for row in rows).encode()


def ply_bytes(order, polygons):
    """A PLY with the vertices of a box and scalar properties around the lists. order: '' for text, '<' or '>'."""
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
    return head + rows


def object_3mf(number, size=1):
    """An object element of a 3MF: a cube around the origin."""
    vertices, faces = box(size=size)
    corners = "".join('<vertex x="{}" y="{}" z="{}"/>'.format(*v) for v in vertices)
    triangles = "".join('<triangle v1="{}" v2="{}" v3="{}"/>'.format(*f) for f in faces)
    mesh = f"<mesh><vertices>{corners}</vertices><triangles>{triangles}</triangles></mesh>"
    return f'<object id="{number}" type="model">{mesh}</object>'


def write_3mf(path, build, more=""):
    """A 3MF with a unit cube as object 1. build: the items. more: further objects."""
    schemas = "http://schemas.microsoft.com/3dmanufacturing"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "3D/3dmodel.model",
            f'<?xml version="1.0"?><model unit="inch" xmlns="{schemas}/core/2015/02"><resources>'
            f"{object_3mf(1)}{more}</resources><build>{build}</build></model>",
        )
        file.writestr(
            "_rels/.rels",
            '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            f'<Relationship Target="/3D/3dmodel.model" Id="r" Type="{schemas}/2013/01/3dmodel"/></Relationships>',
        )


def minimal(positions=None, corners=None):
    """The JSON of a glTF with a tetrahedron, or other positions (V, 3) and corners (C,), in one buffer."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]] if positions is None else positions, "<f4")
    corners = np.array([0, 2, 1, 0, 1, 3, 1, 2, 3, 2, 0, 3] if corners is None else corners, "<u2")
    header = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "buffers": [],
        "bufferViews": [],
        "accessors": [],
    }
    add_accessor(header, positions)
    add_accessor(header, corners)
    return header


def add_accessor(header, rows, **more):
    """Add an array (N,) or (N, width) to the JSON of a glTF, in a buffer of its own; returns the accessor's index."""
    rows = np.asarray(rows)
    kinds = {"f4": 5126, "u1": 5121, "i1": 5120, "u2": 5123, "i2": 5122, "u4": 5125}
    data = base64.b64encode(rows.tobytes()).decode()
    header["buffers"].append({"byteLength": rows.nbytes, "uri": f"data:application/octet-stream;base64,{data}"})
    header["bufferViews"].append({"buffer": len(header["buffers"]) - 1, "byteLength": rows.nbytes})
    header["accessors"].append(
        {
            "bufferView": len(header["bufferViews"]) - 1,
            "componentType": kinds[rows.dtype.str[1:]],
            "count": len(rows),
            "type": {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}[rows.size // max(1, len(rows))],
        }
        | more
    )
    return len(header["accessors"]) - 1


def write_gltf(folder, header, name="model.gltf"):
    """Write the JSON of a glTF; returns the path."""
    (folder / name).write_text(json.dumps(header))
    return folder / name
