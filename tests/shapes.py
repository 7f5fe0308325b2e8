"""Analytic signed distances that tests hold results against: points (N, 3) -> (N,), negative inside."""

import numpy as np


def sphere(points, radius=0.6):
    return np.linalg.norm(points, axis=1) - radius


def box(points, half=(0.5, 0.4, 0.3)):
    outside = np.abs(points) - np.asarray(half)
    return np.linalg.norm(np.maximum(outside, 0), axis=1) + np.minimum(outside.max(axis=1), 0)


def torus(points, major=0.55, minor=0.2):
    ring = np.linalg.norm(points[:, :2], axis=1) - major
    return np.hypot(ring, points[:, 2]) - minor


def samples(shape, count, seed=0, weight=60.0):
    """Labelled points with density exp(-weight |d|) over the cube, a twentieth of them uniform: (points, sdf)."""
    generator = np.random.default_rng(seed)
    kept = [generator.uniform(-1, 1, (count // 20, 3))]
    while sum(map(len, kept)) < count:
        points = generator.uniform(-1, 1, (20 * count, 3))
        kept.append(points[generator.random(len(points)) < np.exp(-weight * np.abs(shape(points)))])
    points = np.concatenate(kept)[:count].astype(np.float32)
    points = points[generator.permutation(count)]
    return points, shape(points.astype(np.float64)).astype(np.float32)
