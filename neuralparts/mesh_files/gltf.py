"""glTF 2.0: reads .glb and .gltf, by trimesh, and writes .glb. Every other format has a reader of this package.

trimesh is not used for the others because it accepted an OFF file that was cut short, rounded a text PLY to float32,
and lost bodies of a 3MF.
"""

import io
import json
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.placing import flip_if_mirrored, join_pieces
from neuralparts.wording import counted

# Extensions that a file may require although they are not read, because they change no shape, by how their names begin.
# Quantised positions are read, unless they are normalized too.
HARMLESS = ("KHR_materials", "KHR_lights", "KHR_texture", "EXT_texture", "KHR_mesh_quantization", "KHR_animation")
INSTANCES = "EXT_mesh_gpu_instancing"
TRIANGLES, TRIANGLE_FAN = 4, 6  # modes of a primitive


def read_gltf(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A GLB or glTF file -> vertices (V, 3) float64, faces (F, 3) int64, notes; see `read_triangles`.

    Each piece of geometry is placed once per node that shows it. Raises MeshError for a file with shapes that are not
    read, ValueError or what trimesh raises for a damaged one.
    """
    import trimesh

    if unread := _unread(data):
        raise MeshError(f"{path}: {unread}, which is not read here; export it again without, or as STL")
    try:
        kind = path.suffix[1:].lower()
        scene = trimesh.load_scene(io.BytesIO(data), file_type=kind, resolver=_resolver(path), process=False)
    except OSError as error:
        raise ValueError(f"it names a file that cannot be read: {error}") from None
    pieces, skipped = [], 0
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]  # (4, 4), which multiplies columns (x, y, z, 1)
        piece = scene.geometry[name]
        if not isinstance(piece, trimesh.Trimesh):
            skipped += 1
            continue
        matrix = np.asarray(matrix, dtype=np.float64)
        points = np.asarray(piece.vertices, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]  # (V, 3)
        pieces.append((points, flip_if_mirrored(np.asarray(piece.faces, np.int64), matrix[:3, :3])))
    notes = [f"Ignored {counted(skipped, 'piece')} without triangles (points or lines)."] if skipped else []
    return *join_pieces(pieces), notes


def _resolver(path: Path):
    """An object by which trimesh reads the files that a glTF names, relative to its folder."""
    import trimesh

    class Beside(trimesh.resolvers.FilePathResolver):
        def get(self, name: str) -> bytes:
            # An address may spell a space as %20.
            return (path.parent / urllib.parse.unquote(name)).read_bytes()

    return Beside(str(path))


def _unread(data: bytes) -> str:
    """Names what trimesh would leave out or read as zeros, or ''. Raises ValueError or KeyError for a damaged file."""
    if data[:4] == b"glTF":  # binary: the JSON is the first chunk
        data = data[20 : 20 + int.from_bytes(data[12:16], "little")]
    header = json.loads(data)
    for name in header.get("extensionsRequired", []):
        if "compression" in name:
            return f"compressed by {name}"
        if not name.startswith(HARMLESS):
            return f"the extension {name}"
    if any(INSTANCES in node.get("extensions", {}) for node in header.get("nodes", [])):
        return f"the extension {INSTANCES}"
    primitives = [primitive for mesh in header.get("meshes", []) for primitive in mesh.get("primitives", [])]
    if any(primitive.get("mode", TRIANGLES) == TRIANGLE_FAN for primitive in primitives):
        return "triangle fans"
    positions = {primitive.get("attributes", {}).get("POSITION") for primitive in primitives}
    accessors = [header["accessors"][index] for index in positions - {None}]
    if any("sparse" in accessor for accessor in accessors):
        return "sparse positions"
    return "normalized positions" if any(accessor.get("normalized") for accessor in accessors) else ""


def files_beside(path: str | os.PathLike) -> list[str]:
    """Names, relative to a mesh file's folder, of the other files that hold a part of its shape: a .gltf's buffers.

    [] for every other format, and for a file that cannot be read: `read_triangles` reports that.
    """
    if Path(path).suffix.lower() != ".gltf":
        return []
    try:
        addresses = [buffer.get("uri") or "" for buffer in json.loads(Path(path).read_bytes()).get("buffers", [])]
        return [urllib.parse.unquote(address) for address in addresses if address and not address.startswith("data:")]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def encode_glb(vertices: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 -> a GLB, made as a whole in memory.

    glTF keeps positions as float32, but the translation of a node as decimal text: positions are relative to the middle
    of the mesh, so that a part far from the origin loses nothing.
    """
    import trimesh

    placement = np.eye(4)
    if len(vertices):
        placement[:3, 3] = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    piece = trimesh.Trimesh(vertices - placement[:3, 3], faces, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(piece, node_name="part", geom_name="part", transform=placement)
    yield scene.export(file_type="glb")
