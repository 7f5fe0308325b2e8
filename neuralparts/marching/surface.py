"""A function of space in, the closed mesh of its zero level out, without a visit to the empty space.

Marching cubes on a grid of R^3 nodes that spans the domain [-1, 1]^3, sparsely (`march`) or node by node
(`march_dense`, its slow twin). In: a function of (N, 3) float32 points of the domain that returns (N,) values, negative
inside. Out: a `MarchResult`, a watertight mesh in domain coordinates with normals outward. Knows nothing of training.

Space beyond the domain counts as outside, so a shape that the border cuts is capped there, a two-thousandth of a cell
beyond it. `node_search.py` says which nodes are evaluated, and why the others need not be.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuralparts.marching.cells import cell_table
from neuralparts.marching.dense import sweep_dense
from neuralparts.marching.explain import NoSurfaceError, explain_no_surface
from neuralparts.marching.falls import Falls
from neuralparts.marching.mesh_building import build_mesh
from neuralparts.marching.node_search import find_nodes
from neuralparts.marching.node_signs import NodeSigns, node_signs
from neuralparts.marching.probe import Function, Probe, Progress
from neuralparts.marching.refine import refine_vertices
from neuralparts.marching.sparse_field import SparseField
from neuralparts.marching.survey import survey


@dataclass
class MarchResult:
    """vertices (V, 3) float64 in the domain; faces (F, 3) int64, outward; stats: what was done.

    stats has the resolution, nodes (of the grid), evaluated and skipped (nodes), cells (crossed by the surface) and
    seconds; for a sparse march also audited (skipped nodes that were evaluated as a check), hits (those of the wrong
    sign), corrected (wrong signs met while following the surface), caution and falls (the steepest measured, by block
    size; see `falls.py`). signs: the side of every node, if `march` was asked for it.
    """

    vertices: np.ndarray
    faces: np.ndarray
    stats: dict
    signs: NodeSigns | None = None


def march(
    function: Function,
    resolution: int,
    level: float = 0.0,
    *,
    gradient: Function | None = None,
    refine: int = 0,
    max_memory: int | None = None,
    progress: Progress | None = None,
    generator: np.random.Generator | None = None,
    dense: bool = False,
    lipschitz: float | None = None,
    keep_signs: bool = False,
) -> MarchResult:
    """The closed mesh of {function = level} on a grid of resolution^3 nodes over [-1, 1]^3.

    function: (N, 3) float32 points -> (N,) values, less than the level inside. Of any scale; the nearer to a signed
    distance, the fewer nodes are evaluated. refine: Newton steps that move each vertex onto the level, by at most half
    a cell, along gradient ((N, 3) float32 -> (N, 3)), or along central differences if that is None. max_memory:
    bytes that this process may occupy in all, None for no bound; a sparse march that needs more raises MemoryBoundError
    before the work, a dense one ignores it. progress: takes the estimated fraction done, 0 to 1. generator: draws
    the blocks on which falls are measured and the nodes that are audited; by default one of seed 0. dense: evaluate
    every node. lipschitz: a bound of the function's slope, in units of its values per domain unit, that is certain: the
    search then skips what it excludes, instead of measuring slopes and auditing. keep_signs: return the side of every
    node too.

    Source: Lewiner et al., Efficient implementation of marching cubes' cases with topological guarantees (2003), as in
    scikit-image. Raises NoSurfaceError if all nodes have one sign; ValueError for a resolution that makes no grid,
    and for values of a wrong shape, NaN or infinite.
    """
    started = time.perf_counter()
    probe = Probe(function, resolution, level, progress)
    generator = np.random.default_rng(0) if generator is None else generator
    nodes, values, slope = survey(probe)
    stats = {"resolution": resolution, "nodes": resolution**3}
    if dense:
        store = sweep_dense(probe)
    else:
        falls = Falls(probe.resolution, slope, generator, lipschitz)
        field = SparseField(probe, falls, generator, (nodes, values), max_memory)
        stats |= find_nodes(field, cell_table().needed, audited=lipschitz is None)
        store = field.store
    if probe.one_sided:
        raise NoSurfaceError(explain_no_surface(probe, generator))
    vertices, faces, cells = build_mesh(store, probe, typical=float(np.median(np.abs(values))))
    if refine:
        vertices = refine_vertices(vertices, function, gradient, level, refine, probe.cell)
    if progress is not None:
        progress(1.0)
    stats |= {"evaluated": probe.evaluated, "skipped": max(0, resolution**3 - probe.evaluated)}
    stats |= {"cells": cells, "seconds": time.perf_counter() - started}
    return MarchResult(vertices, faces, stats, node_signs(store) if keep_signs else None)


def march_dense(function: Function, resolution: int, level: float = 0.0, **options: Any) -> MarchResult:
    """`march` with every node evaluated, slab by slab: the slow twin, for functions of which nothing may be assumed.

    options: those of `march` except dense.
    """
    return march(function, resolution, level, dense=True, **options)
