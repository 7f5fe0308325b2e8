"""3MF (3MF Core Specification 1.3; model files beside the first by the Production Extension 1.1): reads and writes."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.mesh_files.placing import RowLimit, check_piece, flip_if_mirrored, join_pieces
from neuralparts.mesh_files.source import SourceFile
from neuralparts.mesh_files.threemf_package import Package, ThreeMfObject, UnreadExtensionError
from neuralparts.mesh_files.threemf_roles import NEGATIVE, Roles, role_of
from neuralparts.wording import counted, quoted

# Components within components. More are taken for components that hold each other.
MOST_NESTED = 64
# An object: the model file that it is in, and its number there.
ObjectKey = tuple[str, str | None]


def read_3mf(source: SourceFile) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A 3MF file -> vertices (V, 3) float64, faces (F, 3) int64, notes; see `read_triangles`.

    Each object is placed once per build item, or component of one, that names it. Modifiers, blockers and supports are
    left out, with a note. Raises MeshError for shapes that are not read, ValueError or BadZipFile for a damaged file.
    """
    package, limit, left_out = Package(source.data), RowLimit(source.size), Counter()
    meshes: dict[ObjectKey, tuple[np.ndarray, np.ndarray]] = {}
    pieces = []
    try:
        roles = Roles(package.settings())
        for key, found, matrix in _placed_objects(package, roles, limit, left_out):
            if key not in meshes:
                meshes[key] = _own_triangles(key, found, package, roles, left_out)
            points, triangles = meshes[key]
            limit.take(len(points) + len(triangles))
            with np.errstate(all="ignore"):  # what is not finite is refused later, with a message about it
                # The matrix multiplies rows (x, y, z, 1).
                placed = points @ matrix[:3, :3] + matrix[3, :3]
            pieces.append((placed, flip_if_mirrored(triangles, matrix[:3, :3])))
    except UnreadExtensionError as error:
        raise MeshError(f"{source.path}: it requires {error}, which is not read here; export it without") from None
    if left_out[NEGATIVE]:
        raise MeshError(
            f"{source.path}: negative volumes are not subtracted here, and it has {left_out[NEGATIVE]}; subtract in "
            "the program that wrote the file, and export it again"
        )
    return *join_pieces(pieces), _notes(package, left_out)


def _notes(package: Package, left_out: Counter) -> list[str]:
    """Sentences about what was left out and about units."""
    notes = [f"Left out {counted(count, role)}: not a part of the shape." for role, count in left_out.items()]
    lattices = sum(model.lattices for model in package.models.values())
    notes += [f"Ignored {counted(lattices, 'beam lattice')}."] * bool(lattices)
    units = {model.unit for model in package.models.values()} - {"millimeter"}
    return notes + [
        f"The file's unit is the {quoted(unit)}. Its numbers are kept, though a .3mf that is written says millimeter."
        for unit in sorted(units)
    ]


def _placed_objects(
    package: Package, roles: Roles, limit: RowLimit, left_out: Counter
) -> Iterator[tuple[ObjectKey, ThreeMfObject, np.ndarray]]:
    """The objects with a mesh that the build items place, and the (4, 4) matrix of each, in the order of the file.

    An object with components stands for them. left_out: counts of what is not placed, by role. Raises ValueError for
    an object that is missing or holds itself.
    """
    # A stack of (model file, item or component, object that holds it, matrix around it, depth), the next one last.
    waiting = [(package.root, item, None, np.eye(4), 0) for item in package.model(package.root).items[::-1]]
    while waiting:
        model, placed, holder, around, depth = waiting.pop()
        limit.take(0)
        if depth > MOST_NESTED:
            raise ValueError("components that hold each other")
        key = placed.model or model, placed.object
        found = package.model(key[0]).objects.get(key[1])
        if found is None:
            raise ValueError(f"no object {quoted(key[1])} in {quoted(key[0])}")
        if role := roles.parts.get((holder, placed.object), "") or role_of(found.role):
            left_out[role] += 1
            continue
        matrix = _matrix(placed.transform) @ around
        waiting += [(key[0], part, key[1], matrix, depth + 1) for part in found.components[::-1]]
        if not found.components:
            yield key, found, matrix


def _own_triangles(
    key: ObjectKey, found: ThreeMfObject, package: Package, roles: Roles, left_out: Counter
) -> tuple[np.ndarray, np.ndarray]:
    """An object's vertices (V, 3) and those of its faces (F, 3) that belong to the shape. left_out: as above."""
    points, faces = found.mesh()
    check_piece(len(points), faces)
    kept = np.ones(len(faces), bool)
    # The notes of slicers number the objects of the first model file.
    for first, last, role in roles.ranges.get(key[1], []) if key[0] == package.root else []:
        left_out[role] += 1
        kept[max(first, 0) : max(last + 1, 0)] = False
    return points, faces if kept.all() else faces[kept]


def _matrix(transform: str | None) -> np.ndarray:
    """Twelve numbers, four rows of three -> (4, 4) float64; the identity if there is no transform."""
    matrix = np.eye(4)
    if transform:
        numbers = transform.split()
        if len(numbers) != 12:
            raise ValueError(f"a transform of {len(numbers)} numbers, not 12")
        matrix[:, :3] = np.array([float(number) for number in numbers]).reshape(4, 3)
    return matrix


def encode_3mf(vertices: np.ndarray, faces: np.ndarray) -> Iterator[bytes]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 -> a 3MF in millimetres, made as a whole in memory by trimesh.

    Every float64 reads back as it was.
    """
    import trimesh

    scene = trimesh.Scene()
    scene.add_geometry(trimesh.Trimesh(vertices, faces, process=False), node_name="part", geom_name="part")
    yield scene.export(file_type="3mf")
