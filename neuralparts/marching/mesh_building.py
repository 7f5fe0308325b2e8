"""The mesh of the surface that crosses stored bricks: a vertex on each crossed edge, triangles by the cells' table."""

import numpy as np

from neuralparts.marching.bricks import BRICK, Bricks
from neuralparts.marching.cells import PACK, CellTable, cell_table, march_cells
from neuralparts.marching.mesh_kernels import (
    Edges,
    ambiguous_cells,
    cross_edges,
    place_triangles,
    place_vertices,
    vertex_numbers,
)
from neuralparts.marching.node_store import NodeStore
from neuralparts.marching.probe import Probe

# No vertex lies nearer to a node than this fraction of a cell, so no triangle degenerates, in float32 file units either
# (at R = 1024 it is 1e-6, sixteen float32 steps at 0.9); half of the thousandth of a cell that meshes are compared to.
SNAP = 5e-4
# Range of |values| that scikit-image sees, in units of the typical value times the cell. It only decides connections in
# ambiguous cells and keeps vertices apart from nodes: the smallest fraction of a cell, 1e-5, is more than the float32
# step within a cell (see PACK). Positions come from the true values.
TOPOLOGY_RANGE = (1e-3, 1e2)


def build_mesh(store: NodeStore, probe: Probe, typical: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Vertices (V, 3) float64 in the domain, faces (F, 3) int64, outward, and how many cells the surface crosses.

    typical: |value| that is usual in the domain. A vertex belongs to one edge of the grid, or lies within one ambiguous
    cell, so no vertices have to be merged.
    """
    table, bricks = cell_table(), store.bricks
    edges = Edges(
        np.empty((store.used, 3, BRICK), np.uint64),
        np.empty((store.used, 3, BRICK), np.int32),
        np.empty(store.used, np.int64),
    )
    # (n, 4) by brick: vertices, triangles of the table, ambiguous cells, crossed cells. Vertices are numbered by brick.
    counts = np.empty((store.used, 4), dtype=np.int64)
    cross_edges(bricks, table.triangles, table.ambiguous, edges, counts)
    edges.first[:] = np.cumsum(counts[:, 0]) - counts[:, 0]
    total, triangles, _, cells = counts.sum(axis=0)
    # First the vertices on edges, then those within ambiguous cells; the faces in the same order.
    inner, more = _ambiguous_mesh(bricks, edges, counts[:, 2], total, 1.0 / (max(typical, 1e-30) * probe.cell))
    vertices, faces = np.empty((total + len(inner), 3)), np.empty((triangles + len(more), 3), dtype=np.int64)
    place_vertices(bricks, edges, probe.cell, SNAP, vertices)
    place_triangles(bricks, edges, table.triangles, _edge_steps(table), faces)
    vertices[total:], faces[triangles:] = probe.position(inner), more
    return vertices, faces, int(cells)


def _edge_steps(table: CellTable) -> np.ndarray:
    """(256, 15) int64: the edges of the table as `place_triangles` takes them, 729 axis + 81 x + 9 y + z."""
    axis, x, y, z = (table.edges >> shift & mask for shift, mask in ((3, 3), (2, 1), (1, 1), (0, 1)))
    return axis.astype(np.int64) * 9**3 + x * 9**2 + y * 9 + z


def _ambiguous_mesh(
    bricks: Bricks, edges: Edges, counts: np.ndarray, total: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """The mesh in the ambiguous cells, by scikit-image: vertices within the cells, and all faces there.

    counts (n,): such cells by brick. total: the number of the first vertex within a cell. scale: of the values. Returns
    vertices (m, 3), in nodes of the grid, numbered from `total` on, and faces (k, 3) int64.
    """
    slots = np.flatnonzero(counts)
    places, values = ambiguous_cells(bricks, cell_table().ambiguous, slots, counts.sum())
    # (c, 2, 2, 2) values as scikit-image sees them: the signs stay, the sizes are cut to a range.
    sizes = np.clip(np.abs(values) * np.float32(scale), *TOPOLOGY_RANGE)
    values = np.where(values > 0, sizes, -sizes).reshape(-1, 2, 2, 2).astype(np.float32)
    inner, faces = [np.empty((0, 3))], [np.empty((0, 3), dtype=np.int64)]
    for start in range(0, len(places), PACK**3):
        part = places[start : start + PACK**3]
        cells, codes, local, triangles = march_cells(values[start : start + PACK**3])
        # The numbers (V,) of the vertices: those of the grid's edges, and new ones within cells.
        numbers = vertex_numbers(bricks, edges, part[cells], np.maximum(codes, 0))
        within = np.flatnonzero(codes < 0)
        numbers[within] = total + np.arange(len(within))
        total += len(within)
        # (c, 3): the first node of each cell, from its place.
        nodes = bricks.coords[part >> 9] * BRICK + np.stack([part >> 6 & 7, part >> 3 & 7, part & 7], axis=1)
        inner.append(nodes[cells[within]] + np.clip(local[within], SNAP, 1.0 - SNAP))
        faces.append(numbers[triangles])
    return np.concatenate(inner), np.concatenate(faces)
