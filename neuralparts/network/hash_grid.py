"""Input encodings: the multiresolution hash grid (Müller et al., 2022), which makes a fit a matter of seconds.

In: points (N, 3) in the domain [-1, 1]^3 and a trained table. Out: features (N, levels * features) for any
decoder. On the CPU in float32 compiled kernels do it (`hash_grid_kernels.py`); everywhere else (GPU, float64, meta
device, second derivatives) `interpolate` does the same in plain torch operations. Tests hold the two together.
"""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from neuralparts.choices import (
    HASH_BASE_RESOLUTION,
    HASH_FEATURES,
    HASH_FINEST_RESOLUTION,
    HASH_LEVELS,
    HASH_TABLE_LOG2,
    LARGEST_HASH_RESOLUTION,
    LARGEST_HASH_TABLE_LOG2,
)

# The spatial hash of Müller et al., 2022; the first prime is 1, so that neighbours along x lie close together.
PRIMES = (1, 2654435761, 805459861)
# Half the range of the initial table, as in Müller et al., 2022.
INITIAL_BOUND = 1e-4
# A step of a hash grid with a decoder and a batch of at most this is faster on one thread than on two, which it would
# have to wake some ten times (docs/log.md).
SMALL_DECODER, SMALL_BATCH = 64, 4096


class Levels(NamedTuple):
    """Sizes of all levels, as tensors (levels,) int64 or bool on the points' device, and of one hash table."""

    resolutions: torch.Tensor  # cells along an axis
    starts: torch.Tensor  # first row in the table
    dense: torch.Tensor  # every node has a row of its own, nothing is hashed
    corners: torch.Tensor  # (8, 3) bool: which corners of a cell are the far ones, x fastest
    table_size: int


class LevelArrays(NamedTuple):
    """The same sizes as arrays (levels,) for the kernels; offsets (levels + 1,) ends with the number of rows."""

    resolutions: np.ndarray
    offsets: np.ndarray
    dense: np.ndarray
    masks: np.ndarray  # of a row number: all bits of a dense level, those of the hash of another


def level_arrays(levels: int, base_resolution: int, finest_resolution: int, table_size: int) -> LevelArrays:
    """Resolutions in geometric progression; a level with more than `table_size` nodes is hashed."""
    growth = (finest_resolution / base_resolution) ** (1 / max(levels - 1, 1))
    resolutions = np.array([round(base_resolution * growth**level) for level in range(levels)])
    nodes = (resolutions + 1) ** 3
    offsets = np.concatenate([[0], np.cumsum(np.minimum(nodes, table_size))])
    dense = nodes <= table_size
    masks = np.where(dense, np.uint32(0xFFFFFFFF), np.uint32(table_size - 1))
    return LevelArrays(resolutions.astype(np.int32), offsets, dense, masks)


def corner_rows(cells: torch.Tensor, levels: Levels) -> torch.Tensor:
    """Rows (N, L, 8) int64 in the whole table of the corners of cells (N, L, 3) int64."""
    x, y, z = (cells[:, :, None, :] + levels.corners.long()).unbind(-1)
    nodes = (levels.resolutions + 1)[:, None]
    flat = x + nodes * (y + nodes * z)
    hashed = (x * PRIMES[0] ^ y * PRIMES[1] ^ z * PRIMES[2]) & (levels.table_size - 1)
    return torch.where(levels.dense[:, None], flat, hashed) + levels.starts[:, None]


def interpolate(points: torch.Tensor, table: torch.Tensor, levels: Levels) -> torch.Tensor:
    """The hash grid in plain torch operations, differentiable any number of times: the kernels' slow twin.

    points (N, 3) and table (rows, features), floating, on one device -> (N, levels * features). Outside [-1, 1]
    the border's value holds; NaN gives NaN.
    """
    cells_per_unit = (0.5 * levels.resolutions.to(points.dtype))[:, None]
    positions = (points.clamp(-1, 1) + 1)[:, None, :] * cells_per_unit
    last = (levels.resolutions - 1)[:, None]
    cells = torch.minimum(positions.detach().nan_to_num(0.0).floor().long(), last)
    parts = (positions - cells)[:, :, None, :]
    along_x, along_y, along_z = torch.where(levels.corners, parts, 1 - parts).unbind(-1)
    weights = along_x * (along_y * along_z)
    rows = corner_rows(cells, levels)
    values = table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[1])
    return (weights[..., None] * values).sum(2).flatten(1)


class CompiledInterpolation(torch.autograd.Function):
    """`interpolate` by compiled kernels: contiguous points (N, 3) and table (rows, features) on the CPU."""

    @staticmethod
    def forward(ctx, points, table, levels: Levels, arrays: LevelArrays):
        ctx.save_for_backward(points, table)
        ctx.levels, ctx.arrays = levels, arrays
        return kernels().encode_points(points.detach(), table.detach(), arrays)

    @staticmethod
    def backward(ctx, feature_gradient):
        points, table = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients of gradients are wanted
            by_points, by_table = twin_gradients(points, table, ctx.levels, feature_gradient, ctx.needs_input_grad)
            return by_points, by_table, None, None
        arguments = (points.detach(), table.detach(), ctx.arrays, feature_gradient.contiguous())
        by_points = kernels().point_gradients(*arguments) if ctx.needs_input_grad[0] else None
        by_table = kernels().table_gradients(*arguments) if ctx.needs_input_grad[1] else None
        return by_points, by_table, None, None


def twin_gradients(points, table, levels, feature_gradient, needed):
    """(points' gradient, table's gradient), differentiable themselves; None for what is not needed."""
    wanted = [tensor for tensor, need in zip((points, table), needed[:2], strict=True) if need]
    features = interpolate(points, table, levels)
    gradients = iter(torch.autograd.grad(features, wanted, feature_gradient, create_graph=True))
    return tuple(next(gradients) if need else None for need in needed[:2])


def kernels():
    """The compiled kernels' module, imported at the first use: no other model waits for the compiler's start."""
    from neuralparts.network import hash_grid_kernels

    return hash_grid_kernels


@contextmanager
def threads_for(encoding: "HashGrid | None", widths: tuple[int, ...], batch_size: int):
    """While it lasts, torch and the kernels run on one thread where a fit's steps are too short to share."""
    threads = torch.get_num_threads()
    if encoding is not None and max(widths) <= SMALL_DECODER and batch_size <= SMALL_BATCH:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class HashGrid(nn.Module):
    """Multiresolution hash grid (Müller et al., 2022): trilinear features of `levels` grids over [-1, 1]^3.

    levels: number of grids. features: trained numbers at a node. base_resolution, finest_resolution: cells along an
    axis of the coarsest and the finest grid, the others between in geometric progression. log2_table_size: a grid of
    more than 2^log2_table_size nodes keeps that many rows and finds them by a hash. A new grid's table is drawn from
    seed 0; `initialise` draws another. Raises ValueError for sizes that make no grid.
    """

    def __init__(
        self,
        levels: int = HASH_LEVELS,
        features: int = HASH_FEATURES,
        base_resolution: int = HASH_BASE_RESOLUTION,
        finest_resolution: int = HASH_FINEST_RESOLUTION,
        log2_table_size: int = HASH_TABLE_LOG2,
    ):
        super().__init__()
        self.levels, self.features = int(levels), int(features)
        self.base_resolution, self.finest_resolution = int(base_resolution), int(finest_resolution)
        self.log2_table_size = int(log2_table_size)
        self._check()
        self.arrays = level_arrays(self.levels, self.base_resolution, self.finest_resolution, 2**self.log2_table_size)
        self.register_buffer("_resolutions", torch.tensor(self.arrays.resolutions).long(), persistent=False)
        self.register_buffer("_starts", torch.tensor(self.arrays.offsets[:-1]), persistent=False)
        self.register_buffer("_dense", torch.tensor(self.arrays.dense), persistent=False)
        corners = [[bool(corner >> axis & 1) for axis in range(3)] for corner in range(8)]
        self.register_buffer("_corners", torch.tensor(corners), persistent=False)
        self.table = nn.Parameter(torch.empty(int(self.arrays.offsets[-1]), self.features))
        if self.table.device.type != "meta":
            self.initialise(torch.Generator().manual_seed(0))

    def _check(self) -> None:
        if self.levels < 1 or self.features < 1:
            raise ValueError(f"a hash grid needs levels and features >= 1; got {self.levels} and {self.features}")
        if not 1 <= self.base_resolution <= self.finest_resolution <= LARGEST_HASH_RESOLUTION:
            raise ValueError(
                f"a hash grid's resolutions need 1 <= base <= finest <= {LARGEST_HASH_RESOLUTION}; "
                f"got {self.base_resolution} and {self.finest_resolution}"
            )
        if not 1 <= self.log2_table_size <= LARGEST_HASH_TABLE_LOG2:
            raise ValueError(f"log2_table_size must be 1 to {LARGEST_HASH_TABLE_LOG2}; got {self.log2_table_size}")

    @property
    def output_width(self) -> int:
        """Features of a point: a decoder's number of inputs."""
        return self.levels * self.features

    @property
    def level_sizes(self) -> Levels:
        """The levels' sizes on the module's device, as `interpolate` takes them."""
        return Levels(self._resolutions, self._starts, self._dense, self._corners, 2**self.log2_table_size)

    def description(self) -> dict[str, int]:
        """The constructor's arguments, JSON-able: `HashGrid(**description)` has the same shape."""
        names = ("levels", "features", "base_resolution", "finest_resolution", "log2_table_size")
        return {name: getattr(self, name) for name in names}

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the table uniformly in +-1e-4 on the generator's device: the same numbers wherever the table lies."""
        drawn = torch.empty(self.table.shape, device=generator.device)
        self.table.copy_(drawn.uniform_(-INITIAL_BOUND, INITIAL_BOUND, generator=generator))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) floating, domain -> features (N, output_width). Raises ValueError for other shapes."""
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points must have shape (N, 3); got {tuple(points.shape)}")
        on_cpu = points.device.type == "cpu" and self.table.device.type == "cpu"
        if on_cpu and points.dtype == self.table.dtype == torch.float32:
            return CompiledInterpolation.apply(
                points.contiguous(), self.table.contiguous(), self.level_sizes, self.arrays
            )
        return interpolate(points, self.table, self.level_sizes)
