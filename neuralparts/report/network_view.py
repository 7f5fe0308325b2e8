"""The network itself for the page: in a model, out what templates/network_view.js draws it from, as JSON can hold it.

A network whose values are cheap goes as shader code, its numbers as textures: the page shows the very function that was
fitted, walls thinner than a marching cell included. Of a costly one the page gets a volume of stored distances.
"""

import base64
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralparts.report.templating import template_text

if TYPE_CHECKING:  # the pages of a folder need no torch
    from neuralparts.network import NeuralSDF

# Most multiply-adds of a value that the page computes itself; a picture takes many values for each pixel. 8 layers of
# 32 have 7,296, DAM has 587,641. The bound between them is a choice: no GPU was at hand to time it.
MOST_MULTIPLY_ADDS = 20_000
# Most texels of four numbers: of a table 16 MB, which a page can still carry.
MOST_TEXELS = 2**21
# Nodes along an edge of a volume: first, and at last after three times twice as many cells.
FIRST_NODES, MOST_NODES = 17, 129
# A cell is divided if a corner lies this near to the surface, in half diagonals of the cell. From 1 on, that holds for
# every cell that the surface crosses; the rest is for networks whose values are too large.
NEAR = 1.1
# Most nodes evaluated at one size of cells: DAM takes four seconds for them on one thread. A network whose values are
# small everywhere gets a coarser volume.
MOST_EVALUATED = 300_000
LARGEST_INTEGER = 2**15 - 1


def network_view(network: "NeuralSDF") -> dict[str, Any]:
    """What the page draws a network from: shaders, textures as text, and the map to file units.

    `nodes` is 0 for a network that the page evaluates itself, else the nodes along an edge of the volume of distances
    in its place. `network` is the text of `float network(vec3 p)`, domain units, and `view` that of the picture.
    """
    return {
        "center": network.transform.center.tolist(),
        "scale": network.transform.scale,
        "view": template_text("network_view.glsl"),
        **(_live(network) if is_live(network) else _stored(network)),
    }


def is_live(network: "NeuralSDF") -> bool:
    """True if a page can evaluate the network for every pixel; else it gets a volume."""
    multiply_adds = sum(layer.weight.numel() for layer in network.layers[::2])
    entries = 0 if network.encoding is None else network.encoding.table.numel()
    return multiply_adds <= MOST_MULTIPLY_ADDS and entries <= 4 * MOST_TEXELS


def _live(network: "NeuralSDF") -> dict[str, Any]:
    """The network as shader code and textures."""
    from neuralparts.export import compact_shader  # brings torch

    shader = compact_shader(network)
    textures = [_texture("network_data", "float32", shader.numbers)]
    if shader.table is not None:
        textures.append(_texture("network_table", "int16", shader.table))
    return {"nodes": 0, "network": shader.text, "textures": textures}


def _stored(network: "NeuralSDF") -> dict[str, Any]:
    """The network as a volume of distances, which the shader interpolates."""
    levels, unit = volume_levels(network)
    nodes = len(levels[-1])
    text = template_text("network_volume.glsl")
    for name, value in (("NODES", nodes), ("UNIT", f"{unit:.9e}")):
        text = text.replace(f"@{name}@", str(value))
    volume = _texture("network_volume", "volume", np.concatenate([level.ravel() for level in levels]))
    return {"nodes": nodes, "network": text, "textures": [volume]}


def volume_levels(network: "NeuralSDF") -> tuple[list[np.ndarray], float]:
    """(levels, unit): distances on a grid over the cube as int16, to be multiplied by the unit (domain units).

    levels[0]: the distances at FIRST_NODES^3 nodes; z, y, x. Each further level has about twice the nodes along an
    edge, MOST_NODES at most, and holds how far the distances differ from `doubled` ones of the level before. That is 0
    where the surface is far and nothing was evaluated, so it compresses well.
    """
    distances = network.domain(_points(np.ones((FIRST_NODES,) * 3, bool)))
    unit = float(np.abs(distances).max()) / LARGEST_INTEGER or 1.0
    volume = _integers(distances, unit).reshape((FIRST_NODES,) * 3)
    levels = [volume]
    while len(volume) < MOST_NODES:
        is_new = _divided(_near_cells(volume, unit))
        if is_new.sum() > MOST_EVALUATED:
            break
        guess = doubled(volume)
        volume = guess.copy()
        volume[is_new] = _integers(network.domain(_points(is_new)), unit)
        levels.append(volume - guess)
    return levels, unit


def doubled(volume: np.ndarray) -> np.ndarray:
    """Integers (V, V, V) int16 -> (2 V - 1, ...): between two neighbours along each axis, their mean, rounded down."""
    for axis in range(3):
        ahead = np.moveaxis(volume, axis, 0)
        finer = np.empty((2 * len(ahead) - 1, *ahead.shape[1:]), np.int16)
        finer[::2] = ahead
        finer[1::2] = (ahead[:-1].astype(np.int32) + ahead[1:]) >> 1
        volume = np.moveaxis(finer, 0, axis)
    return np.ascontiguousarray(volume)


def _integers(distances: np.ndarray, unit: float) -> np.ndarray:
    """Distances as the nearest int16 multiples of the unit."""
    return np.rint(distances / unit).clip(-LARGEST_INTEGER, LARGEST_INTEGER).astype(np.int16)


def _points(chosen: np.ndarray) -> np.ndarray:
    """The chosen nodes (V, V, V) bool of the grid over the cube as points (N, 3) float32, domain."""
    axis = np.linspace(-1, 1, len(chosen), dtype=np.float32)
    z, y, x = np.nonzero(chosen)
    return np.stack([axis[x], axis[y], axis[z]], axis=-1)


def _near_cells(volume: np.ndarray, unit: float) -> np.ndarray:
    """Which cells (V - 1, V - 1, V - 1) have a corner near the surface. volume: distances at the corners, in units."""
    half_diagonal = 3**0.5 / (len(volume) - 1)
    is_near = np.abs(volume) <= NEAR * half_diagonal / unit
    for axis in range(3):
        ahead = np.moveaxis(is_near, axis, 0)
        is_near = np.moveaxis(ahead[:-1] | ahead[1:], 0, axis)
    return is_near


def _divided(cells: np.ndarray) -> np.ndarray:
    """The nodes (2 C + 1, ...) bool that appear where the chosen cells (C, C, C) are divided into eight."""
    count = len(cells)
    is_new = np.zeros((2 * count + 1,) * 3, bool)
    for z, y, x in np.ndindex(3, 3, 3):
        is_new[z : z + 2 * count : 2, y : y + 2 * count : 2, x : x + 2 * count : 2] |= cells
    is_new[::2, ::2, ::2] = False  # the corners, which are known
    return is_new


def _texture(name: str, kind: str, numbers: np.ndarray) -> dict[str, Any]:
    """A texture: the uniform it belongs to, what its numbers are, and its bytes as base64 of zlib's stream.

    First the lowest bytes of all numbers, then the next ones: the higher ones repeat, so it compresses better.
    """
    little_endian = numbers.astype(numbers.dtype.newbyteorder("<"), copy=False)
    planes = little_endian.view(np.uint8).reshape(-1, numbers.itemsize).T
    # Entries of a table repeat no sequence of bytes: not to look for one is three times as fast, for 1.3% more bytes.
    strategy = zlib.Z_RLE if kind == "int16" else zlib.Z_DEFAULT_STRATEGY
    stream = zlib.compressobj(6, strategy=strategy)
    data = base64.b64encode(stream.compress(planes.tobytes()) + stream.flush()).decode("ascii")
    return {"name": name, "kind": kind, "count": numbers.size, "data": data}
