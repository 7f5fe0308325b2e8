"""A model as a function of a shader: GLSL ES 3.00 (WebGL 2) and GLSL 3.30 core.

In: a model, the path of the shader text. Out: the text, and for all but small networks its numbers beside as a texture,
NAME.bin. The code is templates/glsl.glsl.j2; here its numbers are laid out as texels of four.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neuralparts.domain import DOMAIN_RADIUS, Transform
from neuralparts.errors import UserError
from neuralparts.export.c_header import constant_text, floats, integers
from neuralparts.export.names import glsl_identifier
from neuralparts.export.network_arrays import GridArrays, Layer, NetworkArrays, check_range, network_arrays
from neuralparts.export.templating import render
from neuralparts.network import NeuralSDF
from neuralparts.whole_file import write_whole

# Networks of at most so many texels stand in the text as an array: 8 layers of 32 have 1,900.
MOST_INLINE = 2048
# Every GPU has textures of this width (OpenGL ES 3.0), and those of a computer have this height.
WIDTH, LARGEST_HEIGHT = 2048, 16384
# Largest integer of a compact table.
LARGEST_ENTRY = 2**15 - 1


class CompactShader(NamedTuple):
    """A model as a shader function whose hash grid has int16 entries: half the bytes, and errors near 1e-5.

    text: the function `float network(vec3 p)`, domain units; it reads the textures `network_data`, the numbers, and
    `network_table`, the entries, each WIDTH texels wide. table: None without a hash grid.
    """

    text: str
    numbers: np.ndarray  # (T, 4) float32
    table: np.ndarray | None  # (E, 4) int16


def write_glsl(sdf: NeuralSDF, out: Path) -> list[Path]:
    """Write the text, and beside it NAME.bin if the network is not small; returns their paths.

    Raises UserError for a network that fits no texture, and for a part too small or too large for float32.
    """
    arrays = network_arrays(sdf)
    check_range(arrays.transform, out)
    texels, places = texture(arrays)
    height = -(-len(texels) // WIDTH)
    if height > LARGEST_HEIGHT:
        raise UserError(f"{out}: {len(texels):,} texels of four numbers fit no texture; fit a smaller network")
    data = out.with_suffix(".bin")
    is_inline = len(texels) <= MOST_INLINE
    written = [out] if is_inline else [out, data]
    if not is_inline:
        write_whole(data, in_rows(texels).tobytes())
    storage = "array" if is_inline else "texture"
    sizes = {"width": WIDTH, "height": height, "data_file": data.name, "texels": len(texels), "storage": storage}
    numbers = ",\n".join(f"vec4({floats(texel)})" for texel in texels) if is_inline else ""
    write_whole(out, glsl_text(arrays, out, places, sizes | {"numbers": numbers}).encode())
    return written


def compact_shader(sdf: NeuralSDF) -> CompactShader:
    """The model as a shader function of domain units with a compact table; see `CompactShader`."""
    arrays = network_arrays(sdf)._replace(transform=Transform(np.zeros(3), 1.0))
    table, units = (None, None) if arrays.grid is None else compact_table(arrays.grid)
    numbers, places = texture(arrays, units)
    sizes = {"width": WIDTH, "storage": "compact"}
    return CompactShader(glsl_text(arrays, Path("network.glsl"), places, sizes), numbers, table)


def compact_table(grid: GridArrays) -> tuple[np.ndarray, np.ndarray]:
    """(entries (E, 4) int16, the unit (levels,) float32 of each level's entries): value = entry * unit.

    A level's largest value has the largest integer, so a value is off by at most a 65,534th of it.
    """
    largest = np.maximum.reduceat(np.abs(grid.table).max(axis=1), grid.starts)  # (levels,)
    units = np.maximum(largest / LARGEST_ENTRY, np.finfo(np.float32).tiny).astype(np.float32)
    rows = np.diff(np.append(grid.starts, len(grid.table)))  # (levels,) rows of each level
    entries = np.rint(grid.table / np.repeat(units, rows)[:, None]).astype(np.int16)  # (rows, features)
    return in_fours(entries).reshape(-1, 4), units


def in_rows(texels: np.ndarray) -> np.ndarray:
    """texels (T, 4) with zeros added, up to a whole number of rows of the texture; little-endian."""
    padding = -len(texels) % WIDTH
    return np.pad(texels, ((0, padding), (0, 0))).astype(texels.dtype.newbyteorder("<"), copy=False)


def glsl_text(arrays: NetworkArrays, out: Path, places: dict[str, Any], sizes: dict[str, Any]) -> str:
    """The text of the shader function. places: see `texture`. sizes: the template's values for the storage."""
    transform = arrays.transform
    high = transform.center.astype(np.float32)
    layers = places["layers"]
    return render(
        "glsl.glsl.j2",
        file=out.name,
        name=glsl_identifier(out),
        sphere=f"{DOMAIN_RADIUS / transform.scale:.6g}",
        center_text=", ".join(f"{value:.6g}" for value in transform.center),
        center_high=floats(high),
        center_low=floats((transform.center - high).astype(np.float32)),
        scale=floats(np.float32(transform.scale)),
        activation=arrays.activation,
        widest=max(layer[side] for layer in layers for side in ("inputs", "outputs")),
        scaler=arrays.scaler,
        constants=constant_text(arrays),
        **places,
        **sizes,
    )


def texture(arrays: NetworkArrays, units: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, Any]]:
    """(texels (T, 4) float32 of the numbers of a model, where each part of it starts, as the template takes it).

    units: those of a compact table (`compact_table`), which is then not among the numbers; None for a float32 table.
    """
    blocks, layers, start = [], [], 0
    for index, layer in enumerate(arrays.layers):
        if index == 0:
            layer = spread_inputs(layer, arrays.inputs if arrays.grid is None else arrays.grid.features)
        block, inputs, outputs = layer_texels(layer)
        layers.append({"start": start, "inputs": inputs, "outputs": outputs})
        blocks.append(block)
        start += len(block)
    grid, knots = None, None
    if arrays.grid is not None:
        grid = grid_values(arrays.grid, start)
        if units is None:
            blocks.append(in_fours(arrays.grid.table).reshape(-1, 4))
            start += len(blocks[-1])
        else:
            grid |= {"first_texel": 0, "units": floats(units)}
    if arrays.scaler == "QuantileTransformer":
        pairs = np.stack([arrays.constants["scaled"], arrays.constants["distances"]], 1)  # (K, 2)
        blocks.append(in_fours(pairs))
        knots = {"first_texel": start, "last_texel": start + len(pairs) - 1}
    return np.concatenate(blocks), {"layers": layers, "grid": grid, "knots": knots}


def grid_values(grid: GridArrays, first_texel: int) -> dict[str, Any]:
    """Sizes of the hash grid, as the template takes them; its table starts at a texel."""
    return {
        "first_texel": first_texel,
        "vectors": -(-grid.features // 4),
        "levels": len(grid.resolutions),
        "mask": grid.table_size - 1,
        "resolutions": integers(grid.resolutions),
        "starts": integers(grid.starts),
        "dense": ", ".join(str(bool(value)).lower() for value in grid.dense),
    }


def in_fours(values: np.ndarray) -> np.ndarray:
    """values (N, M) with columns of zeros added, up to a multiple of four."""
    return np.pad(values, ((0, 0), (0, -values.shape[1] % 4)))


def spread_inputs(layer: Layer, group: int) -> Layer:
    """The layer for inputs that come in groups, each padded to a multiple of four: zeros among its columns."""
    outputs = len(layer.bias)
    groups = layer.weight.reshape(-1, group)  # (outputs * groups, group)
    return Layer(in_fours(groups).reshape(outputs, -1), layer.bias)


def layer_texels(layer: Layer) -> tuple[np.ndarray, int, int]:
    """(texels (T, 4), inputs / 4, outputs / 4) of a layer: 4 x 4 matrices column by column, then the bias.

    The matrices of the first four outputs come first, those of their first four inputs before the others.
    """
    weight = in_fours(in_fours(layer.weight).T).T
    outputs, inputs = (size // 4 for size in weight.shape)
    # (outputs / 4, row, inputs / 4, column) -> (outputs / 4, inputs / 4, column, row)
    matrices = weight.reshape(outputs, 4, inputs, 4).transpose(0, 2, 3, 1)
    bias = in_fours(layer.bias[None])
    return np.concatenate([matrices.reshape(-1, 4), bias.reshape(-1, 4)]), inputs, outputs
