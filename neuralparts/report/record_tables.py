"""The tables of a part's page: metrics, errors by distance, timings, flags, and everything else of the record."""

from typing import Any, NamedTuple

from neuralparts.metric_names import METRIC_NAMES
from neuralparts.record_values import file_length, is_finite
from neuralparts.report.formatting import DASH, lines, number, one_line

# Entries of the record that are dicts, each a table: title and key.
TABLES = (
    ("How the fit ended", "fit"),
    ("Flags", "flags"),
    ("Diagnosis of the input", "diagnosis"),
    ("Versions", "versions"),
    ("Domain = (file \N{MINUS SIGN} center) \N{MULTIPLICATION SIGN} scale", "transform"),
)
# Entries of the record that the page shows elsewhere; every other entry has a line in the last table.
SHOWN_ELSEWHERE = {
    "input",
    "failure",
    "notes",
    "parameters",
    "timings",
    "metrics",
    "off_surface",
    *(key for _, key in TABLES),
}


class MetricRow(NamedTuple):
    """A line of the table of metrics. file_units: '' unless the metric is a length."""

    label: str
    meaning: str
    value: str
    file_units: str


class BandRow(NamedTuple):
    """A line of the table of errors by distance. band: bounds of |d|, domain units; the others are of its points."""

    band: str
    mean_error: str
    overestimated: str
    gradient_within: str


class TimingRow(NamedTuple):
    """A line of the table of timings. percent: of the total, for a bar; None without one."""

    stage: str
    seconds: str
    percent: float | None


class Table(NamedTuple):
    """A table of the record: pairs of a key and the lines of its value."""

    title: str
    pairs: list[tuple[str, list[str]]]


def metric_rows(record: dict[str, Any]) -> list[MetricRow]:
    """Every metric that has a name in METRIC_NAMES, known or not, then the others of the record."""
    metrics = record.get("metrics") or {}
    rows = []
    for key, named in METRIC_NAMES.items():
        in_file = number(file_length(record, metrics.get(key))) if named.is_length else ""
        rows.append(MetricRow(named.label, named.meaning, number(metrics.get(key)), in_file))
    return rows + [MetricRow(key, "", one_line(value), "") for key, value in metrics.items() if key not in METRIC_NAMES]


def band_rows(errors: dict[str, Any]) -> list[BandRow]:
    """Every band of distances from the surface, then the whole cube; none where nothing was measured."""
    rows = [
        BandRow(
            f"{band['from']:g} to {band['to']:g}" if band["to"] else f"beyond {band['from']:g}",
            number(band["mean_error"]),
            _percent(band["overestimated"]),
            _percent(band["gradient_within"]),
        )
        for band in errors.get("bands") or []
    ]
    whole = BandRow(
        "the whole cube", "", _percent(errors.get("overestimated")), _percent(errors.get("gradient_within"))
    )
    return [*rows, whole] if rows else []


def _percent(fraction: Any) -> str:
    """A fraction as a percentage; a dash for anything but a finite number."""
    return f"{100 * fraction:.2f}%" if is_finite(fraction) else DASH


def timing_rows(timings: dict[str, Any]) -> list[TimingRow]:
    """The seconds of each stage, with its part of the total."""
    total = timings.get("total")
    rows = []
    for stage, seconds in timings.items():
        known = is_finite(seconds) and is_finite(total) and total > 0
        percent = min(100 * seconds / total, 100) if known else 0.0
        rows.append(TimingRow(stage, f"{number(seconds)} s", None if stage == "total" else percent))
    return rows


def tables(record: dict[str, Any]) -> list[Table]:
    """The tables of the record's other entries; an empty entry has none."""
    others = {key: value for key, value in record.items() if key not in SHOWN_ELSEWHERE}
    entries = [(title, record.get(key)) for title, key in TABLES] + [("Other entries of the record", others)]
    return [Table(title, [(key, lines(value)) for key, value in entry.items()]) for title, entry in entries if entry]
