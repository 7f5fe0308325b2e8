"""The compiled loops of clustering: normals of vertices, cubes and their numbers, what is left of the faces."""

import numpy as np

from neuralparts.compiled import cached_njit

# A large odd number with irregular bits (Knuth's multiplicative hashing).
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@cached_njit(nogil=True, error_model="numpy")
def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) float64: the sum of the normals of each vertex's triangles, by area; vertices (V, 3), faces (F, 3)."""
    normals = np.zeros(vertices.shape)
    for f in range(len(faces)):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        e, g, h = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        p, q, r = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        x, y, z = g * r - h * q, h * p - e * r, e * q - g * p
        for k in range(3):
            normals[faces[f, k], 0] += x
            normals[faces[f, k], 1] += y
            normals[faces[f, k], 2] += z
    return normals


@cached_njit(nogil=True)
def nearest_to(vertices: np.ndarray, number: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(W,) int64: of the vertices (V, 3) with a number (V,), the first that is nearest to the mean (W, 3) of these."""
    nearest = np.full(len(mean), -1)
    least = np.full(len(mean), np.inf)
    for v in range(len(vertices)):
        w = number[v]
        x, y, z = vertices[v, 0] - mean[w, 0], vertices[v, 1] - mean[w, 1], vertices[v, 2] - mean[w, 2]
        away = x * x + y * y + z * z
        if away < least[w] or nearest[w] < 0:
            nearest[w], least[w] = v, away
    return nearest


@cached_njit(nogil=True)
def numbered_keys(keys: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers (V,) int64, equal for equal keys (V,) int64, in the order in which these appear; how many there are."""
    bits = 1
    while 1 << bits < 2 * len(keys):
        bits += 1
    slots = np.full(1 << bits, -1, np.int32)  # number of the key in each slot of a table with open addresses
    first = np.empty(len(keys), np.int64)  # the key of each number
    numbers = np.empty(len(keys), np.int64)
    mask, shift, total = (1 << bits) - 1, np.uint64(64 - bits), 0
    for v in range(len(keys)):
        slot = np.int64((np.uint64(keys[v]) * MULTIPLIER) >> shift)
        while slots[slot] >= 0 and first[slots[slot]] != keys[v]:
            slot = (slot + 1) & mask
        if slots[slot] < 0:
            slots[slot], first[total] = total, keys[v]
            total += 1
        numbers[v] = slots[slot]
    return numbers, total


@cached_njit(nogil=True)
def facing(along: np.ndarray) -> np.ndarray:
    """(V,) int64: which of six ways, two of each axis, a vector (V, 3) along three axes is nearest to."""
    ways = np.empty(len(along), np.int64)
    for v in range(len(along)):
        axis = 0
        for k in (1, 2):
            if abs(along[v, k]) > abs(along[v, axis]):
                axis = k
        ways[v] = 2 * axis + (along[v, axis] > 0)
    return ways


@cached_njit(nogil=True, error_model="numpy")
def cube_keys(vertices: np.ndarray, low: np.ndarray, edge: float, most: int, way: np.ndarray) -> np.ndarray:
    """(V,) int64: a number for the cube of each vertex (V, 3) and its way (V,), 0 to 5.

    low (3,): the lowest coordinates. edge: of a cube. most: cubes along an axis, at most.
    """
    keys = np.empty(len(vertices), np.int64)
    for v in range(len(vertices)):
        x, y, z = (
            np.int64((vertices[v, 0] - low[0]) / edge),
            np.int64((vertices[v, 1] - low[1]) / edge),
            np.int64((vertices[v, 2] - low[2]) / edge),
        )
        keys[v] = ((x * most + y) * most + z) * 6 + way[v]
    return keys


@cached_njit(nogil=True, error_model="numpy")
def means(vertices: np.ndarray, number: np.ndarray, total: int) -> np.ndarray:
    """(total, 3) float64: the mean of the vertices (V, 3) of each number (V,)."""
    result, size = np.zeros((total, 3)), np.zeros(total)
    for v in range(len(vertices)):
        w = number[v]
        size[w] += 1
        for k in range(3):
            result[w, k] += vertices[v, k]
    for w in range(total):
        for k in range(3):
            result[w, k] /= size[w]
    return result


@cached_njit(nogil=True)
def with_three_corners(faces: np.ndarray, number: np.ndarray) -> np.ndarray:
    """(G, 3) int64: the faces (F, 3) with the numbers (V,) of their vertices, without those that lost a side."""
    kept, count = np.empty(faces.shape, np.int64), 0
    for f in range(len(faces)):
        a, b, c = number[faces[f, 0]], number[faces[f, 1]], number[faces[f, 2]]
        if a != b and b != c and c != a:
            kept[count, 0], kept[count, 1], kept[count, 2] = a, b, c
            count += 1
    return kept[:count].copy()
