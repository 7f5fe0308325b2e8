"""Compiled loops that sum the solid angles of all triangles in float32, with a bound on the error of each sum.

Comes in: corners (9, F) and points (N, 3), float64. Goes out: winding numbers (N,) and the bounds (N,). In an open mesh
of large triangles everywhere, this is the fastest way to the side of most points. The bound is far below one half,
except for points on a triangle; the side of those has to be found otherwise.

Source of the angle of one triangle: van Oosterom and Strackee, "The solid angle of a plane triangle" (1983).
"""

import math

import numpy as np

from neuralparts.distance.common_kernels import compiled, vectorised

# Points and triangles that are taken together, so that their numbers stay in the fastest cache.
POINTS, TRIANGLES = 64, 128
# The arctangent of t from 0 to 1 is t times this polynomial of t^2 (a fit of least error), within ATAN_ERROR.
C0, C1, C2, C3, C4, C5, C6 = (
    np.float32(c) for c in (0.99999611, -0.33317368, 0.19807815, -0.13233338, 0.07962360, -0.03360416, 0.0068117754)
)
ATAN_ERROR = 1e-6
# Bound on the rounding of a float32.
HALF_DIGIT = 2.0**-24
# Sine and cosine of half a solid angle are computed up to a factor, the product of the distances to the corners. Bound
# on their rounding, divided by that factor: some 50 operations.
ROUNDING = np.float32(50 * HALF_DIGIT)
# Nearer to a corner (domain units) the products of coordinates may leave the range of float32, and nothing is known.
AT_CORNER = np.float32(1e-10)
# Coordinate of a corner outside of the domain.
FAR = 9.0


@vectorised
def _fill_seen(corners, point, seen):
    """Fill seen (9, TRIANGLES) float32: corners from a point (3,)."""
    for k in range(9):
        row, seen_row, at = corners[k], seen[k], point[k % 3]
        for j in range(TRIANGLES):
            seen_row[j] = np.float32(row[j] - at)


@vectorised
def _sum_angles(seen):
    """The sum of half the solid angles of triangles, columns of seen (9, TRIANGLES) float32, and the bound on its error
    without that of the arctangents."""
    zero, one, tiny = np.float32(0), np.float32(1), np.float32(1e-35)
    half_pi, pi = np.float32(math.pi / 2), np.float32(math.pi)
    total, size_of_all, error, jumps = zero, zero, zero, zero
    for j in range(TRIANGLES):
        ax, ay, az = seen[0, j], seen[1, j], seen[2, j]
        bx, by, bz = seen[3, j], seen[4, j], seen[5, j]
        cx, cy, cz = seen[6, j], seen[7, j], seen[8, j]
        a = np.sqrt(ax * ax + ay * ay + az * az)
        b = np.sqrt(bx * bx + by * by + bz * bz)
        c = np.sqrt(cx * cx + cy * cy + cz * cz)
        # Sine and cosine of half the angle, up to a factor.
        sine = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
        cosine = a * b * c + (ax * bx + ay * by + az * bz) * c
        cosine += (bx * cx + by * cy + bz * cz) * a + (cx * ax + cy * ay + cz * az) * b
        rounding = ROUNDING * (a * b * c)
        # The arctangent of the smaller over the larger; then the angle by the signs of both.
        upright, flat = abs(sine), abs(cosine)
        inverse = one / (max(upright, flat) + tiny)
        t = min(upright, flat) * inverse
        s = t * t
        angle = t * (C0 + s * (C1 + s * (C2 + s * (C3 + s * (C4 + s * (C5 + s * C6))))))
        angle = half_pi - angle if upright > flat else angle
        angle = pi - angle if cosine < zero else angle
        total += angle if sine > zero else -angle
        size_of_all += angle
        error += rounding * inverse
        # On the triangle, or nearly: rounding may put the point on its other side.
        is_open = ((cosine < rounding) & (upright < rounding)) | (min(a, min(b, c)) < AT_CORNER)
        jumps += one if is_open else zero
    return total, error + 2 * pi * jumps + size_of_all * np.float32(TRIANGLES * HALF_DIGIT)


@compiled
def winding_numbers_with_bounds(
    points: np.ndarray, order: np.ndarray, corners: np.ndarray, winding: np.ndarray, error: np.ndarray
) -> None:
    """Fill winding (N,) and error (N,) float64: |winding - true winding number| <= error.

    points (N, 3) float64, taken in an order (N,). corners (F / TRIANGLES, 9, TRIANGLES) float64: blocks of triangles,
    the last one filled up with triangles that are points outside of the domain.
    """
    seen = np.empty((9, TRIANGLES), dtype=np.float32)
    for start in range(0, len(points), POINTS):
        some = order[start : start + POINTS]
        for i in some:
            winding[i], error[i] = 0.0, 0.0
        for block in range(len(corners)):
            for i in some:
                _fill_seen(corners[block], points[i], seen)
                part, bound = _sum_angles(seen)
                winding[i] += part
                error[i] += bound
        for i in some:
            winding[i] /= 2 * math.pi
            error[i] = (error[i] + len(corners) * TRIANGLES * ATAN_ERROR) / (2 * math.pi)


def triangle_blocks(triangles: np.ndarray) -> np.ndarray:
    """(F, 3, 3) float64 triangles -> their corners as `winding_numbers_with_bounds` takes them."""
    blocks = np.full((-(-len(triangles) // TRIANGLES) * TRIANGLES, 9), FAR)
    blocks[: len(triangles)] = triangles.reshape(-1, 9)
    return np.ascontiguousarray(blocks.reshape(-1, TRIANGLES, 9).transpose(0, 2, 1))
