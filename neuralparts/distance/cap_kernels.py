"""Compiled loops of the caps of an open mesh: cutting rings, moments of a tree's nodes, winding numbers with a bound.

Comes in: boundary edges, caps (T, 3, 3) and points (N, 3), float64. Goes out: caps, moments, winding numbers (N,).
"""

import math

import numpy as np

from neuralparts.compiled import cached_njit
from neuralparts.distance.common_kernels import compiled
from neuralparts.distance.ray_kernels import sum_of_angles
from neuralparts.distance.search_kernels import STACK

# Columns of the moments of a node, those of area divided by 4 pi: the centre (3); the radius about it that holds all
# caps; their area; the sum of their area vectors (3); the sums of area vector times distance from the centre, as xx,
# yy, zz, xy + yx, xz + zx, yz + zy.
MOMENT_COLUMNS = 14
# A sum may be taken in any order, so that the compiler can vectorise its loop.
vectorised = cached_njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})

# Neighbouring points that look for the near caps together.
GROUP = 64
# Largest remainder of a node that is not opened. The points whose side of one half stays open are tried with the next.
REMAINDERS = (4e-3, 4e-4)
# Where most caps are near in any case, the points that are open after the first pass get the sum of all of them.
CROWDED_REMAINDERS = (4e-3, 0.0)
# Bound on the rounding of all sums, in winding numbers.
ROUNDING = 1e-9
# Nearer to a cap than this fraction of the distances to its corners, rounding may put the point on its other side. The
# second number, domain units, is added to those distances: very near to a corner the rounding of coordinates counts.
BESIDE_CAP, BESIDE_CORNER = 1e-9, 1e-6


@compiled
def cut_rings(starts: np.ndarray, following: np.ndarray) -> np.ndarray:
    """Cut rings of edges into triangles: (T, 3) int64 vertices, in the direction of the rings.

    starts: (B,) the vertex at which each edge begins; following: (B,) the next edge of its ring. Every other vertex of
    a ring is cut off, then every other one of those left, and so on: most triangles are as small as the edges.
    """
    triangles, size = np.empty((len(starts), 3), dtype=np.int64), 0
    ring, seen = np.empty(len(starts) + 1, dtype=np.int64), np.zeros(len(starts), dtype=np.bool_)
    for edge in range(len(starts)):
        count = 0
        while not seen[edge]:
            seen[edge] = True
            ring[count], count, edge = starts[edge], count + 1, following[edge]
        while count > 2:
            ring[count] = ring[0]  # for an even number the last triangle ends at the first vertex
            left = 0
            for i in range(0, count, 2):
                if i + 1 < count and count > 2:
                    triangles[size, 0], triangles[size, 1], triangles[size, 2] = ring[i], ring[i + 1], ring[i + 2]
                    size += 1
                ring[left] = ring[i]
                left += 1
            count = left
    return triangles[:size]


@compiled
def node_moments(corners: np.ndarray, boxes: np.ndarray, first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(M, MOMENT_COLUMNS) of the nodes of a tree. corners: (T, 3, 3) in the order of the leaves; the rest as
    `search_kernels.build_tree` returns them."""
    moments = np.zeros((len(boxes), MOMENT_COLUMNS))
    for node in range(len(boxes) - 1, -1, -1):  # children have larger numbers than their parents
        own = moments[node]
        _fill_centre(own, corners, boxes[node], first[node], count[node], moments)
        if count[node] == 0:
            for child in range(first[node], first[node] + 2):
                part = moments[child]
                own[8:] += part[8:]
                _add_moved(own, part[5:8], part[0] - own[0], part[1] - own[1], part[2] - own[2])
        for i in range(first[node], first[node] + count[node]):
            middle = (corners[i, 0] + corners[i, 1] + corners[i, 2]) / 3
            _add_moved(own, _area_vector(corners[i]), middle[0] - own[0], middle[1] - own[1], middle[2] - own[2])
    return moments


@compiled
def _fill_centre(own, corners, box, first, count, moments):
    """Fill the centre, the radius and the area of a node: the centre is the mean of its caps, by area."""
    for i in range(first, first + count):
        vector = _area_vector(corners[i])
        area = math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)
        own[4] += area
        own[:3] += area * (corners[i, 0] + corners[i, 1] + corners[i, 2]) / 3
    if count == 0:
        for child in range(first, first + 2):
            own[4] += moments[child, 4]
            own[:3] += moments[child, 4] * moments[child, :3]
    radius2 = 0.0
    for k in range(3):
        own[k] = own[k] / own[4] if own[4] > 0 else box[k]
        radius2 += max(own[k] - box[k], box[k + 3] - own[k]) ** 2
    own[3] = math.sqrt(radius2)


@compiled
def _area_vector(cap):
    """The normal of a cap (3, 3), as long as its area over 4 pi."""
    return np.cross(cap[1] - cap[0], cap[2] - cap[0]) / (8 * math.pi)


@compiled
def _add_moved(own, vector, x, y, z):
    """Add to a node's moments those of an area vector at (x, y, z) from its centre."""
    own[5] += vector[0]
    own[6] += vector[1]
    own[7] += vector[2]
    own[8] += vector[0] * x
    own[9] += vector[1] * y
    own[10] += vector[2] * z
    own[11] += vector[0] * y + vector[1] * x
    own[12] += vector[0] * z + vector[2] * x
    own[13] += vector[1] * z + vector[2] * y


@compiled
def _remainder(area, radius, distance):
    """Bound on the part of a node's winding number that its moments leave out.

    With t = radius / distance it is the sum of (n + 1) t^n over n >= 2, times area / distance^2: the gradient of a
    solid harmonic of degree n + 1 and greatest value 1 on the unit sphere is n + 1 at most there (Bernstein and Szego).
    """
    gap = distance - radius
    t = radius / distance
    return area * t * t * (3 - 2 * t) / (gap * gap) if gap > 0 else np.inf


@compiled
def _sort_nodes(centre, reach, tree, most_remainder, stack, far, near):
    """Sort the nodes and caps as seen from all points within `reach` of a centre.

    Fills columns of far (MOMENT_COLUMNS, M): moments of nodes with a remainder of most_remainder or less; and of near
    (9, T): corners of the other caps. Returns the number of columns in each, and the sum of the remainders. stack:
    (STACK,) for the nodes to visit.
    """
    moments, first, count, corners = tree
    far_count, near_count, error = 0, 0, ROUNDING
    waiting = 1
    stack[0] = 0
    while waiting > 0:
        waiting -= 1
        node = stack[waiting]
        own = moments[node]
        x, y, z = own[0] - centre[0], own[1] - centre[1], own[2] - centre[2]
        remainder = _remainder(own[4], own[3], math.sqrt(x * x + y * y + z * z) - reach)
        if remainder <= most_remainder:
            far[:, far_count] = own
            far_count += 1
            error += remainder
        elif count[node] == 0:
            stack[waiting], stack[waiting + 1] = first[node], first[node] + 1
            waiting += 2
        else:
            for i in range(first[node], first[node] + count[node]):
                near[:, near_count] = corners[i].ravel()
                near_count += 1
    return far_count, near_count, error


@vectorised
def _far_winding(far, count, x, y, z):
    """The winding number at a point of the first `count` nodes, by their moments, the columns of far."""
    total = 0.0
    for j in range(count):
        dx, dy, dz = far[0, j] - x, far[1, j] - y, far[2, j] - z
        inverse2 = 1.0 / (dx * dx + dy * dy + dz * dz)
        plain = far[5, j] * dx + far[6, j] * dy + far[7, j] * dz + far[8, j] + far[9, j] + far[10, j]
        twice = dx * (far[8, j] * dx + far[11, j] * dy + far[12, j] * dz)
        twice += dy * (far[9, j] * dy + far[13, j] * dz) + far[10, j] * dz * dz
        total += (plain - 3.0 * twice * inverse2) * inverse2 * math.sqrt(inverse2)
    return total


@vectorised
def _near_tangents(near, count, x, y, z, sine, cosine):
    """Fill sine and cosine of half the solid angle, seen from a point, of the first `count` caps, columns of near.

    Returns True if rounding may put the point on the other side of a cap. Source: van Oosterom and Strackee, "The solid
    angle of a plane triangle" (1983).
    """
    beside = 0.0
    for j in range(count):
        ax, ay, az = near[0, j] - x, near[1, j] - y, near[2, j] - z
        bx, by, bz = near[3, j] - x, near[4, j] - y, near[5, j] - z
        cx, cy, cz = near[6, j] - x, near[7, j] - y, near[8, j] - z
        a = math.sqrt(ax * ax + ay * ay + az * az)
        b = math.sqrt(bx * bx + by * by + bz * bz)
        c = math.sqrt(cx * cx + cy * cy + cz * cz)
        triple = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
        lower = a * b * c + (ax * bx + ay * by + az * bz) * c
        lower += (bx * cx + by * cy + bz * cz) * a + (cx * ax + cy * ay + cz * az) * b
        rounding = BESIDE_CAP * (a + BESIDE_CORNER) * (b + BESIDE_CORNER) * (c + BESIDE_CORNER)
        beside += 1.0 if (lower <= rounding) & (abs(triple) <= rounding) else 0.0
        scale = 1.0 / math.sqrt(triple * triple + lower * lower + 1e-300)
        sine[j], cosine[j] = triple * scale, lower * scale
    return beside > 0


@compiled
def _ball(places):
    """Centre (3,) and radius of a ball about points (G, 3)."""
    centre = np.zeros(3)
    for k in range(3):
        centre[k] = 0.5 * (places[:, k].min() + places[:, k].max())
    radius2 = 0.0
    for i in range(len(places)):
        radius2 = max(radius2, ((places[i] - centre) ** 2).sum())
    return centre, math.sqrt(radius2)


@compiled
def capped_block(
    points: np.ndarray,
    order: np.ndarray,
    axis: int,
    shift: np.ndarray,
    tree: tuple,
    remainders: tuple,
    most_error: float,
    winding: np.ndarray,
    doubtful: np.ndarray,
) -> None:
    """Add the winding numbers of caps to winding (N,) float64, the integers of the closed rest.

    points (N, 3) float64, order, axis and shift as for `ray_kernels.crossings_block`; tree: a CapTree; remainders: as
    REMAINDERS. The sums have an error of most_error or less and are on the right side of one half, but where doubtful
    (N,) bool, which is filled, says that this was not reached.
    """
    places = points[order]
    places[:, (axis + 1) % 3] += shift[0]
    places[:, (axis + 2) % 3] += shift[1]
    doubtful[:] = True
    caps = len(tree[3])
    stack, far, near = np.empty(STACK, dtype=np.int32), np.empty((MOMENT_COLUMNS, len(tree[0]))), np.empty((9, caps))
    sine, cosine, revolutions, crossings = np.empty(caps), np.empty(caps), np.empty(caps), np.empty(GROUP)
    for start in range(0, len(points), GROUP):
        group = places[start : start + GROUP]
        for i in range(len(group)):
            crossings[i] = winding[order[start + i]]
        centre, reach = _ball(group)
        left = len(group)
        for most_remainder in remainders:
            if left == 0:
                break
            far_count, near_count, error = _sort_nodes(centre, reach, tree, most_remainder, stack, far, near)
            for i in range(len(group)):
                at = order[start + i]
                if not doubtful[at]:
                    continue
                x, y, z = group[i, 0], group[i, 1], group[i, 2]
                beside = _near_tangents(near, near_count, x, y, z, sine, cosine)
                total = crossings[i] + _far_winding(far, far_count, x, y, z)
                if near_count > 0:
                    total += sum_of_angles(sine[:near_count], cosine[:near_count], revolutions[:near_count])
                winding[at] = total
                doubtful[at] = beside or abs(total - 0.5) <= error or error > most_error
                left -= not doubtful[at]
