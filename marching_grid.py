"""Which nodes of a grid a surface needs: evaluates those, and says of all others on which side they lie.

Owns: the R^3 nodes that span the domain [-1, 1]^3 (`Probe`, which asks the function and counts), and the part of them
that is kept, in bricks (`NodeStore`, filled by `SparseField`). Comes in: a callable taking (N, 3) float32 points and
returning (N,) values, negative inside. Goes out: bricks in which every corner of every cell that the surface crosses is
evaluated. `marching.py` makes the mesh of them.

Coarse to fine. Cells of the grid are grouped in cubic blocks, halved from R/16 cells to 2. A block is skipped where the
function at its centre is farther from the level than it can fall within the block; how far it can fall is measured on
the function itself, by block size and region. What stays is stored in bricks of 8^3 nodes; there a node takes the sign
of an evaluated neighbour that is farther from the level than the function can fall between the two, and all others are
evaluated. Then the surface is followed: all nodes of a cell that it crosses are evaluated, and a sign that differs from
the assumed one opens the next cells, so the mesh is closed whatever was assumed, and a surface that was touched
anywhere is found whole. Last, a random share of what was skipped is audited; a hit opens its neighbourhood, lowers the
trust and repeats the work wherever the lower trust asks for it.
"""

import itertools
import os

import numpy as np

# Cells along the edge of a brick: the unit of storage and of one marching-cubes block. 8 keeps a block's overlap with
# its neighbours small (9^3 nodes for 8^3 cells) and a brick half full of surface.
BRICK = 8
# The value of everything beyond the border of the domain: far outside, so that a shape cut by the border is capped.
OUTSIDE = np.float32(1e30)
# A block is skipped with this margin over the steepest fall that was measured at its size and in its region. Of 850
# marches of small networks, thin walls among them, none missed a node with 1.25, three of 250 a crumb with 1.15.
MARGIN = 1.25
# The fall of a region is not taken for less than this percentile of all, as it may be sampled a few times only; and
# none for less than this share of what it was at larger blocks.
LEAST_PERCENTILE = 99.9
LEAST_FALL = 0.5
# What a hit of the audit multiplies the measured falls with; and the share of the evaluated nodes that may have another
# sign than assumed before that counts as a hit too (for fitted networks it is 1e-4).
DISTRUST = 1.5
DOUBT = 1e-3
# Edge of a brick in pairs of cells: the smallest blocks that are skipped, and the finest signs that are kept, are 2^3.
HALF = BRICK // 2
# Bricks handled at a time, 6 KiB of temporaries each; blocks judged at a time, 200 bytes each.
CHUNK = 2048
PART = 2**18
# What a brick at the surface takes at the peak, its share of the mesh included: measured 5.0 KiB.
BRICK_BYTES = 5632
CORNERS = np.array(list(itertools.product((0, 1), repeat=3)), dtype=np.int32)


class NoSurfaceError(ValueError):
    """The function does not change sign on the grid; the message says why and from which resolution on it would."""


class MemoryBoundError(ValueError):
    """The surface at this resolution does not fit the memory bound; the message says what would."""


class Probe:
    """The function at nodes of the grid: batches, counts, checks. Nodes (N, 3) run from 0 to R + 1 on each axis; 1 to
    R lie in the domain, the rest beyond its border, where the value is OUTSIDE without asking."""

    def __init__(self, function, resolution, level, progress, batch=65536):
        if int(resolution) != resolution or resolution < 2:
            raise ValueError(f"a grid needs a whole number of at least 2 nodes along an edge, got {resolution}")
        self.function, self.resolution, self.level = function, int(resolution), np.float32(level)
        self.progress, self.batch = progress, batch
        self.cell = 2.0 / (self.resolution - 1)
        self.axis = np.linspace(-1.0, 1.0, self.resolution).astype(np.float32)
        self.evaluated, self.expected, self.share = 0, self.resolution**3, 0.0
        self.lowest, self.highest = np.inf, -np.inf

    def at(self, nodes):
        """(N, 3) integer nodes -> (N,) float32 values less the level."""
        values = np.full(len(nodes), OUTSIDE, dtype=np.float32)
        domain = np.flatnonzero(((nodes >= 1) & (nodes <= self.resolution)).all(axis=1))
        for start in range(0, len(domain), self.batch):
            part = domain[start : start + self.batch]
            values[part] = self.at_points(self.axis[nodes[part] - 1])
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
    """Values of nodes in bricks of 8^3, where they are needed.

    A value is finite where the node was evaluated, +inf or -inf where only its sign is assumed, NaN where nothing is
    known yet. Of a brick that is not stored only one assumed sign is kept. The arrays by brick have one layer more at
    the upper end, for what lies beyond the domain; index -1 leads there too.
    """

    def __init__(self, resolution):
        side = -(-(resolution + 2) // BRICK)
        self.resolution, self.side, self.used = resolution, side, 0
        self.slots = np.full((side + 1,) * 3, -1, dtype=np.int32)
        self.signs = np.ones((side + 1,) * 3, dtype=np.int8)
        self.coords = np.empty((0, 3), dtype=np.int32)
        self.values = np.empty((0, BRICK, BRICK, BRICK), dtype=np.float32)
        self.pairs = np.empty((0, HALF, HALF, HALF), dtype=np.int8)

    def allocate(self, bricks, signs):
        """Stores bricks (n, 3), none stored before, with the assumed signs (n,) of their nodes; 0 where none is."""
        used = self.used + len(bricks)
        if used > len(self.values):
            self._grow(used + used // 4)  # pages that are never written cost no memory
        slots = np.arange(self.used, used)
        self.slots[tuple(bricks.T)] = slots
        self.coords[slots] = bricks
        self.pairs[slots] = np.asarray(signs).reshape(-1, 1, 1, 1)
        self.values[slots] = np.nan
        self.used = used
        self._fill_beyond(slots)
        self.spread_signs(slots)
        return slots

    def _grow(self, capacity):
        for name in ("coords", "values", "pairs"):
            old = getattr(self, name)
            new = np.empty((capacity, *old.shape[1:]), dtype=old.dtype)
            new[: self.used] = old[: self.used]
            setattr(self, name, new)

    def _fill_beyond(self, slots):
        """Nodes beyond the border of the domain are known: OUTSIDE."""
        local = np.arange(BRICK)
        for axis in range(3):
            index = self.coords[slots, axis, None] * BRICK + local
            brick, node = np.nonzero((index < 1) | (index > self.resolution))
            np.moveaxis(self.values, axis + 1, 1)[slots[brick], node] = OUTSIDE

    def skip(self, size, origins, signs):
        """Assumes signs (n,) in blocks of cells, faces included: by brick, or below by 2^3 cells."""
        unit, side = (BRICK, self.side) if size >= BRICK else (2, self.side * HALF)
        inner = np.indices((size // unit,) * 3).reshape(3, -1).T.astype(np.int32)
        units = (origins[:, None] // unit + inner).reshape(-1, 3)
        inside = (units < side).all(axis=1)
        units, signs = units[inside], np.repeat(signs, len(inner))[inside]
        if size >= BRICK:
            self.signs[tuple(units.T)] = signs
        else:
            self.pairs[(self.slots[tuple(units.T // HALF)], *(units.T % HALF))] = signs

    def spread_signs(self, slots):
        """Nodes that were not evaluated take the sign assumed in a block that they belong to, or NaN where none is."""
        for start in range(0, len(slots), CHUNK):
            part = slots[start : start + CHUNK]
            signs = self._pairs_around(part)
            for axis in (1, 2, 3):
                low, high = (np.take(signs, range(first, first + HALF), axis) for first in (0, 1))
                shape = (*low.shape[:axis], BRICK, *low.shape[axis + 1 :])
                signs = np.stack([np.where(low == 0, high, low), high], axis=axis + 1).reshape(shape)
            values = self.values[part]
            with np.errstate(invalid="ignore"):  # 0 * inf is NaN, which is what is known there
                self.values[part] = np.where(np.isfinite(values), values, signs * np.float32(np.inf))

    def _pairs_around(self, slots):
        """(n, 5, 5, 5) int8: the assumed signs by 2^3 cells, with those of the lower neighbours that share nodes."""
        signs = np.empty((len(slots), HALF + 1, HALF + 1, HALF + 1), dtype=np.int8)
        for corner in CORNERS:
            neighbour = tuple((self.coords[slots] - corner).T)
            source = self.slots[neighbour]
            part = tuple(slice(HALF - 1, None) if step else slice(None) for step in corner)
            target = tuple(slice(0, 1) if step else slice(1, None) for step in corner)
            signs[(slice(None), *target)] = np.where(
                (source >= 0).reshape(-1, 1, 1, 1),
                self.pairs[(source, *part)],
                self.signs[neighbour].reshape(-1, 1, 1, 1),
            )
        return signs

    def decide(self, slots, fall, parities):
        """Unknown nodes of bricks take the sign of an evaluated node next to them that is farther from the level than
        the function can fall between the two; fall (n,): over one cell. parities: of the nodes that are looked at, at
        the corners of 2^3 blocks (all even) or between; asked are the blocks' centres, and for nodes between, corners.
        Where two of them contradict each other, none is believed. slots (n,): in a row.
        """
        centers, corners = self._every_other(slots, 1), self._every_other(slots, 0)
        for parity in parities:
            odd, even = np.flatnonzero(parity) + 1, np.flatnonzero(parity == 0) + 1
            outside, inside = decided(centers, even, odd, 1, fall)
            if len(odd):
                by_corners = decided(corners, odd, even, 0, fall)
                outside, inside = outside | by_corners[0], inside | by_corners[1]
            values = self.values[(slice(slots[0], slots[-1] + 1), *(slice(k, None, 2) for k in parity))]
            unknown = np.isnan(values)
            values[unknown & outside & ~inside] = np.inf
            values[unknown & inside & ~outside] = -np.inf

    def _every_other(self, slots, parity):
        """(n, 5, 5, 5) float32: the values of nodes of odd indices (parity 1), those of the lower neighbours first, or
        of even ones, those of the upper neighbours last; 0 for what was not evaluated or lies beyond the domain."""
        lattice = np.zeros((len(slots), HALF + 1, HALF + 1, HALF + 1), dtype=np.float32)
        halo, inner = (slice(0, 1), slice(1, None)) if parity else (slice(HALF, None), slice(0, HALF))
        edge = slice(BRICK - 1, None) if parity else slice(0, 1)
        for corner in CORNERS:
            source = self.slots[tuple((self.coords[slots] + (-corner if parity else corner)).T)]
            stored = np.flatnonzero(source >= 0)
            part = tuple(edge if step else slice(parity, None, 2) for step in corner)
            target = tuple(halo if step else inner for step in corner)
            lattice[(stored, *target)] = self.values[(source[stored], *part)]
        lattice[~(np.abs(lattice) < OUTSIDE)] = 0.0
        return lattice

    def contradicted(self, slots):
        """Bricks (n, 3), not stored, whose assumed sign a node on the lower face of a stored one contradicts."""
        found = []
        for corner in CORNERS[1:]:
            neighbours = self.coords[slots] - corner
            missing = self.slots[tuple(neighbours.T)] < 0
            neighbours = neighbours[missing]
            values = self.values[(slots[missing], *(slice(0, 1) if step else slice(None) for step in corner))]
            signs = self.signs[tuple(neighbours.T)].reshape(-1, 1, 1, 1)
            found.append(neighbours[((values > 0) != (signs > 0)).any(axis=(1, 2, 3))])
        found = np.concatenate(found)
        return found[(found >= 0).all(axis=1)]

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
        """(N, 3) nodes -> (N,) index of their brick in the flat arrays by brick, (N,) index into the flat values, which
        is negative for a node whose brick is not stored."""
        first, second, third = nodes.astype(np.intp).T
        side = self.side + 1
        bricks = ((first >> 3) * side + (second >> 3)) * side + (third >> 3)
        offsets = ((first & 7) << 6) | ((second & 7) << 3) | (third & 7)
        return bricks, self.slots.ravel()[bricks].astype(np.intp) * BRICK**3 + offsets

    def get(self, nodes):
        """(N, 3) nodes -> (N,) float32: value, assumed sign times inf, or NaN."""
        bricks, places = self.locate(nodes)
        values = self.signs.ravel()[bricks] * np.float32(np.inf)
        stored = np.flatnonzero(places >= 0)
        values[stored] = self.values.ravel()[places[stored]]
        return values

    def put(self, nodes, values):
        """Keeps values at those of the nodes that are in stored bricks."""
        _, places = self.locate(nodes)
        stored = np.flatnonzero(places >= 0)
        self.values.ravel()[places[stored]] = values[stored]

    def blocks(self, slots):
        """Bricks with the nodes that they share with their upper neighbours: (n, 9, 9, 9) float32."""
        blocks = np.empty((len(slots), BRICK + 1, BRICK + 1, BRICK + 1), dtype=np.float32)
        for corner in CORNERS:
            neighbour = tuple((self.coords[slots] + corner).T)
            source = self.slots[neighbour]
            part = tuple(slice(0, 1) if step else slice(None) for step in corner)
            target = tuple(slice(BRICK, None) if step else slice(0, BRICK) for step in corner)
            signs = self.signs[neighbour].astype(np.float32).reshape(-1, 1, 1, 1) * np.float32(np.inf)
            blocks[(slice(None), *target)] = np.where(
                (source >= 0).reshape(-1, 1, 1, 1), self.values[(source, *part)], signs
            )
        return blocks


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

    def find_surface(self):
        """The whole work: afterwards every crossed cell lies in stored bricks with all its nodes evaluated."""
        opened = {self.root: grid_of_blocks(self.probe.resolution, self.root)}
        while opened:
            self._descend(self.root, opened)
            self.store.spread_signs(np.arange(self.store.used))
            self._resolve()
            self._stored(self.store.contradicted(np.arange(self.store.used)))
            corrected = self._follow(np.arange(self.store.used))
            hits = self._audit()
            doubtful = len(hits) or corrected > DOUBT * self.probe.evaluated
            opened = self._reopen(hits) if doubtful else {}
        self.stats |= {"trust": self.trust, "falls": {size: float(falls.max()) for size, falls in self.falls.items()}}

    def _descend(self, size, opened):
        """From blocks of `size` cells down to 2: skips what the surface cannot reach, halves what it can."""
        origins = np.empty((0, 3), dtype=np.int32)
        while size >= 2:
            origins = (origins[:, None] + CORNERS * size).reshape(-1, 3)  # the eighths of what the last round kept
            origins = origins[(origins <= self.probe.resolution).all(axis=1)]
            origins = self._skip(size, np.concatenate([origins, opened.get(size, origins[:0])]))
            self.probe.expected = self.probe.evaluated + 2 * len(origins) * size**2
            if size == BRICK:
                self._store_bricks(origins)
            size //= 2

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
            corners = origins + self.generator.integers(0, 2, origins.shape, dtype=np.int32) * size
            self._measure_fall(size, centers, values, corners, reach)
        border = ((origins < 1) | (origins + size > self.probe.resolution)).any(axis=1)
        skipped = np.abs(values) > self.trust * self._fall(size, origins) * reach
        skipped &= (values > 0) | ~border
        self.store.skip(size, origins[skipped], np.where(values[skipped] > 0, 1, -1).astype(np.int8))
        self.skipped.append((size, origins[skipped].astype(np.int16), values[skipped], reach[skipped]))
        if size == 2 and 1 not in self.falls:
            self._measure_fall_of_a_cell(centers[~skipped], values[~skipped])
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
        unknown = ~np.isfinite(values)
        values[unknown] = self.probe.at(nodes[unknown])
        self.store.put(nodes[unknown], values[unknown])
        if not self.store.used:
            self.coarse.append((nodes[unknown], values[unknown]))
        return values

    def _measure_fall_of_a_cell(self, centers, values):
        """As size 1: from a node to the next along an axis, instead of from a block's centre to its corner."""
        steps = np.concatenate([np.eye(3, dtype=np.int32), -np.eye(3, dtype=np.int32)])
        ends = centers + steps[self.generator.integers(0, 6, len(centers))]
        self._measure_fall(1, centers, values, ends, np.full(len(centers), self.probe.cell, dtype=np.float32))

    def _measure_fall(self, size, centers, values, ends, reach):
        """Keeps the steepest falls of a size by region: from nodes (n, 3) to others, reach (n,) away."""
        falls = self._steepest_falls(size, centers, values, ends, reach)
        self.falls[size] = np.broadcast_to(falls, self.regions**3)

    def _steepest_falls(self, size, centers, values, ends, reach):
        """By region, how far |f| falls from a block's centre to a corner, per distance: the largest of a sample.

        It is the Lipschitz constant that matters at this size: the mean slope over the block. The largest gradient is
        two to four times as large for fitted networks, at creases much smaller than the block, and would open as
        many times more blocks. Sampled where it decides: in blocks whose value is near to what would be skipped. From
        bricks up one sample serves all regions; below, a region's own counts.
        """
        guess = max((float(falls.max()) for falls in self.falls.values()), default=self.slope)
        near = np.flatnonzero(np.abs(values) < 3.0 * guess * reach)
        count = min(len(near), max(512, len(centers) // 16))
        chosen = self.generator.choice(near, count, replace=False)
        ends, each = np.unique(np.clip(ends[chosen], 1, self.probe.resolution), axis=0, return_inverse=True)
        falls = np.abs(values[chosen]) - np.sign(values[chosen]) * self._values(ends)[each]
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
        slots = self.store.slots[tuple(bricks.T)]
        self.store.pairs[slots[slots >= 0]] = 0
        bricks = bricks[slots < 0]
        self._check_memory(len(bricks))
        self.store.allocate(bricks, 0)
        self.store.allocate(self.store.opposed(), 0)
        for nodes, values in self.coarse:
            self.store.put(nodes, values)
        self.coarse = []

    def _check_memory(self, more):
        check_memory(self.max_memory, self.store.used + more, self.store.used, self.probe.resolution)

    def _resolve(self):
        """Evaluates the nodes of the stored bricks of which nothing is known, but for those that a value next to them
        decides: first the centres of the smallest blocks, then their corners, then all between."""
        for parities in (CORNERS[7:], CORNERS[:1], CORNERS[1:7]):
            for start in range(0, self.store.used, CHUNK):
                slots = np.arange(start, min(start + CHUNK, self.store.used))
                if not parities.all():
                    self.store.decide(slots, self._fall_of_a_cell(slots), parities)
                self._evaluate_unknown(slots, parities)

    def _fall_of_a_cell(self, slots):
        """How far the function may fall over one cell of each brick, (n,) float32; more than any value where that was
        not measured."""
        if 1 not in self.falls:
            return np.full(len(slots), np.inf, dtype=np.float32)
        fall = self.trust * self._fall(1, self.store.coords[slots] * BRICK)
        return (fall * self.probe.cell).astype(np.float32)

    def _evaluate_unknown(self, slots, parities):
        """Evaluates what is not known among the nodes of some parities."""
        for parity in parities:
            values = self.store.values[(slice(slots[0], slots[-1] + 1), *(slice(odd, None, 2) for odd in parity))]
            unknown = np.argwhere(np.isnan(values))
            nodes = self.store.coords[slots[unknown[:, 0]]] * BRICK + (2 * unknown[:, 1:] + parity)
            values[tuple(unknown.T)] = self.probe.at(nodes.astype(np.int32))

    def _follow(self, slots):
        """Follows the surface: evaluates all nodes of crossed cells, goes on where a sign was not as assumed, and
        counts those signs."""
        before = self.stats["corrected"]
        while len(slots):
            flipped = [self._complete(slots[start : start + CHUNK]) for start in range(0, len(slots), CHUNK)]
            flipped = np.concatenate(flipped)
            self.stats["corrected"] += len(flipped)
            bricks = np.maximum(flipped[:, None] - CORNERS, 0).reshape(-1, 3) // BRICK
            slots = self._stored(bricks)
        return self.stats["corrected"] - before

    def _complete(self, slots):
        """Evaluates what the crossed cells of bricks lack; (n, 3) nodes whose sign was not as assumed."""
        blocks = self.store.blocks(slots)
        needed = np.zeros(blocks.shape, dtype=bool)
        cells = crossed(blocks)
        for corner in CORNERS:
            needed[(slice(None), *(slice(step, BRICK + step) for step in corner))] |= cells
        needed &= ~np.isfinite(blocks)
        found = np.argwhere(needed)
        nodes = self.store.coords[slots[found[:, 0]]] * BRICK + found[:, 1:].astype(np.int32)
        return self._verify(unique_rows(nodes, self.probe.resolution + 2))

    def _verify(self, nodes):
        """Evaluates nodes of assumed sign, each once; those whose sign was not as assumed."""
        assumed = self.store.get(nodes)
        self._stored(nodes >> 3)
        return nodes[(self._values(nodes) > 0) != (assumed > 0)]

    def _stored(self, bricks):
        """Slots of bricks (n, 3), storing those that were not, with the sign assumed so far."""
        bricks = unique_rows(bricks, self.store.side)
        missing = bricks[self.store.slots[tuple(bricks.T)] < 0]
        if len(missing):
            self._check_memory(len(missing))
            self.store.allocate(missing, self.store.signs[tuple(missing.T)])
        return self.store.slots[tuple(bricks.T)]

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
        nodes = nodes[~np.isfinite(self.store.get(nodes))]
        assumed = self.store.get(nodes)
        hits = nodes[(self.probe.at(nodes) > 0) != (assumed > 0)]
        self.stats["audited"] += len(nodes)
        self.stats["hits"] += len(hits)
        return hits

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
        """Lowers the trust: blocks to halve that are no longer skipped. Opens the bricks around the hits."""
        self.trust *= DISTRUST
        near = np.clip(hits[:, None] // BRICK + np.indices((3, 3, 3)).reshape(3, -1).T - 1, 0, self.store.side - 1)
        slots = self._stored(near.reshape(-1, 3).astype(np.int32))
        self.store.pairs[slots] = 0
        opened, records, self.skipped = {}, self.skipped, []
        for size, origins, values, reach in records:
            again = np.abs(values) <= self.trust * self._fall(size, origins) * reach
            self.skipped.append((size, origins[~again], values[~again], reach[~again]))
            blocks = origins[again].astype(np.int32)
            if size < BRICK:
                self.store.skip(size, blocks, np.zeros(len(blocks), dtype=np.int8))
            opened[size] = np.concatenate([opened.get(size, blocks[:0]), blocks])
        return opened


def grid_of_blocks(resolution, size):
    """Origins (n, 3) int32 of the blocks of `size` cells that cover all cells of the grid."""
    side = -(-(resolution + 1) // size)
    return (np.indices((side,) * 3).reshape(3, -1).T * size).astype(np.int32)


def unique_rows(indices, side):
    """The different rows of (n, 3) indices below side, sorted."""
    first, second, third = indices.astype(np.int64).T
    keys = np.unique((first * side + second) * side + third)
    return np.stack([keys // side**2, keys // side % side, keys % side], axis=1).astype(np.int32)


def decided(lattice, between, along, first, fall):
    """(outside, inside), (n, 4, 4, 4) bool: what a lattice of values (n, 5, 5, 5) says of the nodes that lie midway
    between its values on the axes `between`, and beside them, from the one numbered `first` on, on the axes `along`."""
    bound = (fall * np.float32(np.sqrt(len(between)))).reshape(-1, 1, 1, 1)
    index = tuple(slice(first, first + HALF) if axis in along else slice(None) for axis in range(4))
    highest = lowest = lattice[index]
    for axis in between:
        low, high = (tuple(slice(k, k + HALF) if a == axis else slice(None) for a in range(4)) for k in (0, 1))
        highest, lowest = np.maximum(highest[low], highest[high]), np.minimum(lowest[low], lowest[high])
    return highest > bound, lowest < -bound


def crossed(blocks):
    """(n, 9, 9, 9) values -> (n, 8, 8, 8) bool: the cells with corners of both signs."""
    some = every = blocks > 0
    for axis in (1, 2, 3):
        low = tuple(slice(0, BRICK) if k == axis else slice(None) for k in range(4))
        high = tuple(slice(1, BRICK + 1) if k == axis else slice(None) for k in range(4))
        some, every = some[low] | some[high], every[low] & every[high]
    return some & ~every


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


def resident_memory():
    """Bytes that this process occupies, as the operating system counts them (0 where it does not say)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
