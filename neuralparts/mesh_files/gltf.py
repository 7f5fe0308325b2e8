"""glTF 2.0, .glb and .gltf: reads the triangles of the default scene in its rest pose, and writes .glb.

Materials, images, cameras and animations are ignored; no image is ever read. The rest pose has the default weights of
the morph targets, and the skins with their joints as the nodes place them (sections 3.7.2.2 and 3.7.3 of the
specification).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from neuralparts.mesh_files.batches import ROWS_PER_BATCH
from neuralparts.mesh_files.gltf_accessors import Accessors, entry, part
from neuralparts.mesh_files.gltf_container import buffer_bytes, items, read_header
from neuralparts.mesh_files.gltf_scene import Scene
from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.placing import RowLimit, check_piece, flip_if_mirrored, join_pieces
from neuralparts.mesh_files.source import SourceFile
from neuralparts.wording import counted, quoted

# Extensions that a file may require although they are not read, because they change no shape, by how their names begin.
# Quantised positions are read as any others.
HARMLESS = ("KHR_materials", "KHR_lights", "KHR_texture", "EXT_texture", "KHR_mesh_quantization", "KHR_animation")
INSTANCES = "EXT_mesh_gpu_instancing"
TRIANGLES, TRIANGLE_STRIP, TRIANGLE_FAN = 4, 5, 6  # modes of a primitive that have triangles


class Primitive(NamedTuple):
    """One set of triangles that a node shows. weights: of its morph targets, in order; missing ones are 0."""

    node: int
    primitive: dict
    weights: list


def read_gltf(source: SourceFile) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A GLB or glTF file -> vertices (V, 3) float64, faces (F, 3) int64, notes; see `read_triangles`.

    Each set of triangles is placed once per node of the scene that shows it. Raises MeshError for a file with shapes
    that are not read, ValueError or RecursionError for a damaged one.
    """
    header, binary = read_header(source.data)
    if unread := _unread(header):
        raise MeshError(f"{source.path}: {unread}, which is not read here; export it again without, or as STL")
    accessors = Accessors(header, buffer_bytes(header, binary, source.beside))
    scene, limit = Scene(header, accessors), RowLimit(source.size)
    pieces, skipped, corners_left = [], 0, 0
    for shown in _shown(header, scene):
        rows = _rows_of(shown, accessors)
        limit.take(rows + scene.joint_count(shown.node) + _weight_count(shown))
        if not rows:
            skipped += 1
            continue
        faces, left = _faces(shown.primitive, accessors)
        corners_left += left
        points, matrix = _points(shown, scene, accessors)
        check_piece(len(points), faces)
        pieces.append((points, flip_if_mirrored(faces, matrix)))
    notes = [f"Ignored {counted(skipped, 'piece')} without triangles (points or lines)."] * bool(skipped)
    notes += [f"Ignored {counted(corners_left, 'corner')} after the last whole triangle."] * bool(corners_left)
    return *join_pieces(pieces), notes


def _unread(header: dict) -> str:
    """Names an extension without which the shape would be wrong, or ''. Raises ValueError for a damaged file."""
    names = header.get("extensionsRequired", [])
    for name in map(str, names if isinstance(names, list) else [names]):
        if "compression" in name:
            return f"compressed by {quoted(name)}"
        if not name.startswith(HARMLESS):
            return f"the extension {quoted(name)}"
    if any(INSTANCES in part(node, "extensions", {}) for node in items(header, "nodes")):
        return f"the extension {INSTANCES}"
    return ""


def _shown(header: dict, scene: Scene) -> Iterator[Primitive]:
    """The primitives of the scene's nodes, in the order of its tree; a file without nodes shows every mesh once."""
    meshes = items(header, "meshes")
    if not scene.nodes:
        yield from (Primitive(-1, one, mesh.get("weights", [])) for mesh in meshes for one in items(mesh, "primitives"))
    for index in scene.shown:
        node = scene.nodes[index]
        if "mesh" in node:
            mesh = entry(meshes, node["mesh"], "mesh")
            weights = node.get("weights", mesh.get("weights", []))
            yield from (Primitive(index, one, weights) for one in items(mesh, "primitives"))


def _rows_of(shown: Primitive, accessors: Accessors) -> int:
    """Rows that are computed for a primitive, from the counts that the file promises; 0 if it has no triangles."""
    attributes = part(shown.primitive, "attributes", {})
    if shown.primitive.get("mode", TRIANGLES) not in (TRIANGLES, TRIANGLE_STRIP, TRIANGLE_FAN):
        return 0
    if "POSITION" not in attributes:
        return 0
    vertices = accessors.count(attributes["POSITION"])
    corners = accessors.count(shown.primitive["indices"]) if "indices" in shown.primitive else vertices
    triangles = corners // 3 if shown.primitive.get("mode", TRIANGLES) == TRIANGLES else corners
    # Each morph target and each set of joints takes as many rows as the positions.
    return vertices * (1 + len(_morphs(shown)) + sum(name.startswith("JOINTS_") for name in attributes)) + triangles


def _weight_count(shown: Primitive) -> int:
    """Weights of morph targets that are looked at for a primitive, most of them 0 perhaps."""
    return len(shown.weights) if isinstance(shown.weights, list) else 0


def _morphs(shown: Primitive) -> list[tuple[float, int]]:
    """The morph targets that count: weight and accessor of the displacements. Raises ValueError."""
    weights = shown.weights
    if not isinstance(weights, list) or not all(isinstance(weight, int | float) for weight in weights):
        raise ValueError("the weights of the morph targets are no numbers")
    targets = items(shown.primitive, "targets")
    pairs = zip(weights, targets, strict=False)
    return [(weight, target["POSITION"]) for weight, target in pairs if weight and "POSITION" in target]


def _faces(primitive: dict, accessors: Accessors) -> tuple[np.ndarray, int]:
    """The triangles of a primitive, (F, 3) int64, and the number of corners after the last whole triangle."""
    if "indices" in primitive:
        corners = accessors.read(primitive["indices"], 1)[:, 0].astype(np.int64)  # (C,)
    else:
        corners = np.arange(accessors.count(primitive["attributes"]["POSITION"]))
    mode = primitive.get("mode", TRIANGLES)
    if mode == TRIANGLES:
        left = len(corners) % 3
        return corners[: len(corners) - left].reshape(-1, 3), left
    if len(corners) < 3:
        return np.zeros((0, 3), np.int64), len(corners)
    if mode == TRIANGLE_FAN:
        return np.stack([corners[1:-1], corners[2:], np.full(len(corners) - 2, corners[0])], axis=1), 0
    faces = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)  # (C - 2, 3)
    faces[1::2] = faces[1::2][:, [0, 2, 1]]  # every other triangle of a strip runs the other way
    return faces, 0


def _points(shown: Primitive, scene: Scene, accessors: Accessors) -> tuple[np.ndarray, np.ndarray]:
    """The vertices of a primitive in the scene, (V, 3) float64, and the (3, 3) matrix that says if it is mirrored."""
    attributes = shown.primitive["attributes"]
    points = accessors.read(attributes["POSITION"], 3).astype(np.float64)  # (V, 3)
    with np.errstate(all="ignore"):  # what is not finite is refused later, with a message about it
        for weight, target in _morphs(shown):
            moves = accessors.read(target, 3)
            if len(moves) != len(points):
                raise ValueError(f"a morph target moves {len(moves):,} of {counted(len(points), 'vertex')}")
            points += weight * moves
        joints = scene.joint_matrices(shown.node) if "JOINTS_0" in attributes else None  # (J, 4, 4)
        if joints is not None:
            return _skinned(points, joints, attributes, accessors), joints[0][:3, :3]
        matrix = scene.matrix(shown.node)  # (4, 4), which multiplies columns (x, y, z, 1)
        return points @ matrix[:3, :3].T + matrix[:3, 3], matrix[:3, :3]


def _skinned(points: np.ndarray, matrices: np.ndarray, attributes: dict, accessors: Accessors) -> np.ndarray:
    """Points (V, 3), moved by the mean of their joints' matrices (J, 4, 4), by weight."""
    sets = sorted(name.removeprefix("JOINTS_") for name in attributes if name.startswith("JOINTS_"))
    joints = np.concatenate([accessors.read(attributes[f"JOINTS_{n}"], 4) for n in sets], axis=1)  # (V, 4 sets)
    missing = [n for n in sets if f"WEIGHTS_{n}" not in attributes]
    if missing or len(joints) != len(points):
        raise ValueError("a skin has no weights, or not as many as vertices")
    weights = np.concatenate([accessors.read(attributes[f"WEIGHTS_{n}"], 4) for n in sets], axis=1).astype(np.float64)
    if len(weights) != len(points) or joints.dtype.kind != "u" or (len(joints) and joints.max() >= len(matrices)):
        raise ValueError("a skin's weights or joints do not fit its vertices or its joints")
    total = weights.sum(axis=1)  # (V,) 1, but for rounding
    weights[total == 0, 0] = 1.0
    weights /= np.where(total == 0, 1.0, total)[:, None]
    moved = np.empty_like(points)
    for start in range(0, len(points), ROWS_PER_BATCH):
        rows = slice(start, start + ROWS_PER_BATCH)
        mean = np.zeros((len(points[rows]), 3, 4))  # (B, 3, 4)
        for k in range(joints.shape[1]):
            mean += weights[rows, k, None, None] * matrices[joints[rows, k], :3]
        moved[rows] = np.einsum("bij,bj->bi", mean[:, :, :3], points[rows]) + mean[:, :, 3]
    return moved


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
