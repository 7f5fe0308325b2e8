"""The metrics by name: how each is labelled, what it measures, whether it is a length; and what counts as an error.

summary.csv, the pages and the last lines of a run take their names and their order from here. NAME.json holds what
`metrics` returns, under the same names.
"""

from typing import NamedTuple


class MetricName(NamedTuple):
    """label: title of the metric. meaning: what it measures. is_length: in domain units, so that file units exist."""

    label: str
    meaning: str
    is_length: bool


# Off the surface f overestimates d if |f| > |d| (1 + the first number) + the second: a tenth too much, and the error of
# a fit at the surface, domain units. A wrong sign counts if the value is as large as that.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 0.1, 0.0005
# Lengths of a gradient that count as 1.
SHORTEST_GRADIENT, LONGEST_GRADIENT = 0.9, 1.1

METRIC_NAMES = {
    "surface_error": MetricName("Surface error", "mean |f| over points uniform on the surface", True),
    "surface_error_p99": MetricName("Surface error, worst 1%", "|f| that 99 in 100 surface points stay under", True),
    "surface_distance": MetricName(
        "Surface distance",
        "mean |f| / |gradient of f| over a fifth of these points: to the zero level, to first order",
        True,
    ),
    "importance_error": MetricName("Importance error", "mean |f \N{MINUS SIGN} d| over fresh importance samples", True),
    "sign_error": MetricName("Wrong signs", "fraction of the importance samples on the wrong side", False),
    "grid_error": MetricName("Grid error", "mean |f \N{MINUS SIGN} d| over the uniform cube", True),
    "iou": MetricName("IoU", "intersection over union of the insides, in the bounding box", False),
    "iou_low": MetricName("IoU, lower end", "of its 95% confidence interval", False),
    "iou_high": MetricName("IoU, upper end", "of its 95% confidence interval", False),
    "chamfer": MetricName("Chamfer distance", "mean distance between the two surfaces", True),
    "hausdorff": MetricName("Hausdorff distance", "largest distance between the two surfaces", True),
    "surface_within_99": MetricName("99% of the surface within", "of the reconstruction", True),
    "reconstruction_within_99": MetricName("99% of the reconstruction within", "of the input's surface", True),
    "normal_consistency": MetricName("Normal consistency", "mean |cosine| between the two surfaces' normals", False),
    "missed_surface": MetricName(
        "Surface missed", "fraction of it farther than a grid cell from the reconstruction", False
    ),
}
