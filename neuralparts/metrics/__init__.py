"""Held-out errors of a function and of a mesh."""

from neuralparts.metrics.errors import (
    MISSED,
    explain_missed,
    grid_points,
    mean_absolute_error,
    mesh_errors,
    point_errors,
    sample_errors,
)

__all__ = [
    "MISSED",
    "explain_missed",
    "grid_points",
    "mean_absolute_error",
    "mesh_errors",
    "point_errors",
    "sample_errors",
]
