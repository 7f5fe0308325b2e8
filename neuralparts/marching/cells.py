"""Marching cubes in single cells, as scikit-image does it: its table of triangles, and cells given to it as they are.

Lewiner et al., Efficient implementation of marching cubes' cases with topological guarantees (2003). In most cells the
signs of the eight corners decide the triangles, so these are taken from a table. In *ambiguous* cells the values decide
what is connected: scikit-image is called for these.

An edge of a cell is numbered 8 axis + its lower corner; corner (x, y, z) is 4 x + 2 y + z.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

# Cells along the edge of one call of scikit-image. It fixes how finely float32 resolves a vertex within its cell: the
# coordinates of a call go to 2 PACK, so they come in steps of 4e-6 at most.
PACK = 16


class CellTable(NamedTuple):
    """What marching cubes does in a cell, by the signs of its corners: bit 4 x + 2 y + z is set outside."""

    edges: np.ndarray  # (256, 15) int8: the edges that its triangles have corners on, three for each triangle
    triangles: np.ndarray  # (256,) int64: how many triangles; 0 where ambiguous
    ambiguous: np.ndarray  # (256,) bool: whether the values of the corners decide
    needed: np.ndarray  # (256,) uint8: corners whose values are needed, as bits: those of crossed edges, or all


@cache
def cell_table() -> CellTable:
    """The table of scikit-image, as it comes out of one call for all signs."""
    # (256, 2, 2, 2): a cell for each combination of signs.
    signs = np.arange(256)
    outside = (signs[:, None] >> np.arange(8) & 1).astype(bool).reshape(-1, 2, 2, 2)
    # Corners at an end of a crossed edge: where the sign changes along an axis, both ends, (256, 2, 2, 2) by axis.
    crossings = [np.diff(outside, axis=axis) for axis in (1, 2, 3)]
    ends = [np.repeat(crossing, 2, axis=axis + 1) for axis, crossing in enumerate(crossings)]
    ambiguous = is_ambiguous(outside)
    needed = np.packbits((ends[0] | ends[1] | ends[2]).reshape(256, 8), axis=1, bitorder="little")[:, 0]
    # The triangles that scikit-image finds in each cell.
    cells, codes, _, faces = march_cells(np.where(outside, 1.0, -1.0).astype(np.float32))
    of_face = cells[faces[:, 0]]
    triangles = np.where(ambiguous, 0, np.bincount(of_face, minlength=256))
    edges = np.zeros((256, 15), dtype=np.int8)
    for cell in np.flatnonzero(triangles):
        edges[cell, : 3 * triangles[cell]] = codes[faces[of_face == cell]].ravel()
    return CellTable(edges, triangles, ambiguous, np.where(ambiguous, 255, needed).astype(np.uint8))


def is_ambiguous(outside: np.ndarray) -> np.ndarray:
    """(n, 2, 2, 2) bool -> (n,) bool: the signs around a face alternate, or two corners at the ends of a diagonal of
    the cell are the only ones of their sign."""
    # (n, 4) for each of the six faces; its corners 0 and 3 are opposite, so are 1 and 2.
    faces = [np.take(outside, side, axis).reshape(-1, 4) for axis in (1, 2, 3) for side in (0, 1)]
    alternate = [(face[:, [0, 3]] == face[:, :1]).all(1) & (face[:, [1, 2]] == ~face[:, :1]).all(1) for face in faces]
    # Each corner is equal to the one opposite of it (7 - corner), and just two corners differ from the rest.
    flat = outside.reshape(-1, 8)
    lonely = (flat == flat[:, ::-1]).all(axis=1) & np.isin(flat.sum(axis=1), (2, 6))
    return np.any(alternate, axis=0) | lonely


def march_cells(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scikit-image on cells (n, 2, 2, 2) float32, n at most PACK^3, each by itself.

    Returns, for each of V vertices, its cell (V,) int64, its edge (V,) int64, -1 if it lies within the cell, and its
    position in the cell (V, 3) float32, 0 to 1; and triangles (F, 3) of such vertices.
    """
    from skimage.measure import marching_cubes

    # Fill up to PACK^3 cells, and keep scikit-image to the n cells alone: between two cells of the packed array lies
    # another, which has no meaning. It looks up a cell's mask at the cell's upper corner.
    full = np.full((PACK**3, 2, 2, 2), values[0, 0, 0, 0])
    full[: len(values)] = values
    mask = np.zeros(full.shape, dtype=bool)
    mask[: len(values), 1, 1, 1] = True
    points, faces, _, _ = marching_cubes(_pack(full), 0.0, mask=_pack(mask))
    # (V, 3): the cell's place in the packed array, the position in it, and the lower corner of the vertex's edge.
    place = (points // 2).astype(np.int64)
    local = points - 2 * place
    base = np.floor(local).astype(np.int64)
    # A vertex on an edge lies between two corners along one axis only.
    between = local != base
    codes = 8 * np.argmax(between, axis=1) + base @ (4, 2, 1)
    return place @ (PACK**2, PACK, 1), np.where(between.sum(axis=1) == 1, codes, -1), local, faces


def _pack(cells: np.ndarray) -> np.ndarray:
    """(PACK^3, 2, 2, 2) -> (2 PACK, 2 PACK, 2 PACK): the cells side by side in one array."""
    return cells.reshape((PACK,) * 3 + (2,) * 3).transpose(0, 3, 1, 4, 2, 5).reshape((2 * PACK,) * 3)
