"""The last lines of a single fit: its errors in file and domain units, the verdict, the seconds, the report."""

import textwrap
from pathlib import Path
from typing import Any

from neuralparts.metric_names import METRIC_NAMES
from neuralparts.record_values import file_length, is_finite
from neuralparts.verdict import verdict
from neuralparts.wording import visible

# Columns of a terminal that the lines fit, but for a long path.
WIDTH = 80
# The metrics of the table, of a fit to a mesh and to samples, as far as they were measured.
OF_A_MESH = ("surface_error", "surface_within_99", "chamfer", "iou")
OF_SAMPLES = ("importance_error",)


def last_lines(record: dict[str, Any], page: Path, seconds: float | None) -> list[str]:
    """The lines of a fit's record.

    page: of the report, or the record of a fit without one. seconds: from the start of the process until now; None if
    an earlier run made the fit.
    """
    lines = [*_table(record), *_folded(_verdict_line(record)), *_folded(_seconds_line(record, seconds))]
    return [*lines, *_found_widths(record), _report(page)]


def _table(record: dict[str, Any]) -> list[str]:
    """A row for each metric: its label, its value in file units if it is a length, its value in domain units."""
    metrics = record["metrics"]
    rows = [f"{'':27}{'file units':>14}{'domain units':>16}"]
    for key in OF_A_MESH if "surface_error" in metrics else OF_SAMPLES:
        if not is_finite(metrics.get(key)):
            continue
        in_file = file_length(record, metrics[key]) if METRIC_NAMES[key].is_length else None
        shown = "" if in_file is None else f"{in_file:.3g}"
        rows.append(f"{METRIC_NAMES[key].label:27}{shown:>14}{metrics[key]:>16.3g}{_interval(key, metrics)}")
    return rows


def _interval(key: str, metrics: dict[str, Any]) -> str:
    """The 95% interval of the IoU behind its value; '' for others."""
    ends = metrics.get("iou_low"), metrics.get("iou_high")
    return f"  ({ends[0]:.3g} to {ends[1]:.3g})" if key == "iou" and all(map(is_finite, ends)) else ""


def _verdict_line(record: dict[str, Any]) -> str:
    """The grade and the sentence, as far as there are any."""
    return ": ".join(filter(None, verdict(record)))


def _seconds_line(record: dict[str, Any], seconds: float | None) -> str:
    """The whole time and that of each stage, as they were measured."""
    stages = {name: value for name, value in record["timings"].items() if name != "total"}
    if seconds is None:
        total = record["timings"].get("total")
        return f"fitted before, in {total:.1f} s without start and report" if is_finite(total) else ""
    stages["start and report"] = max(0.0, seconds - sum(stages.values()))
    return f"{seconds:.1f} s in all: " + ", ".join(f"{name} {value:.1f}" for name, value in stages.items())


def _folded(line: str) -> list[str]:
    """A line of words as lines of WIDTH columns; [] for an empty one."""
    return textwrap.wrap(visible(line), WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _found_widths(record: dict[str, Any]) -> list[str]:
    """The widths that --damArch search found, as flags on one line, so that they can be copied; [] without a search."""
    search = record.get("search")
    return [f"found: --damArch 0 --widths {visible(str(search['widths']))}"] if search else []


def _report(page: Path) -> str:
    """Where the report is, or the record: a path stays on one line, so that it can be copied."""
    return visible(f"{'record' if page.suffix == '.json' else 'report'}: {page}")
