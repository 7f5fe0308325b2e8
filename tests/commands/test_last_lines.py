"""The last lines of a fit fit a terminal of 80 columns, whatever its numbers are."""

from pathlib import Path

import pytest

from neuralparts.commands.last_lines import WIDTH, last_lines

METRICS = {"surface_error": 0.00015, "surface_within_99": 0.0012, "chamfer": 0.0002, "iou": 0.998}
STAGES = {"load": 0.31, "label": 6.1, "fit": 7.9, "reconstruct": 1.2, "evaluate": 2.9}
NOTE = (
    "the reconstruction lacks 31% of the surface: the network has 50% of it too thin for the grid; has not learnt 20%"
)


def a_record(scale=0.018, metrics=METRICS, notes=()):
    return {
        "metrics": metrics,
        "transform": {"scale": scale},
        "timings": STAGES | {"total": 19.3},
        "diagnosis": {"closed": True},
        "notes": list(notes),
    }


def test_the_table_has_file_and_domain_units_then_the_verdict_the_seconds_and_the_path_once():
    lines = last_lines(a_record(metrics=METRICS | {"iou_low": 0.997, "iou_high": 0.9985}), Path("out/part.html"), 24.04)
    assert lines == [
        "                               file units    domain units",
        "Surface error                     0.00833         0.00015",
        "99% of the surface within          0.0667          0.0012",
        "Chamfer distance                   0.0111          0.0002",
        "IoU                                                 0.998  (0.997 to 0.999)",
        "good: 99% of the surface within 0.0667 (file units)",
        "24.0 s in all: load 0.3, label 6.1, fit 7.9, reconstruct 1.2, evaluate 2.9,",
        "  start and report 5.6",
        "report: out/part.html",
    ]


@pytest.mark.parametrize("scale", [1e-300, 1.8e-9, 0.018, 1.8e9])
def test_every_line_fits_80_columns(scale):
    poor = METRICS | {"surface_error": 1.234e-11, "surface_within_99": 1.2, "missed_surface": 0.311, "iou": 1.23e-5}
    record = a_record(scale, poor | {"iou_low": 1.2e-5, "iou_high": 1.25e-5}, [NOTE])
    record["timings"] = dict.fromkeys(STAGES, 86_400.0) | {"total": 5 * 86_400.0}
    lines = last_lines(record, Path("part.html"), 500_000.0)
    assert max(map(len, lines)) <= WIDTH and "\n".join(lines).count("part.html") == 1
    assert any(line.startswith("poor: ") for line in lines)


def test_samples_and_a_finished_part_show_what_is_known():
    lines = last_lines(a_record(metrics={"importance_error": 0.0018, "sign_error": 0.1}), Path("part.html"), None)
    assert lines[1:] == [
        "Importance error                      0.1          0.0018",
        "mean error 0.1 (file units) on samples kept from training",
        "fitted before, in 19.3 s",
        "report: part.html",
    ]


def test_a_number_that_a_record_lacks_has_no_row():
    lines = last_lines(a_record(metrics=METRICS | {"chamfer": None, "surface_within_99": None}), Path("p.html"), 20.0)
    assert [line.split("  ")[0] for line in lines[1:3]] == ["Surface error", "IoU"]
