"""Held-out errors of a function and of a mesh."""

from neuralparts.metrics.disagreement import explain_disagreement
from neuralparts.metrics.function_errors import grid_points, mean_absolute_error, point_errors, sample_errors
from neuralparts.metrics.missed import LARGEST_MISSED_FRACTION, explain_missed
from neuralparts.metrics.off_surface import off_surface_errors
from neuralparts.metrics.overlap import distance_strata, volume_overlap
from neuralparts.metrics.surface_comparison import mesh_errors

__all__ = [
    "LARGEST_MISSED_FRACTION",
    "distance_strata",
    "explain_disagreement",
    "explain_missed",
    "grid_points",
    "mean_absolute_error",
    "mesh_errors",
    "off_surface_errors",
    "point_errors",
    "sample_errors",
    "volume_overlap",
]
