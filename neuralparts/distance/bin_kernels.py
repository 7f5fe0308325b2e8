"""Compiled loops that count ray crossings where each ray meets thousands of triangles: many at once, without branches.

Comes in: records and bins of `ray_kernels`, and places (N, 3) float64, the u, v and w of points. Goes out: the
crossings (N,) float64, to the bit those that `ray_kernels.count_crossings` finds.

Points of one bin have one list of triangles. A tile of the list is copied column by column, and each of the points
counts its crossings with the tile in a loop that the compiler vectorises. The height of a triangle is taken from its
slopes there. Where rounding leaves open whether it is above the point, the tile is counted anew, triangle by triangle.
"""

import numpy as np

from neuralparts.distance.common_kernels import compiled, quick
from neuralparts.distance.ray_kernels import crossing

# Triangles of a tile: its columns take 14 KiB.
TILE = 128
# Columns of a tile: those of a record; then the slopes of the height along u and v, and the bound on the rounding of a
# height, infinite if the triangle is upright.
COLUMNS = 14
# Bound on the rounding of heights on a triangle that is neither steep nor small.
HEIGHT_ROUNDING = 1e-13


@quick
def record_slopes(records: np.ndarray) -> np.ndarray:
    """(F, RECORD_COLUMNS) records -> (F, 3) the last columns of a tile."""
    slopes = np.empty((len(records), 3))
    for i in range(len(records)):
        record = records[i]
        # By Cramer's rule, over twice the area in the plane of u and v.
        v1, u1, h1 = record[1] - record[0], record[4] - record[3], record[7] - record[6]
        v2, u2, h2 = record[2] - record[0], record[5] - record[3], record[8] - record[6]
        area = u1 * v2 - u2 * v1
        slopes[i, 0], slopes[i, 1], slopes[i, 2] = 0.0, 0.0, np.inf
        if area != 0:
            slopes[i, 0], slopes[i, 1] = (h1 * v2 - h2 * v1) / area, (u1 * h2 - u2 * h1) / area
            slopes[i, 2] = HEIGHT_ROUNDING * (1 + abs(slopes[i, 0]) + abs(slopes[i, 1])) * (1 + 1 / abs(area))
    return slopes


@compiled
def crossings_in_bins(
    places: np.ndarray, records: np.ndarray, slopes: np.ndarray, bins: tuple, crossings: np.ndarray
) -> None:
    """Fill crossings (N,) of the rays from places (N, 3) upwards.

    records: (F, RECORD_COLUMNS), highest top first; slopes: (F, 3) of `record_slopes`; bins: start, entries, low_u,
    low_v, scale_u, scale_v, resolution of `ray_kernels.fill_bins`.
    """
    start, entries = bins[0], bins[1]
    crossings[:] = 0.0
    number = _bin_numbers(places, bins)
    order = np.argsort(number)
    tile = np.empty((COLUMNS, TILE))
    first = np.searchsorted(number[order], 0)  # points beside the grid come first, and cross nothing
    while first < len(order):
        own = number[order[first]]
        last = first
        while last < len(order) and number[order[last]] == own:
            last += 1
        for begin in range(start[own], start[own + 1], TILE):
            listed = entries[begin : min(begin + TILE, start[own + 1])]
            if not _count_tile(places, order[first:last], records, slopes, listed, tile, crossings):
                break
        first = last


@compiled
def _bin_numbers(places, bins):
    """(N,) number of the bin of each place, or -1 beside the grid."""
    _, _, low_u, low_v, scale_u, scale_v, resolution = bins
    number = np.full(len(places), -1)
    for i in range(len(places)):
        column, row = (places[i, 0] - low_u) * scale_u, (places[i, 1] - low_v) * scale_v
        if column >= 0 and row >= 0 and column <= resolution and row <= resolution:
            number[i] = min(int(row), resolution - 1) * resolution + min(int(column), resolution - 1)
    return number


@compiled
def _count_tile(places, some, records, slopes, listed, tile, crossings):
    """Add to the crossings of some points those with the listed triangles; False if these lie below all the points."""
    highest, is_filled = records[listed[0], 9], False
    for i in some:
        u, v, w = places[i, 0], places[i, 1], places[i, 2]
        if highest <= w:
            continue
        if not is_filled:
            is_filled = True
            for j in range(len(listed)):
                tile[:11, j], tile[11:, j] = records[listed[j]], slopes[listed[j]]
        total, is_open = _count(tile, len(listed), u, v, w)
        if is_open > 0:
            total = 0
            for t in listed:
                total += int(crossing(records[t], u, v, w))
        crossings[i] += total
    return is_filled


@quick
def _is_left(u, area, from_u, to_u):
    """As `ray_kernels._is_left`, without branches. area: of `ray_kernels._doubled_area`."""
    return ((u < from_u) & (u < to_u)) | (((u < from_u) | (u < to_u)) & (area > 0))


@quick
def _count(tile, size, u, v, w):
    """Crossings of a ray with the first triangles of a tile, and with how many it is open whether it crosses them."""
    total, is_open = 0, 0
    for j in range(size):
        v0, v1, v2, u0, u1, u2 = tile[0, j], tile[1, j], tile[2, j], tile[3, j], tile[4, j], tile[5, j]
        # The long edge, and the short one at this v, as in `ray_kernels.crossing`.
        is_low = v < v1
        from_v, from_u = v0 if is_low else v1, u0 if is_low else u1
        to_v, to_u = v1 if is_low else v2, u1 if is_low else u2
        left_of_long = _is_left(u, (u2 - u0) * (v - v0) - (v2 - v0) * (u - u0), u0, u2)
        left_of_short = _is_left(u, (to_u - from_u) * (v - from_v) - (to_v - from_v) * (u - from_u), from_u, to_u)
        meets = (v >= v0) & (v < v2) & (tile[9, j] > w) & (left_of_long != left_of_short)
        height = tile[6, j] + tile[11, j] * (u - u0) + tile[12, j] * (v - v0) - w
        is_above, is_below = height > tile[13, j], height < -tile[13, j]
        sign = 1 if left_of_long == (tile[10, j] < 0) else -1
        total += sign if meets & is_above else 0
        is_open += 1 if meets & (not is_above) & (not is_below) else 0
    return total, is_open
