"""The nodes of a glTF: which of them the scene shows, and the matrices by which they place what they show."""

import numpy as np

from neuralparts.mesh_files.gltf_accessors import Accessors, entry, natural
from neuralparts.mesh_files.gltf_container import items
from neuralparts.wording import quoted


class Scene:
    """nodes: of the file. shown: indices of those of the default scene, each after its parent; all nodes, if the file
    has no scene."""

    def __init__(self, header: dict, accessors: Accessors):
        """header: the JSON. Raises ValueError for nodes that are missing, or hold each other, or have two parents."""
        self.nodes, self.skins, self.accessors = items(header, "nodes"), items(header, "skins"), accessors
        children = [_indices(node, "children", len(self.nodes)) for node in self.nodes]
        parents = {child: index for index, family in enumerate(children) for child in family}
        if len(parents) < sum(map(len, children)):
            raise ValueError("a node has two parents")
        roots = [index for index in range(len(self.nodes)) if index not in parents]
        self.matrices = [None] * len(self.nodes)  # a node that is not reached from a root holds itself
        with np.errstate(all="ignore"):  # coordinates that are not finite are refused later
            for index in _walk(roots, children):  # parents first
                local = _local_matrix(self.nodes[index])
                self.matrices[index] = self.matrices[parents[index]] @ local if index in parents else local
        scenes = items(header, "scenes")
        if scenes:
            scene = entry(scenes, natural(header, "scene", 0), "scene")
            roots = _indices(scene, "nodes", len(self.nodes))
        self.shown = _walk(roots, children)

    def matrix(self, node: int) -> np.ndarray:
        """(4, 4) float64, from a node to the scene, for columns (x, y, z, 1). -1: the identity. Raises ValueError."""
        if node < 0:
            return np.eye(4)
        if self.matrices[node] is None:
            raise ValueError("a node holds itself")
        return self.matrices[node]

    def joint_count(self, node: int) -> int:
        """The joints of the skin of a node, as many matrices as `joint_matrices` makes; 0 without a skin."""
        skin = {} if node < 0 or "skin" not in self.nodes[node] else entry(self.skins, self.nodes[node]["skin"], "skin")
        return len(skin["joints"]) if isinstance(skin.get("joints"), list) else 0

    def joint_matrices(self, node: int) -> np.ndarray | None:
        """(J, 4, 4) of the skin of a node, from its mesh to the scene; None if it has no skin. Raises ValueError."""
        if node < 0 or "skin" not in self.nodes[node]:
            return None
        skin = entry(self.skins, self.nodes[node]["skin"], "skin")
        joints = _indices(skin, "joints", len(self.nodes))
        if not joints:
            raise ValueError("a skin has no joints")
        worlds = np.stack([self.matrix(joint) for joint in joints])  # (J, 4, 4)
        if "inverseBindMatrices" not in skin:
            return worlds
        # Stored column by column.
        inverse = self.accessors.read(skin["inverseBindMatrices"], 16).astype(np.float64)
        if len(inverse) < len(joints):
            raise ValueError("a skin has fewer matrices than joints")
        return worlds @ inverse[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)


def _indices(value: dict, name: str, count: int) -> list[int]:
    """A list of indices below count of an object of the JSON, [] if it is missing. Raises ValueError."""
    found = value.get(name, [])
    if not isinstance(found, list) or not all(type(index) is int and 0 <= index < count for index in found):
        raise ValueError(f"'{name}' names a node that is missing")
    return found


def _walk(roots: list[int], children: list[list[int]]) -> list[int]:
    """Nodes from the roots on, each before its children, in the order of the file. Raises ValueError for one twice."""
    waiting, order = roots[::-1], []
    while waiting:
        order.append(waiting.pop())
        waiting += children[order[-1]][::-1]
        if len(order) > len(children):
            raise ValueError("a node is shown twice, or holds itself")
    return order


def _local_matrix(node: dict) -> np.ndarray:
    """(4, 4) float64, from a node to its parent. Raises ValueError."""
    if "matrix" in node:
        return _numbers(node, "matrix", 16).reshape(4, 4).T  # stored column by column
    matrix = np.eye(4)
    if "rotation" in node:
        quaternion = _numbers(node, "rotation", 4)
        x, y, z, w = quaternion / (np.linalg.norm(quaternion) or 1.0)  # rounded in the file
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    if "scale" in node:
        matrix[:3, :3] *= _numbers(node, "scale", 3)
    if "translation" in node:
        matrix[:3, 3] = _numbers(node, "translation", 3)
    return matrix


def _numbers(node: dict, name: str, count: int) -> np.ndarray:
    """(count,) float64 of a node. Raises ValueError."""
    numbers = node[name]
    if not isinstance(numbers, list) or len(numbers) != count or not all(type(n) in (int, float) for n in numbers):
        raise ValueError(f"the {name} of a node is not {count} numbers: {quoted(numbers)}")
    return np.array(numbers, dtype=np.float64)
