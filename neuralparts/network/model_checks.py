"""Comparisons of a model's description with its tensors, before a network is made of them.

In: the description as JSON gave it, and the tensors' shapes, then the tensors. Out: nothing, or ValueError with the
first contradiction. A count in a description is believed only when the tensors have that size: the file then holds as
many bytes, and no memory is set aside for a promise.
"""

from operator import le

import torch

from neuralparts.choices import ACTIVATIONS, SCALERS
from neuralparts.network.hash_grid import HashGrid, grid_rows
from neuralparts.network.model_file import Shapes
from neuralparts.network.precision import CODED, check_coded, precision_name
from neuralparts.network.scalers import scaler_shapes
from neuralparts.network.self_description import ABOUT_KINDS
from neuralparts.wording import quoted

# A number beyond this, or a scale below its inverse, would overflow where it is multiplied or divided by another.
_LARGEST_NUMBER = 1e150


def check_description(description: dict, shapes: Shapes) -> None:
    """Raise ValueError unless `NeuralSDF.description()` may have given this, for tensors of exactly these shapes."""
    for name in ("widths", "activation", "encoding", "scaler", "center", "scale"):
        if name not in description:
            raise ValueError(f"the description lacks '{name}'")
    for name, known in (("activation", ACTIVATIONS), ("scaler", SCALERS)):
        if description[name] not in known:
            raise ValueError(f"unknown {name} '{quoted(description[name])}'; one of {', '.join(known)}")
    _check_transform(description["center"], description["scale"])
    _check_about(description.get("about", {}))
    _check_shapes(description, shapes)


def check_finite(tensors: dict[str, torch.Tensor]) -> None:
    """Raise ValueError unless all tensors are finite.

    A layer would hide a NaN among its weights: oneDNN's linear layer with the ReLU in the same pass gives 0 for it.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"tensor '{quoted(name)}' holds NaN or infinite values")


def _check_about(about: object) -> None:
    """Raise ValueError unless a fit may have recorded this of itself; see `self_description`."""
    if not isinstance(about, dict):
        raise ValueError(f"about must be a dictionary, found '{quoted(about)}'")
    for name, value in about.items():
        if name not in ABOUT_KINDS or not isinstance(value, ABOUT_KINDS[name]):
            raise ValueError(f"about cannot hold '{quoted(name)}': '{quoted(value)}'")
    for name, value in about.get("metrics", {}).items():
        if not (value is None or _is_number(value)):
            raise ValueError(f"metric '{quoted(name)}' must be a finite number, found '{quoted(value)}'")
    if "bounds" in about and not _is_box(about["bounds"]):
        raise ValueError(f"bounds must be the two corners of a box, found '{quoted(about['bounds'])}'")


def _is_box(corners: list) -> bool:
    """True for the lowest and the highest corner of a box, three numbers each."""
    if len(corners) != 2 or not all(isinstance(corner, list) and len(corner) == 3 for corner in corners):
        return False
    low, high = corners
    return all(map(_is_number, low + high)) and all(map(le, low, high))


def _check_transform(center: object, scale: object) -> None:
    """Raise ValueError unless center is a list of three numbers, and scale a positive one."""
    if not (isinstance(center, list) and len(center) == 3 and all(map(_is_number, center))):
        raise ValueError(f"center must be three finite numbers, found '{quoted(center)}'")
    if not (_is_number(scale) and scale >= 1 / _LARGEST_NUMBER):
        raise ValueError(f"scale must be a positive number, found '{quoted(scale)}'")


def _is_number(value: object) -> bool:
    """True for an int or a float of JSON that is finite and not larger than a length can be; False for a bool."""
    return type(value) in (int, float) and -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER


def _check_shapes(description: dict, shapes: Shapes) -> None:
    """Raise ValueError unless the tensors are those of the description: these names, these shapes, and no more."""
    widths = description["widths"]
    if not (isinstance(widths, list) and widths and all(type(width) is int and width > 0 for width in widths)):
        raise ValueError(f"hidden widths must be positive, at least one; found '{quoted(widths)}'")
    grid = _grid_sizes(description["encoding"])
    expected = described_layers(description)
    if precision_name(description) == "int8":
        expected = {CODED: _coded_shape(grid, expected, shapes)}
    else:
        # The layers first: they bound the number of levels, of which all are visited for the size of the table.
        _compare(expected, {name: shape for name, shape in shapes.items() if name.startswith("layers.")})
        if grid is not None:
            expected["encoding.table"] = (grid_rows(**grid), grid["features"])
    knots = shapes.get("scaler.distances", ())
    expected |= {f"scaler.{name}": shape for name, shape in scaler_shapes(description["scaler"], knots).items()}
    _compare(expected, shapes)


def _coded_shape(grid: dict[str, int] | None, layers: Shapes, shapes: Shapes) -> tuple[int, ...]:
    """The shape of the tensor of packed bytes. Raises ValueError if it is missing, or short for what it should hold."""
    shape = shapes.get(CODED, ())
    if len(shape) != 1:
        raise ValueError(f"a tensor {CODED} of one axis is missing")
    if grid is not None and grid["levels"] > shape[0]:  # all levels are visited for the size of the table
        raise ValueError(f"the tensor {CODED} is too short for {quoted(grid['levels'])} levels")
    check_coded(grid, shape[0], 0 if grid is None else grid_rows(**grid), layers)
    return shape


def _grid_sizes(encoding: object) -> dict[str, int] | None:
    """The sizes of a hash grid, or None for no encoding. Raises ValueError."""
    if encoding is None:
        return None
    names = set(HashGrid.SIZES)
    is_whole = isinstance(encoding, dict) and encoding.keys() == names
    if not (is_whole and all(type(value) is int for value in encoding.values())):
        raise ValueError(f"a hash grid needs the whole numbers {', '.join(HashGrid.SIZES)}")
    HashGrid.check_sizes(**encoding)
    return encoding


def described_layers(description: dict) -> Shapes:
    """Shapes of the layers of a network by name, of sizes that were checked: layers at even places, one output."""
    grid = description["encoding"]
    inputs = 3 if grid is None else grid["levels"] * grid["features"]
    shapes = {}
    for index, width in enumerate([*description["widths"], 1]):
        shapes[f"layers.{2 * index}.weight"], shapes[f"layers.{2 * index}.bias"] = (width, inputs), (width,)
        inputs = width
    return shapes


def _compare(expected: Shapes, found: Shapes) -> None:
    """Raise ValueError that names the first tensor which is missing, is one too many, or has another shape."""
    if missing := expected.keys() - found.keys():
        raise ValueError(f"the tensor {min(missing)} is missing")
    if more := found.keys() - expected.keys():
        raise ValueError(f"the tensor '{quoted(min(more))}' belongs to no part of the model")
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(f"{name} has shape {quoted(found[name])}, the description says {quoted(shape)}")
