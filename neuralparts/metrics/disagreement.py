"""Whether the errors of a fit contradict each other, and which of them to believe."""

from neuralparts.metrics.missed import LARGEST_MISSED_FRACTION

# Factors of plain disagreement. Fits by the presets stay well below both (docs/log.md has the measurements).
FLAT_FACTOR, CHAMFER_FACTOR = 3.0, 8.0


def explain_disagreement(metrics: dict[str, float]) -> str:
    """One line if a fit's errors, by the names of `metric_names.py`, contradict each other plainly; else ''.

    The surface error contradicts the surface distance if the function is flat at the surface. The larger of the two
    contradicts the Chamfer distance if the marched surface lies elsewhere than the function says: parts that the mesh
    has not, or a zero level that is not where first order puts it. A part that is missed has a line of its own.
    """
    error, distance, chamfer = (metrics.get(name) for name in ("surface_error", "surface_distance", "chamfer"))
    if distance > FLAT_FACTOR * error:
        line = (
            f"surface_error {error:.2g} flatters this fit: its function is flat at the surface, and its zero level is "
        )
        line += f"about {distance:.2g} away (surface_distance)"
        return line if chamfer is None else f"{line}; Chamfer distance {chamfer:.2g}"
    missed = metrics.get("missed_surface", 0.0) > LARGEST_MISSED_FRACTION
    if chamfer is not None and not missed and chamfer > CHAMFER_FACTOR * max(error, distance):
        return (
            f"surface_error {error:.2g} and surface_distance {distance:.2g} flatter this fit: the reconstruction is "
            f"{chamfer:.2g} away (Chamfer distance)"
        )
    return ""
