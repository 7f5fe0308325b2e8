"""Compiled loops of the winding number: signed ray crossings over a grid of bins, and the strips under a boundary.

Comes in: corners (F, 3, 3), boundary edges and points (N, 3), float64. Goes out: winding numbers (N,) float64. u and v
are the two axes after that of the rays, in cyclic order; the height w is the coordinate along the rays.
"""

import math

import numpy as np

from neuralparts.distance.common_kernels import clamp, compiled, product, quick

# ---------------------------------------------------------------------------------------------------- the ray grid

# Columns of a record of a triangle, its corners in the order of v: v of the three, u of the three, height of the three,
# the greatest height, and the sign of that order: 1.0 for an even permutation of the corners, else -1.0.
RECORD_COLUMNS = 11
# Fraction of a bin by which a triangle's range is widened: far over the rounding of the range, far under a bin.
BIN_MARGIN = 1e-6


@compiled
def column_records(triangles: np.ndarray, axis: int) -> np.ndarray:
    """(F, 3, 3) float64 corners -> (F, 11) records for rays along +axis, see RECORD_COLUMNS."""
    records = np.empty((len(triangles), RECORD_COLUMNS))
    u, v = (axis + 1) % 3, (axis + 2) % 3
    for i in range(len(triangles)):
        # Sort the three corners by v; each exchange changes the sign.
        a, b, c, sign = 0, 1, 2, 1.0
        t = triangles[i]
        if t[b, v] < t[a, v]:
            a, b, sign = b, a, -sign
        if t[c, v] < t[b, v]:
            b, c, sign = c, b, -sign
            if t[b, v] < t[a, v]:
                a, b, sign = b, a, -sign
        for k, corner in enumerate((a, b, c)):
            records[i, k] = t[corner, v]
            records[i, 3 + k] = t[corner, u]
            records[i, 6 + k] = t[corner, axis]
        records[i, 9] = max(t[0, axis], t[1, axis], t[2, axis])
        records[i, 10] = sign
    return records


@compiled
def _bin(value, low, scale, resolution):
    """The number of the bin that holds a coordinate, or of the nearest bin."""
    return int(clamp((value - low) * scale, 0.0, resolution - 1.0))


@compiled
def _row_span(record, low_v, high_v):
    """The range of u that a triangle covers between two values of v, or (inf, -inf) if none."""
    left, right = np.inf, -np.inf
    for k in range(3):
        # The three edges, each going up in v; cut each to the row.
        a, b = (0, 1) if k == 0 else ((1, 2) if k == 1 else (0, 2))
        v0, v1, u0, u1 = record[a], record[b], record[3 + a], record[3 + b]
        if v1 < low_v or v0 > high_v:
            continue
        start = u0 if v0 >= low_v else u0 + (low_v - v0) / (v1 - v0) * (u1 - u0)
        end = u1 if v1 <= high_v else u0 + (high_v - v0) / (v1 - v0) * (u1 - u0)
        left, right = min(left, start, end), max(right, start, end)
    return left, right


def fill_bins(
    records: np.ndarray, low_u: float, low_v: float, scale_u: float, scale_v: float, resolution: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lists of the triangles over each bin of a grid over u and v.

    records (F, 11), highest top first; the bin of a point is (u - low_u) * scale_u, (v - low_v) * scale_v. Returns
    start (resolution^2 + 1,) int64 and entries (E,) int32: bin v * resolution + u lists
    entries[start[bin] : start[bin + 1]], in the order of the records. If E would be over limit, entries is empty.
    """
    cursor = np.zeros(resolution * resolution, dtype=np.int64)
    entries = np.empty(0, dtype=np.int32)
    place = (low_u, low_v, scale_u, scale_v, resolution)
    # Count the entries of each bin, sum the counts to starts, then write the entries.
    total = _visit_bins(records, place, cursor, entries, limit)
    start = np.concatenate([[0], np.cumsum(cursor)])
    if total <= limit:
        cursor[:] = start[:-1]
        entries = np.empty(total, dtype=np.int32)
        _visit_bins(records, place, cursor, entries, limit)
    return start, entries


@compiled
def _visit_bins(records, place, cursor, entries, limit):
    """Advance the cursor of each bin by the number of triangles over it; returns the sum of the numbers.

    If entries is not empty, also write each triangle at the cursor of its bins. Stops counting beyond limit.
    """
    low_u, low_v, scale_u, scale_v, resolution = place
    margin_u, margin_v = BIN_MARGIN / scale_u, BIN_MARGIN / scale_v
    total = 0
    for i in range(len(records)):
        record = records[i]
        first_row = _bin(record[0] - margin_v, low_v, scale_v, resolution)
        last_row = _bin(record[2] + margin_v, low_v, scale_v, resolution)
        for row in range(first_row, last_row + 1):
            row_v = low_v + row / scale_v
            left, right = _row_span(record, row_v - margin_v, row_v + 1 / scale_v + margin_v)
            if left > right or total > limit:
                continue
            first_bin = row * resolution + _bin(left - margin_u, low_u, scale_u, resolution)
            last_bin = row * resolution + _bin(right + margin_u, low_u, scale_u, resolution)
            total += last_bin - first_bin + 1
            for b in range(first_bin, last_bin + 1):
                if len(entries) > 0:
                    entries[cursor[b]] = i
                cursor[b] += 1
    return total


# --------------------------------------------------------------------------------------------------- ray crossings


@compiled
def _doubled_area(u, v, from_u, from_v, to_u, to_v):
    """Twice the signed area of (from, to, point): positive if the point lies left of an edge that goes up in v."""
    return product(to_u - from_u, v - from_v) - product(to_v - from_v, u - from_u)


@compiled
def _is_left(u, v, from_u, from_v, to_u, to_v):
    """True if the point lies at a smaller u than the edge, which goes up in v.

    Both triangles at an edge compute this from the same numbers in the same order. So they always agree, and a closed
    mesh has no cracks.
    """
    left = u < min(from_u, to_u)
    if not left and u < max(from_u, to_u):
        left = _doubled_area(u, v, from_u, from_v, to_u, to_v) > 0
    return left


@compiled
def _interpolate(fraction, start, end):
    """The number at a fraction of the way from start to end."""
    return start + fraction * (end - start)


@compiled
def _height_on(record, u, v, corner, next_corner):
    """The height of a triangle at (u, v), between its long edge and the edge from corner to next_corner."""
    # u and height at v on the long edge, from the lowest corner in v to the highest, and on the other edge.
    fraction = (v - record[0]) / (record[2] - record[0])
    long_u, long_w = _interpolate(fraction, record[3], record[5]), _interpolate(fraction, record[6], record[8])
    fraction = (v - record[corner]) / (record[next_corner] - record[corner])
    short_u, short_w = (
        _interpolate(fraction, record[3 + corner], record[3 + next_corner]),
        _interpolate(fraction, record[6 + corner], record[6 + next_corner]),
    )
    # Between them along u; the middle if the triangle is an edge here.
    fraction = 0.5
    if short_u != long_u:
        fraction = clamp((u - long_u) / (short_u - long_u), 0.0, 1.0)
    return _interpolate(fraction, long_w, short_w)


@compiled
def crossing(record, u, v, w):
    """+1, -1 or 0: how the ray from (u, v, w) upwards crosses a triangle; +1 if it leaves the solid there."""
    if v < record[0] or v >= record[2]:
        return 0.0
    # The ray hits the triangle if it passes between the long edge and the shorter one at this v, and above its start.
    corner = 0 if v < record[1] else 1
    next_corner = corner + 1
    left_of_long = _is_left(u, v, record[3], record[0], record[5], record[2])
    left_of_short = _is_left(u, v, record[3 + corner], record[corner], record[3 + next_corner], record[next_corner])
    if left_of_long == left_of_short or _height_on(record, u, v, corner, next_corner) <= w:
        return 0.0
    return -record[10] if left_of_long else record[10]


@compiled
def count_crossings(u, v, w, records, bins):
    """The sum of the signed crossings of the ray from (u, v, w) upwards with the triangles listed in its bin."""
    start, entries, low_u, low_v, scale_u, scale_v, resolution = bins
    column, row = (u - low_u) * scale_u, (v - low_v) * scale_v
    total = 0.0
    if column >= 0 and row >= 0 and column <= resolution and row <= resolution:
        b = min(int(row), resolution - 1) * resolution + min(int(column), resolution - 1)
        for e in range(start[b], start[b + 1]):
            record = records[entries[e]]
            if record[9] <= w:  # this triangle lies below the start of the ray, and so do those after it
                break
            total += crossing(record, u, v, w)
    return total


# ------------------------------------------------------------------------------------- strips under the boundary


@quick
def _strip_tangents(u, v, w, edges, sine, cosine):
    """Fill sine and cosine (B,) of half the solid angle of the endless strip below each edge, seen from (u, v, w)."""
    for e in range(edges.shape[1]):
        sine[e], cosine[e] = strip_tangent(u, v, w, edges, e)


@quick
def strip_tangent(u, v, w, edges, e):
    """Sine and cosine of half the solid angle of the endless strip below one of the edges (7, B), seen from (u, v, w).

    This is the formula of Van Oosterom and Strackee (1983) for a triangle whose third corner is at infinity. Its sign
    comes from the comparison that decides the crossings, `_is_left`, so that both jump at the same point. The
    comparison is written without branches here, so that the loop is vectorised.
    """
    from_v, from_u, to_v, to_u = edges[0, e], edges[1, e], edges[3, e], edges[4, e]
    # As _is_left; its answer replaces the sign of the area at the heights of v that the edge spans.
    area = product(to_u - from_u, v - from_v) - product(to_v - from_v, u - from_u)
    left_of_both, left_of_one = (u < from_u) & (u < to_u), (u < from_u) | (u < to_u)
    is_left = left_of_both | (left_of_one & (area > 0))
    size = abs(area)
    area = (size if is_left else -size) if (from_v <= v) & (v < to_v) else area
    # Both ends as seen from the point; sine and cosine up to a factor, then scaled to length 1.
    au, av, bu, bv = from_u - u, from_v - v, to_u - u, to_v - v
    sine = -area * edges[6, e]
    cosine = au * bu + av * bv + _less_height(au, av, edges[2, e] - w) * _less_height(bu, bv, edges[5, e] - w)
    scale = 1.0 / math.sqrt(sine * sine + cosine * cosine + 1e-300)
    return sine * scale, cosine * scale


@quick
def _less_height(u, v, w):
    """The length of (u, v, w) minus w, without the cancellation that would leave nothing of it below a boundary."""
    flat2 = u * u + v * v
    length = math.sqrt(flat2 + w * w)
    return length - w if w <= 0 else flat2 / (length + w)


@quick
def sum_of_angles(sine, cosine, revolutions):
    """The sum of (B,) angles between -pi and pi, in revolutions of 2 pi; overwrites all three arrays.

    The second half of the angles is added to the first as a product of complex numbers, until one angle is left and
    one arctangent is enough. The signs of the sines show a sum that passes pi; it is counted in revolutions (B,).
    """
    revolutions[:] = 0
    count = len(sine)
    while count > 1:
        half = (count + 1) // 2
        other_sine, other_cosine, other_revolutions = sine[half:count], cosine[half:count], revolutions[half:count]
        for e in range(count - half):
            sine[e], cosine[e], passed = sum_of_two(sine[e], cosine[e], other_sine[e], other_cosine[e])
            revolutions[e] += other_revolutions[e] + passed
        count = half
    return math.atan2(sine[0], cosine[0]) / (2 * math.pi) + revolutions[0]


@quick
def sum_of_two(sine, cosine, other_sine, other_cosine):
    """Sine and cosine of the sum of two angles, and the revolutions that it passes: 1.0, 0.0 or -1.0."""
    new_sine = sine * other_cosine + cosine * other_sine
    # If neither angle is wider than a right angle, the sum stays under pi, and its sign may be rounding.
    wide = (cosine < 0) | (other_cosine < 0)
    past = wide & (sine >= 0) & (other_sine >= 0) & (new_sine < 0)
    back = wide & (sine < 0) & (other_sine < 0) & (new_sine >= 0)
    passed = (1.0 if past else 0.0) - (1.0 if back else 0.0)
    return new_sine, cosine * other_cosine - sine * other_sine, passed


# ------------------------------------------------------------------------------------------------ blocks of points


@compiled
def crossings_block(
    points: np.ndarray,
    order: np.ndarray,
    axis: int,
    shift: np.ndarray,
    records: np.ndarray,
    bins: tuple,
    crossings: np.ndarray,
) -> None:
    """Fill crossings (N,) float64 of the rays from points (N, 3) float64, taken in an order (N,).

    axis of the rays; shift (2,) added to u and v; records (F, 11); bins: start, entries, low_u, low_v, scale_u,
    scale_v, resolution of `fill_bins`.
    """
    for i in order:
        u, v, w = points[i, (axis + 1) % 3] + shift[0], points[i, (axis + 2) % 3] + shift[1], points[i, axis]
        crossings[i] = count_crossings(u, v, w, records, bins)


@compiled
def add_strips(
    points: np.ndarray, order: np.ndarray, axis: int, shift: np.ndarray, edges: np.ndarray, winding: np.ndarray
) -> None:
    """Add the part of the strips below a boundary to winding (N,) float64, the crossings of the rays.

    points, order, axis and shift as for `crossings_block`; edges (7, B): v, u, height of the first end and of the
    second, going up in v, and 1 if the mesh's boundary runs along the edge in that sense, -1 if against it.

    The mesh and the strips together are closed up to infinity. So the crossings of a ray that goes up, away from the
    strips, are the winding number of both; the strips' own part of it is a sum over the boundary edges only.
    """
    sine, cosine, revolutions = np.empty(edges.shape[1]), np.empty(edges.shape[1]), np.empty(edges.shape[1])
    for i in order:
        u, v, w = points[i, (axis + 1) % 3] + shift[0], points[i, (axis + 2) % 3] + shift[1], points[i, axis]
        _strip_tangents(u, v, w, edges, sine, cosine)
        winding[i] += sum_of_angles(sine, cosine, revolutions)
