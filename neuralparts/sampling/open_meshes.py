"""Cells where the sign changes, for the labels of open meshes.

In an open mesh the sign also changes on sheets where the winding number passes one half and there is no triangle. The
signed distance jumps there, and importance samples are rare; or the sign changes on few of the triangles. So a fraction
of an open mesh's points lies in the cells of a grid in which the sign changes, for whatever reason.
"""

from collections.abc import Iterator

import numpy as np

from neuralparts.distance import DistanceOracle
from neuralparts.sampling.collector import CHUNK, SampleCollector
from neuralparts.sampling.cube import CORNERS, HALF_DIAGONAL, uniform_points

# Fraction of an open mesh's points, those uniform over the cube not counted, that lies where the sign changes.
SIGN_CHANGE_FRACTION = 0.5
# Cells along an edge of the grids that are searched: all cells of the first, then the parts of those that may hold a
# change.
GRIDS = (64, 128, 256)


def add_sign_changes(
    samples: SampleCollector, size: int, oracle: DistanceOracle, generator: np.random.Generator
) -> None:
    """Add size labelled points uniform over the cells where the sign changes, or none without such cells."""
    centre, half = sign_change_cells(oracle)
    for start in range(0, size if len(centre) else 0, CHUNK):
        # (C,) a random cell for each point, sorted so that neighbours are labelled together.
        cell = np.sort(generator.integers(0, len(centre), min(size - start, CHUNK)))
        points = centre[cell] + half * uniform_points(len(cell), generator)
        samples.add(points, oracle.signed_distance(points))


def sign_change_cells(oracle: DistanceOracle) -> tuple[np.ndarray, np.float32]:
    """Cells of the finest of GRIDS with corners both inside and outside: centres (M, 3) float32, half the side.

    A change is missed if all corners of its cell are on one side, or all corners of a coarser cell around it that no
    triangle enters.
    """
    cell, coarse = np.zeros((1, 3), dtype=np.int32), 1
    for resolution in GRIDS:
        blocks = _parts(cell, resolution // coarse)
        cell = np.concatenate([part[_may_change_sign(oracle, part, resolution)] for part in blocks])
        coarse = resolution
    return _centres(cell, coarse), np.float32(1 / coarse)


def _parts(cell: np.ndarray, along: int) -> Iterator[np.ndarray]:
    """Yield the along^3 cells in each of (C, 3) int32 cells, of a grid that is finer by that factor, in blocks."""
    # (along^3, 3) places of the parts in a cell.
    inner = np.stack(np.unravel_index(np.arange(along**3), (along,) * 3), axis=-1).astype(np.int32)
    block = max(1, CHUNK // (4 * along**3))
    for start in range(0, max(len(cell), 1), block):
        yield (cell[start : start + block, None] * np.int32(along) + inner).reshape(-1, 3)


def _may_change_sign(oracle: DistanceOracle, cell: np.ndarray, resolution: int) -> np.ndarray:
    """(C,) bool: which of (C, 3) cells have corners on both sides or, below the finest grid, may hold a triangle."""
    keep = _changes_sign(oracle, cell, resolution)
    if resolution < GRIDS[-1]:
        keep |= oracle.distance(_centres(cell, resolution)) <= HALF_DIAGONAL / resolution
    return keep


def _centres(cell: np.ndarray, resolution: int) -> np.ndarray:
    """(C, 3) float32: the centres of (C, 3) int cells of a grid of resolution^3 over the cube."""
    return ((2 * cell + 1) / resolution - 1).astype(np.float32)


def _changes_sign(oracle: DistanceOracle, cell: np.ndarray, resolution: int) -> np.ndarray:
    """(C,) bool: which of (C, 3) int cells of a grid of resolution^3 over the cube have corners on both sides."""
    # Number the nodes of the grid, and query each node once: (C, 8) nodes of the cells -> (Q,) different ones, and for
    # each corner its place among them.
    nodes = resolution + 1
    strides = np.array([nodes**2, nodes, 1])
    different, place = np.unique((cell @ strides)[:, None] + CORNERS @ strides, return_inverse=True)
    # (Q, 3) float32 coordinates; (C, 8) whether each corner is inside.
    points = (2 * np.stack(np.unravel_index(different, (nodes,) * 3), axis=-1) / resolution - 1).astype(np.float32)
    inside = oracle.inside(points)[place].reshape(-1, len(CORNERS))
    return inside.any(axis=1) & ~inside.all(axis=1)
