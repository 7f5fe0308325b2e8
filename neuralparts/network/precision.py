"""How a model's numbers are kept in its file: float32, float16, or int8, packed whole numbers.

In: the float32 tensors of a network whose numbers were rounded (`rounding.py`). Out: the tensors of the file; and back,
to the bit. The scaler stays float32 always, since the level of the surface depends on it.

float16: all weights, and the table of the hash grid, as float16.

int8: one tensor of bytes, "coded": an .xz stream (LZMA, CRC32), then zeros that make the tensor at least a 64th as
long as its content. The content is, little-endian:
    steps     of each level and feature of the hash grid, float32
    table     whole numbers, level by level, feature by feature: times the step they are the table. As 16 bits without
              sign (0, -1, 1, -2, ... are 0, 1, 2, 3, ...): the low bytes of all, then the high bytes, nearly all 0
    layers    weights and biases in the order of their layers, float16: the low bytes of all, then the high bytes
Of a rounded network without a hash grid:
    steps     of the weights of each layer, float32
    weights   whole numbers, layer by layer, written as the table is: times the step of the layer they are the weights
    biases    layer by layer, float16: the low bytes of all, then the high bytes
"""

import lzma
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from neuralparts.choices import PRECISIONS
from neuralparts.network.hash_grid import HashGrid

# Name of the packed tensor.
CODED = "coded"
# Bytes that a byte of `coded` stands for, at most: so a small file never takes much memory.
MOST_RATIO = 64
# Whole numbers of a table lie in +-this.
LARGEST_INTEGER = 2**15 - 1
# Memory of the decoder beside its window, which is as long as the content.
_DECODER_MEMORY = 2**20

# Shapes of tensors by name.
Shapes = Mapping[str, tuple[int, ...]]


class Precision(NamedTuple):
    """How the numbers of a network are kept. bytes: of all tensors in the file; None for float32.

    steps: with int8, (levels, features) float32 of the hash grid's table; without a grid (layers,) float32 of the
    weights, or None if these are float16.
    """

    name: str = PRECISIONS[0]
    bytes: int | None = None
    steps: np.ndarray | None = None

    def facts(self, parameters: int) -> dict[str, str | int | float]:
        """Name, bytes, and bits a number of a network of so many parameters, as JSON can hold them."""
        size = 4 * parameters if self.bytes is None else self.bytes
        return {"name": self.name, "bytes": size, "bits": round(8 * size / parameters, 3)}


def kept_dtypes(description: dict) -> dict[str, str]:
    """Names that safetensors has for the dtypes of a file's tensors, by the first part of the tensors' names."""
    scaler = {"scaler": "F32"}
    match precision_name(description):
        case "float32":
            return scaler | {"layers": "F32", "encoding": "F32"}
        case "float16":
            return scaler | {"layers": "F16", "encoding": "F16"}
    return scaler | {CODED: "U8"}


def precision_name(description: dict) -> str:
    """The precision that a description names. Raises ValueError for an unknown one."""
    if "precision" not in description:  # so does that of every float32 model
        return PRECISIONS[0]
    precision = description["precision"]
    if not (isinstance(precision, dict) and precision.keys() == {"name", "bytes"} and type(precision["bytes"]) is int):
        raise ValueError("the precision needs a name and a number of bytes")
    if precision["name"] not in PRECISIONS[1:]:
        raise ValueError(f"unknown precision; one of {', '.join(PRECISIONS)}")
    return precision["name"]


# --- writing


def kept_tensors(tensors: dict[str, torch.Tensor], precision: Precision, grid: HashGrid | None) -> dict:
    """The tensors of the file, from those of a network on the CPU. Numbers that were not rounded yet are rounded.

    Raises ValueError for numbers beyond float16, or beyond the whole numbers that a table holds.
    """
    if precision.name == "float32":
        return tensors
    scaler = {name: value for name, value in tensors.items() if name.startswith("scaler.")}
    others = {name: value for name, value in tensors.items() if name not in scaler}
    if precision.name == "float16":
        return scaler | {name: as_float16(value) for name, value in others.items()}
    steps, names = precision.steps, _layer_names(others)
    if grid is None and steps is not None:
        weights = [whole_weights(others[name].numpy(), step) for name, step in zip(names[1::2], steps, strict=True)]
        content = _integer_bytes(np.concatenate([weight.ravel() for weight in weights]))
        content = steps.astype("<f4").tobytes() + content + _float16_bytes(others, names[::2])
    else:
        content = _float16_bytes(others, names)
    if grid is not None:
        content = steps.astype("<f4").tobytes() + _table_bytes(others, steps, grid) + content
    coded = _compressed(content, 0 if grid is None else grid.levels)
    return scaler | {CODED: torch.from_numpy(np.frombuffer(bytearray(coded), np.uint8))}


def as_float16(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as float16. Raises ValueError for a number that is too large for it."""
    half = tensor.half()
    if not bool(torch.isfinite(half).all()):
        raise ValueError(f"a weight is beyond {torch.finfo(torch.float16).max:g}, the largest number of float16")
    return half


def whole_weights(weights: np.ndarray, step: np.floating) -> np.ndarray:
    """Weights of a layer in steps, rounded: int32, of the same shape. Raises as `table_integers` does."""
    return _checked_integers(np.rint(weights / step))


def table_integers(table: np.ndarray, steps: np.ndarray, grid: HashGrid) -> np.ndarray:
    """The table (rows, features) in steps (levels, features) of its levels, rounded: (rows, features) int32.

    Raises ValueError for a number that is no whole number of +-LARGEST_INTEGER steps.
    """
    return _checked_integers(np.rint(table / _steps_of_rows(steps, grid)))


def table_of(integers: np.ndarray, steps: np.ndarray, grid: HashGrid) -> np.ndarray:
    """The table (rows, features) float32 that `table_integers` came from, within half a step."""
    return integers.astype(np.float32) * _steps_of_rows(steps, grid)


def _checked_integers(rounded: np.ndarray) -> np.ndarray:
    """Whole numbers as int32. Raises ValueError for one that is too large to be kept."""
    if not np.abs(rounded).max() <= LARGEST_INTEGER:
        raise ValueError(f"a number is beyond {LARGEST_INTEGER} steps of its level or layer")
    return rounded.astype(np.int32)


def _steps_of_rows(steps: np.ndarray, grid: HashGrid) -> np.ndarray:
    """(rows, features) float32: for each number of the table its step."""
    return np.repeat(steps.astype(np.float32), np.diff(grid.arrays.offsets), axis=0)


def _table_bytes(tensors: dict[str, torch.Tensor], steps: np.ndarray, grid: HashGrid) -> bytes:
    """The part `table` of the content."""
    integers = table_integers(tensors["encoding.table"].numpy(), steps, grid)
    levels = np.split(integers, grid.arrays.offsets[1:-1])
    return _integer_bytes(np.concatenate([level.T.ravel() for level in levels]))


def _integer_bytes(integers: np.ndarray) -> bytes:
    """Whole numbers (N,) as the file has them."""
    # Signs into the lowest bit: the high byte is then 0 for all but the large.
    return _planes(np.where(integers < 0, -2 * integers - 1, 2 * integers).astype(np.uint16))


def _float16_bytes(tensors: dict[str, torch.Tensor], names: list[str]) -> bytes:
    """The tensors of these names, one after the other, as float16."""
    values = np.concatenate([as_float16(tensors[name]).numpy().ravel() for name in names])
    return _planes(values.view(np.uint16))


def _planes(values: np.ndarray) -> bytes:
    """The low bytes of all values (N,) uint16, then the high bytes."""
    return values.astype("<u2").view(np.uint8).reshape(-1, 2).T.tobytes()


def _compressed(content: bytes, levels: int) -> bytes:
    """Content as an .xz stream and zeros: at least a 64th as long, and a byte for each level."""
    window = max(2**12, len(content))
    lzma2 = {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": window, "lc": 0, "lp": 0, "pb": 0}
    stream = lzma.compress(content, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=[lzma2])
    return stream.ljust(max(-(-len(content) // MOST_RATIO), levels), b"\0")


# --- reading


def check_coded(grid: dict[str, int] | None, coded_bytes: int, rows: int, layers: Shapes) -> None:
    """Raise ValueError unless so many packed bytes can hold a hash grid of these sizes and layers of these shapes."""
    if _content_size(grid, rows, layers) > MOST_RATIO * coded_bytes:
        raise ValueError(f"the tensor {CODED} is too short for the sizes that the description says")


def decoded(description: dict, tensors: dict[str, torch.Tensor], layers: Shapes) -> tuple[dict, Precision]:
    """(float32 tensors of a network, precision) of the tensors of a file, which `check_coded` passed.

    layers: the shapes of the layers' tensors by name. Raises ValueError for bytes that `kept_tensors` did not write.
    """
    name = precision_name(description)
    if name == "float32":
        return tensors, Precision()
    size = sum(value.nbytes for value in tensors.values())
    if size != description["precision"]["bytes"]:
        raise ValueError(f"the tensors have {size} bytes, the description says {description['precision']['bytes']}")
    if name == "float16":
        return {name: value.float() for name, value in tensors.items()}, Precision(name, size)
    others = {name: value for name, value in tensors.items() if name != CODED}
    with torch.device("meta"):  # the sizes alone
        grid = None if description["encoding"] is None else HashGrid(**description["encoding"])
    rows = 0 if grid is None else len(grid.table)
    size_of_content = _content_size(description["encoding"], rows, layers)
    # The steps of the layers, if there are any.
    more = 4 * len(layers) // 2 if grid is None else 0
    content = _decompressed(tensors[CODED].numpy().tobytes(), size_of_content, more)
    if len(content) > size_of_content:
        steps, found = _whole_layers_in(content, layers)
        return others | found, Precision(name, size, steps)
    steps = None
    if grid is not None:
        steps, table, content = _table_in(content, grid)
        others["encoding.table"] = torch.from_numpy(table)
    return others | _layers_in(content, layers), Precision(name, size, steps)


def _content_size(encoding: dict | None, rows: int, layers: Shapes) -> int:
    """Bytes of the content."""
    numbers = sum(int(np.prod(shape, dtype=object)) for shape in layers.values())
    if encoding is None:
        return 2 * numbers
    return 4 * encoding["levels"] * encoding["features"] + 2 * rows * encoding["features"] + 2 * numbers


def _decompressed(coded: bytes, size: int, more: int) -> bytes:
    """The content of `size` or `size + more` bytes; never more is taken. Raises ValueError for any other."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2 * (size + more) + _DECODER_MEMORY)
    try:
        content = decoder.decompress(coded, max_length=size + more)
        if not decoder.eof:  # the end of the stream, with its checksum
            content += decoder.decompress(b"", max_length=1)
    except lzma.LZMAError as error:
        raise ValueError(f"the tensor {CODED} is damaged ({error})") from error
    if len(content) not in (size, size + more) or not decoder.eof or any(decoder.unused_data):
        raise ValueError(f"the tensor {CODED} is damaged or holds another number of bytes than the description says")
    return content


def _table_in(content: bytes, grid: HashGrid) -> tuple[np.ndarray, np.ndarray, bytes]:
    """(steps, table, rest) at the beginning of the content. Raises ValueError for steps that are not positive."""
    steps = _steps_in(content, grid.levels * grid.features).reshape(grid.levels, grid.features)
    start, numbers = steps.nbytes, grid.table.numel()
    integers = _integers_in(content[start : start + 2 * numbers])
    # Each level feature by feature -> (rows, features).
    levels = np.split(integers, grid.arrays.offsets[1:-1] * grid.features)
    integers = np.concatenate([level.reshape(grid.features, -1).T for level in levels])
    with np.errstate(over="ignore"):  # infinite numbers are refused later, by name
        return steps, table_of(integers, steps, grid), content[start + 2 * numbers :]


def _whole_layers_in(content: bytes, layers: Shapes) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    """(steps, the layers' tensors, float32) of a content with whole weights. Raises as `_table_in` does."""
    biases, weights = (_layer_names(layers)[start::2] for start in (0, 1))
    steps = _steps_in(content, len(weights))
    sizes = [int(np.prod(layers[name])) for name in weights]
    end = steps.nbytes + 2 * sum(sizes)
    # (numbers,) of all weights, each times the step of its layer.
    with np.errstate(over="ignore"):  # infinite numbers are refused later, by name
        values = _integers_in(content[steps.nbytes : end]).astype(np.float32) * np.repeat(steps, sizes)
    parts = torch.from_numpy(values).split(sizes)
    found = {name: part.reshape(layers[name]).clone() for name, part in zip(weights, parts, strict=True)}
    return steps, found | _layers_in(content[end:], {name: layers[name] for name in biases})


def _steps_in(content: bytes, count: int) -> np.ndarray:
    """(count,) float32 steps at the beginning of the content. Raises ValueError unless they are positive."""
    steps = np.frombuffer(content, "<f4", count).astype(np.float32)
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError("the steps are not positive")
    return steps


def _integers_in(data: bytes) -> np.ndarray:
    """Whole numbers (N,) int32 of `_integer_bytes`."""
    unsigned = _values_of_planes(data).astype(np.int32)
    return np.where(unsigned & 1, -(unsigned >> 1) - 1, unsigned >> 1)


def _layers_in(content: bytes, layers: Shapes) -> dict[str, torch.Tensor]:
    """The layers' tensors, float32, of the end of the content."""
    values = torch.from_numpy(_values_of_planes(content).view(np.float16).astype(np.float32))
    names = _layer_names(layers)
    parts = values.split([int(np.prod(layers[name])) for name in names])
    return {name: part.reshape(layers[name]).clone() for name, part in zip(names, parts, strict=True)}


def _values_of_planes(data: bytes) -> np.ndarray:
    """Values (N,) uint16 of `_planes`."""
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(2, -1).T).view("<u2").ravel().astype(np.uint16)


def _layer_names(names: Mapping) -> list[str]:
    """Those of the layers, in the order of the layers: layers.0.bias, layers.0.weight, layers.2.bias, ..."""
    found = [name for name in names if name.startswith("layers.")]
    return sorted(found, key=lambda name: (int(name.split(".")[1]), name))
