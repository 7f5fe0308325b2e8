"""A function of space in, the closed mesh of its zero level out, without visiting the empty space.

Owns: marching cubes over an R^3 grid of nodes that spans the domain [-1, 1]^3, sparsely (`march`) or node by node
(`march_dense`, its slow twin). Comes in: a callable taking (N, 3) float32 points of the domain and returning (N,)
values, negative inside. Goes out: a `MarchResult` with a watertight mesh in domain coordinates, normals outward.
Knows nothing of training. `python marching.py MODEL` marches a fitted model and writes the mesh in file units.

Which nodes are evaluated, and why the others need not be, is the part of `marching_grid.py`; the loops over them are
compiled, in `marching_kernels.py`.
"""

import itertools
import time
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from neuralparts.marching import kernels
from neuralparts.marching.grid import (
    BRICK,
    OUTSIDE,
    NodeStore,
    NoSurfaceError,
    Probe,
    SparseField,
    deepest_point,
    survey,
)

# No vertex lies nearer to a node than this share of a cell, so no triangle degenerates, in float32 file units either
# (at R = 1024 it is 1e-6, sixteen float32 steps at 0.9); half of the thousandth of a cell that meshes are compared to.
SNAP = 5e-4
# Range of |values| that scikit-image sees, in units of the typical value times the cell. It only decides connections
# in ambiguous cells and tells vertices from nodes: float32 has 4e-6 steps at the coordinates of one packed call, so the
# smallest share of a cell, 1e-5, can be told from none. Positions come from the true values.
TOPOLOGY_RANGE = (1e-3, 1e2)
# Cells along the edge of one scikit-image call, which fixes the steps of TOPOLOGY_RANGE.
PACK = 16
# A function that varies less than this over the domain, which is 2 wide, is no distance any more.
COLLAPSED = 0.05


@dataclass
class MarchResult:
    """vertices (V, 3) float64 in the domain; faces (F, 3) int64, outward; stats: what was done (see `march`)."""

    vertices: np.ndarray
    faces: np.ndarray
    stats: dict


def march(
    function,
    resolution,
    level=0.0,
    *,
    gradient=None,
    refine=0,
    max_memory=None,
    progress=None,
    generator=None,
    dense=False,
):
    """The closed mesh of {function = level} on a grid of resolution^3 nodes over [-1, 1]^3.

    function: (N, 3) float32 points -> (N,) values, less than the level inside. Of any scale; the nearer to a signed
    distance, the fewer nodes are evaluated. refine: Newton steps that move each vertex onto the level, by at most half
    a cell, along gradient ((N, 3) float32 -> (N, 3)), or along central differences where that is None. max_memory:
    bytes that this process may occupy in all, None for no bound. Needed are what it occupies when called, what a call
    of the function takes, 64 MiB, and BRICK_BYTES for each brick of 8^3 cells at the surface; where that is too much,
    MemoryBoundError comes before the work (a dense march is not bound). progress: None or a
    callable taking the estimated share done, 0 to 1. generator: numpy Generator of the samples and the audit (default:
    seed 0). dense: evaluate every node.

    Space beyond the domain counts as outside, so a shape cut by the border is capped there (SNAP cells beyond it).
    stats: resolution, nodes, evaluated, skipped, audited, hits (audited nodes of the wrong sign), corrected (wrong
    signs met while following the surface), trust, falls (steepest measured, by block size), cells (crossed by the
    surface), seconds.

    Lewiner et al., Efficient implementation of marching cubes' cases with topological guarantees (2003), by
    scikit-image: its triangles are taken from a table where the signs of a cell's corners decide them, and cells where
    the values do are given to it. Raises NoSurfaceError, MemoryBoundError, and ValueError for a resolution or values
    that make no grid.
    """
    started = time.perf_counter()
    probe = Probe(function, resolution, level, progress)
    generator = np.random.default_rng(0) if generator is None else generator
    nodes, values, slope = survey(probe)
    stats = {"resolution": resolution, "nodes": resolution**3}
    if dense:
        store = sweep_dense(probe)
    else:
        field = SparseField(probe, generator, (nodes, values), slope, max_memory)
        field.find_surface(cell_table().needed)
        store, stats = field.store, stats | field.stats
    if probe.one_sided:
        raise NoSurfaceError(explain_no_surface(probe, generator))
    vertices, faces, cells = build_mesh(store, probe, float(np.median(np.abs(values))))
    stats |= {"evaluated": probe.evaluated, "skipped": max(0, resolution**3 - probe.evaluated)}
    if refine:
        vertices = newton_refine(vertices, function, gradient, level, refine, probe.cell)
    if progress is not None:
        progress(1.0)
    stats |= {"cells": cells, "seconds": time.perf_counter() - started}
    return MarchResult(vertices, faces, stats)


def march_dense(function, resolution, level=0.0, **options):
    """`march` with every node evaluated, slab by slab: the slow twin, for where nothing may be assumed."""
    return march(function, resolution, level, dense=True, **options)


def as_function(call, device="cpu", batch=2048):
    """A torch module or callable, (N, 3) float32 tensor -> (N,) or (N, 1), as the numpy function that `march` takes.

    batch: points a call; 2048 keep the activations of a layer in the cache, which for the DAM widths is half as fast
    again as 16384 on two cores. Each call is filled up to a multiple of 64 points: torch's matrix products then give a
    point the same bits whatever stands beside it.
    """
    import torch

    def evaluate(points):
        filled = np.zeros((-(-len(points) // 64) * 64, 3), dtype=np.float32)
        filled[: len(points)] = points
        with torch.inference_mode():
            parts = torch.from_numpy(filled).split(batch)
            values = [call(part.to(device)).reshape(-1).float().cpu() for part in parts]
        return torch.cat(values)[: len(points)].numpy()

    return evaluate


def as_gradient(call, device="cpu", batch=2048):
    """The gradient of such a torch callable by autograd, as the numpy function (N, 3) -> (N, 3) that refining takes."""
    import torch

    def evaluate(points):
        parts = []
        for part in torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32)).split(batch):
            part = part.to(device).requires_grad_(True)
            parts.append(torch.autograd.grad(call(part).sum(), part)[0].cpu())
        return torch.cat(parts).numpy()

    return evaluate


# --- the dense sweep ---------------------------------------------------------------------------------------------


def sweep_dense(probe):
    """Evaluates every node, one layer of bricks at a time, and stores the bricks that the surface touches."""
    store = NodeStore(probe.resolution)
    nodes = store.side * BRICK + 1
    slab = np.full((BRICK + 1, nodes, nodes), OUTSIDE, dtype=np.float32)
    before = np.zeros((store.side, store.side), dtype=bool)
    for layer in range(store.side):
        slab[0] = slab[-1]
        for plane in range(1 if layer else 0, BRICK + 1):
            slab[plane] = dense_plane(probe, layer * BRICK + plane, nodes)
        before = store_layer(store, layer, slab, before)
    return store


def dense_plane(probe, index, nodes):
    """All values of one plane of nodes, (nodes, nodes); nodes beyond the domain are OUTSIDE."""
    plane = np.full((nodes, nodes), OUTSIDE, dtype=np.float32)
    if 1 <= index <= probe.resolution:
        line = np.arange(1, probe.resolution + 1, dtype=np.int32)
        second, third = (part.ravel() for part in np.meshgrid(line, line, indexing="ij"))
        values = probe.at(np.stack([np.full_like(second, index), second, third], axis=1))
        plane[1 : probe.resolution + 1, 1 : probe.resolution + 1] = values.reshape(probe.resolution, -1)
    return plane


def store_layer(store, layer, slab, before):
    """Stores the bricks of a layer whose cells the surface crosses, and their upper neighbours, which share nodes with
    them; before (side, side) bool: those that it crosses in the layer below. The same of this layer."""
    outside = slab > 0
    windows = [
        np.lib.stride_tricks.sliding_window_view(part, (BRICK + 1,) * 2) for part in (outside.any(0), outside.all(0))
    ]
    some, every = (part[::BRICK, ::BRICK] for part in windows)
    crossed = some.any(axis=(2, 3)) & ~every.all(axis=(2, 3))
    kept = crossed | before
    kept[1:] |= kept[:-1].copy()
    kept[:, 1:] |= kept[:, :-1].copy()
    store.signs[layer, :-1, :-1] = np.where(outside[0, :-1:BRICK, :-1:BRICK], 1, -1)
    bricks = np.argwhere(kept)
    blocks = np.lib.stride_tricks.sliding_window_view(slab[:BRICK], (BRICK, BRICK), axis=(1, 2))
    blocks = blocks[:, bricks[:, 0] * BRICK, bricks[:, 1] * BRICK].swapaxes(0, 1)
    slots = store.allocate(np.insert(bricks, 0, layer, axis=1).astype(np.int32), 0)
    store.fill(slots, blocks)
    return crossed


# --- the mesh ----------------------------------------------------------------------------------------------------


class CellTable(NamedTuple):
    """What marching cubes does in a cell, by the signs of its corners: bit 4 x + 2 y + z is set outside."""

    edges: np.ndarray  # (256, 15) int8: of its triangles, corner by corner; 8 axis + lower corner
    triangles: np.ndarray  # (256,) int64: how many, where the signs alone decide
    ambiguous: np.ndarray  # (256,) bool: where the values of the corners decide
    needed: np.ndarray  # (256,) uint8: corners whose values are needed, those of crossed edges or all, as bits


@cache
def cell_table():
    """The table of scikit-image, as it comes out of one call for all signs."""
    signs = np.arange(256)
    outside = (signs[:, None] >> np.arange(8) & 1).astype(bool).reshape(-1, 2, 2, 2)
    crossings = [np.diff(outside, axis=axis) for axis in (1, 2, 3)]
    ends = [np.repeat(crossing, 2, axis=axis + 1) for axis, crossing in enumerate(crossings)]
    ambiguous = is_ambiguous(outside)
    needed = np.packbits((ends[0] | ends[1] | ends[2]).reshape(256, 8), axis=1, bitorder="little")[:, 0]
    cells, codes, _, faces = march_cells(np.where(outside, 1.0, -1.0).astype(np.float32))
    of_face = cells[faces[:, 0]]
    triangles = np.where(ambiguous, 0, np.bincount(of_face, minlength=256))
    edges = np.zeros((256, 15), dtype=np.int8)
    for cell in np.flatnonzero(triangles):
        edges[cell, : 3 * triangles[cell]] = codes[faces[of_face == cell]].ravel()
    return CellTable(edges, triangles, ambiguous, np.where(ambiguous, 255, needed).astype(np.uint8))


def is_ambiguous(outside):
    """(n, 2, 2, 2) bool -> (n,) bool: a face's corners alternate, or two corners are alone, at a diagonal's ends."""
    faces = [np.take(outside, side, axis).reshape(-1, 4) for axis in (1, 2, 3) for side in (0, 1)]
    alternate = [(face[:, [0, 3]] == face[:, :1]).all(1) & (face[:, [1, 2]] == ~face[:, :1]).all(1) for face in faces]
    flat = outside.reshape(-1, 8)
    lonely = (flat == flat[:, ::-1]).all(axis=1) & np.isin(flat.sum(axis=1), (2, 6))
    return np.any(alternate, axis=0) | lonely


def march_cells(values):
    """scikit-image on cells (n, 2, 2, 2) float32 each by itself: for each vertex its cell, its edge (8 axis + lower
    corner; -1 within the cell) and its position in the cell (V, 3), and triangles (F, 3) of such vertices."""
    from skimage.measure import marching_cubes

    full = np.full((PACK**3, 2, 2, 2), values[0, 0, 0, 0])
    full[: len(values)] = values
    mask = np.zeros(full.shape, dtype=bool)
    mask[: len(values), 1, 1, 1] = True  # scikit-image looks up a cell's mask at the cell's upper corner
    points, faces, _, _ = marching_cubes(pack(full), 0.0, mask=pack(mask))
    place = (points // 2).astype(np.int64)
    local = points - 2 * place
    base = np.floor(local).astype(np.int64)
    between = local != base
    codes = 8 * np.argmax(between, axis=1) + base @ (4, 2, 1)
    return place @ (PACK**2, PACK, 1), np.where(between.sum(axis=1) == 1, codes, -1), local, faces


def pack(cells):
    """(PACK^3, 2, 2, 2) -> one array of PACK x PACK x PACK cells side by side."""
    return cells.reshape((PACK,) * 3 + (2,) * 3).transpose(0, 3, 1, 4, 2, 5).reshape((2 * PACK,) * 3)


def build_mesh(store, probe, typical):
    """The mesh of the surface that crosses the stored bricks: vertices (V, 3) float64, faces (F, 3) int64, and how many
    cells it crosses. A vertex belongs to an edge of the grid, so nothing has to be welded."""
    table, bricks = cell_table(), store.bricks
    edges = kernels.Edges(
        np.empty((store.used, 3, BRICK), np.uint64),
        np.empty((store.used, 3, BRICK), np.int32),
        np.empty(store.used, np.int64),
    )
    counts = np.empty((store.used, 4), dtype=np.int64)
    kernels.cross_edges(bricks, table.triangles, table.ambiguous, edges, counts)
    edges.first[:] = np.cumsum(counts[:, 0]) - counts[:, 0]
    total, triangles, _, cells = counts.sum(axis=0)
    inner, more = ambiguous_mesh(bricks, edges, counts[:, 2], total, 1.0 / (max(typical, 1e-30) * probe.cell))
    vertices, faces = np.empty((total + len(inner), 3)), np.empty((triangles + len(more), 3), dtype=np.int64)
    kernels.place_vertices(bricks, edges, probe.cell, SNAP, vertices)
    axis, x, y, z = (table.edges >> shift & mask for shift, mask in ((3, 3), (2, 1), (1, 1), (0, 1)))
    steps = axis.astype(np.int64) * 9**3 + x * 9**2 + y * 9 + z
    kernels.place_triangles(bricks, edges, table.triangles, steps, faces)
    vertices[total:], faces[triangles:] = probe.position(inner), more
    return vertices, faces, int(cells)


def ambiguous_mesh(bricks, edges, counts, total, scale):
    """The mesh in the ambiguous cells, by scikit-image: vertices within them (m, 3), in nodes of the grid, which are
    numbered from total on, and their faces. counts (n,): such cells by brick; scale: of the values."""
    slots = np.flatnonzero(counts)
    places, values = kernels.ambiguous_cells(bricks, cell_table().ambiguous, slots, counts.sum())
    sizes = np.clip(np.abs(values) * np.float32(scale), *TOPOLOGY_RANGE)
    values = np.where(values > 0, sizes, -sizes).reshape(-1, 2, 2, 2).astype(np.float32)
    inner, faces = [np.empty((0, 3))], [np.empty((0, 3), dtype=np.int64)]
    for start in range(0, len(places), PACK**3):
        part = places[start : start + PACK**3]
        cells, codes, local, triangles = march_cells(values[start : start + PACK**3])
        numbers = kernels.vertex_numbers(bricks, edges, part[cells], np.maximum(codes, 0))
        within = np.flatnonzero(codes < 0)
        numbers[within] = total + np.arange(len(within))
        total += len(within)
        nodes = bricks.coords[part >> 9] * BRICK + np.stack([part >> 6 & 7, part >> 3 & 7, part & 7], axis=1)
        inner.append(nodes[cells[within]] + np.clip(local[within], SNAP, 1.0 - SNAP))
        faces.append(numbers[triangles])
    return np.concatenate(inner), np.concatenate(faces)


# --- afterwards --------------------------------------------------------------------------------------------------


def newton_refine(vertices, function, gradient, level, steps, cell, batch=65536):
    """Vertices moved onto the level by Newton steps along the gradient, each at most half a cell in all.

    A step that does not lower |f - level| is not taken. Without a gradient, central differences over a tenth of a cell.
    """
    gradient = central_differences(function, 0.1 * cell) if gradient is None else gradient
    refined = np.empty_like(vertices)
    for start in range(0, len(vertices), batch):
        part = slice(start, start + batch)
        refined[part] = newton_part(vertices[part], function, gradient, level, steps, 0.5 * cell)
    return refined


def newton_part(start, function, gradient, level, steps, limit):
    """Newton steps of points start (n, 3), none farther than limit from where it began."""
    points, values = start, function(start.astype(np.float32)).astype(np.float64) - level
    for _ in range(steps):
        slopes = gradient(points.astype(np.float32)).astype(np.float64)
        moved = points - slopes * (values / np.maximum((slopes**2).sum(axis=1), 1e-12))[:, None]
        offset = moved - start
        length = np.linalg.norm(offset, axis=1, keepdims=True)
        moved = start + offset * np.minimum(1.0, limit / np.maximum(length, 1e-30))
        found = function(moved.astype(np.float32)).astype(np.float64) - level
        better = np.abs(found) < np.abs(values)
        points, values = np.where(better[:, None], moved, points), np.where(better, found, values)
    return points


def central_differences(function, step):
    """The gradient of a function by central differences, as a function (N, 3) float32 -> (N, 3)."""
    steps = np.float32(step) * np.eye(3, dtype=np.float32)

    def gradient(points):
        sides = [(function(points + offset), function(points - offset)) for offset in steps]
        return np.stack([high - low for high, low in sides], axis=1) / (2.0 * step)

    return gradient


def explain_no_surface(probe, generator):
    """One line on why no node of the grid changes sign: looks between the nodes for the sign that is missing."""
    sign, side, relation = (1.0, "outside", "above") if probe.lowest > 0 else (-1.0, "inside", "below")
    low, high = sorted((sign * probe.lowest, sign * probe.highest))
    point, nearest = deepest_point(probe, generator)
    head = f"no surface at resolution {probe.resolution}: every node lies {side}, "
    head += f"{low:.4g} to {high:.4g} {relation} the level"
    if nearest <= 0:
        seen = max(probe.resolution + 1, int(np.ceil(2.0 * np.sqrt(3.0) / thickness(probe, sign, point))) + 1)
        where = np.array2string(point, precision=3)
        return (
            f"{head}; there is a feature thinner than the cell ({probe.cell:.3g}) at {where}, seen from about {seen} on"
        )
    if high - low < COLLAPSED:
        return f"{head}: the function is nearly constant, the fit has collapsed"
    return f"{head}, and nothing between them is nearer than {nearest:.3g}: the function does not reach the level"


def thickness(probe, sign, point, steps=64):
    """The shortest chord through a point within which sign * value stays at or below zero, along 13 directions."""
    directions = np.array([corner for corner in itertools.product((-1, 0, 1), repeat=3) if corner > (0, 0, 0)])
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    distances = np.geomspace(1e-4, 2.0, steps)
    chords = []
    for direction in directions:
        rays = [point + side * distances[:, None] * direction for side in (1.0, -1.0)]
        beyond = [sign * probe.at_points(ray.astype(np.float32)) > 0 for ray in rays]
        chords.append(sum(distances[np.argmax(side)] if side.any() else 2.0 for side in beyond))
    return min(chords)
