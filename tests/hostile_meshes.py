"""Mesh files of a given size with nasty structure, and the time and memory that each takes.

    python -m tests.hostile_meshes --size 1000000 --only nested

Every case is a function of the size in bytes that returns (suffix, bytes of a file). `measured` reads such a file in a
child: load, distance oracle, 20,000 samples. The child has 10 s of CPU time, and address space for 500 MiB + 50 x the
file beside what it has after a first small part.
"""

import argparse
import io
import json
import os
import resource
import signal
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np

from neuralparts.distance import DistanceOracle
from neuralparts.errors import UserError, with_place
from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import read_source, write_mesh
from neuralparts.sampling import draw_samples
from tests.mesh_files.handmade import minimal
from tests.meshes import box, sphere

# The limits: seconds of CPU time, and bytes of address space, so many and so many times the file's own.
SECONDS, MEMORY, MEMORY_PER_BYTE = 10, 500 * 2**20, 50
SAMPLES = 20_000
# One thread, and one arena of memory: each further one takes 64 MiB of address space, most of which is never used.
SETTINGS = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
# Seconds after the limit in which a child can still say where it was; a long call of a library may not let it.
GRACE = 2
TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float) - 0.25
TETRAHEDRON_FACES = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])

# Vertices (V, 3) and faces (F, 3).
Shape = tuple[np.ndarray, np.ndarray]


# ------------------------------------------------------------------------------------ shapes of about n triangles


def copies(
    part: Shape, centers: np.ndarray, scales: np.ndarray | float = 1.0, flipped: np.ndarray | None = None
) -> Shape:
    """A part at each of B centers (B, 3), scaled by (B,), inside out where flipped (B,) is true."""
    vertices, faces = part
    scales = np.broadcast_to(scales, len(centers))
    placed = vertices * scales[:, None, None] + centers[:, None]  # (B, V, 3)
    many = np.broadcast_to(faces, (len(centers), *faces.shape)).copy()  # (B, F, 3)
    if flipped is not None:
        many[flipped] = many[flipped][:, :, ::-1]
    return placed.reshape(-1, 3), (many + len(vertices) * np.arange(len(centers))[:, None, None]).reshape(-1, 3)


def with_box(shape: Shape, size: float = 1.0, center: tuple[float, float, float] = (0, 0, 0)) -> Shape:
    """A shape and a box beside it, so that it is not flat."""
    vertices, faces = box(center, size)
    return np.concatenate([vertices, shape[0]]), np.concatenate([faces, shape[1] + len(vertices)])


def separate(corners: np.ndarray) -> Shape:
    """Triangles (F, 3, 3) without common vertices."""
    return corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3)


def rng() -> np.random.Generator:
    """The same numbers for every file."""
    return np.random.default_rng(0)


def lattice(count: int) -> np.ndarray:
    """(count, 3) points of a cubic lattice."""
    side = int(np.ceil(count ** (1 / 3)))
    return np.stack(np.unravel_index(np.arange(count), (side,) * 3), axis=1).astype(float)


def directions(count: int) -> np.ndarray:
    """(count, 3) random unit vectors."""
    found = rng().normal(size=(count, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def fan_at_edge(n: int) -> Shape:
    """All triangles have one edge in common."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    rim = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    faces = np.stack([np.zeros(n, int), np.ones(n, int), np.arange(n) + 2], axis=1)
    return np.concatenate([[[0, 0, -1], [0, 0, 1]], rim]), faces


def fan_at_point(n: int) -> Shape:
    """All triangles have one corner in common, and point in every direction."""
    ends = directions(2 * n)
    return np.concatenate([np.zeros((1, 3)), ends]), np.insert(np.arange(2 * n).reshape(n, 2) + 1, 0, 0, axis=1)


def at_one_point(n: int) -> Shape:
    """All vertices lie at one point."""
    return with_box(separate(np.full((n, 3, 3), 0.25)))


def degenerate(n: int) -> Shape:
    """All triangles but those of a box have no area, and hang together along a line."""
    line = np.stack([np.linspace(0, 1, n + 2), np.zeros(n + 2), np.zeros(n + 2)], axis=1)
    return with_box((line, np.arange(n)[:, None] + np.arange(3)))


def duplicates(n: int) -> Shape:
    """A box over and over, every other time inside out."""
    vertices, faces = box()
    many = np.concatenate([faces, faces[:, ::-1]] * (n // 24 + 1))
    return vertices, many


def pencil(n: int) -> Shape:
    """Long slivers through one point in all directions."""
    along = directions(n)
    across = np.cross(along, [0.3, 0.5, 0.8]) * 1e-4
    return separate(np.stack([along, across - along, -across - along], axis=1))


def needles(n: int) -> Shape:
    """Long slivers side by side, all across the whole part."""
    t = np.linspace(-1, 1, n)
    z, o = np.zeros(n), np.ones(n)
    corners = [np.stack(row, axis=1) for row in ((-o, t, t**2), (o, t, t**3), (-o, t + 1e-5, z + t))]
    return separate(np.stack(corners, axis=1))


def coplanar(n: int) -> Shape:
    """Large triangles that overlap in one plane, and a box."""
    corners = rng().uniform(-1, 1, (n, 3, 3))
    corners[:, :, 2] = 0
    return with_box(separate(corners))


def sheets(n: int) -> Shape:
    """Large squares, one above the other."""
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float), np.array([[0, 1, 2], [0, 2, 3]])
    count = n // 2
    heights = np.stack([np.zeros(count), np.zeros(count), np.linspace(-0.9, 0.9, count)], axis=1)
    return copies(square, heights)


def plates(n: int) -> Shape:
    """Large flat boxes, one above the other: closed."""
    vertices, faces = box(size=(2, 2, 1))
    count = n // 12 + 1
    heights = np.stack([np.zeros(count), np.zeros(count), np.linspace(-0.9, 0.9, count)], axis=1)
    placed = vertices * [1, 1, 0.5 / count] + heights[:, None]
    return placed.reshape(-1, 3), (faces + 8 * np.arange(count)[:, None, None]).reshape(-1, 3)


def soup(n: int) -> Shape:
    """Large random triangles."""
    return separate(rng().uniform(-1, 1, (n, 3, 3)))


def crumbs(n: int) -> Shape:
    """Small random triangles everywhere."""
    return separate(rng().uniform(-1, 1, (n, 1, 3)) + rng().uniform(-0.01, 0.01, (n, 3, 3)))


def giant_and_tiny(n: int) -> Shape:
    """A fine ball, and tiny bodies in and around it, every third inside out."""
    ball = sphere(max(1, int(np.log(max(n, 80) / 2 / 20) / np.log(4))))
    count = n // 8
    tiny = copies(
        (TETRAHEDRON, TETRAHEDRON_FACES), rng().uniform(-1.5, 1.5, (count, 3)), 1e-3, np.arange(count) % 3 == 0
    )
    return np.concatenate([ball[0], tiny[0]]), np.concatenate([ball[1], tiny[1] + len(ball[0])])


def bodies(arrangement: Callable[[int], tuple[np.ndarray, np.ndarray | float, np.ndarray | None]]) -> Callable:
    """Tetrahedra in an arrangement: count -> centers, scales, which are inside out."""

    def made(n: int) -> Shape:
        return copies((TETRAHEDRON, TETRAHEDRON_FACES), *arrangement(max(n // 4, 2)))

    return made


def side_by_side(count: int):
    """Apart from each other."""
    return 2 * lattice(count), 1.0, None


def one_inside_out(count: int):
    """Apart from each other, one of them inside out."""
    return 2 * lattice(count), 1.0, np.arange(count) == 0


def all_inside_out(count: int):
    """Apart from each other, all inside out."""
    return 2 * lattice(count), 1.0, np.ones(count, bool)


def overlapping(count: int):
    """All large, at random places."""
    return rng().uniform(-0.5, 0.5, (count, 3)), 2.0, None


def overlapping_mixed(count: int):
    """All large, at random places, every other one inside out."""
    return rng().uniform(-0.5, 0.5, (count, 3)), 2.0, np.arange(count) % 2 == 0


def nested(count: int):
    """Each within the next one, all outward."""
    return np.zeros((count, 3)), np.linspace(0.1, 1, count), None


def nested_inside_out(count: int):
    """Each within the next one, all inside out."""
    return np.zeros((count, 3)), np.linspace(0.1, 1, count), np.ones(count, bool)


def nested_alternating(count: int):
    """Each within the next one, every other one inside out."""
    return np.zeros((count, 3)), np.linspace(0.1, 1, count), np.arange(count) % 2 == 1


def nested_by_powers(count: int):
    """Each within the next one, sizes over nine powers of ten, inside out at random."""
    return np.zeros((count, 3)), np.geomspace(1e-9, 1, count), rng().random(count) < 0.5


def in_one_box(count: int):
    """Small ones, half of them inside out, within a large one."""
    centers, scales = lattice(count), np.full(count, 0.3)
    side = centers.max() + 1
    centers[0], scales[0] = side / 2, 20 * side
    return centers, scales, np.arange(count) % 2 == 1


def in_a_line(count: int):
    """In a long line, one of them inside out: all boxes overlap but along one axis."""
    centers = np.zeros((count, 3))
    centers[:, 0] = 2 * np.arange(count)
    return centers, 1.0, np.arange(count) == 1


def long_bars(count: int):
    """Boxes that all overlap along two axes, none within another, one of them inside out."""
    t = np.arange(count) / count
    return np.stack([t, t[::-1], 0 * t], axis=1), 3.0, np.arange(count) == 1


def chain(step: tuple[float, float, float]) -> Callable[[int], Shape]:
    """Boxes of side 1, each a step from the last."""

    def made(n: int) -> Shape:
        count = n // 12 + 1
        return copies(box(), np.arange(count)[:, None] * np.array(step), 1.0, np.arange(count) % 5 == 0)

    return made


def block_of_boxes(n: int) -> Shape:
    """Boxes that fill a block: each touches its neighbours along whole faces."""
    return copies(box(), lattice(n // 12 + 1))


def open_cups(n: int) -> Shape:
    """Boxes without a lid, all inside out."""
    vertices, faces = box(inside_out=True)
    return copies((vertices, faces[2:]), 2 * lattice(n // 10 + 1))


def open_cups_nested(n: int) -> Shape:
    """Boxes without a lid, each within the next one, every other one inside out."""
    count = n // 10 + 1
    vertices, faces = box()
    scales = np.linspace(0.1, 1, count)
    return copies((vertices, faces[2:]), np.zeros((count, 3)), scales, np.arange(count) % 2 == 0)


def ribbon(n: int) -> Shape:
    """A strip along a spiral: a boundary as long as the surface."""
    t = np.linspace(0, 60, n // 2 + 2)
    inner = np.stack([t * np.cos(t), t * np.sin(t), t], axis=1)
    vertices = np.stack([inner, inner * 1.01 + [0, 0, 1]], axis=1).reshape(-1, 3)
    first = 2 * np.arange(n // 2)[:, None]
    return vertices, np.concatenate([first + np.array(f) for f in ([0, 2, 1], [1, 2, 3])])


def moebius(n: int) -> Shape:
    """A strip that cannot be oriented."""
    t = np.linspace(0, 2 * np.pi, n // 2, endpoint=False)
    side = np.stack([np.cos(t / 2) * np.cos(t), np.cos(t / 2) * np.sin(t), np.sin(t / 2)], axis=1) / 5
    middle = np.stack([np.cos(t), np.sin(t), 0 * t], axis=1)
    vertices = np.concatenate([middle + side, middle - side])
    k, count = np.arange(len(t)), len(t)
    a, b = k, k + count
    last = k == count - 1
    c, d = np.where(last, count, k + 1), np.where(last, 0, k + 1 + count)
    return vertices, np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1)])


def crossing_planes(n: int) -> Shape:
    """Squares of a lattice in all three directions: every edge has four or more uses."""
    side = max(2, int((n / 6) ** (1 / 3)))
    at = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    number = at @ [(side + 1) ** 2, side + 1, 1]
    vertices = np.stack(np.meshgrid(*[np.arange(side + 1.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    steps = [(side + 1) ** 2, side + 1, 1]
    quads = [(a, b) for a in range(3) for b in range(a)]
    faces = []
    for a, b in quads:
        i, j = steps[a], steps[b]
        faces += [number[:, None] + [0, i, i + j], number[:, None] + [0, i + j, j]]
    return vertices, np.concatenate(faces)


def doubled_tube(n: int) -> Shape:
    """A closed box that carries a long tube of triangles written from both sides: a fin that is peeled from its end."""
    rings = max(n // 12, 2)
    t = np.array([0, 2, 4]) * np.pi / 3
    ring = np.stack([np.cos(t), np.sin(t), 0 * t], axis=1) / 4
    vertices = (ring + np.arange(rings + 1)[:, None, None] * [0, 0, 0.01]).reshape(-1, 3)
    k, j = np.arange(rings)[:, None] * 3, np.arange(3)
    a, b = k + j, k + (j + 1) % 3
    faces = np.concatenate([np.stack(f, axis=-1).reshape(-1, 3) for f in ((a, b, b + 3), (a, b + 3, a + 3))])
    # The first ring closes a tetrahedron with the tube's own vertices.
    low = len(vertices)
    vertices = np.concatenate([vertices, [[0, 0, -1.0]]])
    body = np.array([[0, 1, 2], [1, 0, low], [2, 1, low], [0, 2, low]])
    return vertices, np.concatenate([body, faces, faces[:, ::-1]])


def cospherical(n: int) -> Shape:
    """Tiny bodies on a sphere."""
    count = n // 4
    return copies((TETRAHEDRON, TETRAHEDRON_FACES), directions(count), 1e-6)


def rounding_cloud(n: int) -> Shape:
    """Open triangles whose corners lie a few steps of their coordinates apart, and a box."""
    corners = 1.0 + rng().integers(0, 40, (n, 3, 3)) * 2.0**-23
    return with_box(separate(corners), 1.0, (0.5, 0.5, 0.5))


def far_triangle(n: int) -> Shape:
    """Small triangles, and one that is a million times as far away."""
    vertices, faces = crumbs(n)
    return np.concatenate([vertices, [[1e6, 0, 0], [1e6, 1, 0], [1e6, 0, 1]]]), np.concatenate(
        [faces, [[len(vertices), len(vertices) + 1, len(vertices) + 2]]]
    )


def fine_ball(n: int) -> Shape:
    """A healthy part: a ball."""
    rows = max(4, int(np.sqrt(n / 2)))
    u, v = np.meshgrid(np.linspace(0.01, np.pi - 0.01, rows), np.linspace(0, 2 * np.pi, rows, endpoint=False))
    vertices = np.stack([np.sin(u) * np.cos(v), np.sin(u) * np.sin(v), np.cos(u)], axis=-1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rows), np.arange(rows - 1), indexing="ij")
    a, b = i * rows + j, (i + 1) % rows * rows + j
    faces = np.concatenate([np.stack(f, axis=-1).reshape(-1, 3) for f in ((a, a + 1, b + 1), (a, b + 1, b))])
    return vertices, faces


SHAPES: dict[str, Callable[[int], Shape]] = {
    one.__name__: one
    for one in (
        fan_at_edge, fan_at_point, at_one_point, degenerate, duplicates, pencil, needles, coplanar, sheets, plates,
        soup,
        crumbs, giant_and_tiny, block_of_boxes, open_cups, open_cups_nested, ribbon, moebius, crossing_planes,
        doubled_tube, cospherical, rounding_cloud, far_triangle, fine_ball,
    )
}  # fmt: skip
SHAPES |= {
    f"bodies_{one.__name__}": bodies(one)
    for one in (
        side_by_side, one_inside_out, all_inside_out, overlapping, overlapping_mixed, nested, nested_inside_out,
        nested_alternating, nested_by_powers, in_one_box, in_a_line, long_bars,
    )
}  # fmt: skip
SHAPES |= {"chain_by_faces": chain((1, 0, 0)), "chain_by_edges": chain((1, 1, 0)), "chain_by_corners": chain((1, 1, 1))}


# ----------------------------------------------------------------------------------------------- compact files


def stl(shape: Shape) -> bytes:
    """Binary STL: 50 bytes a triangle."""
    records = np.zeros(len(shape[1]), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    records["corners"] = shape[0][shape[1]]
    return bytes(80) + struct.pack("<I", len(records)) + records.tobytes()


def ply(shape: Shape) -> bytes:
    """Binary PLY: 12 bytes a vertex, 13 a triangle."""
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(shape[0])}\nproperty float x\nproperty float y\n"
        f"property float z\nelement face {len(shape[1])}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    records = np.zeros(len(shape[1]), [("count", "u1"), ("corners", "<i4", 3)])
    records["count"], records["corners"] = 3, shape[1]
    return head.encode() + shape[0].astype("<f4").tobytes() + records.tobytes()


def numbers(rows: np.ndarray) -> list[str]:
    """A line for each row of (N, 3), with five digits."""
    return ["{:.5g} {:.5g} {:.5g}".format(*row) for row in rows.tolist()]


def obj(shape: Shape) -> bytes:
    """OBJ."""
    lines = [f"v {row}" for row in numbers(shape[0])] + ["f {} {} {}".format(*f) for f in (shape[1] + 1).tolist()]
    return "\n".join(lines).encode() + b"\n"


def off(shape: Shape) -> bytes:
    """OFF."""
    lines = ["OFF", f"{len(shape[0])} {len(shape[1])} 0", *numbers(shape[0])]
    return "\n".join([*lines, *("3 {} {} {}".format(*f) for f in shape[1].tolist())]).encode() + b"\n"


def glb(shape: Shape) -> bytes:
    """GLB with indices of two bytes where they suffice: 12 bytes a vertex, 6 or 12 a triangle."""
    kind, code = ("<u2", 5123) if len(shape[0]) < 2**16 else ("<u4", 5125)
    positions, corners = shape[0].astype("<f4").tobytes(), shape[1].astype(kind).tobytes()
    views = [(0, len(positions)), (len(positions), len(corners))]
    accessors = [(5126, len(shape[0]), "VEC3"), (code, shape[1].size, "SCALAR")]
    return packed_glb(positions + corners, views, accessors)


def packed_glb(binary: bytes, views: list, accessors: list, **more: object) -> bytes:
    """A GLB. views: (start, length) in the binary chunk. accessors: (type of a number, count, type), one of each view.
    more: keys of the JSON to replace."""
    header = minimal() | {
        "buffers": [{"byteLength": len(binary)}],
        "bufferViews": [{"buffer": 0, "byteOffset": at, "byteLength": n} for at, n in views],
        "accessors": [
            {"bufferView": k, "componentType": code, "count": n, "type": kind}
            for k, (code, n, kind) in enumerate(accessors)
        ],
        **more,
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text, binary = text + b" " * (-len(text) % 4), binary + bytes(-len(binary) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def three_mf(shape: Shape) -> bytes:
    """3MF with one item, compressed."""
    return packed_3mf(object_xml(1, shape), '<item objectid="1"/>')


def object_xml(number: int, shape: Shape) -> str:
    """An object of a 3MF."""
    corners = "".join('<vertex x="{:.5g}" y="{:.5g}" z="{:.5g}"/>'.format(*v) for v in shape[0].tolist())
    faces = "".join('<triangle v1="{}" v2="{}" v3="{}"/>'.format(*f) for f in shape[1].tolist())
    return f'<object id="{number}"><mesh><vertices>{corners}</vertices><triangles>{faces}</triangles></mesh></object>'


def packed_3mf(resources: str, build: str, more: dict[str, str] | None = None) -> bytes:
    """A 3MF. more: further files of the archive, by name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("3D/3dmodel.model", f"<model><resources>{resources}</resources><build>{build}</build></model>")
        for name, text in (more or {}).items():
            archive.writestr(name, text)
    return packed.getvalue()


ENCODERS = {"stl": stl, "ply": ply, "obj": obj, "off": off, "glb": glb, "3mf": three_mf}
# Each shape is written in the format that holds the most triangles of all but one, and a few shapes in all formats.
IN_ALL_FORMATS = ("fine_ball", "soup", "bodies_nested", "sheets")


def largest(make: Callable[[int], bytes], size: int) -> bytes:
    """The file of `make(n)` for the largest n, about, that gives at most `size` bytes."""
    n, data = 64, b""
    for _ in range(6):
        found = make(n)
        if len(found) <= size:
            data = max(data, found, key=len)
        n = max(1, int(n * (0.99 * size / len(found)) ** (1.0 if len(found) > size / 10 else 0.9)))
    return data


# ----------------------------------------------------------------------------------- what formats alone can hold


def star(corners: int) -> np.ndarray:
    """(corners, 3) of a polygon with as many spikes as it can have."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = np.where(np.arange(corners) % 2, 1.0, 0.3)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), 0.01 * np.arange(corners) / corners], axis=1)


def crossing_star(corners: int) -> np.ndarray:
    """(corners, 3) of a polygon that crosses itself everywhere."""
    angle = np.arange(corners) * 2.4
    return np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)


def polygon_obj(ring: np.ndarray) -> bytes:
    vertices = np.concatenate([box()[0], ring])
    lines = [f"v {row}" for row in numbers(vertices)] + ["f {} {} {}".format(*f) for f in (box()[1] + 1).tolist()]
    return "\n".join([*lines, "f " + " ".join(str(k + 9) for k in range(len(ring)))]).encode()


def polygon_off(ring: np.ndarray) -> bytes:
    vertices = np.concatenate([box()[0], ring])
    lines = ["OFF", f"{len(vertices)} 13 0", *numbers(vertices), *("3 {} {} {}".format(*f) for f in box()[1].tolist())]
    return "\n".join([*lines, f"{len(ring)} " + " ".join(str(k + 8) for k in range(len(ring)))]).encode()


def polygon_ply(ring: np.ndarray) -> bytes:
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(ring)}\nproperty float x\nproperty float y\n"
        f"property float z\nelement face 1\nproperty list uint uint vertex_indices\nend_header\n"
    )
    places = np.arange(len(ring), dtype="<u4")
    return head.encode() + ring.astype("<f4").tobytes() + struct.pack("<I", len(ring)) + places.tobytes()


def many_polygons(corners: int) -> Callable[[int], bytes]:
    """Stars of so many corners, over and over, of one set of vertices."""

    def made(n: int) -> bytes:
        ring = star(corners)
        face = "f " + " ".join(str(k + 1) for k in range(corners))
        return "\n".join([*(f"v {row}" for row in numbers(ring)), *[face] * n]).encode()

    return made


def polygons_of_all_sizes(n: int) -> bytes:
    """Polygons of 3, 4, 5, ... corners, of one star."""
    sizes = range(3, 3 + int(np.sqrt(2 * n)))
    ring = star(max(sizes))
    faces = ["f " + " ".join(str(k + 1) for k in range(size)) for size in sizes]
    return "\n".join([*(f"v {row}" for row in numbers(ring)), *faces]).encode()


def lines_obj(line: str) -> Callable[[int], bytes]:
    """An OBJ of a box with one line over and over."""
    return lambda n: obj(box()) + (line * n).encode() + obj(box())


def text_stl(filling: str) -> Callable[[int], bytes]:
    """A text STL of a box with something over and over between its facets."""

    def made(n: int) -> bytes:
        facet = "facet normal 0 0 0\nouter loop\n{}endloop\nendfacet\n"
        corners = ["".join(f"vertex {row}\n" for row in numbers(c)) for c in box()[0][box()[1]]]
        facets = [facet.format(one) for one in corners]
        return ("solid\n" + facets[0] + filling * n + "".join(facets[1:]) + "endsolid\n").encode()

    return made


def vertices_only_ply(n: int) -> bytes:
    return ply((rng().uniform(-1, 1, (n, 3)), box()[1]))


def vertices_only_off(n: int) -> bytes:
    return off((rng().integers(0, 9, (n, 3)).astype(float), box()[1]))


def mixed_rows_ply(n: int) -> bytes:
    """Lists of three and four corners in turn."""
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex 8\nproperty float x\nproperty float y\n"
        f"property float z\nelement face {2 * n}\nproperty list uchar uchar vertex_indices\nend_header\n"
    )
    return head.encode() + box()[0].astype("<f4").tobytes() + bytes([3, 0, 2, 1, 4, 0, 1, 3, 2]) * n


def empty_lists_ply(n: int) -> bytes:
    """Faces without corners."""
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex 8\nproperty float x\nproperty float y\n"
        f"property float z\nelement face {n}\nproperty list uchar uchar vertex_indices\nend_header\n"
    )
    return head.encode() + box()[0].astype("<f4").tobytes() + bytes([3, 0, 2, 1]) + bytes(n - 1)


def many_properties_ply(n: int) -> bytes:
    more = "".join(f"property list uchar uchar p{k}\n" for k in range(n))
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex 8\nproperty float x\nproperty float y\n"
        f"property float z\n{more}element face 12\nproperty list uchar uchar vertex_indices\nend_header\n"
    )
    rows = b"".join(v.astype("<f4").tobytes() + bytes(n) for v in box()[0])
    return head.encode() + rows + b"".join(bytes([3, *f]) for f in box()[1])


def many_elements_ply(n: int) -> bytes:
    return ply(box()).replace(b"element face", b"element e 0\nproperty int i\n" * n + b"element face")


def long_strip_ply(n: int) -> bytes:
    """One row of strips."""
    head = (
        "ply\nformat binary_little_endian 1.0\nelement vertex 8\nproperty float x\nproperty float y\n"
        "property float z\nelement tristrips 1\nproperty list uint uchar vertex_indices\nend_header\n"
    )
    corners = (np.arange(n) * 5 % 8).astype("u1")
    return head.encode() + box()[0].astype("<f4").tobytes() + struct.pack("<I", n) + corners.tobytes()


def strip_glb(n: int) -> bytes:
    """One long triangle strip of the vertices of a small ball, one byte a triangle."""
    vertices = directions(250).astype("<f4").tobytes()
    corners = rng().integers(0, 250, n).astype("u1").tobytes()
    primitive = {"attributes": {"POSITION": 0}, "indices": 1, "mode": 5}
    return packed_glb(
        vertices + corners,
        [(0, len(vertices)), (len(vertices), n)],
        [(5126, 250, "VEC3"), (5121, n, "SCALAR")],
        meshes=[{"primitives": [primitive]}],
    )


def quantised_strip_glb(n: int) -> bytes:
    """One triangle strip of a height field, vertices of six bytes."""
    count = n // 8
    vertices = rng().integers(-32000, 32000, (count, 3)).astype("<i2").tobytes()
    corners = (np.arange(count) % 60000).astype("<u2").tobytes()
    primitive = {"attributes": {"POSITION": 0}, "indices": 1, "mode": 5}
    return packed_glb(
        vertices + corners,
        [(0, len(vertices)), (len(vertices), len(corners))],
        [(5122, count, "VEC3"), (5123, count, "SCALAR")],
        meshes=[{"primitives": [primitive]}],
    )


def instances_glb(part: Callable[[int], Shape], copies_each: int) -> Callable[[int], bytes]:
    """Nodes that all show one mesh of so many triangles, moved apart."""

    def made(n: int) -> bytes:
        vertices, faces = part(copies_each)
        positions, corners = vertices.astype("<f4").tobytes(), faces.astype("<u4").tobytes()
        nodes = [{"mesh": 0, "translation": [3 * k % 100, 3 * (k // 100), 0]} for k in range(n)]
        return packed_glb(
            positions + corners,
            [(0, len(positions)), (len(positions), len(corners))],
            [(5126, len(vertices), "VEC3"), (5125, faces.size, "SCALAR")],
            nodes=nodes,
            scenes=[{"nodes": list(range(n))}],
        )

    return made


def deep_nodes_glb(n: int) -> bytes:
    nodes = [{"children": [k + 1], "translation": [0, 0, 1]} for k in range(n)] + [{"mesh": 0}]
    return with_nodes(nodes, [0])


def with_nodes(nodes: list, roots: list, **more: object) -> bytes:
    """A GLB of a box with these nodes."""
    vertices, corners = box()[0].astype("<f4").tobytes(), box()[1].astype("<u2").tobytes()
    views, accessors = [(0, 96), (96, 72)], [(5126, 8, "VEC3"), (5123, 36, "SCALAR")]
    return packed_glb(vertices + corners, views, accessors, nodes=nodes, scenes=[{"nodes": roots}], **more)


def many_weights_glb(n: int) -> bytes:
    """Nodes that show a mesh with as many weights of morph targets, all 0."""
    primitive = {"attributes": {"POSITION": 0}, "indices": 1}
    nodes = [{"mesh": 0}] * n
    return with_nodes(nodes, list(range(n)), meshes=[{"primitives": [primitive], "weights": [0] * 4 * n}])


def many_joints_glb(n: int) -> bytes:
    """Nodes that show a mesh with a skin of as many joints."""
    vertices, corners = box()[0].astype("<f4").tobytes(), box()[1].astype("<u2").tobytes()
    joints, weights = bytes(32), np.tile(np.array([1, 0, 0, 0], "<f4"), (8, 1)).tobytes()
    parts, at, views = (vertices, corners, joints, weights), 0, []
    for one in parts:
        views.append((at, len(one)))
        at += len(one)
    accessors = [(5126, 8, "VEC3"), (5123, 36, "SCALAR"), (5121, 8, "VEC4"), (5126, 8, "VEC4")]
    primitive = {"attributes": {"POSITION": 0, "JOINTS_0": 2, "WEIGHTS_0": 3}, "indices": 1}
    return packed_glb(
        b"".join(parts),
        views,
        accessors,
        nodes=[{"mesh": 0, "skin": 0}] * n,
        scenes=[{"nodes": list(range(n))}],
        meshes=[{"primitives": [primitive]}],
        skins=[{"joints": [0] * 4 * n}],
    )


def many_primitives_glb(n: int) -> bytes:
    """A mesh of n primitives without triangles, shown by n nodes."""
    primitive = {"attributes": {"POSITION": 0}, "mode": 0}
    return with_nodes([{"mesh": 0}] * n, list(range(n)), meshes=[{"primitives": [primitive] * n}])


def many_buffers_gltf(n: int) -> bytes:
    """Buffers of no bytes within the file."""
    header = {"asset": {"version": "2.0"}, "buffers": [{"byteLength": 0, "uri": "data:;base64,"}] * n}
    return json.dumps(header, separators=(",", ":")).encode()


def items_3mf(triangles: int, part: Callable[[int], Shape] = fine_ball) -> Callable[[int], bytes]:
    """Items that all place one object of so many triangles, beside each other."""

    def made(n: int) -> bytes:
        items = (
            f'<item objectid="1" transform="1 0 0 0 1 0 0 0 1 {3 * (k % 100)} {3 * (k // 100)} 0"/>' for k in range(n)
        )
        return packed_3mf(object_xml(1, part(triangles)), "".join(items))

    return made


def component_tree_3mf(n: int) -> bytes:
    """Components in components, 16 deep, with as many in each as the limit of elements allows."""
    wide = "".join(
        f'<object id="{k}"><components>{f"<component objectid={chr(34)}{k - 1}{chr(34)}/>" * 2}</components></object>'
        for k in range(2, 18)
    )
    return packed_3mf(object_xml(1, box()) + wide, '<item objectid="17"/>' * min(n, 100))


def empty_elements_3mf(n: int) -> bytes:
    return packed_3mf(object_xml(1, box()) + "<a/>" * n, '<item objectid="1"/>')


def unused_objects_3mf(n: int) -> bytes:
    unused = "".join(f'<object id="{k}"><mesh/></object>' for k in range(2, min(n, 90_000)))
    return packed_3mf(object_xml(1, box()) + unused, '<item objectid="1"/>')


def unused_vertices_3mf(n: int) -> bytes:
    vertices = '<vertex x="0" y="0" z="0"/>' * n
    more = f'<object id="2"><mesh><vertices>{vertices}</vertices></mesh></object>'
    return packed_3mf(object_xml(1, box()) + more, '<item objectid="1"/>')


def ranges_3mf(n: int) -> bytes:
    """Notes of a slicer on ranges of triangles, each range the whole object."""
    volume = '<volume firstid="0" lastid="99999999"><metadata key="modifier" value="1"/></volume>'
    settings = f'<config><object id="1">{volume * n}</object></config>'
    return packed_3mf(
        object_xml(1, fine_ball(20_000)), '<item objectid="1"/>', {"Metadata/Slic3r_PE_model.config": settings}
    )


def many_names_3mf(n: int) -> bytes:
    return packed_3mf(object_xml(1, box()), '<item objectid="1"/>', {f"{k}.model": "" for k in range(n)})


def compressed_3mf(part: Callable[[int], Shape]) -> Callable[[int], bytes]:
    """A large object whose text compresses well."""
    return lambda n: three_mf(part(min(n, 700_000)))


def terraces(n: int) -> Shape:
    """A height field of whole numbers."""
    side = int(np.sqrt(n / 2)) + 1
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    vertices = np.stack([x, y, (x // 7 + y // 11) % 9], axis=-1).reshape(-1, 3).astype(float)
    a = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()[:, None]
    return vertices, np.concatenate([a + np.array(f) for f in ([0, side, side + 1], [0, side + 1, 1])])


# Each: suffix, and n -> bytes, which grow with n.
SPECIAL: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "star.obj": ("obj", lambda n: polygon_obj(star(n))),
    "star.off": ("off", lambda n: polygon_off(star(n))),
    "star.ply": ("ply", lambda n: polygon_ply(star(n))),
    "crossing_star.obj": ("obj", lambda n: polygon_obj(crossing_star(n))),
    "crossing_star.ply": ("ply", lambda n: polygon_ply(crossing_star(n))),
    "stars_of_5.obj": ("obj", many_polygons(5)),
    "stars_of_10.obj": ("obj", many_polygons(10)),
    "stars_of_100.obj": ("obj", many_polygons(100)),
    "stars_of_1000.obj": ("obj", many_polygons(1000)),
    "polygons_of_all_sizes.obj": ("obj", polygons_of_all_sizes),
    "groups.obj": ("obj", lines_obj("g a\n")),
    "blank_lines.obj": ("obj", lines_obj("\n")),
    "blanks.obj": ("obj", lines_obj(" ")),
    "comments.obj": ("obj", lines_obj("# a\n")),
    "continued.obj": ("obj", lines_obj("\\\n")),
    "short_faces.obj": ("obj", lines_obj("f 1\n")),
    "faces_of_negative.obj": ("obj", lines_obj("f -1 -2 -3\n")),
    "slashes.obj": ("obj", lines_obj("f 1/1 2 3//3\n")),
    "vertices.obj": ("obj", lines_obj("v 0 0 0\n")),
    "long_line.obj": ("obj", lines_obj("f 1 2 3 ")),
    "blank_lines.stl": ("stl", text_stl("\n")),
    "blanks.stl": ("stl", text_stl(" ")),
    "words.stl": ("stl", text_stl("end ")),
    "vertex_words.stl": ("stl", text_stl("vertex\n")),
    "solids.stl": ("stl", text_stl("endsolid\nsolid a\n")),
    "vertices.ply": ("ply", vertices_only_ply),
    "vertices.off": ("off", vertices_only_off),
    "blank_lines.off": ("off", lambda n: off(box()) + b"\n" * n),
    "comments.off": ("off", lambda n: off(box()).replace(b"0\n", b"0\n" + b"#\n" * n, 1)),
    "words_a_line.off": ("off", lambda n: off(fine_ball(n)).replace(b" ", b"\n").replace(b"OFF\n", b"OFF ", 1)),
    "mixed_rows.ply": ("ply", mixed_rows_ply),
    "empty_lists.ply": ("ply", empty_lists_ply),
    "many_properties.ply": ("ply", many_properties_ply),
    "many_elements.ply": ("ply", many_elements_ply),
    "long_strip.ply": ("ply", long_strip_ply),
    "strip.glb": ("glb", strip_glb),
    "quantised_strip.glb": ("glb", quantised_strip_glb),
    "instances_of_12.glb": ("glb", instances_glb(lambda n: box(), 12)),
    "instances_of_300.glb": ("glb", instances_glb(fine_ball, 300)),
    "instances_of_30000.glb": ("glb", instances_glb(fine_ball, 30_000)),
    "deep_nodes.glb": ("glb", deep_nodes_glb),
    "many_weights.glb": ("glb", many_weights_glb),
    "many_joints.glb": ("glb", many_joints_glb),
    "many_primitives.glb": ("glb", many_primitives_glb),
    "many_buffers.gltf": ("gltf", many_buffers_gltf),
    "items_of_12.3mf": ("3mf", items_3mf(12, lambda n: box())),
    "items_of_300.3mf": ("3mf", items_3mf(300)),
    "items_of_30000.3mf": ("3mf", items_3mf(30_000)),
    "component_tree.3mf": ("3mf", component_tree_3mf),
    "empty_elements.3mf": ("3mf", empty_elements_3mf),
    "unused_objects.3mf": ("3mf", unused_objects_3mf),
    "unused_vertices.3mf": ("3mf", unused_vertices_3mf),
    "ranges.3mf": ("3mf", ranges_3mf),
    "many_names.3mf": ("3mf", many_names_3mf),
    "terraces.3mf": ("3mf", compressed_3mf(terraces)),
    "plates.3mf": ("3mf", compressed_3mf(plates)),
}


def cases() -> dict[str, tuple[str, Callable[[int], bytes]]]:
    """Every case by its name: suffix, and n -> bytes."""
    found = {}
    for name, shape in SHAPES.items():
        for suffix in ENCODERS if name in IN_ALL_FORMATS else ("ply",):
            found[f"{name}.{suffix}"] = (suffix, lambda n, e=ENCODERS[suffix], s=shape: e(s(n)))
    return found | SPECIAL


# ------------------------------------------------------------------------------------------------- measurement


class Measured(NamedTuple):
    """outcome: 'read', 'refused: ...', or how it failed, with the stage. triangles: as loaded. seconds: CPU time of
    loading and of labelling, as far as it came. mebibytes: most address space beside that of the start."""

    outcome: str
    triangles: int
    seconds: list[float]
    mebibytes: float

    @property
    def is_good(self) -> bool:
        """True if the file was read, or refused, within the limits."""
        return self.outcome.startswith(("read", "refused"))


def label(path: Path, say: Callable[[int, float], None] = lambda triangles, seconds: None) -> None:
    """Load a mesh and draw samples. say: called after each of the two with the triangles and the CPU seconds of it."""
    start = _cpu()
    mesh = load_mesh(read_source(path))
    say(len(mesh.faces), _cpu() - start)
    start = _cpu()
    draw_samples("Importance", DistanceOracle(mesh), SAMPLES, np.random.default_rng(0))
    say(len(mesh.faces), _cpu() - start)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _address_space(key: str) -> int:
    """Bytes of this process now (VmSize) or at most (VmPeak)."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{key}:")[2].split()[0]) * 1024


def warm_up(folder: Path) -> None:
    """Have the libraries and the compiled loops loaded, for all kinds of meshes, before memory is limited."""
    write_mesh(folder / "closed.stl", *sphere(2))
    label(folder / "closed.stl")
    for name in ("soup", "bodies_nested"):  # both crowded
        write_mesh(folder / "crowded.stl", *SHAPES[name](12_000))
        oracle = DistanceOracle(load_mesh(folder / "crowded.stl"))
        oracle.signed_distance(np.zeros((9, 3)))
    # One hole; then a boundary so long that caps close it.
    for name, faces in (("open.stl", slice(1, None)), ("long.stl", slice(None, None, 2))):
        write_mesh(folder / name, sphere(3)[0], sphere(3)[1][faces])
        oracle = DistanceOracle(load_mesh(folder / name))
        for points in (np.zeros((9, 3)), np.zeros((9, 3), np.float32)):
            oracle.signed_distance(points), oracle.winding_number(points)


def measured(path: Path, seconds: float = SECONDS) -> Measured:
    """Label a file in a child process that has the limits, and seconds of CPU time."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _label_with_limits(path, seconds, lambda *row: os.write(write_end, json.dumps(row).encode() + b"\n"))
        os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as answer:
        rows = [json.loads(line) for line in answer]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # The last row is the outcome, if the child came so far; those before are of the stages.
    outcome, mebibytes = rows.pop()[1:] if rows and rows[-1][0] is None else ("", 0.0)
    if not outcome:
        outcome = "out of time" if code in (-signal.SIGXCPU, -signal.SIGKILL) else f"exit code {code}"
    if not outcome.startswith(("read", "refused")):
        outcome = f"{('loading', 'labelling', 'after all')[len(rows)]}: {outcome}"
    return Measured(outcome, rows[0][0] if rows else 0, [row[1] for row in rows], mebibytes)


def _label_with_limits(path: Path, seconds: float, write: Callable[..., None]) -> None:
    """Set the limits and label; `write` takes (triangles, seconds) of each stage, then (None, outcome, mebibytes)."""
    before = _address_space("VmSize")
    space = before + MEMORY + MEMORY_PER_BYTE * path.stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    signal.signal(signal.SIGXCPU, _out_of_time)
    most = int(np.ceil(_cpu() + seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + GRACE))
    outcome = "read"
    try:
        label(path, write)
    except UserError as error:
        outcome = f"refused: {str(error)[len(str(path)) + 2 :]}"
    except BaseException as error:
        outcome = with_place(error)
    write(None, outcome, (_address_space("VmPeak") - before) / 2**20)


def _out_of_time(_: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"in {frame.f_code.co_name}" if frame else "")


def main() -> int:
    """The command line: prints a row for each case; exit code 1 if one exceeds the limits."""
    parser = argparse.ArgumentParser("hostile_meshes", description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes of a file")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="CPU time of a file")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the names of cases")
    flags = parser.parse_args()
    if not SETTINGS.items() <= os.environ.items():  # they count from the start of a process
        os.execve(sys.executable, [sys.executable, "-m", "tests.hostile_meshes", *sys.argv[1:]], os.environ | SETTINGS)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        warm_up(Path(folder))
        for name, (suffix, make) in cases().items():
            if not any(part in name for part in flags.only):
                continue
            path = Path(folder) / f"case.{suffix}"
            path.write_bytes(largest(make, flags.size))
            found = measured(path, flags.seconds)
            stages = " + ".join(f"{one:.1f}" for one in found.seconds)
            print(
                f"{name:32s} {path.stat().st_size:9,} B {found.triangles:9,} {stages:>11s} s "
                f"{found.mebibytes:5.0f} MiB  {found.outcome[:150]}",
                flush=True,
            )
            failed += not found.is_good
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
