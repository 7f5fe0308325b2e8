"""Compiled loops of the search among runs: the runs of a mesh's triangles, their boxes, the search; float64.

A run is some triangles that follow each other in the mesh and lie close together. Comes in: vertices (V, 3) float64,
faces (F, 3) int64, points (N, 3) float64. Goes out: the nearest faces and the distances.
"""

import math

import numpy as np

from neuralparts.distance.common_kernels import clamp, compiled, near_order, quick
from neuralparts.distance.search_kernels import (
    STACK,
    box_distance2,
    triangle_distance2,
    triangle_frames,
)

# Most triangles of a run. 4 was faster than 8 and 16 on marched meshes, growing the tree included.
RUN = 4
# Triangles that are chosen before their distances are computed; a point near a marched mesh chooses a few.
CHOSEN = 64
# A squared distance, rounded, is not more than this times itself as it was computed.
MORE = 1 + 1e-12


@compiled
def cut_runs(vertices: np.ndarray, faces: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts (R + 1,) int32 of the runs of consecutive faces, and the low and high corners (R, 3) of their boxes.

    A run has at most RUN triangles; if it has more than one, no side of its box is longer than reach.
    """
    starts = np.empty(len(faces) + 1, dtype=np.int32)
    low, high = np.empty((len(faces), 3)), np.empty((len(faces), 3))
    runs, least, most = 0, np.empty(3), np.empty(3)
    for f in range(len(faces)):
        # The run with this triangle in it, if it may be.
        joins = runs > 0 and f - starts[runs - 1] < RUN
        for x in range(3):
            a, b, c = vertices[faces[f, 0], x], vertices[faces[f, 1], x], vertices[faces[f, 2], x]
            least[x], most[x] = min(a, b, c), max(a, b, c)
            if joins and max(most[x], high[runs - 1, x]) - min(least[x], low[runs - 1, x]) > reach:
                joins = False
        if not joins:
            starts[runs], low[runs], high[runs] = f, least, most
            runs += 1
            continue
        for x in range(3):
            low[runs - 1, x], high[runs - 1, x] = min(least[x], low[runs - 1, x]), max(most[x], high[runs - 1, x])
    starts[runs] = len(faces)
    return starts[: runs + 1].copy(), low[:runs].copy(), high[:runs].copy()


@compiled
def mean_extent(vertices: np.ndarray, faces: np.ndarray) -> float:
    """The longest side of a face's box, mean over all faces."""
    total = 0.0
    for f in range(len(faces)):
        longest = 0.0
        for x in range(3):
            a, b, c = vertices[faces[f, 0], x], vertices[faces[f, 1], x], vertices[faces[f, 2], x]
            longest = max(longest, max(a, b, c) - min(a, b, c))
        total += longest
    return total / len(faces)


@compiled
def search_runs(
    points: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    runs: tuple[np.ndarray, np.ndarray],
    tree: tuple[np.ndarray, np.ndarray, np.ndarray],
    nearest: np.ndarray,
    distance: np.ndarray,
) -> None:
    """The nearest faces and their distances for a block of points.

    points (N, 3) float64. runs: starts (R + 1,) of `cut_runs`, and the runs (R,) in the order of the tree's leaves.
    tree: (boxes, first, count) of `build_tree` over the boxes of the runs. Fills nearest (N,) int64 and distance (N,)
    float32.
    """
    starts, in_leaves = runs
    boxes, first, count = tree
    stack, stack2 = np.empty(STACK, dtype=np.int32), np.empty(STACK)
    chosen, chosen2, face = np.empty(CHOSEN, dtype=np.int64), np.empty(CHOSEN), 0
    for i in near_order(points):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        # The neighbour's answer is near this point too.
        chosen[0], chosen2[0], size = face, 0.0, 1
        bound2 = _most_distance2(px, py, pz, vertices, faces, face)
        best2, waiting = np.inf, 1
        stack[0], stack2[0] = 0, box_distance2(px, py, pz, boxes, 0)
        while waiting > 0:
            waiting -= 1
            node, distance2 = stack[waiting], stack2[waiting]
            # Go down to the nearer child each time, and keep the other for later if it is near enough.
            while distance2 <= bound2 and count[node] == 0:
                left, right = first[node], first[node] + 1
                left2 = box_distance2(px, py, pz, boxes, left)
                right2 = box_distance2(px, py, pz, boxes, right)
                if right2 < left2:
                    left, right, left2, right2 = right, left, right2, left2
                if right2 <= bound2:
                    stack[waiting], stack2[waiting] = right, right2
                    waiting += 1
                node, distance2 = left, left2
            if distance2 > bound2:
                continue
            # A leaf: choose those of its triangles whose boxes are near enough, and lower the bound.
            for j in range(first[node], first[node] + count[node]):
                run = in_leaves[j]
                for f in range(starts[run], starts[run + 1]):
                    box2 = _face_box_distance2(px, py, pz, vertices, faces, f)
                    if box2 <= bound2:
                        bound2 = min(bound2, _most_distance2(px, py, pz, vertices, faces, f))
                        chosen[size], chosen2[size] = f, box2
                        size += 1
                    if size == CHOSEN:
                        face, best2 = _nearest_chosen(px, py, pz, vertices, faces, chosen, chosen2, bound2, face, best2)
                        bound2, size = min(bound2, best2), 0
        face, distance2 = _nearest_chosen(
            px, py, pz, vertices, faces, chosen[:size], chosen2[:size], bound2, face, best2
        )
        nearest[i], distance[i] = face, math.sqrt(distance2)


@compiled
def _nearest_chosen(px, py, pz, vertices, faces, chosen, chosen2, bound2, face, best2):
    """The nearer of a face, at squared distance best2, and the chosen faces whose boxes are within a bound; and its
    squared distance."""
    size = 0
    for k in range(len(chosen)):
        if chosen2[k] <= bound2:
            chosen[size] = chosen[k]
            size += 1
    frames = triangle_frames(vertices, faces, chosen[:size])
    for k in range(size):
        distance2 = triangle_distance2(px, py, pz, frames[k], best2)
        if distance2 < best2:
            face, best2 = chosen[k], distance2
    return face, best2


@compiled
def _face_box_distance2(px, py, pz, vertices, faces, f):
    """The squared distance to the box of a face; 0 inside it."""
    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
    distance2 = 0.0
    for x, p in ((0, px), (1, py), (2, pz)):
        low = min(vertices[a, x], vertices[b, x], vertices[c, x])
        high = max(vertices[a, x], vertices[b, x], vertices[c, x])
        beyond = max(low - p, p - high, 0.0)
        distance2 += beyond * beyond
    return distance2


@quick
def _most_distance2(px, py, pz, vertices, faces, f):
    """A bound of the squared distance to a face from above: that to a point of the face, and a little for rounding.

    The point is the nearest one, unless the face is a needle, whose plane is known roughly: it lies on the face then
    too. It takes no frame, so it is quick.
    """
    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
    # The first corner to the point, to the second corner, to the third.
    dx, dy, dz = px - vertices[a, 0], py - vertices[a, 1], pz - vertices[a, 2]
    ex, ey, ez = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
    gx, gy, gz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
    ee, eg, gg = ex * ex + ey * ey + ez * ez, ex * gx + ey * gy + ez * gz, gx * gx + gy * gy + gz * gz
    de, dg = dx * ex + dy * ey + dz * ez, dx * gx + dy * gy + dz * gz
    # The foot in the plane, if it lies within the face: a + u e + v g.
    area2 = ee * gg - eg * eg
    u, v = (gg * de - eg * dg) / area2, (ee * dg - eg * de) / area2
    if u >= 0 and v >= 0 and u + v <= 1:
        return MORE * _rest2(dx, dy, dz, u, ex, ey, ez, v, gx, gy, gz)
    # Otherwise the nearest of the three sides' nearest points; on the third side u + v = 1.
    u = clamp(de / ee, 0.0, 1.0) if ee > 0 else 0.0
    v = clamp(dg / gg, 0.0, 1.0) if gg > 0 else 0.0
    length2 = ee - 2 * eg + gg
    w = clamp((dg - de + ee - eg) / length2, 0.0, 1.0) if length2 > 0 else 0.0
    first = _rest2(dx, dy, dz, u, ex, ey, ez, 0.0, gx, gy, gz)
    second = _rest2(dx, dy, dz, 0.0, ex, ey, ez, v, gx, gy, gz)
    third = _rest2(dx, dy, dz, 1 - w, ex, ey, ez, w, gx, gy, gz)
    return MORE * min(first, second, third)


@quick
def _rest2(dx, dy, dz, u, ex, ey, ez, v, gx, gy, gz):
    """The squared length of d - u e - v g."""
    x, y, z = dx - u * ex - v * gx, dy - u * ey - v * gy, dz - u * ez - v * gz
    return x * x + y * y + z * z
