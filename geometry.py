"""Mesh files in, checked and normalised triangle meshes out.

Owns: reading a mesh file, checking it, repairing what may be repaired, the diagnosis, the normalisation to the
domain, the way back to file units, and writing mesh files.
Comes in: the path of a mesh file (.stl .obj .ply .off .glb .gltf .3mf, any case of letters), or vertices and faces to write.
Goes out: a `Mesh` whose vertices lie in the domain (bounding sphere of radius 0.9 about the origin), with the `Transform`
that leads back and a `diagnosis` of what was found and what was changed. A file that cannot be used raises `MeshError`,
whose message is the one line that a user reads.
"""

import os
import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

MESH_SUFFIXES = (".stl", ".obj", ".ply", ".off", ".glb", ".gltf", ".3mf")

# Radius of the bounding sphere in the domain: leaves a margin of a tenth to the border of the cube [-1, 1]^3.
DOMAIN_RADIUS = 0.9


class MeshError(ValueError):
    """A mesh file that cannot be used; the message is one line for the user: which file, what is wrong, what to do."""


@dataclass(frozen=True)
class Transform:
    """The map between file units and the domain: domain = (file - center) * scale.

    center: (3,) float64 in file units; scale: domain units per file unit, positive.
    """

    center: np.ndarray
    scale: float

    def to_domain(self, points):
        """(N, 3) points in file units -> (N, 3) float64 in the domain."""
        return (np.asarray(points, dtype=np.float64) - self.center) * self.scale

    def to_file(self, points):
        """(N, 3) points in the domain -> (N, 3) float64 in file units."""
        return np.asarray(points, dtype=np.float64) / self.scale + self.center

    def length_to_file(self, length):
        """A length (or array of lengths) in domain units -> the same in file units."""
        return length / self.scale


@dataclass
class Mesh:
    """A checked triangle mesh in the domain.

    vertices: (V, 3) float64 in the domain, each used by a face; faces: (F, 3) int64, outward where outward is defined;
    transform: to and from file units; diagnosis: JSON-able findings, see `load_mesh`; path: the file it came from.
    """

    vertices: np.ndarray
    faces: np.ndarray
    transform: Transform
    diagnosis: dict
    path: Path

    @property
    def closed(self):
        """True where every edge is used as often in one direction as in the other.

        That is the exact condition for the winding number to be an integer off the surface (the boundary of the chain of
        triangles vanishes); it allows edges with four or more faces, as where two bodies touch.
        """
        return self.diagnosis["closed"]


def load_mesh(path, reconstruction_res=256):
    """Read, check, repair and normalise a mesh file.

    path: file with one of MESH_SUFFIXES. reconstruction_res: points along an edge of the reconstruction grid (0: none).
    Returns a Mesh. Raises MeshError where the file is missing, unreadable, truncated or has no volume to speak of.
    """
    path = Path(path)
    vertices, faces, notes = read_triangles(path)
    _check_triangles(path, vertices, faces)
    vertices, faces = _used_only(vertices, faces)
    vertices, faces = _merge_equal(vertices, faces)
    transform = _bounding_transform(vertices)
    diagnosis = {"closed": _closed(faces), "changes": notes, "triangles": len(faces)}
    return Mesh(transform.to_domain(vertices), faces, transform, diagnosis, path)


def _closed(faces):
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    sign = np.sign(faces[:, [1, 2, 0]] - faces[:, [0, 1, 2]]).reshape(-1)
    _, inverse = np.unique(edges, axis=0, return_inverse=True)
    return bool(not np.bincount(inverse.ravel(), weights=sign).any())


def _merge_equal(vertices, faces):
    unique, inverse = np.unique(vertices, axis=0, return_inverse=True)
    faces = inverse.ravel()[faces]
    keep = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    return unique, faces[keep]


# ----------------------------------------------------------------------------------------------------------- reading


def read_triangles(path):
    """Read a mesh file as it stands: nothing merged, nothing dropped, polygons cut into triangles.

    Returns vertices (V, 3) float64 in file units, faces (F, 3) int64 (not yet checked against V) and a list of sentences
    about what had to be passed over. Raises MeshError for a file that is missing, unreadable or cut short.
    """
    path = Path(path)
    _check_file(path)
    reader = {".stl": _read_stl, ".obj": _read_obj, ".ply": _read_ply, ".off": _read_off}.get(
        path.suffix.lower()
    )
    try:
        return reader(path, path.read_bytes()) if reader else _read_scene(path)
    except MeshError:
        raise
    except OSError as error:
        raise MeshError(
            f"{path}: cannot be read ({error.strerror or error}); check the file and its rights"
        ) from None
    except Exception as error:  # a parser may stumble in any way over a damaged file
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise MeshError(
            f"{path}: not a readable {path.suffix[1:].upper()} file ({reason}); export it again"
        ) from None


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


STL_HEADER = 84  # 80 bytes of text and the count of triangles as a little-endian uint32
STL_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def _read_stl(path, data):
    """An STL is binary if its size fits the count in its header, text if it begins with 'solid' and names facets."""
    promised = int.from_bytes(data[80:84], "little") if len(data) >= STL_HEADER else None
    fits = promised is not None and len(data) == STL_HEADER + promised * STL_RECORD.itemsize
    is_text = data.lstrip()[:5].lower() == b"solid" and b"\0" not in data[:STL_HEADER]
    if is_text and not fits:
        return _read_stl_text(path, data)
    if promised is None:
        raise MeshError(
            f"{path}: {len(data)} bytes are too few for a binary STL (84 of header); export it again"
        )
    return _read_stl_binary(path, data, promised)


def _read_stl_binary(path, data, promised):
    held, surplus = divmod(len(data) - STL_HEADER, STL_RECORD.itemsize)
    if held != promised:
        what = "the file is cut short" if held < promised else "the header or the file is damaged"
        raise MeshError(
            f"{path}: the STL header promises {promised} triangles but the file holds {held}: {what}; export it again"
        )
    records = np.frombuffer(data, dtype=STL_RECORD, count=held, offset=STL_HEADER)
    vertices = records["corners"].reshape(-1, 3).astype(np.float64)
    notes = [f"Passed over {surplus} bytes after the last triangle."] if surplus else []
    return vertices, np.arange(3 * held).reshape(-1, 3), notes


def _read_stl_text(path, data):
    lower = data.lower()
    rows = re.findall(rb"vertex\s+([^\r\n]+)", lower)
    vertices = _numbers(rows, np.float64).reshape(-1, 3) if rows else np.zeros((0, 3))
    facets = len(re.findall(rb"\bfacet\b", lower))
    if 3 * facets != len(vertices) or b"endsolid" not in lower[-4096:]:
        raise MeshError(
            f"{path}: the text STL is cut short or damaged ({facets} facets begin, {len(vertices)} of {3 * facets} corners, "
            f"{'an' if b'endsolid' in lower[-4096:] else 'no'} 'endsolid' at the end); export it again"
        )
    return vertices, np.arange(len(vertices)).reshape(-1, 3), []


def _numbers(rows, dtype):
    """A list of byte strings of numbers separated by white space -> flat array; ValueError where one is no number."""
    tokens = b" ".join(rows).split()
    return np.array(tokens).astype(dtype) if tokens else np.zeros(0, dtype)


def _read_obj(path, data):
    """Wavefront OBJ: positions and polygons only, in float64; negative indices count back from the last vertex."""
    lines = data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines()
    kinds = [line.lstrip()[:2].replace(b"\t", b" ") for line in lines]
    rows = [line.split()[1:4] for line, kind in zip(lines, kinds, strict=True) if kind == b"v "]
    vertices = _numbers([b" ".join(row) for row in rows], np.float64).reshape(-1, 3)
    polygons = [
        [corner.partition(b"/")[0] for corner in line.partition(b"#")[0].split()[1:]]
        for line, kind in zip(lines, kinds, strict=True)
        if kind == b"f "
    ]
    counts = np.array([len(polygon) for polygon in polygons], dtype=np.int64)
    corners = _numbers([b" ".join(polygon) for polygon in polygons], np.int64)
    if (corners < 0).any():
        seen = np.cumsum([kind == b"v " for kind in kinds])[[kind == b"f " for kind in kinds]]
        corners = np.where(corners < 0, np.repeat(seen, counts) + corners, corners - 1)
    else:
        corners = corners - 1
    return vertices, _triangulate(vertices, corners, counts), []


def _read_off(path, data):
    """Object File Format in text; colours, normals and comments are passed over."""
    lines = [stripped for line in data.splitlines() if (stripped := line.partition(b"#")[0].strip())]
    header = re.match(rb"(ST)?C?N?(4)?(n)?OFF\b(.*)", lines[0])
    if header is None or header[2] or header[3] or b"BINARY" in header[4].upper():
        raise MeshError(
            f"{path}: not a three-dimensional text OFF file; export it again as text OFF or as PLY"
        )
    lines[:1] = [header[4].strip()] if header[4].strip() else []
    vertex_count, face_count = (int(token) for token in lines[0].split()[:2])
    if len(lines) - 1 < vertex_count + face_count:
        raise MeshError(
            f"{path}: the header promises {vertex_count} vertices and {face_count} faces but the file has only "
            f"{len(lines) - 1} lines after it: the file is cut short; export it again"
        )
    rows = [b" ".join(line.split()[:3]) for line in lines[1 : vertex_count + 1]]
    vertices = _numbers(rows, np.float64).reshape(-1, 3)
    polygons = [line.split() for line in lines[vertex_count + 1 : vertex_count + face_count + 1]]
    counts = np.array([int(polygon[0]) for polygon in polygons], dtype=np.int64)
    corners = _numbers([b" ".join(row[1 : n + 1]) for row, n in zip(polygons, counts, strict=True)], np.int64)
    return vertices, _triangulate(vertices, corners, counts), []


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

    Positions in text are read as float64 whatever type the header names: digits in the file are not thrown away.
    """
    found = re.match(rb"ply\s*?\r?\n(.*?)end_header[ \t]*\r?\n", data, re.DOTALL)
    if found is None:
        raise MeshError(f"{path}: not a PLY file (no header from 'ply' to 'end_header'); export it again")
    order, elements = _ply_header(found[1].decode("ascii", "replace"))
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
            key = "vertex_indices" if "vertex_indices" in columns else "vertex_index"
            counts, corners = columns[key]
    return vertices, _triangulate(vertices, corners, counts), []


def _ply_header(text):
    """Header text -> byte order (None for text) and [(element, count, [(property, item type, count type or None)])]."""
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
    """A function that takes the next element's rows off the text: {scalar: (N,)}, {list: (counts, flat items)}."""
    lines = iter([line for line in body.splitlines() if line.strip()])

    def take(count, properties):
        rows = [line.split() for _, line in zip(range(count), lines, strict=False)]
        if len(rows) < count:
            raise ValueError("too few lines")
        columns, start = {}, [0] * count
        for name, kind, list_kind in properties:
            if list_kind is None:
                columns[name] = np.array([row[i] for row, i in zip(rows, start, strict=True)]).astype(
                    np.float64
                )
                start = [i + 1 for i in start]
                continue
            lengths = [int(row[i]) for row, i in zip(rows, start, strict=True)]
            items = [row[i + 1 : i + 1 + n] for row, i, n in zip(rows, start, lengths, strict=True)]
            if any(len(item) < n for item, n in zip(items, lengths, strict=True)):
                raise ValueError("a line is too short")
            flat = [token for item in items for token in item]
            columns[name] = (
                np.array(lengths, dtype=np.int64),
                np.array(flat).astype(np.float64).astype(np.int64),
            )
            start = [i + 1 + n for i, n in zip(start, lengths, strict=True)]
        return columns

    return take


def _ply_binary(data, offset, order):
    """A function that takes the next element's rows off the bytes, as `_ply_text` does."""
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
    """Rows whose lists all have the length of the first row's: one structured array. (None, 0) where they have not."""
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
        columns[name] = (
            (np.array(gathered[name][0]), flat.astype(np.int64)) if list_kind is not None else flat
        )
    return columns, at - position


def _read_scene(path):
    """GLB, glTF and 3MF: every piece of geometry, moved to where its node places it, in one mesh."""
    import trimesh

    scene = trimesh.load_scene(path, file_type=path.suffix[1:].lower(), process=False)
    vertices, faces, passed_over, offset = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], 0, 0
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        piece = scene.geometry[name]
        if not isinstance(piece, trimesh.Trimesh):
            passed_over += 1
            continue
        matrix = np.asarray(matrix, dtype=np.float64)
        vertices.append(np.asarray(piece.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3])
        # A node that mirrors its piece turns the triangles round, so they are turned back.
        order = [0, 1, 2] if np.linalg.det(matrix[:3, :3]) > 0 else [0, 2, 1]
        faces.append(np.asarray(piece.faces, np.int64)[:, order] + offset)
        offset += len(vertices[-1])
    notes = [f"Passed over {passed_over} pieces without triangles (points or lines)."] if passed_over else []
    return np.concatenate(vertices), np.concatenate(faces), notes


def _triangulate(vertices, corners, counts):
    """Cut polygons (flat vertex indices and corners per polygon) into (F, 3) triangles, in their order.

    Fans from the first corner; a polygon that its fan would fold over (not convex) is cut from another corner or by ears.
    """
    starts = np.cumsum(counts) - counts
    pieces = np.maximum(counts - 2, 0)
    polygon = np.repeat(np.arange(len(counts)), pieces)
    step = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = starts[polygon]
    faces = (
        corners[np.stack([first, first + step + 1, first + step + 2], axis=1)]
        if len(polygon)
        else np.zeros((0, 3), np.int64)
    )
    if (counts > 3).any() and len(vertices) and 0 <= faces.min() and faces.max() < len(vertices):
        for index in _folded_polygons(vertices, faces, polygon, len(counts)):
            ring = corners[starts[index] : starts[index] + counts[index]]
            faces[polygon == index] = _cut_polygon(vertices, ring)
    return faces


def _folded_polygons(vertices, faces, polygon, count):
    """Indices of polygons one of whose fan triangles faces away from the polygon's own normal."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    total = np.stack([np.bincount(polygon, weights=normals[:, k], minlength=count) for k in range(3)], axis=1)
    folded = np.einsum("ij,ij->i", normals, total[polygon]) < 0
    return np.unique(polygon[folded])


def _cut_polygon(vertices, ring):
    """Triangles (n - 2, 3) of a polygon that is not convex: the first fan that does not fold, else ears."""
    count = len(ring)
    fan = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], axis=1)
    for start in range(count):
        faces = np.roll(ring, -start)[fan]
        if not len(_folded_polygons(vertices, faces, np.zeros(count - 2, int), 1)):
            return faces
    import mapbox_earcut

    points = vertices[ring] - vertices[ring].mean(axis=0)
    normal = np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0)
    along = np.linalg.svd(normal[None])[2][1:]  # two axes of the polygon's plane
    if np.dot(np.cross(*along), normal) < 0:
        along = along[::-1]
    ears = mapbox_earcut.triangulate_float64(points @ along.T, np.array([count], dtype=np.uint32)).reshape(
        -1, 3
    )
    if len(ears) != count - 2:
        return ring[fan]
    flat = points @ along.T
    a, b, c = (flat[ears[:, k]] for k in range(3))
    turned = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    ears[turned] = ears[turned][:, ::-1]
    return ring[ears]


def _check_triangles(path, vertices, faces):
    if len(faces) == 0:
        what = f"{len(vertices)} points but no triangles" if len(vertices) else "no triangles"
        raise MeshError(f"{path}: the file has {what}; export the part as a triangle mesh")
    if faces.min() < 0 or faces.max() >= len(vertices):
        wrong = faces.min() if faces.min() < 0 else faces.max()
        raise MeshError(
            f"{path}: a face names vertex {wrong} (counted from 0) but there are {len(vertices)} vertices; export it again"
        )
    broken = ~np.isfinite(vertices[faces]).all(axis=(1, 2))
    if broken.any():
        raise MeshError(
            f"{path}: {broken.sum()} of {len(faces)} triangles have a coordinate that is not a number or infinite; "
            "export it again"
        )


def _used_only(vertices, faces):
    """Drop vertices that no face uses."""
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    number = np.cumsum(used) - 1
    return vertices[used], number[faces]


# ------------------------------------------------------------------------------------------------------- normalising

# A point counts as within a bounding sphere if it is outside by less than this share of the radius: a few roundings.
SPHERE_TOLERANCE = 1e-12


def _bounding_transform(vertices):
    """The Transform that puts the smallest bounding sphere of (V, 3) vertices at radius DOMAIN_RADIUS about the origin."""
    center = bounding_sphere(vertices)[0]
    radius = np.sqrt(((vertices - center) ** 2).sum(axis=1).max())
    return Transform(center, float(DOMAIN_RADIUS / radius))


def bounding_sphere(points):
    """Smallest sphere about (N, 3) float64 points: center (3,) and radius, in the points' units.

    The farthest point outside the present sphere enters its support until none is left: the pivoting of Gaertner, "Fast
    and robust smallest enclosing balls" (1999). Points far from the origin, tiny or huge are scaled to a unit box first.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    middle, extent = low + (high - low) / 2, float((high - low).max()) or 1.0
    local = (points - middle) / extent
    center, squared = np.zeros(3), -1.0
    support = local[:0]
    for _ in range(1000):  # in practice about ten; each round the sphere grows, so it cannot circle
        distances = ((local - center) ** 2).sum(axis=1)
        farthest = int(distances.argmax())
        if distances[farthest] <= squared * (1 + SPHERE_TOLERANCE):
            break
        support, center, squared = _smallest_sphere(np.vstack([support, local[farthest]]))
    return center * extent + middle, float(np.sqrt(max(squared, 0.0)) * extent)


def _smallest_sphere(points):
    """Smallest sphere of at most five points by trial of all subsets: (points on it, center, squared radius)."""
    best = None
    for size in range(1, min(len(points), 4) + 1):
        for subset in map(list, combinations(range(len(points)), size)):
            center = _circumcenter(points[subset])
            squared = ((points[subset] - center) ** 2).sum(axis=1).max()
            if best is not None and squared >= best[2]:
                continue
            if (((points - center) ** 2).sum(axis=1) <= squared * (1 + SPHERE_TOLERANCE)).all():
                best = points[subset], center, squared
    return best


def _circumcenter(points):
    """The point at equal distance from 1 to 4 points that lies in their affine hull."""
    edges = points[1:] - points[0]
    if len(edges) == 0:
        return points[0]
    weights = np.linalg.lstsq(2 * edges @ edges.T, (edges**2).sum(axis=1), rcond=None)[0]
    return points[0] + weights @ edges


# ----------------------------------------------------------------------------------------------------------- winding

# Point-triangle pairs evaluated at a time: about 200 MB of temporaries.
WINDING_CHUNK = 1_000_000


def solid_angle_winding_number(points, triangles):
    """Exact generalised winding number by summing solid angles, in float64; the slow truth.

    points: (N, 3); triangles: (F, 3, 3) corner positions in the same units. Returns (N,) float64: the signed solid angle of
    all triangles seen from each point over 4 pi; 1 within an outward closed body, 0 outside. Time grows with N * F.
    Source: van Oosterom and Strackee, "The solid angle of a plane triangle" (1983).
    """
    points = np.asarray(points, dtype=np.float64)
    triangles = np.asarray(triangles, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 3 or triangles.shape[1:] != (3, 3):
        raise ValueError(
            f"expected points (N, 3) and triangles (F, 3, 3), got {points.shape} and {triangles.shape}"
        )
    total = np.zeros(len(points))
    face_step = min(max(len(triangles), 1), WINDING_CHUNK)
    point_step = max(1, WINDING_CHUNK // face_step)
    for i in range(0, len(points), point_step):
        for j in range(0, len(triangles), face_step):
            part = slice(i, i + point_step)
            total[part] += _solid_angles(points[part], triangles[j : j + face_step]).sum(axis=1)
    return total / (4 * np.pi)


def _solid_angles(points, triangles):
    """(N, F) signed solid angles in steradians of F triangles seen from N points."""
    a, b, c = (triangles[None, :, k] - points[:, None] for k in range(3))
    la, lb, lc = (np.sqrt(np.einsum("nfk,nfk->nf", v, v)) for v in (a, b, c))
    ab, bc, ca = (np.einsum("nfk,nfk->nf", u, v) for u, v in ((a, b), (b, c), (c, a)))
    numerator = np.einsum("nfk,nfk->nf", a, np.cross(b, c))
    denominator = la * lb * lc + ab * lc + bc * la + ca * lb
    return 2 * np.arctan2(numerator, denominator)


# ----------------------------------------------------------------------------------------------------------- writing


def write_mesh(path, vertices, faces):
    """Write a mesh file whole: under another name in the same folder first, then renamed.

    path: suffix .stl (binary, float32) .ply (binary, float64) .obj .off .3mf (text, all digits) or .glb (float32 about a
    float64 offset). vertices: (V, 3) float64 in file units; faces: (F, 3) int, outward. Raises MeshError for a suffix that
    cannot be written, ValueError for wrong shapes, OSError where the folder does not take the file.
    """
    path = Path(path)
    vertices = np.asarray(vertices, dtype=np.float64)
    faces = np.asarray(faces, dtype=np.int64)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"expected vertices (V, 3) and faces (F, 3), got {vertices.shape} and {faces.shape}")
    encoder = ENCODERS.get(path.suffix.lower())
    if encoder is None:
        raise MeshError(f"{path}: cannot write a '{path.suffix}' file; use one of {' '.join(ENCODERS)}")
    data = encoder(vertices, faces)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _encode_stl(vertices, faces):
    records = np.zeros(len(faces), dtype=STL_RECORD)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    records["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    records["corners"] = corners
    return b"binary STL".ljust(80) + len(faces).to_bytes(4, "little") + records.tobytes()


def _encode_ply(vertices, faces):
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property double x\nproperty double y\nproperty double z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    records = np.zeros(len(faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    records["count"], records["corners"] = 3, faces
    return header.encode() + vertices.astype("<f8").tobytes() + records.tobytes()


def _encode_obj(vertices, faces):
    # repr of a float is the shortest text that reads back to the same float64.
    lines = [f"v {x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


def _encode_off(vertices, faces):
    lines = ["OFF", f"{len(vertices)} {len(faces)} 0"]
    lines += [f"{x!r} {y!r} {z!r}" for x, y, z in vertices.tolist()]
    lines += [f"3 {a} {b} {c}" for a, b, c in faces.tolist()]
    return ("\n".join(lines) + "\n").encode()


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
        return scene.export(file_type=file_type)

    return encode


ENCODERS = {
    ".stl": _encode_stl,
    ".ply": _encode_ply,
    ".obj": _encode_obj,
    ".off": _encode_off,
    ".glb": _encode_scene("glb"),
    ".3mf": _encode_scene("3mf"),
}
