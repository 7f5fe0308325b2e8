"""Whether a fit is good, by its measured errors: the one rule, which the README shows as a table.

In: the record of a fit (the dict that becomes NAME.json), also one of an earlier version. Out: a grade and a sentence.
The terminal, the pages, the gallery and summary.csv compute them here; no file of a part stores them.
"""

from typing import Any, NamedTuple

from neuralparts.record_values import file_length, is_finite

# The grades, worst first. A fit of which too little was measured has none: ''.
GRADES = ("poor", "fair", "good")
# Beginning of a note that says why surface is missing, and the reasons that it may give (`metrics.explain_missed` and
# `steps.evaluation` write it), each with its words in a sentence.
MISSED_NOTE = "the reconstruction lacks"
MISSED_REASONS = {
    "too thin for the grid": "thinner than the grid",
    "--simplify moved": "simplified away",
    "has not learnt": "not learnt",
    "bounds no inside": "no boundary of an inside",
}
# Fraction of the surface from which on a sentence mentions that it is missing.
LEAST_MENTIONED = 0.0005


class Criterion(NamedTuple):
    """An error that decides. good, fair: its largest value in a good fit, and in a fair one; beyond, the fit is poor.

    closed_only: it means nothing for an open mesh. enough: it suffices for a grade; the others can only lower one.
    """

    key: str
    good: float
    fair: float
    closed_only: bool = False
    enough: bool = False


# The largest distance in a good fit, and in a fair one, domain units: the part is 1.8 across. docs/log.md has the fits
# behind all limits.
GOOD_DISTANCE, FAIR_DISTANCE = 0.005, 0.05
# The largest fraction of the surface that a good fit may lack, and a fair one.
GOOD_MISSING, FAIR_MISSING = 0.01, 0.1
CRITERIA = (
    Criterion("surface_within_99", GOOD_DISTANCE, FAIR_DISTANCE, enough=True),
    Criterion("missed_surface", GOOD_MISSING, FAIR_MISSING),
    Criterion("reconstruction_within_99", GOOD_DISTANCE, FAIR_DISTANCE, closed_only=True),
    Criterion("overlap_error", 0.02, 0.1, closed_only=True, enough=True),
    Criterion("samples_error", FAIR_DISTANCE, FAIR_DISTANCE),
)


class Verdict(NamedTuple):
    """grade: one of GRADES, or ''. sentence: the figures on one line, lengths in file units; '' without any."""

    grade: str
    sentence: str


def verdict(record: dict[str, Any]) -> Verdict:
    """The grade of a fit and the sentence that gives its figures.

    record: as `part.fit_part` makes it, or as NAME.json holds it; a number that is missing, None or NaN decides
    nothing. A failure is poor. Otherwise the worst of the measured errors decides (CRITERIA), and there is no grade if
    none of them is enough and none is poor.
    """
    if record.get("failure"):
        return Verdict("poor", str(record["failure"]))
    errors = _errors(record)
    grades = {limit.key: _grade(limit, errors[limit.key]) for limit in CRITERIA if limit.key in errors}
    worst = min(grades.values(), key=GRADES.index, default="")
    enough = worst == "poor" or any(limit.enough and limit.key in grades for limit in CRITERIA)
    reasons = {key for key, grade in grades.items() if grade == worst != "good"}
    return Verdict(worst if enough else "", _sentence(record, errors, reasons))


def _errors(record: dict[str, Any]) -> dict[str, float]:
    """The errors that were measured and mean something, by the keys of CRITERIA.

    overlap_error: 1 - IoU, by the upper end of its interval, so that chance lowers no grade. samples_error: the mean
    error on samples kept from training, where there is no mesh. Surface is missing if it is farther than a cell of the
    grid, however fine that is, and also if it lies within a union of bodies: if 99% of the rest is near, that is no
    error.
    """
    metrics = record.get("metrics") or {}
    closed = (record.get("diagnosis") or {}).get("closed") is True
    overlap = next(filter(is_finite, (metrics.get("iou_high"), metrics.get("iou"))), None)
    if metrics.get("iou_low") == 0.0 and overlap == 1.0:  # no volume was found inside either: the IoU says nothing
        overlap = None
    found = metrics | {"overlap_error": None if overlap is None else 1.0 - overlap}
    found["samples_error"] = None if "surface_error" in metrics else metrics.get("importance_error")
    used = [limit.key for limit in CRITERIA if closed or not limit.closed_only]
    errors = {key: found[key] for key in used if is_finite(found.get(key))}
    is_near = errors.get("surface_within_99", 1.0) <= GOOD_DISTANCE
    if is_near and errors.get("missed_surface", 0.0) > GOOD_MISSING:
        del errors["missed_surface"]
    return errors


def _grade(limit: Criterion, error: float) -> str:
    """The grade that one error allows."""
    return "good" if error <= limit.good else "fair" if error <= limit.fair else "poor"


def _sentence(record: dict[str, Any], errors: dict[str, float], reasons: set[str]) -> str:
    """The figures of a fit: how near the surface is, how much of it is missing, and each other error in `reasons`.

    Where the first was not measured, all others are given.
    """
    unit = "file units" if file_length(record, 1.0) else "domain units"

    def length(key: str) -> str:
        in_file = file_length(record, errors[key])
        return f"{errors[key] if in_file is None else in_file:.3g}"

    words = []
    if "surface_within_99" in errors:
        words.append(f"99% of the surface within {length('surface_within_99')} ({unit})")
    if errors.get("missed_surface", 0.0) >= LEAST_MENTIONED:
        words.append(f"{percent(errors['missed_surface'])} of {'it' if words else 'the surface'} missing")
        words[-1] += _why_missing(record.get("notes"))
    closing = (record.get("metrics") or {}).get("reconstruction_within_99")
    if (record.get("diagnosis") or {}).get("closed") is False and is_finite(closing) and closing > GOOD_DISTANCE:
        in_file = file_length(record, closing)
        words.append(f"the input is open: what closes it lies up to {closing if in_file is None else in_file:.3g} away")
    shown = reasons if "surface_within_99" in errors else errors
    if "reconstruction_within_99" in shown:
        far = length("reconstruction_within_99")
        words.append(f"1% of the reconstruction farther than {far} from the input")
    if "overlap_error" in shown:
        overlap = record["metrics"].get("iou")
        words.append(f"volume overlap {percent(overlap if is_finite(overlap) else 1.0 - errors['overlap_error'])}")
    if "samples_error" in shown:
        words.append(f"mean error {length('samples_error')} ({unit}) on samples kept from training")
    return "; ".join(words)


def percent(fraction: float) -> str:
    """A fraction as a percentage with at most one decimal, such as 0.9% or 12%."""
    return f"{100 * fraction:.1f}".removesuffix(".0") + "%"


def _why_missing(notes: Any) -> str:
    """', ' and the reasons that a note gives for missing surface, or ''."""
    note = next((note for note in notes or () if str(note).startswith(MISSED_NOTE)), "")
    reasons = [short for said, short in MISSED_REASONS.items() if said in note]
    partly = "partly " if len(reasons) > 1 else ""
    return "".join(f", {partly}{reason}" for reason in reasons)
