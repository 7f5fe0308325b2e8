"""The rule that grades a fit, by its table, and the sentence that gives the figures."""

import pytest

from neuralparts.metric_names import METRIC_NAMES
from neuralparts.steps.evaluation import simplified_away
from neuralparts.verdict import CRITERIA, verdict

GOOD = {
    "surface_error": 0.00015,
    "surface_within_99": 0.0012,
    "reconstruction_within_99": 0.0012,
    "missed_surface": 0.0,
    "iou": 0.997,
    "iou_high": 0.9975,
    "importance_error": 0.001,
}


def a_record(closed=True, failure="", notes=(), **metrics):
    """A record of a good fit of a part of 100 file units, but for these metrics; None takes one away."""
    metrics = {key: value for key, value in (GOOD | metrics).items() if value is not None}
    record = {"metrics": metrics, "diagnosis": {"closed": closed}, "failure": failure, "notes": list(notes)}
    return record | {"transform": {"center": [0, 0, 0], "scale": 0.018}}


ALL = dict.fromkeys(GOOD)
OLD = {"surface_within_99": None, "reconstruction_within_99": None}
TABLE = [
    # What was measured, whether the mesh is closed, and the grade.
    ({}, True, "good"),
    ({"surface_within_99": 0.005}, True, "good"),
    ({"surface_within_99": 0.0051}, True, "fair"),
    ({"surface_within_99": 0.05}, True, "fair"),
    ({"surface_within_99": 0.0501}, False, "poor"),
    ({"missed_surface": 0.01}, True, "good"),
    ({"missed_surface": 0.1, "surface_within_99": 0.04}, False, "fair"),
    ({"missed_surface": 0.101, "surface_within_99": 0.04}, True, "poor"),
    ({"missed_surface": 0.101}, True, "good"),  # by a fine grid, or within a union of bodies
    ({"reconstruction_within_99": 0.006}, True, "fair"),
    ({"reconstruction_within_99": 0.5}, True, "poor"),
    ({"reconstruction_within_99": 0.5}, False, "good"),  # the sheets that close an open mesh
    ({"iou": 0.979, "iou_high": 0.981}, True, "good"),  # the interval does not exclude 0.98
    ({"iou": 0.97, "iou_high": 0.975}, True, "fair"),
    ({"iou": 0.88, "iou_high": 0.895}, True, "poor"),
    ({"iou": 0.001, "iou_high": 0.002}, True, "poor"),
    ({"iou": 0.001, "iou_high": 0.002}, False, "good"),  # an open mesh bounds no volume
    ({"iou": 1.0, "iou_high": 1.0}, True, "good"),
    ({"iou": 0.88, "iou_high": None}, True, "poor"),
    (ALL | {"surface_error": 0.1, "iou": 1.0, "iou_low": 0.0, "iou_high": 1.0}, True, ""),  # nothing is inside either
    # Records of earlier versions.
    (OLD, True, "good"),
    (OLD | {"iou": 0.95, "iou_high": None}, True, "fair"),
    (OLD, False, ""),
    (OLD | {"missed_surface": 0.05}, False, ""),
    (OLD | {"missed_surface": 0.945}, False, "poor"),
    # No reconstruction: the overlap of a closed mesh is enough.
    (OLD | {"missed_surface": None}, True, "good"),
    (OLD | {"missed_surface": None}, False, ""),
    # Samples without a mesh.
    (ALL | {"importance_error": 0.001}, None, ""),
    (ALL | {"importance_error": 0.06}, None, "poor"),
    # Nothing, and what no JSON writer but Python's would leave.
    (ALL, True, ""),
    ({"surface_within_99": float("nan"), "iou_high": None, "iou": float("nan")}, True, ""),
    (ALL | {"surface_error": None, "importance_error": None, "iou_high": 0.5}, True, "poor"),
]


@pytest.mark.parametrize("metrics, closed, grade", TABLE)
def test_the_worst_measured_error_decides(metrics, closed, grade):
    assert verdict(a_record(closed, **metrics)).grade == grade


def test_a_failure_is_poor_whatever_was_measured():
    assert verdict(a_record(failure="no surface at resolution 64")) == ("poor", "no surface at resolution 64")


def test_a_null_of_a_json_file_counts_as_not_measured():
    record = a_record()
    record["metrics"] |= {"surface_within_99": None, "reconstruction_within_99": None, "iou_high": None, "iou": 0.5}
    assert verdict(record) == ("poor", "volume overlap 50%")


@pytest.mark.parametrize("record", [{}, {"metrics": None, "diagnosis": None, "notes": None, "transform": None}])
def test_a_record_without_anything_has_no_verdict(record):
    assert verdict(record) == ("", "")


NOTE = "the reconstruction lacks 1% of the surface, by more than a cell of the grid: "
THIN = "the network has 90% of it, in walls, gaps or edges too thin for the grid: most are seen from about 500"
SENTENCES = [
    ({}, "99% of the surface within 0.0667 (file units)"),
    ({"missed_surface": 0.009}, "99% of the surface within 0.0667 (file units); 0.9% of it missing"),
    ({"missed_surface": 0.0004}, "99% of the surface within 0.0667 (file units)"),
    (
        {"missed_surface": 0.012, "surface_within_99": 0.018, "notes": ["another", NOTE + THIN]},
        "99% of the surface within 1 (file units); 1.2% of it missing, thinner than the grid",
    ),
    (
        {
            "missed_surface": 0.945,
            "surface_within_99": 0.9,
            "notes": [NOTE + THIN + "; the network has not learnt 10% of it: more samples"],
        },
        "99% of the surface within 50 (file units); "
        "94.5% of it missing, partly thinner than the grid, partly not learnt",
    ),
    (
        {"iou": 0.001, "iou_high": 0.002},
        "99% of the surface within 0.0667 (file units); volume overlap 0.1%",
    ),
    (
        {"reconstruction_within_99": 0.09},
        "99% of the surface within 0.0667 (file units); 1% of the reconstruction farther than 5 from the input",
    ),
    (
        {"reconstruction_within_99": 0.09, "closed": False},
        "99% of the surface within 0.0667 (file units); the input is open: what closes it lies up to 5 away",
    ),
    (
        {"missed_surface": 0.2, "surface_within_99": 0.018, "notes": [simplified_away(0.2, 1.5)]},
        "99% of the surface within 1 (file units); 20% of it missing, simplified away",
    ),
    (OLD, "volume overlap 99.7%"),
    (
        OLD | {"missed_surface": 0.03, "iou": 0.95, "iou_high": None},
        "3% of the surface missing; volume overlap 95%",
    ),
    (ALL | {"importance_error": 0.0018}, "mean error 0.1 (file units) on samples kept from training"),
    (ALL, ""),
]


@pytest.mark.parametrize("changes, sentence", SENTENCES)
def test_the_sentence_gives_the_figures_that_decide_in_file_units(changes, sentence):
    assert verdict(a_record(**changes)).sentence == sentence


def test_without_a_transform_lengths_are_domain_units():
    record = a_record() | {"transform": {}}
    assert verdict(record).sentence == "99% of the surface within 0.0012 (domain units)"


def test_every_criterion_is_a_metric_or_made_of_one():
    assert {limit.key for limit in CRITERIA} - METRIC_NAMES.keys() == {"overlap_error", "samples_error"}
