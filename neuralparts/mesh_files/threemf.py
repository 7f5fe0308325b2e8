"""3MF (3MF Core Specification 1.3; model files beside the first by the Production Extension 1.1): reads and writes."""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from neuralparts.mesh_files.placing import flip_if_mirrored, join_pieces

# Components within components. More are taken for components that hold each other.
MOST_NESTED = 64
# An object: the model file that it is in, and its number there.
ObjectKey = tuple[str, str | None]


def read_3mf(path: Path, data: bytes) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A 3MF file -> vertices (V, 3) float64, faces (F, 3) int64, notes; see `read_triangles`.

    Each object is placed once per build item, or component of one, that names it. Raises ValueError, BadZipFile or
    ParseError for a damaged file.
    """
    root, models = _parse_models(data)
    objects = {
        (name, element.get("id")): element for name, model in models.items() for element in _all(model, "object")
    }
    meshes, pieces = {}, []
    for key, matrix in _placed_objects(root, models, objects):
        if key not in meshes:
            meshes[key] = _parse_mesh(objects[key])
        points, triangles = meshes[key]
        # The matrix multiplies rows (x, y, z, 1).
        pieces.append((points @ matrix[:3, :3] + matrix[3, :3], flip_if_mirrored(triangles, matrix[:3, :3])))
    units = {model.get("unit", "millimeter") for model in models.values()} - {"millimeter"}
    notes = [
        f"The file's unit is the {unit}. Its numbers are kept, though a .3mf that is written says millimeter."
        for unit in sorted(units)
    ]
    return *join_pieces(pieces), notes


def _parse_models(data: bytes) -> tuple[str, dict[str, Element]]:
    """The name of the model file whose items are built, and all model files of the archive by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        texts = {name: archive.read(name) for name in archive.namelist() if name.lower().endswith(".model")}
        relationships = [archive.read(name) for name in archive.namelist() if name.lower() == "_rels/.rels"]
    if not texts:
        raise ValueError("no model in it")
    targets = re.findall(rb'Target="/?([^"]+\.model)"', b"".join(relationships), re.IGNORECASE)
    root = next((name for name in (target.decode() for target in targets) if name in texts), min(texts, key=len))
    return root, {name: ElementTree.fromstring(text) for name, text in texts.items()}


def _placed_objects(
    root: str, models: dict[str, Element], objects: dict[ObjectKey, Element]
) -> Iterator[tuple[ObjectKey, np.ndarray]]:
    """The objects with a mesh that the build items place, and the (4, 4) matrix of each, in the order of the file.

    An object with components stands for them. Raises ValueError for an object that is missing or holds itself.
    """
    components = {key: _all(element, "component")[::-1] for key, element in objects.items()}
    # A stack of (model file, item or component, matrix around it, depth), the next one last.
    waiting = [(root, item, np.eye(4), 0) for item in _all(models[root], "item")][::-1]
    while waiting:
        model, placed, around, depth = waiting.pop()
        if depth > MOST_NESTED:
            raise ValueError("components that hold each other")
        key = _model_of(placed, model), placed.get("objectid")
        if key not in objects:
            raise ValueError(f"no object {key[1]} in {key[0]}")
        matrix = _matrix(placed.get("transform")) @ around
        waiting += [(key[0], component, matrix, depth + 1) for component in components[key]]
        if not components[key]:
            yield key, matrix


def _all(element: Element, name: str) -> list[Element]:
    """All elements of a name in an element, at any depth and in any namespace."""
    return [inner for inner in element.iter() if inner.tag.rpartition("}")[2] == name]


def _model_of(placed: Element, model: str) -> str:
    """The model file from which an item or a component takes its object: the one that its path names, or its own."""
    paths = [value for name, value in placed.attrib.items() if name.rpartition("}")[2] == "path"]
    return paths[0].lstrip("/") if paths else model


def _matrix(transform: str | None) -> np.ndarray:
    """Twelve numbers, four rows of three -> (4, 4) float64; the identity if there is no transform."""
    matrix = np.eye(4)
    if transform:
        matrix[:, :3] = np.array(transform.split(), dtype=np.float64).reshape(4, 3)
    return matrix


def _parse_mesh(element: Element) -> tuple[np.ndarray, np.ndarray]:
    """An object -> vertices (V, 3) float64, faces (F, 3) int64."""
    corners, triangles = _all(element, "vertex"), _all(element, "triangle")
    points = [corner.get(axis) for corner in corners for axis in "xyz"]
    indices = [triangle.get(corner) for triangle in triangles for corner in ("v1", "v2", "v3")]
    return np.array(points, np.float64).reshape(-1, 3), np.array(indices, np.int64).reshape(-1, 3)


def encode_3mf(vertices: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 -> a 3MF in millimetres, made as a whole in memory by trimesh.

    Every float64 reads back as it was.
    """
    import trimesh

    scene = trimesh.Scene()
    scene.add_geometry(trimesh.Trimesh(vertices, faces, process=False), node_name="part", geom_name="part")
    yield scene.export(file_type="3mf")
