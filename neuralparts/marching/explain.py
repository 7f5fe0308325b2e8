"""Why there is no surface: looks between the nodes of the grid for the sign that none of them has."""

import itertools

import numpy as np

from neuralparts.errors import UserError
from neuralparts.marching.probe import Probe

# A function that varies less than this over the domain, which is 2 wide, cannot be a distance: the fit has collapsed.
COLLAPSED = 0.05


class NoSurfaceError(UserError):
    """The function does not change sign on the grid; the message says why, and at which resolution it would."""


def explain_no_surface(probe: Probe, generator: np.random.Generator) -> str:
    """One line on why no evaluated node has the other sign: a feature thinner than the grid, a collapsed fit, or a
    function that does not reach the level."""
    sign, side, relation = (1.0, "outside", "above") if probe.lowest > 0 else (-1.0, "inside", "below")
    low, high = sorted((sign * probe.lowest, sign * probe.highest))
    point, nearest = deepest_point(probe, generator)
    head = f"no surface at resolution {probe.resolution}: every node lies {side}, "
    head += f"{low:.4g} to {high:.4g} {relation} the level"
    if nearest <= 0:
        # A grid is certain to have a node in the feature if the diagonal of its cells is no longer than the feature is
        # wide.
        seen = max(probe.resolution + 1, int(np.ceil(2.0 * np.sqrt(3.0) / _thickness(probe, sign, point))) + 1)
        place = np.array2string(point, precision=3)
        return (
            f"{head}; there is a feature thinner than the cell ({probe.cell:.3g}) at {place}, seen from about {seen} on"
        )
    if high - low < COLLAPSED:
        return f"{head}: the function is nearly constant, the fit has collapsed"
    return f"{head}, and nothing between them is nearer than {nearest:.3g}: the function does not reach the level"


def deepest_point(
    probe: Probe, generator: np.random.Generator, rounds: int = 12, tries: int = 64
) -> tuple[np.ndarray, float]:
    """Where the function comes nearest to the sign that no node has, or goes deepest into it.

    A random search that narrows around the best points. Returns the point (3,) float32, and how far its value is from
    changing sign, negative if it has the other sign.
    """
    sign = 1.0 if probe.lowest > 0 else -1.0
    # (n, 3): a lattice to begin with. Around each of the best 128 points, `tries` more are drawn, ever closer to it.
    line = np.linspace(-1.0, 1.0, min(probe.resolution, 48))
    points = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)
    values, radius = sign * probe.at_points(points), line[1] - line[0]
    for _ in range(rounds):
        best = np.argsort(values)[:128]
        points, values = points[best], values[best]
        around = points[:, None] + generator.uniform(-radius, radius, (len(points), tries, 3))  # (128, tries, 3)
        around = around.clip(-1.0, 1.0).reshape(-1, 3).astype(np.float32)
        points, values = np.concatenate([points, around]), np.concatenate([values, sign * probe.at_points(around)])
        radius *= 0.6
    best = np.argmin(values)
    return points[best], float(values[best])


def _thickness(probe: Probe, sign: float, point: np.ndarray, steps: int = 64) -> float:
    """The shortest chord through a point (3,), along 13 directions, within which sign * value is not positive."""
    # (13, 3): to the 26 neighbours of a node, one of each two opposite ones.
    directions = np.array([corner for corner in itertools.product((-1, 0, 1), repeat=3) if corner > (0, 0, 0)])
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    distances = np.geomspace(1e-4, 2.0, steps)
    chords = []
    for direction in directions:
        # Both ways from the point: `steps` points, and the distance of the first that lies beyond the feature.
        rays = [point + side * distances[:, None] * direction for side in (1.0, -1.0)]
        beyond = [sign * probe.at_points(ray.astype(np.float32)) > 0 for ray in rays]
        chords.append(sum(distances[np.argmax(side)] if side.any() else 2.0 for side in beyond))
    return min(chords)
