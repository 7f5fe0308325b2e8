"""Which nodes of a grid a surface needs: evaluates those, and says of all others on which side they lie.

Owns: the R^3 nodes that span the domain [-1, 1]^3 (`Probe`, which asks the function and counts), and the part of them
that is kept, in bricks (`NodeStore`, filled by `SparseField`). Comes in: a callable taking (N, 3) float32 points and
returning (N,) values, negative inside. Goes out: bricks in which both ends of every edge of the grid that the surface
crosses are evaluated, and all corners of cells in which the values decide what is connected. `marching.py` makes the
mesh of them.

Coarse to fine. Cells of the grid are grouped in cubic blocks, halved from R/16 cells to 8. A block is skipped where the
function at its centre is farther from the level than it can fall within the block; how far it can fall is measured on
the function itself, by block size and region. What stays is stored in bricks of 8^3 nodes; there the same holds around
each evaluated node: those within the distance over which the function cannot fall so far take its sign, and of the
others lattice after lattice is evaluated, from wide to narrow. Then the surface is followed: both ends of an edge that
it crosses are evaluated, and a sign that differs from the assumed one opens the next cells, so the mesh is closed
whatever was assumed, and a surface that was touched is followed to its end. Last, a random share of what was skipped
is audited; a hit opens its neighbourhood, lowers the trust and repeats the work with what the lower trust asks for.
"""

import itertools

import numpy as np

from neuralparts.domain import grid_cell
from neuralparts.errors import UserError
from neuralparts.machine import resident_memory
from neuralparts.marching.kernels import (
    FARTHEST,
    Bricks,
    ball_widths,
    carve,
    contradicted,
    keep,
    needed_nodes,
    take_signs,
    unknown_nodes,
)

# Nodes along the edge of a brick, the unit of storage: a plane of them is one word of 64 bits in the compiled loops.
BRICK = 8
# The value of everything beyond the border of the domain: far outside, so that a shape cut by the border is capped.
OUTSIDE = np.float32(1e30)
# A block is skipped with this margin over the steepest fall that was measured at its size and in its region. Of 400
# marches of small random networks, half of them walls about as thin as a cell, 7 miss a crumb with it.
MARGIN = 1.25
# The fall of a region is not taken for less than this percentile of all, as it may be sampled a few times only; and
# none for less than this share of what it was at larger blocks.
LEAST_PERCENTILE = 99.9
LEAST_FALL = 0.5
# What a hit of the audit multiplies the measured falls with; and the share of the evaluated nodes that may have another
# sign than assumed before that counts as a hit too: 1e-5 at the most for fitted networks but those of sines, 6e-5 and
# more where crumbs of walls thinner than a cell were missed.
DISTRUST = 1.5
DOUBT = 2e-5
ALL_NODES = np.uint64(2**64 - 1)
# Bricks handled at a time, at most 5 KiB of temporaries each; blocks judged at a time, 200 bytes each.
CHUNK = 8192
PART = 2**18
# What a brick at the surface takes at the peak, its share of the mesh included: measured 4.9 KiB.
BRICK_BYTES = 5632
CORNERS = np.array(list(itertools.product((0, 1), repeat=3)), dtype=np.int32)


class NoSurfaceError(UserError):
    """The function does not change sign on the grid; the message says why and from which resolution on it would."""


class MemoryBoundError(UserError):
    """The surface at this resolution does not fit the memory bound; the message says what would."""


class Probe:
    """The function at nodes of the grid: batches, counts, checks. Nodes (N, 3) run from 0 to R + 1 on each axis; 1 to
    R lie in the domain, the rest beyond its border, where the value is OUTSIDE without asking."""

    def __init__(self, function, resolution, level, progress, batch=65536):
        if int(resolution) != resolution or resolution < 2:
            raise ValueError(f"a grid needs a whole number of at least 2 nodes along an edge, got {resolution}")
        self.function, self.resolution, self.level = function, int(resolution), np.float32(level)
        self.progress, self.batch = progress, batch
        self.cell = grid_cell(self.resolution)
        self.axis = np.linspace(-1.0, 1.0, self.resolution).astype(np.float32)
        self.evaluated, self.expected, self.share = 0, self.resolution**3, 0.0
        self.lowest, self.highest = np.inf, -np.inf

    def at(self, nodes):
        """(N, 3) integer nodes -> (N,) float32 values less the level."""
        values = np.full(len(nodes), OUTSIDE, dtype=np.float32)
        domain = np.flatnonzero(((nodes >= 1) & (nodes <= self.resolution)).all(axis=1))
        values[domain] = self.ask(self.axis[nodes[domain] - 1])
        return values

    def ask(self, points):
        """(N, 3) float32 points, nodes of the domain -> (N,) float32 values less the level, counted."""
        values = np.empty(len(points), dtype=np.float32)
        for start in range(0, len(points), self.batch):
            part = slice(start, start + self.batch)
            values[part] = self.at_points(points[part])
            self._count(values[part])
        return values

    def at_points(self, points):
        """(N, 3) float32 points -> (N,) float32 values less the level; ValueError for a wrong shape or a NaN."""
        values = np.asarray(self.function(points))
        if values.shape != (len(points),):
            raise ValueError(f"the function gave an array of shape {values.shape} for {len(points)} points")
        values = values.astype(np.float32) - self.level
        if not np.isfinite(values).all():
            where = points[np.flatnonzero(~np.isfinite(values))[0]]
            raise ValueError(f"the function is not finite at {np.array2string(where, precision=3)}")
        return values

    @property
    def one_sided(self):
        """No sign has changed among the nodes evaluated so far; a value on the level counts as inside."""
        return not self.lowest <= 0.0 < self.highest

    def _count(self, values):
        self.evaluated += len(values)
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        if self.progress is not None:
            self.share = max(self.share, min(1.0, self.evaluated / self.expected))
            self.progress(self.share)

    def position(self, nodes):
        """Node indices, fractions allowed -> float64 coordinates in the domain."""
        return (nodes - 1.0) * self.cell - 1.0


def survey(probe):
    """A coarse lattice of nodes, the same for every march of a function: (nodes (n, 3), values (n,), steepest slope).

    Raises NoSurfaceError where the function is constant, there and at random points.
    """
    line = np.unique(np.linspace(1, probe.resolution, min(probe.resolution, 12)).round().astype(np.int32))
    nodes = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    values = probe.at(nodes)
    if values.min() == values.max():
        points = np.random.default_rng(0).uniform(-1.0, 1.0, (4096, 3)).astype(np.float32)
        if (probe.at_points(points) == values[0]).all():
            value = float(values[0] + probe.level)
            raise NoSurfaceError(f"no surface: the function is {value:.6g} everywhere; the fit has collapsed")
    lattice = values.reshape((len(line),) * 3)
    rise = max(np.abs(np.diff(lattice, axis=axis)).max() for axis in range(3))
    return nodes, values, float(rise / (np.diff(line).min() * probe.cell))


def deepest_point(probe, generator, rounds=12, tries=64):
    """The point of the domain whose value is farthest towards the sign that no node has, and how far it stays from it,
    as a narrowing random search finds it."""
    sign = 1.0 if probe.lowest > 0 else -1.0
    line = np.linspace(-1.0, 1.0, min(probe.resolution, 48))
    points = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)
    values, radius = sign * probe.at_points(points), line[1] - line[0]
    for _ in range(rounds):
        best = np.argsort(values)[:128]
        points, values = points[best], values[best]
        around = points[:, None] + generator.uniform(-radius, radius, (len(points), tries, 3))
        around = around.clip(-1.0, 1.0).reshape(-1, 3).astype(np.float32)
        points, values = np.concatenate([points, around]), np.concatenate([values, sign * probe.at_points(around)])
        radius *= 0.6
    best = np.argmin(values)
    return points[best], float(values[best])


class NodeStore:
    """What is known of nodes, in bricks of 8^3, where they are needed.

    A node was evaluated, or its sign is assumed, or nothing is known of it yet; see `marching_kernels.Bricks`. Of a
    brick that is not stored only one assumed sign is kept.
    """

    def __init__(self, resolution):
        side = -(-(resolution + 2) // BRICK)
        self.resolution, self.side, self.used = resolution, side, 0
        self.slots = np.full((side + 1,) * 3, -1, dtype=np.int32)
        self.signs = np.ones((side + 1,) * 3, dtype=np.int8)
        self.coords = np.empty((0, 3), dtype=np.int32)
        self.values = np.empty((0, BRICK**3), dtype=np.float32)
        self.evaluated, self.outside, self.inside = (np.empty((0, BRICK), dtype=np.uint64) for _ in range(3))

    @property
    def bricks(self):
        """The arrays as the compiled loops take them."""
        stored = (self.values, self.evaluated, self.outside, self.inside, self.coords)
        return Bricks(*(array[: self.used] for array in stored), self.slots, self.signs)

    def allocate(self, bricks, signs):
        """Stores bricks (n, 3), none stored before, with the assumed signs (n,) of their nodes; 0 where none is."""
        used = self.used + len(bricks)
        if used > len(self.values):
            self._grow(used + used // 4)  # pages that are never written cost no memory
        slots = np.arange(self.used, used)
        self.slots[tuple(bricks.T)] = slots
        self.coords[slots] = bricks
        self.evaluated[slots] = 0
        self.outside[slots] = np.where(np.greater(signs, 0), ALL_NODES, 0).reshape(-1, 1)
        self.inside[slots] = np.where(np.less(signs, 0), ALL_NODES, 0).reshape(-1, 1)
        self.used = used
        self._fill_beyond(slots)
        return slots

    def _grow(self, capacity):
        for name in ("coords", "values", "evaluated", "outside", "inside"):
            old = getattr(self, name)
            new = np.empty((capacity, *old.shape[1:]), dtype=old.dtype)
            new[: self.used] = old[: self.used]
            setattr(self, name, new)

    def _fill_beyond(self, slots):
        """Nodes beyond the border of the domain are known: OUTSIDE."""
        first = self.coords[slots] * BRICK
        slots = slots[((first < 1) | (first + BRICK - 1 > self.resolution)).any(axis=1)]
        index = self.coords[slots, :, None] * BRICK + np.arange(BRICK)
        x, y, z = ((index < 1) | (index > self.resolution)).transpose(1, 0, 2)
        beyond = x[:, :, None, None] | y[:, None, :, None] | z[:, None, None, :]
        words = words_of(beyond)
        self.values[slots] = OUTSIDE  # those within the domain are not evaluated yet
        self.evaluated[slots] = words
        self.outside[slots] |= words
        self.inside[slots] &= ~words

    def fill(self, slots, blocks):
        """Keeps all values (n, 8, 8, 8) of bricks."""
        self.values[slots] = blocks.reshape(-1, BRICK**3)
        self.evaluated[slots] = ALL_NODES
        self.outside[slots] = words_of(blocks > 0)
        self.inside[slots] = ~self.outside[slots]

    def forget(self):
        """Nothing is assumed any more of nodes that were not evaluated."""
        for words in (self.outside, self.inside):
            words[: self.used] &= self.evaluated[: self.used]

    def skip(self, size, origins, signs):
        """Assumes signs (n,) in blocks of size^3 cells, whole bricks."""
        inner = np.indices((size // BRICK,) * 3).reshape(3, -1).T.astype(np.int32)
        bricks = (origins[:, None] // BRICK + inner).reshape(-1, 3)
        inside = (bricks < self.side).all(axis=1)
        self.signs[tuple(bricks[inside].T)] = np.repeat(signs, len(inner))[inside]

    def opposed(self):
        """Bricks (n, 3), not stored, that touch one of the opposite sign, not stored either."""
        signs = np.where(self.slots < 0, self.signs, 0)
        high = low = np.pad(signs[:-1, :-1, :-1], 1)
        for axis in range(3):
            high = np.maximum(
                np.take(high, range(high.shape[axis] - 1), axis), np.take(high, range(1, high.shape[axis]), axis)
            )
            low = np.minimum(
                np.take(low, range(low.shape[axis] - 1), axis), np.take(low, range(1, low.shape[axis]), axis)
            )
        corners = np.argwhere((high > 0) & (low < 0))
        bricks = np.unique(np.clip(corners[:, None] - CORNERS, 0, self.side - 1).reshape(-1, 3), axis=0)
        return bricks[self.slots[tuple(bricks.T)] < 0].astype(np.int32)

    def locate(self, nodes):
        """(N, 3) nodes -> (N,) places: 512 slot + index in the brick, negative where the brick is not stored."""
        first, second, third = nodes.astype(np.intp).T
        slots = self.slots[first >> 3, second >> 3, third >> 3].astype(np.intp)
        return slots * BRICK**3 + (((first & 7) << 6) | ((second & 7) << 3) | (third & 7))

    def is_evaluated(self, nodes):
        """(N, 3) nodes -> (N,) bool."""
        places = self.locate(nodes)
        return (places >= 0) & has_bit(self.evaluated, places)

    def is_outside(self, nodes):
        """(N, 3) nodes -> (N,) bool: the sign, evaluated or assumed."""
        places = self.locate(nodes)
        return np.where(places >= 0, has_bit(self.outside, places), self.signs[tuple(nodes.T // BRICK)] > 0)

    def get(self, nodes):
        """(N, 3) nodes -> (N,) float32, NaN where not evaluated."""
        values = np.full(len(nodes), np.nan, dtype=np.float32)
        known = np.flatnonzero(self.is_evaluated(nodes))
        values[known] = self.values.ravel()[self.locate(nodes[known])]
        return values

    def put(self, nodes, values):
        """Keeps values at those of the nodes that are in stored bricks."""
        places = self.locate(nodes)
        keep(self.bricks, places[places >= 0], values[places >= 0])


class SparseField:
    """The part of the grid that the surface needs: finds it from coarse to fine, follows it, audits the rest."""

    def __init__(self, probe, generator, known, slope, max_memory):
        self.probe, self.generator, self.slope, self.max_memory = probe, generator, slope, max_memory
        self.store = NodeStore(probe.resolution)
        self.root = BRICK
        while (probe.resolution + 1) / self.root > 16:
            self.root *= 2
        self.region = 2 * self.root
        self.regions = -(-(probe.resolution + 2) // self.region)
        self.falls, self.trust, self.skipped = {}, 1.0, []
        self.coarse = [known]
        self.stats = {"audited": 0, "hits": 0, "corrected": 0}

    def find_surface(self, needed):
        """The whole work: afterwards every crossed cell lies in stored bricks, with the values of the corners that it
        needs; needed (256,) uint8: which, as bits, by the signs of its corners."""
        opened = {self.root: grid_of_blocks(self.probe.resolution, self.root)}
        while opened is not None:
            self._descend(opened)
            self._resolve()
            self._stored(self._contradicted())
            corrected = self._follow(np.arange(self.store.used), needed)
            hits = self._audit()
            doubtful = len(hits) or corrected > DOUBT * self.probe.evaluated
            opened = self._reopen(hits) if doubtful else None
        self.stats |= {"trust": self.trust, "falls": {size: float(falls.max()) for size, falls in self.falls.items()}}

    def _descend(self, opened):
        """From the largest blocks down to bricks: skips what the surface cannot reach, halves what it can, and stores
        the bricks that are left."""
        size, origins = self.root, np.empty((0, 3), dtype=np.int32)
        while size >= BRICK:
            origins = (origins[:, None] + CORNERS * size).reshape(-1, 3)  # the eighths of what the last round kept
            origins = origins[(origins <= self.probe.resolution).all(axis=1)]
            origins = self._skip(size, np.concatenate([origins, opened.get(size, origins[:0])]))
            self.probe.expected = self.probe.evaluated + 2 * len(origins) * size**2
            size //= 2
        self._store_bricks(origins)

    def _skip(self, size, origins):
        """Blocks (n, 3) -> those that may hold surface, part by part, in an order of chance: the first part, on which
        the fall is measured, is a sample of all."""
        if len(origins) > PART:
            origins = self.generator.permutation(origins)
        parts = [origins[start : start + PART] for start in range(0, len(origins), PART)]
        return np.concatenate([origins[:0], *(self._skip_part(size, part) for part in parts)])

    def _skip_part(self, size, origins):
        """Blocks (n, 3) -> those that may hold surface; the sign of the others is assumed in the store."""
        centers, reach = self._reach(size, origins)
        values = self._values(centers)
        if size not in self.falls:
            self._measure_fall(size, centers, values, CORNERS * size - size // 2, reach)
        border = ((origins < 1) | (origins + size > self.probe.resolution)).any(axis=1)
        skipped = np.abs(values) > self.trust * self._fall(size, origins) * reach
        skipped &= (values > 0) | ~border
        self.store.skip(size, origins[skipped], np.where(values[skipped] > 0, 1, -1).astype(np.int8))
        self.skipped.append((size, origins[skipped].astype(np.int16), values[skipped], reach[skipped]))
        return origins[~skipped]

    def _reach(self, size, origins):
        """The node nearest to the centre of each block, and how far the block's nodes of the domain lie from it."""
        low = np.clip(origins, 1, self.probe.resolution)
        high = np.clip(origins + size, 1, self.probe.resolution)
        centers = np.clip(origins + size // 2, 1, self.probe.resolution)
        steps = np.maximum(centers - low, high - centers).astype(np.float32)
        return centers, np.linalg.norm(steps, axis=1) * np.float32(self.probe.cell)

    def _values(self, nodes):
        """Values at nodes, evaluated where the store has none."""
        values = self.store.get(nodes)
        unknown = np.isnan(values)
        values[unknown] = self.probe.at(nodes[unknown])
        self.store.put(nodes[unknown], values[unknown])
        if not self.store.used:
            self.coarse.append((nodes[unknown], values[unknown]))
        return values

    def _measure_fall(self, size, centers, values, steps, reach):
        """Keeps the steepest falls of a size by region: from nodes (n, 3) by any of the steps, reach (n,) long."""
        falls = self._steepest_falls(size, centers, values, steps, reach)
        self.falls[size] = np.broadcast_to(falls, self.regions**3)

    def _steepest_falls(self, size, centers, values, steps, reach):
        """By region, how far |f| falls by one of the steps from a block's centre, per distance: the most in a sample.

        It is the Lipschitz constant that matters at this size: the mean slope over the block. The largest gradient is
        two to four times as large for fitted networks, at creases much smaller than the block, and would open as
        many times more blocks. Sampled where it decides: in blocks whose value is near to what would be skipped. From
        bricks up one sample serves all regions; below, a region's own counts.
        """
        guess = max((float(falls.max()) for falls in self.falls.values()), default=self.slope)
        near = np.flatnonzero(np.abs(values) < 3.0 * guess * reach)
        count = min(len(near), max(512, len(centers) // 16))
        chosen = self.generator.choice(near, count, replace=False)
        ends = centers[chosen] + steps[self.generator.integers(0, len(steps), count)]
        ends = np.clip(ends, 1, self.probe.resolution)
        _, first, each = np.unique(row_keys(ends, self.probe.resolution + 1), return_index=True, return_inverse=True)
        falls = np.abs(values[chosen]) - np.sign(values[chosen]) * self._values(ends[first])[each]
        falls = np.maximum(falls / np.maximum(reach[chosen], 1e-30), 0.0)
        steepest = np.full(self.regions**3, falls.max(initial=LEAST_FALL * guess))
        if size < BRICK and count:
            region = self._region(centers[chosen])
            steepest[region] = np.percentile(falls, LEAST_PERCENTILE)
            np.maximum.at(steepest, region, falls)
        return MARGIN * steepest

    def _region(self, origins):
        """Index of the region of each block."""
        first, second, third = (origins // self.region).astype(np.intp).T
        return (first * self.regions + second) * self.regions + third

    def _fall(self, size, origins):
        """The steepest fall that holds for each block."""
        return self.falls[size][self._region(origins)]

    def _store_bricks(self, origins):
        bricks = origins // BRICK
        bricks = bricks[self.store.slots[tuple(bricks.T)] < 0]
        self._check_memory(len(bricks))
        self.store.allocate(bricks, 0)
        self.store.allocate(self.store.opposed(), 0)
        for nodes, values in self.coarse:
            self.store.put(nodes, values)
        self.coarse = []

    def _check_memory(self, more):
        check_memory(self.max_memory, self.store.used + more, self.store.used, self.probe.resolution)

    def _resolve(self):
        """Evaluates the nodes of the stored bricks of which nothing is known, but for those that a value near to them
        decides: lattice after lattice, from wide to narrow."""
        if not self.store.used:
            return
        take_signs(self.store.bricks, 0, self.store.used)
        self._evaluate_unknown(LATTICES[0])
        self._measure_falls_of_nodes()
        bounds = self._bounds()
        self._carve(EVERYWHERE, bounds)
        for lattice in LATTICES[1:]:
            self._evaluate_unknown(lattice)
            self._carve(lattice, bounds)
        self._evaluate_unknown(EVERYWHERE)

    def _evaluate_unknown(self, lattice):
        """Evaluates what is not known among the nodes of a lattice."""
        for start in range(0, self.store.used, CHUNK):
            stop = min(start + CHUNK, self.store.used)
            places, points = unknown_nodes(self.store.bricks, lattice, self.probe.axis, start, stop)
            keep(self.store.bricks, places, self.probe.ask(points))

    def _measure_falls_of_nodes(self):
        """The falls from centres of blocks of 4^3 cells to their corners, to those of the 2^3 around, to the next node
        along an axis."""
        if 1 in self.falls:
            return
        local = 2 + 4 * CORNERS
        centers = (self.store.coords[: self.store.used, None] * BRICK + local).reshape(-1, 3)
        values = self.store.values[: self.store.used, local @ (BRICK**2, BRICK, 1)].ravel()
        centers, values = centers[np.abs(values) < OUTSIDE], values[np.abs(values) < OUTSIDE]
        axes = np.concatenate([np.eye(3, dtype=np.int32), -np.eye(3, dtype=np.int32)])
        for size, steps in ((4, 4 * CORNERS - 2), (2, 2 * CORNERS - 1), (1, axes)):
            reach = np.full(len(centers), np.linalg.norm(steps[0]) * self.probe.cell, dtype=np.float32)
            self._measure_fall(size, centers, values, steps, reach)

    def _bounds(self):
        """(regions^3, FARTHEST + 1) float32: how far the function may fall over a distance, by its square in cells."""
        squares = np.arange(FARTHEST + 1)
        falls = np.stack([self.falls[1 if square < 9 else 2 if square < 12 else 4] for square in squares], axis=1)
        bounds = self.trust * self.probe.cell * falls * np.sqrt(squares)
        return np.maximum.accumulate(bounds, axis=1).astype(np.float32)

    def _carve(self, lattice, bounds):
        """Nodes take the sign of an evaluated one of a lattice from which the function cannot fall so far."""
        regions = self._region(self.store.coords[: self.store.used] * BRICK)
        carve(self.store.bricks, lattice, bounds, regions, ball_widths(), 0, self.store.used)

    def _contradicted(self):
        """Bricks (n, 3), not stored, whose assumed sign a node on the lower face of a stored one contradicts."""
        slots, corners = np.nonzero(contradicted(self.store.bricks, self.store.used))
        bricks = self.store.coords[slots] - CORNERS[corners]
        return bricks[(bricks >= 0).all(axis=1)]

    def _follow(self, slots, needed):
        """Follows the surface: evaluates what crossed cells need, goes on where a sign was not as assumed, and counts
        those signs."""
        before = self.stats["corrected"]
        while len(slots):
            parts = [slots[start : start + CHUNK] for start in range(0, len(slots), CHUNK)]
            flipped = [self._verify(needed_nodes(self.store.bricks, needed, part)) for part in parts]
            flipped = np.concatenate(flipped)
            self.stats["corrected"] += len(flipped)
            bricks = np.maximum(flipped[:, None] - CORNERS, 0).reshape(-1, 3) // BRICK
            slots = self._stored(bricks)
        return self.stats["corrected"] - before

    def _verify(self, nodes):
        """Evaluates nodes of assumed sign, each once; those whose sign was not as assumed."""
        nodes = unique_rows(nodes, self.probe.resolution + 2)
        assumed = self.store.is_outside(nodes)
        self._stored(nodes >> 3)
        return nodes[(self._values(nodes) > 0) != assumed]

    def _stored(self, bricks):
        """Slots of bricks (n, 3), storing those that were not, with the sign assumed so far."""
        bricks = unique_rows(bricks, self.store.side)
        missing = bricks[self.store.slots[tuple(bricks.T)] < 0]
        if len(missing):
            self._check_memory(len(missing))
            self.store.allocate(missing, self.store.signs[tuple(missing.T)])
        return self.store.slots[tuple(bricks.T)].astype(np.intp)

    def _audit(self):
        """Evaluates a random share of the nodes that were skipped; those of a sign other than assumed are the hits.

        A third of the share is uniform over the grid, a third in the blocks that were skipped most narrowly, a third in
        the stored bricks, near to the surface. Where no sign has changed yet, the nodes around the value nearest to the
        other sign are added.
        """
        count = int(np.clip(self.probe.evaluated // 100, 1024, 32768))
        uniform = self.generator.integers(1, self.probe.resolution + 1, (count, 3), dtype=np.int32)
        nodes = [uniform, self._narrow_nodes(count), self._stored_nodes(count)]
        if self.probe.one_sided:
            nodes.append(self._nodes_around(deepest_point(self.probe, self.generator)[0]))
        nodes = unique_rows(np.concatenate(nodes), self.probe.resolution + 2)
        nodes = nodes[~self.store.is_evaluated(nodes)]
        values = self.probe.at(nodes)
        wrong = (values > 0) != self.store.is_outside(nodes)
        self._stored(nodes[wrong] >> 3)
        self.store.put(nodes[wrong], values[wrong])
        self.stats["audited"] += len(nodes)
        self.stats["hits"] += int(wrong.sum())
        return nodes[wrong]

    def _narrow_nodes(self, count):
        """Random corners of blocks that were skipped with less than half as much again as needed."""
        nodes = []
        for size, origins, values, reach in self.skipped:
            narrow = np.flatnonzero(np.abs(values) < 1.5 * self.trust * self._fall(size, origins) * reach)
            share = min(len(narrow), count // len(self.skipped) + 1)
            chosen = origins[self.generator.choice(narrow, share, replace=False)].astype(np.int32)
            nodes.append(chosen + self.generator.integers(0, 2, chosen.shape, dtype=np.int32) * size)
        return np.clip(np.concatenate(nodes), 1, self.probe.resolution)

    def _stored_nodes(self, count):
        """Random nodes of the stored bricks, of those within the domain."""
        slots = self.generator.integers(0, max(1, self.store.used), min(count, self.store.used))
        inner = self.generator.integers(0, BRICK, (len(slots), 3), dtype=np.int32)
        return np.clip(self.store.coords[slots] * BRICK + inner, 1, self.probe.resolution)

    def _nodes_around(self, point):
        """The nodes within two cells of a point of the domain."""
        nearest = np.rint((point + 1.0) / self.probe.cell).astype(np.int32) + 1
        return np.clip(nearest + np.indices((5, 5, 5), dtype=np.int32).reshape(3, -1).T - 2, 1, self.probe.resolution)

    def _reopen(self, hits):
        """Lowers the trust: blocks to halve that are no longer skipped. Stores the bricks around the hits, and forgets
        what was assumed in stored bricks."""
        self.trust *= DISTRUST
        near = np.clip(hits[:, None] // BRICK + np.indices((3, 3, 3)).reshape(3, -1).T - 1, 0, self.store.side - 1)
        self._stored(near.reshape(-1, 3).astype(np.int32))
        self.store.forget()
        opened, records, self.skipped = {}, self.skipped, []
        for size, origins, values, reach in records:
            again = np.abs(values) <= self.trust * self._fall(size, origins) * reach
            self.skipped.append((size, origins[~again], values[~again], reach[~again]))
            blocks = origins[again].astype(np.int32)
            opened[size] = np.concatenate([opened.get(size, blocks[:0]), blocks])
        return opened


def words_of(nodes):
    """(n, 8, 8, 8) bool -> (n, 8) uint64: node (y, z) of a plane is bit 8 y + z of its word."""
    packed = np.packbits(nodes.reshape(-1, BRICK, BRICK**2), axis=2, bitorder="little")
    return packed.view("<u8").reshape(-1, BRICK).astype(np.uint64)


def has_bit(words, places):
    """(N,) bool: whether the nodes at places are in the set that words are; any answer for negative places."""
    rows = words.ravel()[places >> 6] if len(words) else np.zeros(len(places), dtype=np.uint64)
    return (rows >> (places & 63).astype(np.uint64)) & np.uint64(1) > 0


def lattice_words(parity, step):
    """(8,) uint64: the nodes of a brick whose index along each axis is parity modulo step."""
    x, y, z = (np.arange(BRICK) % step == odd for odd in parity)
    return words_of((x[:, None, None] & y[:, None] & z)[None])[0]


EVERYWHERE = lattice_words((0, 0, 0), 1)
# The order in which the nodes of a brick are looked at: centres of 4^3 cells, of 2^3, their corners, then what lies
# between, on their faces and on their edges.
LATTICES = [
    lattice_words((2, 2, 2), 4),
    lattice_words((1, 1, 1), 2),
    lattice_words((0, 0, 0), 2) & ~lattice_words((2, 2, 2), 4),
    sum(lattice_words(parity, 2) for parity in CORNERS if parity.sum() == 2),
    sum(lattice_words(parity, 2) for parity in CORNERS if parity.sum() == 1),
]


def grid_of_blocks(resolution, size):
    """Origins (n, 3) int32 of the blocks of `size` cells that cover all cells of the grid."""
    side = -(-(resolution + 1) // size)
    return (np.indices((side,) * 3).reshape(3, -1).T * size).astype(np.int32)


def unique_rows(indices, side):
    """The different rows of (n, 3) indices below side, sorted."""
    keys = np.unique(row_keys(indices, side))
    return np.stack([keys // side**2, keys // side % side, keys % side], axis=1).astype(np.int32)


def row_keys(indices, side):
    """(n, 3) indices below side -> (n,) int64, different for different rows."""
    first, second, third = indices.astype(np.int64).T
    return (first * side + second) * side + third


def check_memory(max_memory, bricks, stored, resolution):
    """MemoryBoundError where `bricks` bricks, of which `stored` are already, and the mesh in them cannot fit."""
    if max_memory is None:
        return
    taken = resident_memory() + 64 * 2**20 - stored * 2048
    needed = taken + bricks * BRICK_BYTES
    if needed <= max_memory:
        return
    message = (
        f"the surface at resolution {resolution} needs about {needed / 2**20:.0f} MiB, {taken / 2**20:.0f} of them for "
        f"this program itself, and the memory bound is {max_memory / 2**20:.0f} MiB: raise it"
    )
    if max_memory > taken:
        fitting = int(resolution * np.sqrt((max_memory - taken) / (bricks * BRICK_BYTES)))
        message += f", or march at a resolution of at most {fitting}"
    raise MemoryBoundError(message)
