"""Compiled loops that count ray crossings for many points together, where each ray meets thousands of triangles.

Comes in: records of `ray_kernels.column_records` and places (N, 3) float64, the u, v and w of points. Goes out: the
crossings (N,) float64, to the bit those that `ray_kernels.count_crossings` finds point by point.

The points of a box are halved, and halved again. A box has a list of the triangles that may matter to its points: a
triangle leaves the list if it lies beside or below the box, and also if it lies above all of the box, in which case it
is counted once for all points. So near points share the work, and a list holds only the triangles that cut the box, or
that have an edge over it. For surfaces that fill space the work grows as F N^(2/3) instead of F N.
"""

import numpy as np

from neuralparts.distance.common_kernels import compiled, quick
from neuralparts.distance.ray_kernels import crossing

# Columns of a beam of a triangle: least and greatest v, least and greatest u, greatest height; u, v and height of a
# corner; slopes of the height along u and v; bound on the rounding of a height, infinite if the triangle is upright.
BEAM_COLUMNS = 11
# Bound on the rounding of doubled areas, and of heights on a triangle that is neither steep nor small.
AREA_ROUNDING, HEIGHT_ROUNDING = 1e-12, 1e-13
# A box with fewer points, or with fewer triangles in its list, is not halved. Of fewer points than the third number
# the list is not made shorter.
LEAF_POINTS, LEAF_TRIANGLES, LEAST_FILTERED = 12, 16, 4
# Room for the lists, in lists of all triangles, and for boxes that wait. Where it is full, boxes are not halved.
LIST_ROOM, BOX_ROOM = 24, 128
# How a triangle lies to a box: no ray from it crosses, some may, or every one does.
NEVER, PERHAPS, ALWAYS = 0, 1, 2


@quick
def triangle_beams(records: np.ndarray) -> np.ndarray:
    """(F, RECORD_COLUMNS) records -> (F, BEAM_COLUMNS) beams."""
    beams = np.empty((len(records), BEAM_COLUMNS))
    for i in range(len(records)):
        record, beam = records[i], beams[i]
        v0, u0, h0 = record[0], record[3], record[6]
        beam[0], beam[1] = v0, record[2]
        beam[2] = min(u0, record[4], record[5])
        beam[3] = max(u0, record[4], record[5])
        beam[4], beam[5], beam[6], beam[7] = record[9], u0, v0, h0
        # The slopes by Cramer's rule, over twice the area in the plane of u and v.
        v1, u1, h1 = record[1] - v0, record[4] - u0, record[7] - h0
        v2, u2, h2 = record[2] - v0, record[5] - u0, record[8] - h0
        area = u1 * v2 - u2 * v1
        beam[8], beam[9], beam[10] = 0.0, 0.0, np.inf
        if area != 0:
            beam[8], beam[9] = (h1 * v2 - h2 * v1) / area, (u1 * h2 - u2 * h1) / area
            beam[10] = HEIGHT_ROUNDING * (1 + abs(beam[8]) + abs(beam[9])) * (1 + 1 / abs(area))
    return beams


@compiled
def _edge_range(record, a, b, u, v, half_u, half_v):
    """Least and greatest of the doubled area between an edge of a triangle and the points of a box about (u, v)."""
    step_u, step_v = record[3 + b] - record[3 + a], record[b] - record[a]
    middle = step_u * (v - record[a]) - step_v * (u - record[3 + a])
    reach = abs(step_u) * half_v + abs(step_v) * half_u + AREA_ROUNDING
    return middle - reach, middle + reach


@compiled
def _covers(record, u, v, half_u, half_v):
    """True if the triangle lies over or under all of the box: it is left of both short edges, or right, by more than
    rounding, and on the other side of the long one."""
    long_low, long_high = _edge_range(record, 0, 2, u, v, half_u, half_v)
    if long_low <= 0 <= long_high:
        return False
    first_low, first_high = _edge_range(record, 0, 1, u, v, half_u, half_v)
    second_low, second_high = _edge_range(record, 1, 2, u, v, half_u, half_v)
    if long_low > 0:
        return first_high < 0 and second_high < 0
    return first_low > 0 and second_low > 0


@compiled
def _relation(record, beam, box):
    """NEVER, PERHAPS or ALWAYS: whether rays from the points of a box (low u, v, w, high u, v, w) cross a triangle."""
    # The comparisons of `crossing`: it lies below all points, or beside them.
    if beam[4] <= box[2] or beam[0] > box[4] or beam[1] <= box[1] or beam[2] > box[3] or beam[3] <= box[0]:
        return NEVER
    # The range of its plane's height over the part of the box that its own box overlaps.
    low_u, high_u = max(beam[2], box[0]), min(beam[3], box[3])
    low_v, high_v = max(beam[0], box[1]), min(beam[1], box[4])
    height = beam[7] + beam[8] * (0.5 * (low_u + high_u) - beam[5]) + beam[9] * (0.5 * (low_v + high_v) - beam[6])
    reach = 0.5 * (abs(beam[8]) * (high_u - low_u) + abs(beam[9]) * (high_v - low_v)) + beam[10]
    if height + reach <= box[2]:
        return NEVER
    if height - reach > box[5]:
        half_u, half_v = 0.5 * (box[3] - box[0]), 0.5 * (box[4] - box[1])
        if _covers(record, box[0] + half_u, box[1] + half_v, half_u, half_v):
            return ALWAYS
    return PERHAPS


@compiled
def _fill_box(places, order, start, end, box):
    """Fill box (6,) with the least and greatest coordinates of the places order[start:end]."""
    for k in range(3):
        low, high = np.inf, -np.inf
        for i in range(start, end):
            value = places[order[i], k]
            low, high = min(low, value), max(high, value)
        box[k], box[k + 3] = low, high


@compiled
def _halve(places, order, start, end, box):
    """Reorder order[start:end] into two groups, on both sides of the middle of the box; returns where the second one
    starts."""
    axis = 0
    for k in range(1, 3):
        if box[k + 3] - box[k] > box[axis + 3] - box[axis]:
            axis = k
    middle = 0.5 * (box[axis] + box[axis + 3])
    i, j = start, end - 1
    while i <= j:
        if places[order[i], axis] <= middle:
            i += 1
        else:
            order[i], order[j] = order[j], order[i]
            j -= 1
    return i


@compiled
def _filter(lists, begin, end, records, beams, box):
    """Write the part of lists[begin:end] that may matter to a box behind it. Returns the end of that part, and the
    crossings that all points of the box have in common."""
    kept, common = end, 0.0
    for e in range(begin, end):
        t = lists[e]
        relation = _relation(records[t], beams[t], box)
        if relation == PERHAPS:
            lists[kept] = t
            kept += 1
        elif relation == ALWAYS:
            # As `crossing` says for a point left of the long edge, or right of it.
            record = records[t]
            area = (record[5] - record[3]) * (box[1] - record[0]) - (record[2] - record[0]) * (box[0] - record[3])
            common += -record[10] if area > 0 else record[10]
    return kept, common


@compiled
def crossings_together(places: np.ndarray, records: np.ndarray, beams: np.ndarray, crossings: np.ndarray) -> None:
    """Fill crossings (N,) of the rays from places (N, 3) upwards with all triangles, highest top first."""
    order, lists = np.arange(len(places)), np.empty(LIST_ROOM * len(records), dtype=np.int32)
    lists[: len(records)] = np.arange(len(records))
    # Boxes that wait: the range of `order`, the range of `lists`; and the crossings that their points have in common.
    waiting, shared, box = np.empty((BOX_ROOM, 4), dtype=np.int64), np.zeros(BOX_ROOM), np.empty(6)
    waiting[0, 0], waiting[0, 1], waiting[0, 2], waiting[0, 3] = 0, len(places), 0, len(records)
    count = min(1, len(places))
    while count > 0:
        count -= 1
        start, end, first, last = waiting[count, 0], waiting[count, 1], waiting[count, 2], waiting[count, 3]
        common, room = shared[count], 2 * last - first <= len(lists)
        if room and end - start >= LEAST_FILTERED:
            _fill_box(places, order, start, end, box)
            kept, more = _filter(lists, first, last, records, beams, box)
            first, last, common = last, kept, common + more
            if end - start > LEAF_POINTS and last - first > LEAF_TRIANGLES and count + 2 <= BOX_ROOM:
                middle = _halve(places, order, start, end, box)
                if start < middle < end:
                    for half_start, half_end in ((start, middle), (middle, end)):
                        waiting[count, 0], waiting[count, 1] = half_start, half_end
                        waiting[count, 2], waiting[count, 3] = first, last
                        shared[count] = common
                        count += 1
                    continue
        for i in range(start, end):
            u, v, w = places[order[i], 0], places[order[i], 1], places[order[i], 2]
            total = common
            for e in range(first, last):
                record = records[lists[e]]
                if record[9] <= w:  # as those after it
                    break
                total += crossing(record, u, v, w)
            crossings[order[i]] = total
