"""Facts about cubes for all samplers: the domain [-1, 1]^3 and the cells into which it is divided."""

import numpy as np

# Half the diagonal of a cube, as a multiple of half its side.
HALF_DIAGONAL = np.float32(np.sqrt(3))
# (8, 3) int64 corners of the cube [0, 1]^3.
CORNERS = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
# Rounding of float32 distances and coordinates in the domain: some steps of 6e-8, with room.
ROUNDING = 1e-6


def random_key(generator: np.random.Generator) -> np.uint64:
    """The key of a counter-based generator (`draw_kernels`), drawn from another generator."""
    return generator.integers(2**64, dtype=np.uint64)


def uniform_points(count: int, generator: np.random.Generator) -> np.ndarray:
    """(count, 3) float32 points uniform over the cube [-1, 1]^3."""
    points = generator.random((count, 3), dtype=np.float32)
    points *= 2
    points -= 1
    return points
