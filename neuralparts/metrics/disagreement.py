"""Whether the errors of a fit contradict each other, and which of them to believe."""

from neuralparts.metrics.missed import LARGEST_MISSED_FRACTION

# Fits by the presets stay well below all of these (docs/log.md has the measurements). The surface distance contradicts
# the surface error if it is so many times as large. So does the Chamfer distance, but the grid may add to it at edges:
# up to this fraction of a cell.
FLAT_FACTOR, CHAMFER_FACTOR, CHAMFER_CELLS = 3.0, 4.0, 0.1
# A zero level that is a surface distance away has at least this fraction of it as Chamfer distance. With less, single
# points of tiny gradient made the surface distance.
LEAST_CHAMFER = 0.5


def explain_disagreement(metrics: dict[str, float], closed: bool, cell: float = 0.0) -> str:
    """One line if a fit's errors, by the names of `metric_names.py`, contradict each other plainly; else ''.

    closed: the input mesh is closed. cell: edge of a cell of the reconstruction's grid, domain units.

    The surface error contradicts the surface distance if the function is flat at the surface. Both contradict the
    Chamfer distance if the reconstruction has parts where there is no surface, which they do not see. An open mesh
    gives no such line, since the sheets that close it are such parts; a missed part has a line of its own. A Chamfer
    distance far below the surface distance shows that the zero level is where it should be.
    """
    error, distance, chamfer = (metrics.get(name) for name in ("surface_error", "surface_distance", "chamfer"))
    shown = "" if chamfer is None else f"; Chamfer distance {chamfer:.2g}"
    if distance > FLAT_FACTOR * error and (chamfer is None or chamfer > LEAST_CHAMFER * distance):
        return (
            f"surface_error {error:.2g} flatters this fit: the function is flat at the surface, and its zero level is "
            f"about {distance:.2g} away (surface_distance){shown}"
        )
    if chamfer is None or not closed or metrics["missed_surface"] > LARGEST_MISSED_FRACTION:
        return ""
    if chamfer > CHAMFER_FACTOR * max(error, distance) + CHAMFER_CELLS * cell:
        return (
            f"surface_error {error:.2g} and surface_distance {distance:.2g} flatter this fit: it has surface where the "
            f"mesh has none{shown}"
        )
    return ""
