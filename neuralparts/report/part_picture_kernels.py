"""The compiled loop of the pictures of a part: what each pixel sees."""

import numpy as np

from neuralparts.compiled import cached_njit

# Barycentric coordinates of a pixel's centre that still count as inside: rounding must leave no gap between triangles.
GAP = -1e-9


@cached_njit(nogil=True, error_model="numpy")
def rasterise(
    corners: np.ndarray,
    faces: np.ndarray,
    values: np.ndarray,
    depth: np.ndarray,
    normal: np.ndarray,
    value: np.ndarray,
) -> None:
    """Draw triangles into a square picture with a depth buffer; the nearest triangle of a pixel keeps it.

    corners (V, 3) float64: right, up and towards the eye from the lower left of the picture, in pixels. faces (F, 3)
    int64. values (V,) float64. Filled, row 0 at the top: depth (side, side) float64, -inf where nothing is; normal
    (side, side, 3) float32, the triangle's unit normal towards the eye; value (side, side) float64, that of the corners
    interpolated. Where nothing is, normal and value stay as they are. Triangles seen edge-on are left out.
    """
    side = len(depth)
    depth[:] = -np.inf
    for i, j, k in faces:
        a, b, c = corners[i], corners[j], corners[k]
        # Two sides of the triangle; the third component of their cross product is twice the area in the picture.
        e, f, g = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        p, q, r = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        area = e * q - f * p
        if area == 0:
            continue
        # The pixels whose centres lie in the triangle's box.
        left, right = np.ceil(min(a[0], b[0], c[0]) - 0.5), np.floor(max(a[0], b[0], c[0]) - 0.5)
        low, high = np.ceil(min(a[1], b[1], c[1]) - 0.5), np.floor(max(a[1], b[1], c[1]) - 0.5)
        for row in range(max(0, int(low)), min(side - 1, int(high)) + 1):
            for column in range(max(0, int(left)), min(side - 1, int(right)) + 1):
                x, y = column + 0.5 - a[0], row + 0.5 - a[1]
                # Barycentric coordinates of the centre: the weights of the second and the third corner.
                s, t = (x * q - y * p) / area, (y * e - x * f) / area
                if s < GAP or t < GAP or s + t > 1 - GAP:
                    continue
                nearness, top = a[2] + s * g + t * r, side - 1 - row
                if nearness > depth[top, column]:
                    depth[top, column] = nearness
                    value[top, column] = values[i] + s * (values[j] - values[i]) + t * (values[k] - values[i])
                    u, v = (f * r - g * q) / area, (g * p - e * r) / area
                    length = np.sqrt(u * u + v * v + 1)
                    normal[top, column, 0], normal[top, column, 1] = u / length, v / length
                    normal[top, column, 2] = 1 / length
