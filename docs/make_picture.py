"""Draw the picture of the README: a mesh, the network fitted to it, and a section of the network.

    make picture        # python -m docs.make_picture MODEL MESH, from the root

Mesh and network are drawn by the same program, sphere tracing (Hart 1996): a ray goes on by the distance that the
function promises until it meets the zero level. No mesh of the network is made. The first function is the exact
distance to the triangles, the second is the network.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from PIL import Image

from neuralparts.distance import DistanceOracle
from neuralparts.mesh import load_mesh
from neuralparts.network import NeuralSDF

# (N, 3) points of the domain -> (N,) signed distances, domain units.
Function = Callable[[np.ndarray], np.ndarray]

# Direction from the part to the eye, which is infinitely far away, and to the lamp; z is up.
EYE, LAMP = np.array([0.40, -0.62, 0.68]), np.array([0.05, -0.55, 0.83])
COLOUR = np.array([0.66, 0.76, 0.88])
# Rays along an edge of a view. Pixels are averaged down from them.
RAYS = 1000
# Half of the width that a view shows, domain units: a little more than the radius of the sphere around a part.
HALF_WIDTH = 0.92
# A ray has met the surface at this distance; it gives up after so many steps.
TOUCHED, STEPS = 3e-4, 200
# Half the step of the differences that give the normals: less than a pixel.
NORMAL_STEP = 1e-3
# Size of the picture in inches, and pixels an inch.
SIZE, DPI = (13.2, 4.75), 110
COLOURS = 160


def main() -> None:
    """Draw the three views side by side, and print the size of the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="a fitted model, .safetensors")
    parser.add_argument("mesh", type=Path, help="the mesh that it was fitted to")
    parser.add_argument("--height", type=float, default=12.0, help="z of the section, file units (default 12)")
    parser.add_argument("--step", type=float, default=2.0, help="distance between its lines, file units (default 2)")
    parser.add_argument("--out", type=Path, default=Path("docs/impeller.png"), help="picture to write, .png")
    flags = parser.parse_args()
    pyplot.switch_backend("Agg")
    sdf, mesh = NeuralSDF.load(flags.model), load_mesh(flags.mesh)
    oracle = DistanceOracle(mesh)
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=SIZE, layout="constrained")
    show(left, traced(oracle.signed_distance), f"Input: {len(mesh.faces):,} triangles, {size(flags.mesh)}")
    show(middle, traced(sdf.domain), f"Network: {sdf.parameter_count:,} numbers, {size(flags.model)}")
    draw_section(right, sdf, oracle, flags.height, flags.step)
    write(figure, flags.out)
    print(f"{flags.out}: {flags.out.stat().st_size:,} bytes")


def size(path: Path) -> str:
    """The size of a file as text."""
    return f"{path.stat().st_size / 1e6:.2f} MB"


def traced(function: Function) -> np.ndarray:
    """(RAYS, RAYS, 3) a shaded view of the zero level of a function, 0 to 1; white where no ray meets it."""
    forward = -EYE / np.linalg.norm(EYE)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    line = HALF_WIDTH * (2 * (np.arange(RAYS) + 0.5) / RAYS - 1)
    across, along = np.meshgrid(line, line[::-1])
    # (R, 3) where each ray begins: on a plane in front of the ball that holds the part. Those beside the ball are left.
    starts = across.reshape(-1, 1) * right + along.reshape(-1, 1) * up - 0.9 * forward
    hits, found = met(function, starts, forward)
    picture = np.ones((RAYS * RAYS, 3))
    light = np.clip(normals(function, hits) @ (LAMP / np.linalg.norm(LAMP)), 0, 1)
    picture[found] = np.clip((0.28 + 0.78 * light)[:, None] * COLOUR, 0, 1)
    return picture.reshape(RAYS, RAYS, 3)


def met(function: Function, starts: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays from starts (R, 3) meet the zero level: (H, 3) points, (H,) which rays they are."""
    gone, found = np.zeros(len(starts)), np.zeros(len(starts), bool)
    moving = np.arange(len(starts))
    for _ in range(STEPS):
        distance = function((starts[moving] + gone[moving, None] * direction).astype(np.float32))
        found[moving[distance < TOUCHED]] = True
        gone[moving] += np.maximum(distance, TOUCHED)
        moving = moving[(distance >= TOUCHED) & (gone[moving] < 1.8)]
        if len(moving) == 0:
            break
    hits = np.flatnonzero(found)
    return starts[hits] + gone[hits, None] * direction, hits


def normals(function: Function, points: np.ndarray) -> np.ndarray:
    """(H, 3) unit normals of the level at points (H, 3), by central differences."""
    offsets = NORMAL_STEP * np.eye(3)
    slopes = [function((points + o).astype(np.float32)) - function((points - o).astype(np.float32)) for o in offsets]
    gradient = np.stack(slopes, axis=1)
    return gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)


def draw_section(axes: pyplot.Axes, sdf: NeuralSDF, oracle: DistanceOracle, height: float, step: float) -> None:
    """The network's distance on a plane of constant z in file units, and the outline of the mesh there."""
    (x_low, y_low, _), (x_high, y_high, _) = sdf.bounds
    margin = 0.04 * (x_high - x_low)
    x, y = np.linspace(x_low - margin, x_high + margin, 700), np.linspace(y_low - margin, y_high + margin, 700)
    places = np.stack([*np.meshgrid(x, y), np.full((len(y), len(x)), height)], axis=-1)
    values = sdf(places)
    exact = oracle.signed_distance(sdf.transform.to_domain(places.reshape(-1, 3)).astype(np.float32))
    levels = step * np.arange(np.floor(values.min() / step), np.ceil(values.max() / step) + 1)
    most = np.abs(levels).max()
    axes.contourf(x, y, values, levels, cmap="RdBu", vmin=-most, vmax=most)
    axes.contour(x, y, values, levels, colors="#5c6b7a", linewidths=0.45, linestyles="solid")
    axes.contour(x, y, values, [0.0], colors="black", linewidths=1.5)
    axes.contour(x, y, exact.reshape(values.shape), [0.0], colors="#ffb000", linewidths=0.7)
    axes.set_aspect("equal")
    axes.set_title(f"Section of the network: a line every {step:g} units", fontsize=12)
    axes.axis("off")


def show(axes: pyplot.Axes, picture: np.ndarray, title: str) -> None:
    """A view with its title."""
    axes.imshow(picture, interpolation="antialiased")
    axes.set_title(title, fontsize=12)
    axes.axis("off")


def write(figure: pyplot.Figure, out: Path) -> None:
    """Write a figure as a PNG with a palette, which is a third of the size."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)


if __name__ == "__main__":
    main()
