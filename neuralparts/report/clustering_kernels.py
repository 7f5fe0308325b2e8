"""The compiled loops of clustering: the normals of vertices, and numbers for equal keys."""

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
