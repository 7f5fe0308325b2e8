"""Held-out errors of a function and of a mesh."""

from neuralparts.metrics.disagreement import explain_disagreement
from neuralparts.metrics.function_errors import grid_points, mean_absolute_error, point_errors, sample_errors
from neuralparts.metrics.missed import LARGEST_MISSED_FRACTION, explain_missed
from neuralparts.metrics.neurbf_protocol import (
    PROTOCOL_NAMES,
    function_in_frame,
    in_frame,
    iou_errors,
    protocol_errors,
    protocol_frame,
)
from neuralparts.metrics.off_surface import off_surface_errors
from neuralparts.metrics.overlap import distance_strata, volume_overlap
from neuralparts.metrics.surface_comparison import mesh_errors

__all__ = [
    "LARGEST_MISSED_FRACTION",
    "PROTOCOL_NAMES",
    "distance_strata",
    "explain_disagreement",
    "explain_missed",
    "function_in_frame",
    "grid_points",
    "in_frame",
    "iou_errors",
    "mean_absolute_error",
    "mesh_errors",
    "off_surface_errors",
    "point_errors",
    "protocol_errors",
    "protocol_frame",
    "sample_errors",
    "volume_overlap",
]
