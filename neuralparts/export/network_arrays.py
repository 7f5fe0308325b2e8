"""The numbers of a model as numpy arrays, with every choice that depends on them made: what the forms are written from.

In: a model. Out: its layers, the levels of its hash grid, its scaler's constants, its map to file units.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from neuralparts.domain import DOMAIN_RADIUS, Transform
from neuralparts.errors import UserError
from neuralparts.network import HashGrid, NeuralSDF

# Lengths in file units must stay within float32, with room for points far from the part.
SMALLEST_LENGTH, LARGEST_LENGTH = 1e-30, 1e30


class Layer(NamedTuple):
    """A linear layer: weight @ input + bias."""

    weight: np.ndarray  # (outputs, inputs) float32
    bias: np.ndarray  # (outputs,) float32


class GridArrays(NamedTuple):
    """A hash grid: sizes of its levels, and the table of all levels."""

    resolutions: np.ndarray  # (levels,) int32, cells along an axis
    starts: np.ndarray  # (levels,) int64, first row of each level in the table
    dense: np.ndarray  # (levels,) bool, every node has a row of its own
    table_size: int  # rows of a level that is not dense, a power of two
    table: np.ndarray  # (rows, features) float32

    @property
    def features(self) -> int:
        """Numbers at a node."""
        return self.table.shape[1]


class NetworkArrays(NamedTuple):
    """A model as numbers. A layer's output goes through the activation, but for the last layer's."""

    layers: list[Layer]
    activation: str
    grid: GridArrays | None
    scaler: str  # its name
    constants: dict[str, np.ndarray]  # of the scaler, float32: its buffers, and see `_scaler_constants`
    transform: Transform

    @property
    def inputs(self) -> int:
        """Inputs of the first layer."""
        return self.layers[0].weight.shape[1]


def network_arrays(sdf: NeuralSDF) -> NetworkArrays:
    """The numbers of a model, on the CPU. The arrays may share memory with its tensors."""
    layers = [Layer(_array(linear.weight), _array(linear.bias)) for linear in sdf.layers[::2]]
    grid = None if sdf.encoding is None else _grid_arrays(sdf.encoding)
    return NetworkArrays(layers, sdf.activation, grid, sdf.scaler.name, _scaler_constants(sdf), sdf.transform)


def check_range(transform: Transform, out: Path) -> None:
    """Raise UserError unless the cube's size and place in file units are far from the ends of float32."""
    if 1 / transform.scale > SMALLEST_LENGTH and 1 / transform.scale + abs(transform.center).max() < LARGEST_LENGTH:
        return
    raise UserError(
        f"{out}: the part's size and place in file units do not fit single precision (radius "
        f"{DOMAIN_RADIUS / transform.scale:.3g}); fit the mesh in another unit of length"
    )


def _grid_arrays(grid: HashGrid) -> GridArrays:
    """The numbers of a hash grid."""
    sizes = grid.arrays
    return GridArrays(sizes.resolutions, sizes.offsets[:-1], sizes.dense, 2**grid.log2_table_size, _array(grid.table))


def _scaler_constants(sdf: NeuralSDF) -> dict[str, np.ndarray]:
    """The scaler's buffers by name.

    For a PowerTransformer also `lowest` and `highest` (): the scaled values of the ends of the fitted range, to which
    scaled values are clamped before they are inverted, and `negative_exponent` (): the exponent of negative values.
    """
    constants = {name: _array(value) for name, value in sdf.scaler.state_dict().items()}
    if sdf.scaler.name == "PowerTransformer":
        ends = sdf.scaler(torch.stack([sdf.scaler.low, sdf.scaler.high]))
        constants["lowest"], constants["highest"] = _array(ends)
        constants["negative_exponent"] = 2 - constants["exponent"]
    return constants


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as a float32 array on the CPU."""
    return tensor.detach().float().cpu().numpy()
