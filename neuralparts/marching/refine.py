"""Vertices moved onto the level by Newton steps, as linear interpolation along an edge only comes near to it."""

import numpy as np

from neuralparts.marching.probe import Function

# A vertex moves at most this fraction of a cell.
FARTHEST_MOVE = 0.5
# Step of the central differences, as a fraction of a cell.
DIFFERENCE = 0.1


def refine_vertices(
    vertices: np.ndarray,
    function: Function,
    gradient: Function | None,
    level: float,
    steps: int,
    cell: float,
    batch: int = 65536,
) -> np.ndarray:
    """Vertices (V, 3) float64 after `steps` Newton steps along the gradient, at most half a cell from where they were.

    A step that does not bring the value nearer to the level is not taken. gradient: (N, 3) float32 points -> (N, 3);
    None for central differences. cell: edge of a cell, domain units. batch: vertices at a time.
    """
    gradient = central_differences(function, DIFFERENCE * cell) if gradient is None else gradient
    refined = np.empty_like(vertices)
    for start in range(0, len(vertices), batch):
        part = slice(start, start + batch)
        refined[part] = _newton(vertices[part], function, gradient, level, steps, FARTHEST_MOVE * cell)
    return refined


def _newton(
    start: np.ndarray, function: Function, gradient: Function, level: float, steps: int, limit: float
) -> np.ndarray:
    """Newton steps of points start (n, 3), none farther than `limit` from where it began."""
    points, values = start, function(start.astype(np.float32)).astype(np.float64) - level
    for _ in range(steps):
        # (n, 3): to where the tangent plane reaches the level, x - f grad f / |grad f|^2.
        slopes = gradient(points.astype(np.float32)).astype(np.float64)
        moved = points - slopes * (values / np.maximum((slopes**2).sum(axis=1), 1e-12))[:, None]
        # Cut the whole way from the start to the limit.
        offset = moved - start
        length = np.linalg.norm(offset, axis=1, keepdims=True)
        moved = start + offset * np.minimum(1.0, limit / np.maximum(length, 1e-30))
        # (n,) values there; keep what is nearer to the level than before.
        found = function(moved.astype(np.float32)).astype(np.float64) - level
        better = np.abs(found) < np.abs(values)
        points, values = np.where(better[:, None], moved, points), np.where(better, found, values)
    return points


def central_differences(function: Function, step: float) -> Function:
    """The gradient of a function by central differences over `step`, as a function (N, 3) float32 -> (N, 3)."""
    steps = np.float32(step) * np.eye(3, dtype=np.float32)

    def gradient(points: np.ndarray) -> np.ndarray:
        sides = [(function(points + offset), function(points - offset)) for offset in steps]
        return np.stack([high - low for high, low in sides], axis=1) / (2.0 * step)

    return gradient
