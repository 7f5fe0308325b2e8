"""A function of space in, the closed mesh of its zero level out, without visiting the empty space.

Owns: marching cubes over an R^3 grid of nodes that spans the domain [-1, 1]^3, sparsely (`march`) or node by node
(`march_dense`, its slow twin). Comes in: a callable taking (N, 3) float32 points of the domain and returning (N,)
values, negative inside. Goes out: a `MarchResult` with a watertight mesh in domain coordinates, normals outward.
Knows nothing of training. `python marching.py MODEL` marches a fitted model and writes the mesh in file units.

Which nodes are evaluated, and why the others need not be, is the part of `marching_grid.py`.
"""

import argparse
import itertools
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marching_grid import (
    BRICK,
    CHUNK,
    OUTSIDE,
    MemoryBoundError,
    NoSurfaceError,
    Probe,
    SparseField,
    crossed,
    deepest_point,
    survey,
)
from threads import settle_threads

__all__ = ["MarchResult", "MemoryBoundError", "NoSurfaceError", "as_function", "as_gradient", "march", "march_dense"]

# No vertex lies nearer to a node than this share of a cell, so no triangle degenerates, in float32 file units either
# (at R = 1024 it is 1e-6, sixteen float32 steps at 0.9); half of the thousandth of a cell that meshes are compared to.
SNAP = 5e-4
# Range of |values| that scikit-image sees, in units of the typical value times the cell. It only decides connections
# in ambiguous cells and tells vertices from nodes: float32 has 4e-6 steps at the coordinates of one packed call, so the
# smallest share of a cell, 1e-5, can be told from none. Positions come from the true values.
TOPOLOGY_RANGE = (1e-3, 1e2)
# Bricks along the edge of one scikit-image call, which fixes the steps of TOPOLOGY_RANGE.
PACK = 4
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
    MemoryBoundError comes before the work (a dense march, which stores no bricks, is not bound). progress: None or a
    callable taking the estimated share done, 0 to 1. generator: numpy Generator of the samples and the audit (default:
    seed 0). dense: evaluate every node.

    Space beyond the domain counts as outside, so a shape cut by the border is capped there (SNAP cells beyond it).
    stats: resolution, nodes, evaluated, skipped, audited, hits (audited nodes of the wrong sign), corrected (wrong
    signs met while following the surface), trust, falls (steepest measured, by block size), cells (crossed by the
    surface), seconds.

    Lewiner et al., Efficient implementation of marching cubes' cases with topological guarantees (2003), by
    scikit-image. Raises NoSurfaceError, MemoryBoundError, and ValueError for a resolution or values that make no grid.
    """
    started = time.perf_counter()
    probe = Probe(function, resolution, level, progress)
    generator = np.random.default_rng(0) if generator is None else generator
    nodes, values, slope = survey(probe)
    builder = MeshBuilder(probe, float(np.median(np.abs(values))))
    stats = {"resolution": resolution, "nodes": resolution**3}
    if dense:
        sweep_dense(probe, builder)
    else:
        # The field is given up before the vertices are welded, which is the other peak of memory.
        stats |= sweep_sparse(builder, SparseField(probe, generator, (nodes, values), slope, max_memory))
    if probe.one_sided:
        raise NoSurfaceError(explain_no_surface(probe, generator))
    vertices, faces = builder.finish()
    stats |= {"evaluated": probe.evaluated, "skipped": max(0, resolution**3 - probe.evaluated)}
    if refine:
        vertices = newton_refine(vertices, function, gradient, level, refine, probe.cell)
    if progress is not None:
        progress(1.0)
    stats |= {"cells": builder.cells, "seconds": time.perf_counter() - started}
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


def sweep_dense(probe, builder):
    """Evaluates every node, one layer of bricks at a time, and gives the bricks to the builder."""
    side = -(-(probe.resolution + 1) // BRICK)
    nodes = side * BRICK + 1
    slab = np.full((BRICK + 1, nodes, nodes), OUTSIDE, dtype=np.float32)
    for layer in range(side):
        first = 0 if layer == 0 else 1
        slab[0] = slab[-1]
        for plane in range(first, BRICK + 1):
            slab[plane] = dense_plane(probe, layer * BRICK + plane, nodes)
        for row in range(side):
            rows = slab[:, row * BRICK : (row + 1) * BRICK + 1]
            blocks = np.lib.stride_tricks.sliding_window_view(rows, BRICK + 1, axis=2)[:, :, ::BRICK]
            bricks = np.stack([np.full(side, layer), np.full(side, row), np.arange(side)], axis=1)
            builder.add(bricks.astype(np.int32), np.ascontiguousarray(blocks.transpose(2, 0, 1, 3)))


def dense_plane(probe, index, nodes):
    """All values of one plane of nodes, (nodes, nodes); nodes beyond the domain are OUTSIDE."""
    plane = np.full((nodes, nodes), OUTSIDE, dtype=np.float32)
    if 1 <= index <= probe.resolution:
        line = np.arange(1, probe.resolution + 1, dtype=np.int32)
        second, third = (part.ravel() for part in np.meshgrid(line, line, indexing="ij"))
        values = probe.at(np.stack([np.full_like(second, index), second, third], axis=1))
        plane[1 : probe.resolution + 1, 1 : probe.resolution + 1] = values.reshape(probe.resolution, -1)
    return plane


# --- the sparse sweep --------------------------------------------------------------------------------------------


def sweep_sparse(builder, field):
    """Finds every brick that the surface crosses and gives it to the builder; what was skipped and audited."""
    field.find_surface()
    for start in range(0, field.store.used, CHUNK):
        slots = np.arange(start, min(start + CHUNK, field.store.used))
        builder.add(field.store.coords[slots], field.store.blocks(slots))
    return field.stats


# --- the mesh ----------------------------------------------------------------------------------------------------


class MeshBuilder:
    """Bricks in, one welded mesh out: scikit-image's marching cubes on bricks that share their faces.

    A vertex is known by the edge of the grid on which it lies, so the same vertex of two bricks is the same to the
    bit. Its position is computed here, from the values at the ends of the edge.
    """

    def __init__(self, probe, typical):
        self.probe, self.scale = probe, 1.0 / (max(typical, 1e-30) * probe.cell)
        self.vertices, self.faces = [], []
        self.shared_keys, self.shared_vertices = [], []
        self.count = self.cells = 0

    def add(self, bricks, blocks):
        """bricks (n, 3) int32, blocks (n, 9, 9, 9) float32 with every corner of a crossed cell evaluated."""
        cells = crossed(blocks)
        full = np.flatnonzero(cells.any(axis=(1, 2, 3)))
        self.cells += int(cells.sum())
        for start in range(0, len(full), PACK**3):
            part = full[start : start + PACK**3]
            self._march(bricks[part], blocks[part], cells[part])

    def _march(self, bricks, blocks, cells):
        from skimage.measure import marching_cubes

        values = np.clip(np.abs(blocks) * self.scale, *TOPOLOGY_RANGE)
        values = np.where(blocks > 0, values, -values).astype(np.float32)
        mask = np.zeros(blocks.shape, dtype=bool)
        mask[:, 1:, 1:, 1:] = cells  # scikit-image looks up a cell's mask at the cell's upper corner
        points, faces, _, _ = marching_cubes(pack(values, 1.0), 0.0, mask=pack(mask, False))
        vertices = self._place(points, bricks, blocks)
        self.faces.append(faces.astype(np.int32) + np.int32(self.count))
        self.vertices.append(vertices)
        self.count += len(vertices)

    def _place(self, points, bricks, blocks):
        """Packed coordinates of vertices -> their positions in the domain; notes those on faces of bricks."""
        place = (points // (BRICK + 1)).astype(np.int32)
        brick = (place[:, 0] * PACK + place[:, 1]) * PACK + place[:, 2]
        local = points - place * (BRICK + 1)
        base = np.floor(local).astype(np.int32)
        on_edge = (local != base).sum(axis=1) == 1
        axis = np.argmax(local != base, axis=1)
        step = np.eye(3, dtype=np.int32)[axis]
        low = blocks[(brick, *base.T)].astype(np.float64)
        high = blocks[(brick, *np.minimum(base + step, BRICK).T)].astype(np.float64)
        share = np.clip(low / np.where(on_edge, low - high, 1.0), SNAP, 1.0 - SNAP)
        nodes = bricks[brick] * BRICK + base
        on_face = on_edge & (((base == 0) | (base == BRICK)) & (step == 0)).any(axis=1)
        self._note_shared(nodes[on_face], axis[on_face], np.flatnonzero(on_face))
        inner = np.clip(local - base, SNAP, 1.0 - SNAP)
        return self.probe.position(nodes + np.where(on_edge[:, None], step * share[:, None], inner))

    def _note_shared(self, nodes, axis, vertices):
        nodes, side = nodes.astype(np.int64), self.probe.resolution + 2
        self.shared_keys.append(((nodes[:, 0] * side + nodes[:, 1]) * side + nodes[:, 2]) * 3 + axis)
        self.shared_vertices.append((vertices + self.count).astype(np.int32))

    def finish(self):
        """Welds: vertices (V, 3) float64, faces (F, 3) int64. Empties itself on the way, to stay within the memory."""
        target = self._weld()
        kept = target == np.arange(self.count, dtype=np.int32)
        number = np.cumsum(kept, dtype=np.int32) - 1
        target = number[target]
        vertices = np.empty((int(kept.sum()), 3))
        written = read = 0
        while self.vertices:
            part = self.vertices.pop(0)
            chosen = part[kept[read : read + len(part)]]
            vertices[written : written + len(chosen)] = chosen
            written, read = written + len(chosen), read + len(part)
        faces = np.empty((sum(map(len, self.faces)), 3), dtype=np.int64)
        written = 0
        while self.faces:
            part = self.faces.pop(0)
            faces[written : written + len(part)] = target[part]
            written += len(part)
        return vertices, faces

    def _weld(self):
        """(count,) int32: for each vertex the first one on the same edge of the grid."""
        target = np.arange(self.count, dtype=np.int32)
        if not self.shared_keys:
            return target
        keys, vertices = np.concatenate(self.shared_keys), np.concatenate(self.shared_vertices)
        order = np.argsort(keys, kind="stable")
        keys, vertices = keys[order], vertices[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        target[vertices] = np.repeat(vertices[first], np.diff(np.append(first, len(keys))))
        return target


def pack(blocks, empty):
    """(n, 9, 9, 9) blocks, n <= PACK^3 -> one array of PACK x PACK x PACK blocks side by side."""
    full = np.full((PACK**3, *blocks.shape[1:]), empty, dtype=blocks.dtype)
    full[: len(blocks)] = blocks
    side = PACK * (BRICK + 1)
    return full.reshape(PACK, PACK, PACK, *blocks.shape[1:]).transpose(0, 3, 1, 4, 2, 5).reshape(side, side, side)


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


# --- the command -------------------------------------------------------------------------------------------------


def main(arguments=None):
    """`python marching.py MODEL`: marches a fitted model and writes the mesh in file units."""
    flags = command_line().parse_args(arguments)
    settle_threads()
    try:
        return march_model(flags)
    except (ValueError, OSError) as error:
        print(f"marching.py: {error}", file=sys.stderr)
        return 1


def command_line():
    """The flags of `python marching.py`."""
    parser = argparse.ArgumentParser(description="The mesh of a fitted model, in the units of its input file.")
    parser.add_argument("model", metavar="MODEL", help="a fitted model, .safetensors")
    parser.add_argument("--reconstructionRes", type=int, default=256, help="nodes along an edge of the grid")
    parser.add_argument("--output", help="mesh file: .stl .ply .obj .glb .3mf .off (default: MODEL's name with .stl)")
    parser.add_argument(
        "--maxMemory",
        type=memory_size,
        help="bytes for the whole process, as 800M or 2G; .glb and .3mf are put together in memory beyond it "
        "(default: no bound)",
    )
    parser.add_argument(
        "--refine", type=int, default=0, help="Newton steps that move vertices onto the level; 0 is off"
    )
    parser.add_argument(
        "--dense", type=int, choices=(0, 1), default=0, help="1 evaluates every node of the grid; 0 is off"
    )
    return parser


def memory_size(text):
    """'800M', '2G' or plain bytes -> bytes."""
    factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:].upper())
    try:
        size = int(float(text[:-1] if factor else text) * (factor or 1))
    except ValueError:
        size = 0
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of memory; write it as 800M or 2G")
    return size


def march_model(flags):
    """Load, march, write, say what was done; 0. Raises ValueError or OSError with the line for the user."""
    from mesh_files import write_mesh
    from network import NeuralSDF

    model = NeuralSDF.load(flags.model)
    output = Path(flags.output) if flags.output else Path(flags.model).with_suffix(".stl")
    check_output(output)
    with progress_bar() as progress:
        result = march(
            as_function(model.distance),
            flags.reconstructionRes,
            gradient=as_gradient(model.distance),
            refine=flags.refine,
            max_memory=flags.maxMemory,
            progress=progress,
            dense=bool(flags.dense),
        )
    vertices, faces, stats = model.to_file(result.vertices), result.faces, result.stats
    del result
    write_mesh(output, vertices, faces)
    print(describe(stats))
    print(f"{output}: {len(vertices)} vertices, {len(faces)} triangles")
    return 0


def check_output(output):
    """ValueError, before the work, for a mesh file that could not be written after it."""
    from mesh_files import ENCODERS

    if output.suffix.lower() not in ENCODERS:
        raise ValueError(f"{output}: cannot write a '{output.suffix}' file; use one of {' '.join(ENCODERS)}")
    if not output.parent.is_dir():
        raise ValueError(f"{output}: there is no folder {output.parent}; make it first")


@contextmanager
def progress_bar():
    """A tqdm bar as the progress callable of `march`."""
    from tqdm import tqdm

    with tqdm(total=100, unit="%", desc="march") as bar:
        yield lambda share: bar.update(round(100 * share) - bar.n)


def describe(stats):
    """One line for the log: what was evaluated, skipped and audited."""
    share = stats["evaluated"] / stats["nodes"]
    line = f"{stats['resolution']}^3 nodes: evaluated {stats['evaluated']} ({share:.2%}), skipped {stats['skipped']}"
    if "audited" in stats:
        line += f", audited {stats['audited']} of them: {stats['hits']} hits"
    return f"{line}; {stats['seconds']:.1f} s"


if __name__ == "__main__":
    sys.exit(main())
