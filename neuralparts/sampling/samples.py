"""Where to ask and what the answer is: labelled points for training and for the metrics.

Owns: the three ways of placing points (Importance, Surface, Uniform), points on a surface, the .npz file of samples.
Comes in: a `distance.DistanceOracle` and a numpy generator. Goes out: points (N, 3) float32 in the domain [-1, 1]^3 and
sdf (N,) float32 in domain units, negative inside, in random order.

    python sampling.py part.stl --num_points 1000000 --out part.npz

Importance sampling (Davies et al. 2020) has the density exp(-beta |d|) over the cube. It is drawn exactly, by rejection
from an octree: in a cell whose centre is |d| from the surface, a point r from the centre is at least |d| - r away.
That bounds the density of the cell, and where r is large, of the point, before the distance of the point is known.
Cells are split as long as that saves more questions to the oracle than it asks.

In an open mesh the sign also turns on sheets where the winding number passes one half and no triangle is: the signed
distance jumps there, and importance samples are rare. And the sign may turn on few of its triangles. A share of an open
mesh's points therefore lies in the cells of a grid where the sign turns, whatever turns it.
"""

import zipfile
import zlib

import numpy as np

from neuralparts.choices import IMPORTANCE_WEIGHT, LARGEST_IMPORTANCE_WEIGHT, SAMPLING_METHODS, UNIFORM_RATIO
from neuralparts.domain import Transform
from neuralparts.errors import UserError
from neuralparts.whole_file import whole_file

# 'Surface': this share lies on the surface, the others in two equal groups around it, displaced by a Gaussian with
# these standard deviations (domain units).
ON_SURFACE_SHARE = 0.5
SURFACE_DEVIATIONS = (0.005, 0.05)
# Points handled at a time, which bounds the temporary arrays (about 100 MiB).
CHUNK = 2**20
# The octree: cells along an edge of the coarsest level; levels below it at the most (side 2^-12). Mean distance of a
# point from the centre of its cube over the half diagonal. How much a split lowers the bound, as a share of beta times
# the half diagonal: of 0.1, 0.2, 0.3 and 1 this one asked the fewest questions on several parts, from 10^5 to 5 10^6.
COARSEST = 8
MAX_LEVELS = 10
MEAN_RADIUS = 0.555
SPLIT_GAIN = 0.2
CHILDREN = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)
HALF_DIAGONAL = np.float32(np.sqrt(3))  # of a cube, as a multiple of half its side
# Open meshes: the share of the points, but for those uniform over the cube, that lies where the sign turns; cells along
# an edge of the grids in which that is looked for: first in all cells, then in the parts of those where it may be.
TURN_RATIO = 0.5
TURN_GRIDS = (64, 128, 256)
CORNERS = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
# Rounding of float32 distances and coordinates in the domain, some steps of 6e-8 with room.
ROUNDING = 1e-6


# ---------------------------------------------------------------------------------------------------------- sampling


def draw_samples(method, oracle, count, generator, importance_weight=None, uniform_ratio=None, progress=None):
    """Labelled points by one of SAMPLING_METHODS.

    oracle: DistanceOracle; count: number of points; generator: numpy.random.Generator; importance_weight and
    uniform_ratio: see `importance_samples` and `surface_samples`, None for their default; progress: None, or called
    with the number of newly finished points. Returns points (count, 3) float32 and sdf (count,) float32.
    Raises ValueError for a method or a value that cannot be.
    """
    if method not in SAMPLING_METHODS:
        raise ValueError(f"unknown sampling method {method!r}; choose one of {', '.join(SAMPLING_METHODS)}")
    given = {"importance_weight": importance_weight, "uniform_ratio": uniform_ratio, "progress": progress}
    given = {name: value for name, value in given.items() if value is not None}
    draw = {"Importance": importance_samples, "Surface": surface_samples, "Uniform": uniform_samples}[method]
    unused = {"Surface": {"importance_weight"}, "Uniform": {"importance_weight", "uniform_ratio"}}.get(method, set())
    if unused & set(given):
        raise ValueError(f"{method} sampling has no {' and no '.join(sorted(unused & set(given)))}")
    if method == "Importance" and not oracle.mesh.closed:
        given["turn_ratio"] = TURN_RATIO
    return draw(oracle, count, generator, **given)


def uniform_samples(oracle, count, generator, progress=None):
    """count labelled points uniform over the cube [-1, 1]^3; arguments and result as for draw_samples."""
    samples = _Samples(count, progress)
    _add_uniform(samples, count, oracle, generator)
    return samples.points[:count], samples.sdf[:count]


def surface_samples(oracle, count, generator, uniform_ratio=UNIFORM_RATIO, progress=None):
    """count labelled points on and around the surface, uniform by area; arguments and result as for draw_samples.

    A share uniform_ratio is uniform over the cube. Of the others, ON_SURFACE_SHARE lies on the surface (sdf 0), the
    rest is displaced by Gaussian noise of SURFACE_DEVIATIONS and labelled exactly; what leaves the cube is drawn again.
    """
    uniform = _uniform_share(count, uniform_ratio, generator)
    on_surface = generator.binomial(count - uniform, ON_SURFACE_SHARE)
    samples = _Samples(count, progress)
    _add_uniform(samples, uniform, oracle, generator)
    while samples.size < uniform + on_surface:
        size = min(uniform + on_surface - samples.size, CHUNK)
        samples.add(points_on_surface(oracle.mesh, size, generator)[0], np.zeros(size, dtype=np.float32))
    while samples.size < count:
        points = _displaced_points(oracle.mesh, min(count - samples.size, CHUNK), generator)
        samples.add(points, oracle.signed_distance(points))
    return samples.shuffled(generator)


def _displaced_points(mesh, size, generator):
    """At most `size` points around the surface: those of as many draws that stay in the cube."""
    points = points_on_surface(mesh, size, generator)[0]
    deviation = np.asarray(SURFACE_DEVIATIONS, dtype=np.float32)[generator.integers(0, len(SURFACE_DEVIATIONS), size)]
    points += deviation[:, None] * generator.standard_normal((size, 3), dtype=np.float32)
    return points[(np.abs(points) <= 1).all(axis=1)]


def points_on_surface(mesh, count, generator):
    """Points uniform by area on a mesh: (count, 3) float32 in the domain, and their face (count,) int64."""
    triangles = mesh.vertices[mesh.faces]
    area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    total = np.cumsum(area)
    face = np.searchsorted(total, generator.random(count) * total[-1], side="right")
    face = np.minimum(face, np.flatnonzero(area)[-1])  # a product that was rounded up to the total
    points = np.empty((count, 3), dtype=np.float32)
    for start in range(0, count, CHUNK):
        corners = triangles[face[start : start + CHUNK]]
        root, share = np.sqrt(generator.random((len(corners), 1))), generator.random((len(corners), 1))
        points[start : start + CHUNK] = (
            (1 - root) * corners[:, 0] + root * (1 - share) * corners[:, 1] + root * share * corners[:, 2]
        )
    return points, face


def _uniform_points(size, generator):
    """(size, 3) float32 points uniform over the cube [-1, 1]^3."""
    return 2 * generator.random((size, 3), dtype=np.float32) - 1


def _uniform_share(count, uniform_ratio, generator):
    """How many of count independent draws are uniform over the cube."""
    if not 0 <= uniform_ratio <= 1:
        raise ValueError(f"uniform_ratio must lie between 0 and 1, got {uniform_ratio}")
    return generator.binomial(count, uniform_ratio)


def _add_uniform(samples, count, oracle, generator):
    """Add count points uniform over the cube."""
    for start in range(0, count, CHUNK):
        points = _uniform_points(min(count - start, CHUNK), generator)
        samples.add(points, oracle.signed_distance(points))


class _Samples:
    """Labelled points as they come in: the first `size` of points (., 3) and sdf (.,), both float32.

    Wants count of them; what is added beyond that, but not what is added first, is thinned out at random.
    """

    def __init__(self, count, progress):
        self.count, self.size, self._progress = count, 0, progress
        capacity = count + 4 * int(np.sqrt(count))
        self.points, self.sdf = np.empty((capacity, 3), dtype=np.float32), np.empty(capacity, dtype=np.float32)

    def add(self, points, sdf):
        start, end = self.size, self.size + len(points)
        if end > len(self.sdf):
            self.points, self.sdf = np.resize(self.points, (end, 3)), np.resize(self.sdf, end)
        self.points[start:end], self.sdf[start:end] = points, sdf
        self.size = end
        if self._progress:
            self._progress(min(end, self.count) - min(start, self.count))

    def shuffled(self, generator, first=0):
        """Points (count, 3) and sdf (count,) in random order; all of the `first` ones are kept. To be called once."""
        order = np.arange(self.size, dtype=np.int64 if self.size > 2**31 else np.int32)
        if self.size > self.count:
            order = np.delete(order, first + generator.choice(self.size - first, self.size - self.count, replace=False))
        generator.shuffle(order)
        self.points = self.points[order]
        self.sdf = self.sdf[order]
        return self.points, self.sdf


# -------------------------------------------------------------------------------------------------- exact importance


def importance_samples(
    oracle,
    count,
    generator,
    importance_weight=IMPORTANCE_WEIGHT,
    uniform_ratio=UNIFORM_RATIO,
    progress=None,
    turn_ratio=0.0,
):
    """count labelled points with density (1 - uniform_ratio) exp(-importance_weight |d|) / Z + uniform_ratio / 8.

    importance_weight: beta, per domain unit, above 0, at most LARGEST_IMPORTANCE_WEIGHT; uniform_ratio: in [0, 1];
    other arguments and result as for draw_samples. turn_ratio: in [0, 1], for open meshes: of the points that are not
    uniform over the cube, this share is uniform over the `turn_cells` instead. The points are independent; none is kept
    twice. Memory, as the operating system counts it, the result included: 28 bytes a point and a constant of 60 MiB, or
    110 MiB where that is more and turn_ratio is given.
    """
    if not 0 < importance_weight <= LARGEST_IMPORTANCE_WEIGHT:
        raise ValueError(
            f"importance_weight must be above 0 and at most {LARGEST_IMPORTANCE_WEIGHT:,}, got {importance_weight}"
        )
    if not 0 <= turn_ratio <= 1:
        raise ValueError(f"turn_ratio must lie between 0 and 1, got {turn_ratio}")
    uniform = _uniform_share(count, uniform_ratio, generator)
    samples = _Samples(count, progress)
    _add_uniform(samples, uniform, oracle, generator)
    first = uniform
    if uniform < count:
        if turn_ratio:
            _add_turns(samples, generator.binomial(count - uniform, turn_ratio), oracle, generator)
        first = samples.size
        cells = Cells(oracle, count - first, importance_weight)
        acceptance = 1.0  # the first round cannot give too many, and measures what the others need
        while samples.size < count:
            before, proposals = samples.size, int((count - samples.size) / acceptance) + 1
            cells.draw(samples, proposals, generator)
            acceptance = max((samples.size - before) / proposals, 0.01)
    return samples.shuffled(generator, first=first)


def _add_turns(samples, size, oracle, generator):
    """Add size points uniform over the cells where the sign turns, if there are any."""
    centre, half = turn_cells(oracle)
    for start in range(0, size if len(centre) else 0, CHUNK):
        cell = np.sort(generator.integers(0, len(centre), min(size - start, CHUNK)))
        points = centre[cell] + half * _uniform_points(len(cell), generator)
        samples.add(points, oracle.signed_distance(points))


def turn_cells(oracle):
    """Cells of the finest of TURN_GRIDS with corners on both sides: centre (M, 3) float32, half the side.

    Overlooked is what leaves all corners on one side: of such a cell, or of one of a coarser grid that no triangle
    enters.
    """
    cell, coarse = np.zeros((1, 3), dtype=np.int32), 1
    for resolution in TURN_GRIDS:
        blocks = _parts(cell, resolution // coarse)
        cell = np.concatenate([part[_may_turn(oracle, part, resolution)] for part in blocks])
        coarse = resolution
    return _centres(cell, coarse), np.float32(1 / coarse)


def _parts(cell, along):
    """Yield the along^3 cells in each of (C, 3) int32 cells, of a grid that is finer by that factor, in blocks."""
    inner = np.stack(np.unravel_index(np.arange(along**3), (along,) * 3), axis=-1).astype(np.int32)
    block = max(1, CHUNK // (4 * along**3))
    for start in range(0, max(len(cell), 1), block):
        yield (cell[start : start + block, None] * np.int32(along) + inner).reshape(-1, 3)


def _may_turn(oracle, cell, resolution):
    """(C,) bool: which of (C, 3) cells have corners on both sides or, but for the finest grid, may hold a triangle."""
    keep = _turns_sign(oracle, cell, resolution)
    if resolution < TURN_GRIDS[-1]:
        keep |= oracle.distance(_centres(cell, resolution)) <= HALF_DIAGONAL / resolution
    return keep


def _centres(cell, resolution):
    """(C, 3) float32: the centres of (C, 3) int cells of a grid of resolution^3 over the cube."""
    return ((2 * cell + 1) / resolution - 1).astype(np.float32)


def _turns_sign(oracle, cell, resolution):
    """(C,) bool: which of (C, 3) int cells of a grid of resolution^3 over the cube have corners on both sides."""
    nodes = resolution + 1
    strides = np.array([nodes**2, nodes, 1])
    asked, place = np.unique((cell @ strides)[:, None] + CORNERS @ strides, return_inverse=True)
    points = (2 * np.stack(np.unravel_index(asked, (nodes,) * 3), axis=-1) / resolution - 1).astype(np.float32)
    inside = oracle.inside(points)[place].reshape(-1, len(CORNERS))
    return inside.any(axis=1) & ~inside.all(axis=1)


class Cells:
    """The octree of importance sampling: leaves with a bound of the density, neighbours close to each other.

    oracle: DistanceOracle; count: number of points that will be drawn, which decides how fine the leaves get;
    importance_weight: beta. centre (M, 3), half (M,) half the side, distance (M,) |d| at the centre, nearest (M,) the
    least |d| that a point of the cell can have: all float32. weight (M,): volume times the bound exp(-beta nearest).
    """

    def __init__(self, oracle, count, importance_weight):
        self.oracle, self.importance_weight = oracle, importance_weight
        axis = (np.arange(COARSEST, dtype=np.float32) + 0.5) * (2 / COARSEST) - 1
        centre = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        leaves, half, finished = [], 1 / COARSEST, 0.0
        for level in range(MAX_LEVELS + 1):
            distance = oracle.distance(centre)
            split = self._worth_splitting(distance, half, count, finished) & (level < MAX_LEVELS)
            leaves.append((centre[~split], np.full((~split).sum(), half, dtype=np.float32), distance[~split]))
            finished += (2 * half) ** 3 * np.exp(-importance_weight * distance[~split].astype(np.float64)).sum()
            half /= 2
            centre = (centre[split][:, None] + half * CHILDREN).reshape(-1, 3)
        self.centre, self.half, self.distance = (np.concatenate(parts) for parts in zip(*leaves, strict=True))
        self.nearest = np.maximum(self.distance - HALF_DIAGONAL * self.half, 0)
        self.weight = self.half.astype(np.float64) ** 3 * np.exp(-importance_weight * self.nearest)
        self.weight /= self.weight.sum()

    def _worth_splitting(self, distance, half, count, finished):
        """Where the eight questions of a split cost less than the refused points that it saves.

        distance (C,): |d| at the centres of the cells of a level; finished: integral of the density over the leaves.
        """
        beta, radius = self.importance_weight, MEAN_RADIUS * HALF_DIAGONAL * half
        volume = (2 * half) ** 3
        total = finished + volume * np.exp(-beta * distance.astype(np.float64)).sum()
        asked = volume * np.exp(-beta * np.maximum(distance.astype(np.float64) - radius, 0)) * count / total
        return asked * -np.expm1(-SPLIT_GAIN * beta * HALF_DIAGONAL * half) > 8

    def draw(self, samples, proposals, generator):
        """Propose points from the bound and add those that the density accepts."""
        counts = generator.multinomial(proposals, self.weight)
        ends = np.cumsum(counts)
        first = 0
        while first < len(counts):
            done = ends[first] - counts[first]
            last = max(int(np.searchsorted(ends, done + CHUNK, side="right")), first + 1)
            cell = np.repeat(np.arange(first, last, dtype=np.int32), counts[first:last])
            cell, points, distance = self._accepted(cell, generator)
            samples.add(points, np.where(self._inside(cell, points), -distance, distance))
            first = last

    def _accepted(self, cell, generator):
        """A proposal in each of the cells (P,) -> cell (K,), point (K, 3) and |d| (K,) of those that are accepted.

        A proposal is accepted with exp(-beta (|d| - nearest)), that is where |d| is under nearest plus an exponential
        variable of mean 1 / beta. Many can be refused from their distance to the centre alone.
        """
        offset = (2 * generator.random((len(cell), 3), dtype=np.float32) - 1) * self.half[cell, None]
        limit = generator.standard_exponential(len(cell), dtype=np.float32)
        limit *= np.float32(1 / self.importance_weight)
        limit += self.nearest[cell]
        radius = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        hopeful = np.flatnonzero(self.distance[cell] - radius < limit)
        cell, limit = cell[hopeful], limit[hopeful]
        points = self.centre[cell] + offset[hopeful]
        distance = self.oracle.distance(points)
        accepted = np.flatnonzero(distance < limit)
        return cell[accepted], points[accepted], distance[accepted]

    def _inside(self, cell, points):
        """(K,) bool: which of (K, 3) points, in ascending order of their cells, are inside.

        In a closed mesh the answer for the centre serves a cell that the surface does not enter. In an open mesh the
        winding number may pass one half where there is no surface, so each point is asked about.
        """
        if not self.oracle.mesh.closed or len(cell) == 0:
            return self.oracle.inside(points)
        inside = np.empty(len(cell), dtype=bool)
        whole = self.distance[cell] > HALF_DIAGONAL * self.half[cell] + ROUNDING
        inside[~whole] = self.oracle.inside(points[~whole])
        settled = cell[whole]
        new = np.diff(settled, prepend=-1) > 0
        inside[whole] = self.oracle.inside(self.centre[settled[new]])[np.cumsum(new) - 1]
        return inside


# ------------------------------------------------------------------------------------------------------ samples files


def save_samples(path, points, sdf, transform):
    """Write labelled points (N, 3), sdf (N,) and a Transform as .npz, whole under another name, then renamed.

    Keys: train (N, 4) float32 x, y, z, sdf in the domain; center (3,) and scale () float64. Raises OSError.
    """
    train = np.column_stack([points, sdf]).astype(np.float32, copy=False)
    with whole_file(path) as file:
        np.savez(file, train=train, center=np.asarray(transform.center), scale=np.float64(transform.scale))


def load_samples(path):
    """Read a .npz of samples: points (N, 3) float32, sdf (N,) float32, Transform (the identity where there is none).

    Raises UserError, one line for the user, where the file cannot be read or does not hold such samples.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("train", "center", "scale") if name in file.files}
    except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not a readable .npz of plain arrays ({_one_line(error)})") from None
    if not isinstance(arrays.get("train"), np.ndarray):
        raise UserError(f"{path}: no array named train; samples need train (N, 4): x, y, z, sdf")
    train = _checked_train(path, arrays["train"])
    return np.ascontiguousarray(train[:, :3]), np.ascontiguousarray(train[:, 3]), _read_transform(path, arrays)


def _checked_train(path, train):
    """The array of samples as (N, 4) float32, or a UserError that says what is wrong with it."""
    if train.ndim != 2 or train.shape[1] != 4 or len(train) == 0 or train.dtype.kind != "f":
        raise UserError(f"{path}: train must be (N, 4) float32 (x, y, z, sdf), found {train.shape} {train.dtype}")
    train = train.astype(np.float32, copy=False)
    if not np.isfinite(train).all():
        raise UserError(f"{path}: train holds NaN or infinite values; label those points again or drop them")
    reach = float(np.abs(train[:, :3]).max())
    if reach > 1 + ROUNDING:
        raise UserError(
            f"{path}: points lie outside the domain [-1, 1]^3 (a coordinate of {reach:.6g}); store domain = "
            "(file - center) * scale, and center and scale beside it"
        )
    return train


def _read_transform(path, arrays):
    """The Transform of a samples file, the identity where it has none."""
    if ("center" in arrays) != ("scale" in arrays):
        raise UserError(f"{path}: center and scale belong together; store both or neither")
    if "center" not in arrays:
        return Transform(np.zeros(3), 1.0)
    center, scale = arrays["center"], arrays["scale"]
    numbers = center.dtype.kind in "fiu" and scale.dtype.kind in "fiu"
    if not numbers or center.shape != (3,) or scale.size != 1:
        raise UserError(f"{path}: center must be (3,) and scale () numbers, found {center.shape} and {scale.shape}")
    center, scale = center.astype(np.float64), float(scale.reshape(()))
    if not (np.isfinite(center).all() and np.isfinite(scale) and scale > 0):
        raise UserError(f"{path}: center must be finite and scale positive, found {center.tolist()} and {scale}")
    return Transform(center, scale)


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__
