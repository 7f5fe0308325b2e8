"""The compiled loops of the pictures of a part: what each pixel sees, and how it is shaded."""

import numpy as np

from neuralparts.compiled import cached_njit

# Barycentric coordinates of a pixel's centre that still count as inside: rounding must leave no gap between triangles.
GAP = -1e-9
# Of a box of more columns than this, the columns outside of the triangle are left out row by row, but so many.
WIDE, CUT_SLACK = 6, 2
# Depth of the ground, in pixels, where no triangle is: farther than any.
GROUND = -1e6


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
    for face in range(len(faces)):
        # Numbers one by one: a view of a corner takes longer to make than a small triangle to draw.
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, ay, az = corners[i, 0], corners[i, 1], corners[i, 2]
        bx, by, cx, cy = corners[j, 0], corners[j, 1], corners[k, 0], corners[k, 1]
        # Two sides of the triangle; the third component of their cross product is twice the area in the picture.
        e, f, g = bx - ax, by - ay, corners[j, 2] - az
        p, q, r = cx - ax, cy - ay, corners[k, 2] - az
        area = e * q - f * p
        if area == 0:
            continue
        # The pixels whose centres lie in the triangle's box.
        left, right = np.ceil(min(ax, bx, cx) - 0.5), np.floor(max(ax, bx, cx) - 0.5)
        low, high = np.ceil(min(ay, by, cy) - 0.5), np.floor(max(ay, by, cy) - 0.5)
        left, right = max(left, 0.0), min(right, side - 1.0)
        for row in range(max(0, int(low)), min(side - 1, int(high)) + 1):
            y = row + 0.5 - ay
            first, last = left, right
            if last - first > WIDE:
                # s, t and 1 - s - t, times the area, are linear along the row: u times the way from a, plus w.
                for u, w in ((q, -y * p), (-f, y * e), (f - q, area + y * (p - e))):
                    first, last = _cut(first, last, u, w, area, ax)
            for column in range(int(first), int(last) + 1):
                x = column + 0.5 - ax
                # Barycentric coordinates of the centre: the weights of the second and the third corner.
                s, t = (x * q - y * p) / area, (y * e - x * f) / area
                if s < GAP or t < GAP or s + t > 1 - GAP:
                    continue
                nearness, top = az + s * g + t * r, side - 1 - row
                if nearness > depth[top, column]:
                    depth[top, column] = nearness
                    value[top, column] = values[i] + s * (values[j] - values[i]) + t * (values[k] - values[i])
                    u, v = (f * r - g * q) / area, (g * p - e * r) / area
                    length = np.sqrt(u * u + v * v + 1)
                    normal[top, column, 0], normal[top, column, 1] = u / length, v / length
                    normal[top, column, 2] = 1 / length


@cached_njit(nogil=True, error_model="numpy")
def _cut(first, last, slope, start, area, origin):
    """The columns from first to last where a barycentric coordinate can be at least GAP, and some more.

    slope, start: that coordinate times the area, as slope * (column + 0.5 - origin) + start. CUT_SLACK allows for GAP
    and for rounding; a row along a side of the triangle is not cut.
    """
    if abs(slope) * 1e6 > abs(area):
        column = origin - 0.5 - start / slope
        if (slope > 0) == (area > 0):
            first = max(first, np.floor(column) - CUT_SLACK)
        else:
            last = min(last, np.ceil(column) + CUT_SLACK)
    return first, last


@cached_njit(nogil=True, error_model="numpy")
def shade(
    depth: np.ndarray,
    normal: np.ndarray,
    value: np.ndarray,
    lit: np.ndarray,
    colours: np.ndarray,
    lamp: tuple[float, float, float],
    crease_cosine: float,
    depth_step: float,
) -> np.ndarray:
    """Pixels (side, side, 3) float32, 0 to 255, from what `rasterise` filled. The ground is white.

    lit (side, side) float32: cosine between the normal and the lamp. colours (C, 3) float32: from the value -1 to 1.
    lamp: the brightness without it, what it adds, and the factor at an edge. An edge is a pixel next to a crease, where
    the normals have a smaller cosine than crease_cosine, on its upper or left side; or one that is nearer than its
    neighbour by more than depth_step.
    """
    side, last = len(depth), len(colours) - 1
    ambient, diffuse, edge = np.float32(lamp[0]), np.float32(lamp[1]), np.float32(lamp[2])
    cosine, white = np.float32(crease_cosine), np.float32(255)
    pixels = np.full((side, side, 3), white)
    for row in range(side):
        for column in range(side):
            near = depth[row, column]
            if near == -np.inf:
                continue
            is_edge = False
            for down, right in ((-1, 0), (0, -1), (0, 1), (1, 0)):
                y, x = row + down, column + right
                if not (0 <= y < side and 0 <= x < side):
                    continue
                if near - max(depth[y, x], GROUND) > depth_step:
                    is_edge = True
                elif down + right > 0 and depth[y, x] > -np.inf:
                    dot = np.float32(0)
                    for k in range(3):
                        dot += normal[row, column, k] * normal[y, x, k]
                    is_edge = is_edge or dot < cosine
            brightness = ambient + diffuse * max(lit[row, column], np.float32(0))
            if is_edge:
                brightness *= edge
            place = int(np.rint((min(max(value[row, column], -1.0), 1.0) + 1) / 2 * last))
            for k in range(3):
                pixels[row, column, k] = min(brightness * colours[place, k], white)
    return pixels
