"""Compiled loops for meshes of thousands of shells: boxes within a box, and winding numbers of small shells.

Imported where there are that many, since Numba takes half a second to import. NumPy's calls would cost more there than
the work in them.
"""

import math

import numpy as np

from neuralparts.compiled import cached_njit

compiled = cached_njit(nogil=True, error_model="numpy")


@compiled
def boxes_within(low: np.ndarray, high: np.ndarray, added: np.ndarray, box: int, first: int, last: int) -> np.ndarray:
    """(K,) the boxes among those from first up to last that are added and lie within a box.

    low, high: (S, 3); added: (S,) bool.
    """
    found, count = np.empty(last - first, dtype=np.int64), 0
    for other in range(first, last):
        fits = added[other]
        for k in range(3):
            fits &= low[other, k] >= low[box, k] and high[other, k] <= high[box, k]
        if fits:
            found[count] = other
            count += 1
    return found[:count]


@compiled
def solid_angle_winding_numbers(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(N,) winding numbers of triangles (F, 3, 3) seen from points (N, 3), as `solid_angles.solid_angle_winding_number`
    but for rounding."""
    winding = np.zeros(len(points))
    for i in range(len(points)):
        for t in range(len(triangles)):
            a, b, c = triangles[t, 0] - points[i], triangles[t, 1] - points[i], triangles[t, 2] - points[i]
            length_a, length_b, length_c = math.sqrt(_dot(a, a)), math.sqrt(_dot(b, b)), math.sqrt(_dot(c, c))
            triple = a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2])
            triple += a[2] * (b[0] * c[1] - b[1] * c[0])
            lower = (
                length_a * length_b * length_c + _dot(a, b) * length_c + _dot(b, c) * length_a + _dot(c, a) * length_b
            )
            winding[i] += math.atan2(triple, lower)
    return winding / (2 * math.pi)


@compiled
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
