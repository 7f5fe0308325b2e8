"""Cells where the sign changes, for the labels of open meshes.

In an open mesh the sign also changes on sheets where the winding number passes one half and there is no triangle. There
the signed distance jumps far from any triangle, so importance samples miss it. In other open meshes only a few
triangles bound the inside. So a fraction of an open mesh's points lies in the cells of a grid in which the sign
changes, whatever the reason.
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
# Grids of which the finest affordable one comes first where a query of the side takes long; and the greatest work of
# all queries. A query counts as OVERHEAD triangles, and those that it looks at in a crowded mesh.
COARSE_GRIDS = (8, 16, 32)
MOST_WORK, OVERHEAD = 4.4e8, 200


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
    """Cells of a grid with corners both inside and outside: centres (M, 3) float32, half the side.

    The grid is the finest of GRIDS, or a coarser one if that would take more than MOST_WORK. A sign change is missed if
    its cell has all corners on one side. It is also missed if a coarser cell around it has all corners on one side and
    no triangle enters that cell.
    """
    cell, coarse, work, query = np.zeros((1, 3), dtype=np.int32), 1, 0.0, OVERHEAD + oracle.crowd
    change = np.ones(1, dtype=bool)  # (C,) the cell has corners on both sides
    for resolution in _grids(query):
        work += len(cell) * (resolution // coarse) ** 3 * query
        if coarse > 1 and work > MOST_WORK:
            break
        found = [_may_change_sign(oracle, part, resolution) for part in _parts(cell, resolution // coarse)]
        cell, change = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        coarse = resolution
    return _centres(cell[change], coarse), np.float32(1 / coarse)


def _grids(query: float) -> list[int]:
    """Cells along an edge of the grids to search, the coarsest first. query: work of a query."""
    coarsest = [grid for grid in (*COARSE_GRIDS, GRIDS[0]) if grid**3 * query <= MOST_WORK][-1:] or [COARSE_GRIDS[0]]
    return coarsest + [grid for grid in (*COARSE_GRIDS, *GRIDS) if grid > coarsest[0]]


def _parts(cell: np.ndarray, along: int) -> Iterator[np.ndarray]:
    """Yield the along^3 cells in each of (C, 3) int32 cells, of a grid that is finer by that factor, in blocks."""
    # (along^3, 3) places of the parts in a cell.
    inner = np.stack(np.unravel_index(np.arange(along**3), (along,) * 3), axis=-1).astype(np.int32)
    # A quarter of CHUNK parts at a time, because eight corners of each are looked at. If there are no cells, one empty
    # block comes, so that the caller has an array to concatenate.
    block = max(1, CHUNK // (4 * along**3))
    for start in range(0, max(len(cell), 1), block):
        yield (cell[start : start + block, None] * np.int32(along) + inner).reshape(-1, 3)


def _may_change_sign(oracle: DistanceOracle, cell: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Of (C, 3) cells those that have corners on both sides or, below the finest grid, may hold a triangle.

    Returns them (K, 3), and (K,) bool: which have corners on both sides.
    """
    change = _changes_sign(oracle, cell, resolution)
    keep = change
    if resolution < GRIDS[-1]:
        keep = change | (oracle.distance(_centres(cell, resolution)) <= HALF_DIAGONAL / resolution)
    return cell[keep], change[keep]


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
