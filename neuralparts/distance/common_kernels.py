"""Common parts of the kernels of search and rays: how they are compiled, and the order in which they take the points.

Every kernel releases the interpreter lock, so blocks of points can run in threads. Each is compiled at its first call
(about ten seconds in all) and its machine code is kept; later processes load it in half a second.
"""

import numpy as np

from neuralparts.compiled import cached_njit

compiled = cached_njit(nogil=True)
# Without the check for division by zero, which would keep the compiler from vectorising a loop.
quick = cached_njit(nogil=True, error_model="numpy")
# Moreover without NaN and signed zeros, and with sums in any order. Results may differ between CPUs.
vectorised = cached_njit(nogil=True, error_model="numpy", fastmath={"nnan", "nsz", "reassoc", "contract"})

# Bits per axis of the Morton code by which a block is sorted: 2^18 cells, which is one pass of counting sort.
ORDER_BITS = 6


@compiled
def clamp(value, low, high):
    """The number nearest to value from low to high."""
    return min(max(value, low), high)


@compiled
def product(a, b):
    """a times b, rounded. A GPU's compiler would merge the product into the sum that follows, unless it is made here;
    how it rounds a side of an edge would then differ between the two triangles at the edge."""
    return a * b


@compiled
def near_order(points: np.ndarray) -> np.ndarray:
    """(N,) int64 order of (N, 3) float64 points in which neighbours follow each other.

    It is Morton's order (1966) over the box of the points.
    """
    order = np.empty(len(points), dtype=np.int64)
    code = np.zeros(len(points), dtype=np.int32)
    start = np.zeros(2 ** (3 * ORDER_BITS) + 1, dtype=np.int32)
    # (N,) the code of the cell of each point: the bits of its three coordinates, interleaved.
    for k in range(3):
        low, high = np.inf, -np.inf
        for i in range(len(points)):
            low, high = min(low, points[i, k]), max(high, points[i, k])
        scale = (2**ORDER_BITS - 0.001) / max(high - low, 1e-30)
        for i in range(len(points)):
            code[i] |= _spread(int((points[i, k] - low) * scale)) << k
    # Counting sort: count the points of each code, sum the counts to starts, put each point at its code's start.
    for i in range(len(points)):
        start[code[i] + 1] += 1
    for c in range(1, len(start)):
        start[c] += start[c - 1]
    for i in range(len(points)):
        order[start[code[i]]] = i
        start[code[i]] += 1
    return order


@compiled
def _spread(value):
    """The bits abcdef as a00b00c00d00e00f."""
    value = (value | (value << 8)) & 0x00F00F
    value = (value | (value << 4)) & 0x0C30C3
    return (value | (value << 2)) & 0x249249
