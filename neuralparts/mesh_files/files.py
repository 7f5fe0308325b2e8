"""Mesh files as they stand: triangles in, triangles out; geometry.py checks and repairs what is read here.

Owns: the readers of .stl .obj .ply .off .glb .gltf .3mf (any case of letters), the cutting of polygons into triangles,
and the writers of all of them but .gltf. trimesh reads .glb and .gltf alone: of the others it accepted an OFF file that
was cut short, rounded a text PLY to float32, and lost bodies of a 3MF.

In: a path, or vertices and faces to write. Out: vertices (V, 3) float64 in file units and faces (F, 3) int64, nothing
merged, nothing dropped. A file that cannot be used raises `MeshError`, whose message is the one line that a user reads.
"""

import io
import json
import re
import urllib.parse
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from neuralparts.choices import MESH_SUFFIXES
from neuralparts.errors import UserError
from neuralparts.triangles import check_mesh_arrays, cross, doubled_normals, unit_normals
from neuralparts.whole_file import whole_file


class MeshError(UserError):
    """A mesh file that cannot be used; the message is one line: which file, what is wrong, what to do."""


# ---------------------------------------------------------------------------------------------------- reading


def read_triangles(path):
    """Read a mesh file as it stands: nothing merged, nothing dropped, polygons cut into triangles.

    Returns vertices (V, 3) float64 in file units, faces (F, 3) int64 (not yet checked against V) and a list
    of sentences about what had to be passed over. Raises MeshError for a file that is missing, unreadable or
    cut short.
    """
    path = Path(path)
    kind = path.suffix.lower()
    readers = {".stl": _read_stl, ".obj": _read_obj, ".ply": _read_ply, ".off": _read_off, ".3mf": _read_3mf}
    try:
        _check_file(path)
        return readers[kind](path, path.read_bytes()) if kind in readers else _read_scene(path)
    except (MeshError, MemoryError):
        raise
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        raise MeshError(f"{path}: cannot be read ({reason}); check the file and the rights to it") from None
    except Exception as error:  # a parser may stumble in any way over a damaged file
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise MeshError(f"{path}: not a readable {kind[1:].upper()} file ({reason}); export it again") from None


def _check_file(path):
    if path.suffix.lower() not in MESH_SUFFIXES:
        kind = f"suffix '{path.suffix}'" if path.suffix else "a name without suffix"
        raise MeshError(f"{path}: {kind} is not a mesh format; use one of {' '.join(MESH_SUFFIXES)}")
    if not path.exists():
        raise MeshError(f"{path}: no such file; check the spelling of the path")
    if path.is_dir():
        raise MeshError(f"{path}: is a folder, not a mesh file; name a file in it")
    if path.stat().st_size == 0:
        raise MeshError(f"{path}: the file is empty (0 bytes); export it again")


def _plain(data):
    """The bytes of a text file without a byte order mark, UTF-16 as UTF-8, every line end as \\n."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16", "replace").encode()
    return data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


STL_HEADER = 84  # 80 bytes of text and the count of triangles as a little-endian uint32
STL_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
# What a program leaves as the count of triangles that it wrote before it knew how many there are.
STL_UNCOUNTED = (0, 2**32 - 1)
# A step of float32 above this share of a grid's cell shows in the triangles.
STEP_OF_A_CELL = 0.01
FANS_TRIED = 8  # of a polygon that is not convex, before it is cut by ears
ROWS_A_PIECE = 2**16  # of vertices or faces that are encoded at a time, some MiB


def _read_stl(path, data):
    """Binary if the size fits the count in the header, whatever that says; text if it begins with solid."""
    promised = int.from_bytes(data[80:84], "little") if len(data) >= STL_HEADER else None
    if promised is not None and len(data) == STL_HEADER + promised * STL_RECORD.itemsize:
        return _read_stl_binary(path, data, promised)
    start = _plain(data[:STL_HEADER])
    if start.lstrip()[:5].lower() == b"solid" and b"\0" not in start:
        return _read_stl_text(path, _plain(data).lower())
    if promised is None:
        raise MeshError(f"{path}: {len(data)} bytes are too few for a binary STL (84 of header); export it again")
    return _read_stl_binary(path, data, promised)


def _read_stl_binary(path, data, promised):
    held, surplus = divmod(len(data) - STL_HEADER, STL_RECORD.itemsize)
    uncounted = promised in STL_UNCOUNTED and held > 0 and surplus == 0
    if held != promised and not uncounted:
        what = "the file is cut short" if held < promised else "the header or the file is damaged"
        raise MeshError(
            f"{path}: the STL header promises {promised} triangles but the file holds {held}: {what}; export it again"
        )
    records = np.frombuffer(data, dtype=STL_RECORD, count=held, offset=STL_HEADER)
    vertices = records["corners"].reshape(-1, 3).astype(np.float64)
    notes = [f"Passed over {surplus} bytes after the last triangle."] if surplus else []
    notes += [f"Its header counts {promised} triangles; all {held} that follow are taken."] if uncounted else []
    return vertices, np.arange(3 * held).reshape(-1, 3), notes


def _read_stl_text(path, text):
    """Text in small letters; a line that names a solid may hold any words."""
    body = re.sub(rb"^\s*(end\s*)?solid\b.*", b"", text, flags=re.MULTILINE)
    rows = re.findall(rb"\bvertex\s+(\S+\s+\S+\s+\S+)", body)
    facets = re.findall(rb"(end\s*)?\bfacet\s+(?:normal|outer)\b", body).count(b"")
    names = re.findall(rb"^\s*(end\s*)?solid\b", text, flags=re.MULTILINE)
    ended = len(names) > 0 and names[-1] != b""
    if 3 * facets != len(rows) or not ended:
        raise MeshError(
            f"{path}: the text STL is cut short or damaged ({facets} facets, {len(rows)} of {3 * facets} "
            f"corners, {'an' if ended else 'no'} 'endsolid' at the end); export it again"
        )
    return _numbers(rows, np.float64).reshape(len(rows), 3), np.arange(len(rows)).reshape(-1, 3), []


def _numbers(rows, dtype):
    """Byte strings of numbers between white space -> flat array; ValueError where something is no number."""
    return np.fromstring(b" ".join(rows), dtype=dtype, sep=" ") if rows else np.zeros(0, dtype)


def _read_obj(path, data):
    """Wavefront OBJ: positions and polygons only; negative indices count back from the last vertex."""
    data = re.sub(rb"#[^\n]*", b"", _plain(data)).replace(b"\\\n", b" ")
    vertices = _obj_positions(re.findall(rb"^[ \t]*v[ \t]+([^\r\n#]*)", data, re.MULTILINE))
    polygons = re.findall(rb"^[ \t]*f[ \t]+([^\r\n#]*)", data, re.MULTILINE)
    counts = np.array([len(polygon.split()) for polygon in polygons], dtype=np.int64)
    corners = _obj_corners(polygons, counts)
    seen = len(vertices)
    if (corners < 0).any():
        kinds = np.array(re.findall(rb"^[ \t]*([vf])[ \t]", data, re.MULTILINE))
        seen = np.repeat(np.cumsum(kinds == b"v")[kinds == b"f"], counts)  # vertices before each face
    return vertices, _triangulate(vertices, np.where(corners < 0, seen + corners, corners - 1), counts), []


def _obj_positions(rows):
    """x, y, z of 'v' lines, which may go on with a weight or a colour."""
    width = len(rows[0].split()) if rows else 3
    if width < 3:
        raise ValueError(f"a vertex with {width} coordinates")
    try:
        numbers = _numbers(rows, np.float64).reshape(len(rows), width)
    except ValueError:  # lines of different lengths, or comments after them
        numbers = _numbers([b" ".join(row.split()[:3]) for row in rows], np.float64).reshape(len(rows), 3)
    return numbers[:, :3].copy()


def _obj_corners(polygons, counts):
    """The position index of each corner of 'f' lines, flat: the 7 of 7, 7/8, 7//9 and 7/8/9, of 7/ and 7// too."""
    try:
        first = polygons[0].split()[0].replace(b"//", b"/") if polygons else b""
        per_corner = first.count(b"/")
        text = [polygon.replace(b"//", b"/") for polygon in polygons] if per_corner else polygons
        if per_corner and any(p.count(b"/") != per_corner * n for p, n in zip(text, counts, strict=True)):
            raise ValueError("corners of several kinds")
        joined = b"\n".join(text)
        if per_corner and re.search(rb"/(\s|$)", joined):
            raise ValueError("corners without the number that their slash announces")
        return _numbers([joined.replace(b"/", b" ") if per_corner else joined], np.int64)[:: per_corner + 1]
    except ValueError:  # corner by corner: slower
        return _numbers([corner.partition(b"/")[0] for polygon in polygons for corner in polygon.split()], np.int64)


def _read_off(path, data):
    """Object File Format in text; colours, normals and comments are passed over."""
    lines = [stripped for line in _plain(data).split(b"\n") if (stripped := line.partition(b"#")[0].strip())]
    header = re.match(rb"(?:ST)?C?N?(4?n?)(?i:OFF)(?![A-Za-z])(.*)", lines[0]) if lines else None
    if header is None or header[1] or b"BINARY" in header[2].upper():
        raise MeshError(f"{path}: not a three-dimensional text OFF file; export it again as text OFF or as PLY")
    lines[:1] = [header[2].strip()] if header[2].strip() else []
    vertex_count, face_count = (int(token) for token in lines[0].split()[:2])
    if len(lines) - 1 < vertex_count + face_count:
        lines[1:] = _off_lines(b" ".join(lines[1:]).split(), vertex_count, face_count) or lines[1:]
    if len(lines) - 1 < vertex_count + face_count:
        raise MeshError(
            f"{path}: the header promises {vertex_count} vertices and {face_count} faces but only "
            f"{len(lines) - 1} lines follow it: the file is cut short; export it again"
        )
    rows = [b" ".join(line.split()[:3]) for line in lines[1 : vertex_count + 1]]
    vertices = _numbers(rows, np.float64).reshape(-1, 3)
    polygons = [line.split() for line in lines[vertex_count + 1 : vertex_count + face_count + 1]]
    counts = np.array([int(polygon[0]) for polygon in polygons], dtype=np.int64)
    corners = _numbers([b" ".join(row[1 : n + 1]) for row, n in zip(polygons, counts, strict=True)], np.int64)
    return vertices, _triangulate(vertices, corners, counts), []


def _off_lines(tokens, vertex_count, face_count):
    """A line a vertex and a face, of tokens that lie in other lines; [] where they are too few or too many."""
    lines = [b" ".join(tokens[k : k + 3]) for k in range(0, 3 * vertex_count, 3)]
    at = 3 * vertex_count
    for _ in range(face_count):
        if at >= len(tokens) or not tokens[at].isdigit():
            return []
        after = at + 1 + int(tokens[at])
        lines.append(b" ".join(tokens[at:after]))
        at = after
    return lines if at == len(tokens) else []


PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}


def _read_ply(path, data):
    """Stanford PLY, text and binary of both byte orders, with triangles and polygons mixed.

    Positions in text are read as float64 whatever type the header names: digits in the file are not thrown
    away.
    """
    # The header's own line end also ends the last line of it, so that no byte of binary data is taken for one.
    found = re.match(rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)(.*?\1)?end_header[ \t]*\1", data, re.DOTALL)
    if found is None:
        raise MeshError(f"{path}: not a PLY file (no header from 'ply' to 'end_header'); export it again")
    order, elements = _ply_header((found[2] or b"").decode("ascii", "replace"))
    take = _ply_text(data[found.end() :]) if order is None else _ply_binary(data, found.end(), order)
    vertices, corners, counts = np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64)
    for name, count, properties in elements:
        try:
            columns = take(count, properties)
        except (ValueError, IndexError):
            raise MeshError(
                f"{path}: the PLY file ends or breaks within its {count} '{name}' lines; export it again"
            ) from None
        if name == "vertex":
            vertices = np.stack([columns[axis].astype(np.float64) for axis in "xyz"], axis=1)
        elif name == "face" and count:
            counts, corners = columns["vertex_indices" if "vertex_indices" in columns else "vertex_index"]
    return vertices, _triangulate(vertices, corners, counts), []


def _ply_header(text):
    """-> byte order (None for text), [(element, count, [(property, type, list count type or None)])]."""
    order, elements = None, []
    for words in (line.split() for line in text.splitlines()):
        if words[:1] == ["format"]:
            order = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}[words[1]]
        elif words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:2] == ["property", "list"]:
            elements[-1][2].append((words[4], PLY_TYPES[words[3]], PLY_TYPES[words[2]]))
        elif words[:1] == ["property"]:
            elements[-1][2].append((words[2], PLY_TYPES[words[1]], None))
    return order, elements


def _ply_text(body):
    """A function that takes the next element off the text: {scalar: (N,), list: (counts (N,), flat)}."""
    lines = iter([line for line in body.splitlines() if line.strip()])

    def take(count, properties):
        rows = [line.split() for _, line in zip(range(count), lines, strict=False)]
        if len(rows) < count:
            raise ValueError("too few lines")
        columns, start = {}, [0] * count
        for name, kind, list_kind in properties:
            if list_kind is None:
                tokens = [row[i] for row, i in zip(rows, start, strict=True)]
                columns[name], start = np.array(tokens, dtype="S").astype(np.float64), [i + 1 for i in start]
                continue
            lengths = [int(row[i]) for row, i in zip(rows, start, strict=True)]
            ends = [i + 1 + n for i, n in zip(start, lengths, strict=True)]
            items = [token for row, i, end in zip(rows, start, ends, strict=True) for token in row[i + 1 : end]]
            if len(items) < sum(lengths):
                raise ValueError("a line is too short")
            number = np.float64 if kind in ("f4", "f8") else np.int64
            columns[name] = np.array(lengths, dtype=np.int64), np.array(items, dtype="S").astype(number)
            start = ends
        return columns

    return take


def _ply_binary(data, offset, order):
    """A function that takes the next element off the bytes, as `_ply_text` does."""
    position = offset

    def take(count, properties):
        nonlocal position
        columns, size = _ply_rows_alike(data, position, order, count, properties)
        if columns is None:
            columns, size = _ply_rows_mixed(data, position, order, count, properties)
        position += size
        return columns

    return take


def _ply_rows_alike(data, position, order, count, properties):
    """Rows whose lists are all as long as the first, by one structured array; (None, 0) if they are not."""
    fields, at = [], position
    for name, kind, list_kind in properties:
        length = 1
        if list_kind is not None:
            length = int(np.frombuffer(data, order + list_kind, 1, at)[0]) if count else 0
            fields.append((name + " count", order + list_kind))
            at += np.dtype(list_kind).itemsize
        fields.append((name, order + kind, (length,) if list_kind else ()))
        at += length * np.dtype(kind).itemsize
    dtype = np.dtype(fields)
    if len(data) - position < count * dtype.itemsize:
        if any(list_kind for _, _, list_kind in properties):
            return None, 0
        raise ValueError("too few bytes")
    rows = np.frombuffer(data, dtype, count, position)
    columns = {}
    for name, _, list_kind in properties:
        if list_kind is None:
            columns[name] = rows[name]
            continue
        counts = rows[name + " count"].astype(np.int64)
        if (counts != rows[name].shape[1]).any():
            return None, 0
        columns[name] = counts, rows[name].astype(np.int64).ravel()
    return columns, count * dtype.itemsize


def _ply_rows_mixed(data, position, order, count, properties):
    """Rows whose lists differ in length, one after the other; slower."""
    at, gathered = position, {name: ([], []) for name, _, _ in properties}
    types = [
        (name, np.dtype(order + kind), list_kind and np.dtype(order + list_kind))
        for name, kind, list_kind in properties
    ]
    for _ in range(count):
        for name, kind, list_kind in types:
            length = 1
            if list_kind is not None:
                length = int(np.frombuffer(data, list_kind, 1, at)[0])
                at += list_kind.itemsize
            gathered[name][0].append(length)
            gathered[name][1].append(np.frombuffer(data, kind, length, at))
            at += length * kind.itemsize
    columns = {}
    for name, _, list_kind in types:
        flat = np.concatenate(gathered[name][1])
        columns[name] = (np.array(gathered[name][0]), flat.astype(np.int64)) if list_kind is not None else flat
    return columns, at - position


def _read_scene(path):
    """GLB and glTF: every piece of geometry, moved to where its node places it, in one mesh."""
    import trimesh

    path.open("rb").close()  # a file without the right to read it is told apart from a damaged one
    if unread := _unread_in_gltf(path):
        raise MeshError(f"{path}: {unread}, which is not read here; export it again without, or as STL")
    try:
        kind = path.suffix[1:].lower()
        scene = trimesh.load_scene(path, file_type=kind, resolver=_beside(path), process=False)
    except OSError as error:
        raise ValueError(f"or a file that belongs to it is missing: {error}") from None
    vertices, faces, passed_over, offset = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0, 0
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        piece = scene.geometry[name]
        if not isinstance(piece, trimesh.Trimesh):
            passed_over += 1
            continue
        matrix = np.asarray(matrix, dtype=np.float64)
        vertices.append(np.asarray(piece.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3])
        faces.append(_turned_back(np.asarray(piece.faces, np.int64), matrix[:3, :3]) + offset)
        offset += len(vertices[-1])
    notes = [f"Passed over {passed_over} pieces without triangles (points or lines)."] if passed_over else []
    return np.concatenate(vertices), np.concatenate(faces), notes


def _beside(path):
    """What finds the files that a scene names, wherever they are; their addresses may spell a space as %20."""
    import trimesh

    class Beside(trimesh.resolvers.FilePathResolver):
        def get(self, name):
            return (path.parent / urllib.parse.unquote(name)).read_bytes()

    return Beside(str(path))


def _turned_back(faces, matrix):
    """(F, 3) faces of a piece that a (3, 3) matrix places: turned round where it mirrors them."""
    return faces if np.linalg.det(matrix) > 0 else faces[:, [0, 2, 1]]


def files_beside(path):
    """The names, relative to the folder of a mesh file, of the files that hold a part of its shape: a glTF's buffers.

    [] for every other format, and for a file that cannot be read, which reading it tells.
    """
    if Path(path).suffix.lower() != ".gltf":
        return []
    try:
        addresses = [buffer.get("uri") or "" for buffer in json.loads(Path(path).read_bytes()).get("buffers", [])]
        return [urllib.parse.unquote(address) for address in addresses if address and not address.startswith("data:")]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


# Extensions that a glTF file may require and that change no shape, by how they begin; positions that are quantised are
# read where they are not normalised as well.
GLTF_HARMLESS = ("KHR_materials", "KHR_lights", "KHR_texture", "EXT_texture", "KHR_mesh_quantization", "KHR_animation")
GLTF_INSTANCES = "EXT_mesh_gpu_instancing"


def _unread_in_gltf(path):
    """What a glTF file has that trimesh leaves out or reads as zeros, or ''. Raises ValueError for a damaged file."""
    data = path.read_bytes()
    if data[:4] == b"glTF":
        data = data[20 : 20 + int.from_bytes(data[12:16], "little")]
    header = json.loads(data)
    for name in header.get("extensionsRequired", []):
        if "compression" in name:
            return f"compressed by {name}"
        if not name.startswith(GLTF_HARMLESS):
            return f"the extension {name}"
    if any(GLTF_INSTANCES in node.get("extensions", {}) for node in header.get("nodes", [])):
        return f"the extension {GLTF_INSTANCES}"
    shapes = [shape for mesh in header.get("meshes", []) for shape in mesh.get("primitives", [])]
    if any(shape.get("mode", 4) == 6 for shape in shapes):
        return "triangle fans"
    positions = {shape.get("attributes", {}).get("POSITION") for shape in shapes}
    accessors = [header["accessors"][index] for index in positions - {None}]
    if any("sparse" in accessor for accessor in accessors):
        return "sparse positions"
    return "normalized positions" if any(accessor.get("normalized") for accessor in accessors) else ""


def _read_3mf(path, data):
    """3MF: the objects that its build items and their components place, of every model file in the archive.

    An item without a transform stays where its object is; a row of coordinates is multiplied by the matrix from the
    right (3MF Core Specification 1.3; model files beside the first: Production Extension 1.1).
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if name.lower().endswith(".model")}
        roots = [archive.read(name) for name in archive.namelist() if name.lower() == "_rels/.rels"]
    if not parts:
        raise ValueError("no model in it")
    named = re.findall(rb'Target="/?([^"]+\.model)"', b"".join(roots), re.IGNORECASE)
    root = next((name for name in (target.decode() for target in named) if name in parts), min(parts, key=len))
    trees = {name: ElementTree.fromstring(text) for name, text in parts.items()}
    objects = {
        (name, element.get("id")): element for name, tree in trees.items() for element in _all_3mf(tree, "object")
    }
    components = {key: _all_3mf(found, "component")[::-1] for key, found in objects.items()}
    meshes, vertices, faces, offset = {}, [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0
    waiting = [(root, item, np.eye(4), 0) for item in _all_3mf(trees[root], "item")][::-1]
    while waiting:
        model, placed, around, depth = waiting.pop()
        if depth > MOST_NESTED:
            raise ValueError("components that hold each other")
        key = _path_3mf(placed, model), placed.get("objectid")
        if key not in objects:
            raise ValueError(f"no object {key[1]} in {key[0]}")
        matrix = _matrix_3mf(placed.get("transform")) @ around
        waiting += [(key[0], component, matrix, depth + 1) for component in components[key]]
        if components[key]:
            continue
        if key not in meshes:
            meshes[key] = _mesh_3mf(objects[key])
        points, triangles = meshes[key]
        vertices.append(points @ matrix[:3, :3] + matrix[3, :3])
        faces.append(_turned_back(triangles, matrix[:3, :3]) + offset)
        offset += len(points)
    units = {tree.get("unit", "millimeter") for tree in trees.values()} - {"millimeter"}
    notes = [
        f"Its unit is the {unit}: numbers stay as they are, though a .3mf that is written says millimeter."
        for unit in sorted(units)
    ]
    return np.concatenate(vertices), np.concatenate(faces), notes


MOST_NESTED = 64  # components within components


def _all_3mf(tree, name):
    """All elements of a name below an element, whatever the prefix of its namespace."""
    return [element for element in tree.iter() if element.tag.rpartition("}")[2] == name]


def _path_3mf(placed, model):
    """The model file that an item or a component takes its object from: its own, or where its path points."""
    paths = [value for name, value in placed.attrib.items() if name.rpartition("}")[2] == "path"]
    return paths[0].lstrip("/") if paths else model


def _matrix_3mf(text):
    """(4, 4) of the twelve numbers of a transform, rows of three; the identity for None."""
    matrix = np.eye(4)
    if text:
        matrix[:, :3] = np.array(text.split(), dtype=np.float64).reshape(4, 3)
    return matrix


def _mesh_3mf(element):
    """vertices (V, 3) and faces (F, 3) of an object."""
    corners, triangles = _all_3mf(element, "vertex"), _all_3mf(element, "triangle")
    points = [corner.get(axis) for corner in corners for axis in "xyz"]
    indices = [triangle.get(corner) for triangle in triangles for corner in ("v1", "v2", "v3")]
    return np.array(points, np.float64).reshape(-1, 3), np.array(indices, np.int64).reshape(-1, 3)


def _triangulate(vertices, corners, counts):
    """Cut polygons (flat vertex indices and corners per polygon) into (F, 3) triangles, in their order.

    Fans from the first corner; a polygon that its fan would fold over (not convex) is cut from another corner
    or by ears.
    """
    starts = np.cumsum(counts) - counts
    pieces = np.maximum(counts - 2, 0)
    ends = np.cumsum(pieces)
    polygon = np.repeat(np.arange(len(counts)), pieces)
    step = np.arange(pieces.sum()) - np.repeat(ends - pieces, pieces)
    first = starts[polygon]
    faces = (
        corners[np.stack([first, first + step + 1, first + step + 2], axis=1)]
        if len(polygon)
        else np.zeros((0, 3), np.int64)
    )
    if (counts > 3).any() and len(vertices) and faces.min() >= 0 and faces.max() < len(vertices):
        for index in _folded_polygons(vertices, faces, polygon, len(counts)):
            ring = corners[starts[index] : starts[index] + counts[index]]
            faces[ends[index] - pieces[index] : ends[index]] = _cut_polygon(vertices, ring)
    return faces


def _folded_polygons(vertices, faces, polygon, count):
    """Indices of polygons one of whose fan triangles faces away from the polygon's own normal."""
    # Coordinates that are not finite are refused later, with a better word than a warning here.
    with np.errstate(invalid="ignore", over="ignore"):
        normals = doubled_normals(vertices[faces])
        total = [np.bincount(polygon, weights=normals[:, k], minlength=count) for k in range(3)]
        folded = np.einsum("ij,ij->i", normals, np.stack(total, axis=1)[polygon]) < 0
    return np.unique(polygon[folded])


def _cut_polygon(vertices, ring):
    """Triangles (n - 2, 3) of a polygon that is not convex: the first of some fans that does not fold, else ears."""
    count = len(ring)
    fan = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], axis=1)
    for start in range(min(count, FANS_TRIED)):
        faces = np.roll(ring, -start)[fan]
        if not len(_folded_polygons(vertices, faces, np.zeros(count - 2, int), 1)):
            return faces
    import mapbox_earcut

    points = vertices[ring] - vertices[ring].mean(axis=0)
    normal = cross(points, np.roll(points, -1, axis=0)).sum(axis=0)
    axes = np.linalg.svd(normal[None])[2][1:]  # two directions in the polygon's plane
    if np.linalg.det(np.vstack([axes, normal])) < 0:
        axes = axes[::-1]
    flat = points @ axes.T
    ears = mapbox_earcut.triangulate_float64(flat, np.array([count], dtype=np.uint32)).reshape(-1, 3)
    if len(ears) != count - 2:  # a polygon that crosses itself: as good as any
        return ring[fan]
    return ring[ears]


# ---------------------------------------------------------------------------------------------------- writing


def write_mesh(path, vertices, faces):
    """Write a mesh file whole: under another name in the same folder first, then renamed. In pieces of some MiB, but
    for .glb and .3mf, which are made as a whole in memory.

    path: suffix .stl (binary, float32) .ply (binary, float64) .obj .off .3mf (text, all digits) or .glb
    (float32 about a float64 offset). vertices: (V, 3) float64 in file units; faces: (F, 3) int, outward.
    Raises MeshError for a suffix that cannot be written, ValueError for wrong shapes, OSError where the
    folder does not take the file.
    """
    path = Path(path)
    vertices = np.asarray(vertices, dtype=np.float64)
    faces = np.asarray(faces, dtype=np.int64)
    check_mesh_arrays(vertices, faces)
    encoder = ENCODERS.get(path.suffix.lower())
    if encoder is None:
        raise MeshError(f"{path}: cannot write a '{path.suffix}' file; use one of {' '.join(ENCODERS)}")
    with whole_file(path) as file:
        file.writelines(encoder(vertices, faces))


def coarseness(path, vertices, cell):
    """A sentence where a file keeps vertices (V, 3) so coarsely that a grid's cell (file units) shows it, or ''."""
    step = float(np.spacing(np.float32(np.abs(vertices).max(initial=0.0))))
    if Path(path).suffix.lower() != ".stl" or step <= STEP_OF_A_CELL * cell:
        return ""
    return f"{path}: float32, as STL has it, comes in steps of {step:.2g} here, for a cell of {cell:.2g}"


def _pieces(rows):
    """An array's rows in pieces that are encoded at a time."""
    return (rows[start : start + ROWS_A_PIECE] for start in range(0, len(rows), ROWS_A_PIECE))


def _encode_stl(vertices, faces):
    yield b"binary STL".ljust(80) + len(faces).to_bytes(4, "little")
    for part in _pieces(faces):
        records = np.zeros(len(part), dtype=STL_RECORD)
        corners = vertices[part]
        records["normal"] = unit_normals(corners)
        records["corners"] = corners
        yield records.tobytes()


def _encode_ply(vertices, faces):
    yield (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property double x\nproperty double y\nproperty double z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()
    yield from (part.astype("<f8").tobytes() for part in _pieces(vertices))
    for part in _pieces(faces):
        records = np.zeros(len(part), dtype=[("count", "u1"), ("corners", "<i4", 3)])
        records["count"], records["corners"] = 3, part
        yield records.tobytes()


# repr of a float is the shortest text that reads back to the same float64.
def _encode_obj(vertices, faces):
    for part in _pieces(vertices):
        yield "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in part.tolist()).encode()
    for part in _pieces(faces):
        yield "".join(f"f {a} {b} {c}\n" for a, b, c in (part + 1).tolist()).encode()


def _encode_off(vertices, faces):
    yield f"OFF\n{len(vertices)} {len(faces)} 0\n".encode()
    for part in _pieces(vertices):
        yield "".join(f"{x!r} {y!r} {z!r}\n" for x, y, z in part.tolist()).encode()
    for part in _pieces(faces):
        yield "".join(f"3 {a} {b} {c}\n" for a, b, c in part.tolist()).encode()


def _encode_scene(file_type):
    def encode(vertices, faces):
        import trimesh

        # glTF keeps positions as float32, but the place of a node as decimal text: far parts lose nothing.
        offset = np.eye(4)
        if len(vertices) and file_type == "glb":
            offset[:3, 3] = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
        piece = trimesh.Trimesh(vertices - offset[:3, 3], faces, process=False)
        scene = trimesh.Scene()
        scene.add_geometry(piece, node_name="part", geom_name="part", transform=offset)
        yield scene.export(file_type=file_type)

    return encode


ENCODERS = {
    ".stl": _encode_stl,
    ".ply": _encode_ply,
    ".obj": _encode_obj,
    ".off": _encode_off,
    ".glb": _encode_scene("glb"),
    ".3mf": _encode_scene("3mf"),
}
