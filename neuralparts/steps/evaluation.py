"""The errors of a part, on points that training never saw."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from neuralparts.domain import grid_cell
from neuralparts.inputs import Shape
from neuralparts.metrics import (
    LARGEST_MISSED_FRACTION,
    explain_disagreement,
    explain_missed,
    mesh_errors,
    off_surface_errors,
    point_errors,
    sample_errors,
)
from neuralparts.network import NeuralSDF
from neuralparts.random_streams import random_stream
from neuralparts.steps.reconstruction import Surface
from neuralparts.watch import Watch
from neuralparts.wording import say

# Fresh points for each error of the function. The standard error of a mean of |f| or |f - d| is then some 1% of it
# (docs/log.md); a fraction such as sign_error is less certain: 5% of it if it is 2%, 22% if it is 0.1%. The same number
# serves the errors off the surface, in the cube and near the surface.
MEAN_POINTS = 20_000
# For those that want more: the overlap differs in a thin layer, and the distances between meshes have a largest one.
OVERLAP_POINTS, MESH_POINTS = 50_000, 50_000


@dataclass(frozen=True)
class Evaluation:
    """metrics: by name. notes: a line on errors that contradict each other, one on what the reconstruction lacks."""

    metrics: dict[str, float]
    notes: tuple[str, ...] = ()


def evaluate(
    network: NeuralSDF, shape: Shape, surface: Surface | None, flags: SimpleNamespace, watch: Watch
) -> Evaluation:
    """The metrics, on points that training never saw."""
    if shape.mesh is None:
        return Evaluation(sample_errors(network.domain, *shape.kept))
    generator = random_stream(flags.seed, "metrics")
    functions = network.domain, network.level_distance
    metrics = point_errors(*functions, shape.oracle, MEAN_POINTS, generator, overlap_points=OVERLAP_POINTS)
    missed, cell = "", 0.0
    if surface is not None:
        cell = grid_cell(flags.reconstructionRes)
        triangles = surface.vertices, surface.faces
        generator = random_stream(flags.seed, "mesh_metrics")
        metrics |= mesh_errors(*triangles, shape.mesh, shape.oracle, MESH_POINTS, generator, cell)
        if metrics["missed_surface"] > LARGEST_MISSED_FRACTION:
            if surface.simplify_error > cell:
                missed = simplified_away(
                    metrics["missed_surface"], shape.transform.length_to_file(surface.simplify_error)
                )
            else:
                generator = random_stream(flags.seed, "missed")
                missed = explain_missed(network.domain, *triangles, shape.oracle, generator, cell)
    notes = tuple(filter(None, (explain_disagreement(metrics, shape.mesh.closed, cell), missed)))
    if notes and not watch.in_folder:  # of many parts, summary.csv has the numbers
        say("\n".join(notes))
    return Evaluation(metrics, notes)


def simplified_away(missed: float, error: float) -> str:
    """The line on a surface that --simplify moved by up to `error`, file units, so that a fraction `missed` is away."""
    return (
        f"the reconstruction lacks {missed:.0%} of the surface: --simplify moved it by up to {error:.3g} (file units), "
        "more than a cell of the grid; give a smaller error, a larger fraction, or leave --simplify out"
    )


def evaluate_off_surface(network: NeuralSDF, shape: Shape, seed: int) -> dict:
    """The errors by distance from the surface; empty where there is no mesh."""
    if shape.oracle is None:
        return {}
    generator = random_stream(seed, "off_surface")

    def gradient(points: np.ndarray) -> np.ndarray:
        return network.gradient(shape.transform.to_file(points))

    return off_surface_errors(network.domain, gradient, shape.oracle, MEAN_POINTS, generator)
