"""The multiresolution hash grid (Müller et al., 2022), an encoding of points with which a fit takes seconds.

In: points (N, 3) in the domain [-1, 1]^3 and a trained table. Out: features (N, levels * features) for any
decoder. On the CPU, float32 features come from compiled kernels (`hash_grid_kernels.py`). Everything else (a GPU,
float64, the meta device, second derivatives) comes from `interpolate`, which computes the same in plain torch
operations. Tests compare the two.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

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
from neuralparts.network.hash_levels import PRIMES, LevelArrays, level_arrays

# Half the range of the initial table, as in Müller et al., 2022.
_INITIAL_BOUND = 1e-4
# Bytes of the intermediate values of `interpolate` that exist at once in float32, for each point and level: the larger
# of those that find the rows of the 8 corners, and those that add up the rows' features (docs/log.md).
_BYTES_OF_ROWS, _BYTES_OF_SUMS, _BYTES_OF_A_FEATURE = 684, 328, 64
# With a decoder at most this wide and a batch at most this large, torch's step with a hash grid is faster on one thread
# than on two, which it would have to wake some ten times (docs/log.md).
_SMALL_DECODER, _SMALL_BATCH = 64, 4096


class Levels(NamedTuple):
    """Sizes of all levels, as tensors (levels,) int64 or bool on the points' device, and of one hash table."""

    resolutions: torch.Tensor  # cells along an axis
    starts: torch.Tensor  # first row in the table
    dense: torch.Tensor  # every node has a row of its own, nothing is hashed
    corners: torch.Tensor  # (8, 3) bool: which corners of a cell are the far ones, x fastest
    table_size: int


def grid_rows(levels: int, features: int, base_resolution: int, finest_resolution: int, log2_table_size: int) -> int:
    """Rows of the table of a hash grid of these sizes, which `HashGrid` would accept. Takes time for each level."""
    return int(level_arrays(levels, base_resolution, finest_resolution, 2**log2_table_size).offsets[-1])


def _corner_rows(cells: torch.Tensor, levels: Levels) -> torch.Tensor:
    """Rows (N, L, 8) int64 in the whole table of the corners of cells (N, L, 3) int64."""
    # Nodes (N, L, 8) along each axis.
    x, y, z = (cells[:, :, None, :] + levels.corners.long()).unbind(-1)
    # The row of a node in its level (N, L, 8): its place in the grid, x fastest, or its hash.
    nodes = (levels.resolutions + 1)[:, None]
    flat = x + nodes * (y + nodes * z)
    hashed = (x * PRIMES[0] ^ y * PRIMES[1] ^ z * PRIMES[2]) & (levels.table_size - 1)
    return torch.where(levels.dense[:, None], flat, hashed) + levels.starts[:, None]


def interpolate(points: torch.Tensor, table: torch.Tensor, levels: Levels) -> torch.Tensor:
    """The hash grid in plain torch operations, differentiable any number of times: the kernels' slow twin.

    points (N, 3) and table (rows, features) of one floating dtype, on one device -> (N, levels * features). A point
    outside [-1, 1]^3 has the value of the border; a NaN gives NaN.
    """
    # Positions (N, L, 3) in cells, and the cells (N, L, 3) that they lie in; the last cell holds the far border too.
    cells_per_unit = (0.5 * levels.resolutions.to(points.dtype))[:, None]
    positions = (points.clamp(-1, 1) + 1)[:, None, :] * cells_per_unit
    last = (levels.resolutions - 1)[:, None]
    cells = torch.minimum(positions.detach().nan_to_num(0.0).floor().long(), last)
    # Trilinear weights (N, L, 8) of the corners, from the places (N, L, 1, 3) in the cells.
    parts = (positions - cells)[:, :, None, :]
    along_x, along_y, along_z = torch.where(levels.corners, parts, 1 - parts).unbind(-1)
    weights = along_x * (along_y * along_z)
    # Rows (N, L, 8), their values (N, L, 8, features), and the weighted sums (N, L * features).
    rows = _corner_rows(cells, levels)
    values = table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[1])
    return (weights[..., None] * values).sum(2).flatten(1)


class CompiledInterpolation(torch.autograd.Function):
    """`interpolate` by compiled kernels: contiguous points (N, 3) and table (rows, features) on the CPU."""

    @staticmethod
    def forward(
        ctx: Any, points: torch.Tensor, table: torch.Tensor, levels: Levels, arrays: LevelArrays
    ) -> torch.Tensor:
        """Features (N, levels * features)."""
        ctx.save_for_backward(points, table)
        ctx.levels, ctx.arrays = levels, arrays
        return _kernels().encode_points(points.detach(), table.detach(), arrays)

    @staticmethod
    def backward(ctx: Any, feature_gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """(points' gradient, table's gradient, None, None) from that of the features; None for no need."""
        points, table = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients of gradients are wanted
            by_points, by_table = _twin_gradients(points, table, ctx.levels, feature_gradient, ctx.needs_input_grad)
            return by_points, by_table, None, None
        arguments = (points.detach(), table.detach(), ctx.arrays, feature_gradient.contiguous())
        by_points = _kernels().point_gradients(*arguments) if ctx.needs_input_grad[0] else None
        by_table = _kernels().table_gradients(*arguments) if ctx.needs_input_grad[1] else None
        return by_points, by_table, None, None


def _twin_gradients(
    points: torch.Tensor, table: torch.Tensor, levels: Levels, feature_gradient: torch.Tensor, needed: tuple[bool, ...]
) -> tuple[torch.Tensor | None, ...]:
    """(points' gradient, table's gradient), differentiable themselves; None for one that is not needed."""
    wanted = [tensor for tensor, need in zip((points, table), needed[:2], strict=True) if need]
    features = interpolate(points, table, levels)
    gradients = iter(torch.autograd.grad(features, wanted, feature_gradient, create_graph=True))
    return tuple(next(gradients) if need else None for need in needed[:2])


def _kernels() -> ModuleType:
    """The module of the compiled kernels. Imported at the first use: no other model needs Numba."""
    from neuralparts.network import hash_grid_kernels

    return hash_grid_kernels


@contextmanager
def threads_for(encoding: "HashGrid | None", widths: tuple[int, ...], batch_size: int) -> Iterator[None]:
    """Run torch and the kernels on one thread inside the block if the steps of such a fit are too short for more.

    encoding: of the network, or None. widths: its hidden widths. batch_size: points in a step.
    """
    threads = torch.get_num_threads()
    if encoding is not None and max(widths) <= _SMALL_DECODER and batch_size <= _SMALL_BATCH:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class HashGrid(nn.Module):
    """Multiresolution hash grid (Müller et al., 2022): trilinear features of `levels` grids over [-1, 1]^3.

    levels: number of grids. features: trained numbers at a node. base_resolution, finest_resolution: cells along an
    axis of the coarsest and of the finest grid; those between are in geometric progression. log2_table_size: a grid of
    more than 2^log2_table_size nodes keeps 2^log2_table_size rows, which a hash assigns to its nodes. A new grid's
    table is drawn from seed 0; `initialise` draws another. Raises ValueError for impossible sizes.
    """

    # The constructor's arguments.
    SIZES = ("levels", "features", "base_resolution", "finest_resolution", "log2_table_size")

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
        self.check_sizes(**self.description())
        self.arrays = level_arrays(self.levels, self.base_resolution, self.finest_resolution, 2**self.log2_table_size)
        self.register_buffer("_resolutions", torch.tensor(self.arrays.resolutions).long(), persistent=False)
        self.register_buffer("_starts", torch.tensor(self.arrays.offsets[:-1]), persistent=False)
        self.register_buffer("_dense", torch.tensor(self.arrays.dense), persistent=False)
        corners = [[bool(corner >> axis & 1) for axis in range(3)] for corner in range(8)]
        self.register_buffer("_corners", torch.tensor(corners), persistent=False)
        self.table = nn.Parameter(torch.empty(int(self.arrays.offsets[-1]), self.features))
        if self.table.device.type != "meta":
            self.initialise(torch.Generator().manual_seed(0))

    @staticmethod
    def check_sizes(
        levels: int, features: int, base_resolution: int, finest_resolution: int, log2_table_size: int
    ) -> None:
        """Raise ValueError for sizes, as the constructor takes them, that no grid can have."""
        if levels < 1 or features < 1:
            raise ValueError(f"a hash grid needs levels and features >= 1; got {levels} and {features}")
        if not 1 <= base_resolution <= finest_resolution <= LARGEST_HASH_RESOLUTION:
            raise ValueError(
                f"a hash grid's resolutions need 1 <= base <= finest <= {LARGEST_HASH_RESOLUTION}; "
                f"got {base_resolution} and {finest_resolution}"
            )
        if not 1 <= log2_table_size <= LARGEST_HASH_TABLE_LOG2:
            raise ValueError(f"log2_table_size must be 1 to {LARGEST_HASH_TABLE_LOG2}; got {log2_table_size}")

    @property
    def output_width(self) -> int:
        """Number of features of a point: the decoder's inputs."""
        return self.levels * self.features

    @property
    def bytes_per_point(self) -> int:
        """Bytes of the intermediate values of `interpolate` for one point."""
        of_sums = _BYTES_OF_SUMS + _BYTES_OF_A_FEATURE * self.features
        return self.levels * max(_BYTES_OF_ROWS, of_sums)

    @property
    def level_sizes(self) -> Levels:
        """The levels' sizes on the module's device, as `interpolate` takes them."""
        return Levels(self._resolutions, self._starts, self._dense, self._corners, 2**self.log2_table_size)

    def description(self) -> dict[str, int]:
        """The constructor's arguments, as JSON can hold them: `HashGrid(**description)` has the same shape."""
        return {name: getattr(self, name) for name in self.SIZES}

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the table uniformly in +-1e-4 on the generator's device: the same numbers wherever the table lies."""
        drawn = torch.empty(self.table.shape, device=generator.device)
        self.table.copy_(drawn.uniform_(-_INITIAL_BOUND, _INITIAL_BOUND, generator=generator))

    def forward(self, points: torch.Tensor, fixed_table: bool = False) -> torch.Tensor:
        """points (N, 3) floating, domain -> features (N, output_width). Raises ValueError for other shapes.

        fixed_table: the features are differentiable by the points alone. Without it, a gradient by the points computes
        the table's as well.
        """
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points must have shape (N, 3); got {tuple(points.shape)}")
        table = self.table.detach() if fixed_table else self.table
        if not (points.is_cpu and table.is_cpu and points.dtype == table.dtype == torch.float32):
            return interpolate(points, table, self.level_sizes)
        points, table = points.contiguous(), table.contiguous()
        if torch.is_grad_enabled():
            return CompiledInterpolation.apply(points, table, self.level_sizes, self.arrays)
        return _kernels().encode_points(points.detach(), table.detach(), self.arrays)
