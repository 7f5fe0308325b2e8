"""The first steps of a part: a mesh or samples file in, labelled points out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from neuralparts import choices
from neuralparts.distance import DistanceOracle
from neuralparts.domain import Transform
from neuralparts.errors import Interrupted, UserError
from neuralparts.mesh import Mesh, diagnosis_lines, load_mesh
from neuralparts.mesh_files import open_hashed, read_source
from neuralparts.random_streams import random_stream
from neuralparts.sampling import (
    draw_samples,
    load_samples,
    near_surface_samples,
    negative_inside,
    pair_samples,
    points_on_surface,
    surface_normals,
)
from neuralparts.watch import Watch
from neuralparts.wording import say

if TYPE_CHECKING:  # it brings torch, which is imported while this stage runs
    from neuralparts.fitting import Pairs

# Points of the surface for the curve of the held-out error and for --targetError; the final metrics draw their own.
HELD_OUT_POINTS = 1024
# Fraction of a samples file kept from training, to score the fit where there is no mesh; at most so many points.
HELD_OUT_FRACTION, HELD_OUT_SAMPLES = 0.05, 100_000


@dataclass(frozen=True)
class Shape:
    """What an input says: a mesh with its oracle, or labelled samples; the other fields are then None.

    samples: points (N, 3) and sdf (N,), float32, domain, to train on. kept: the same kind, kept from training.
    """

    transform: Transform
    mesh: Mesh | None = None
    oracle: DistanceOracle | None = None
    samples: tuple[np.ndarray, np.ndarray] | None = None
    kept: tuple[np.ndarray, np.ndarray] | None = None

    def mesh_in_file_units(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The mesh as vertices (V, 3), file units, and faces (F, 3); None for samples."""
        return None if self.mesh is None else (self.transform.to_file(self.mesh.vertices), self.mesh.faces)


@dataclass(frozen=True)
class Labelled:
    """All that the training needs of an input: arrays, so that another process can train.

    content: hash of the input, which a checkpoint must agree with. samples: points (N, 3) and sdf (N,), float32,
    domain. pairs: points (P, 2, 3) and sdf (P, 2), or None. held_out: (M, 3) points of the surface, None for samples.
    validation: signed distances at `grid_points(--validationRes)`, or None. shown: the mesh in file units for the
    pictures of --logDir, or None. normals: points (M, 3) of the surface and its normals (M, 3), or None.
    """

    content: str
    transform: Transform
    samples: tuple[np.ndarray, np.ndarray]
    pairs: "Pairs | None" = None
    held_out: np.ndarray | None = None
    validation: np.ndarray | None = None
    shown: tuple[np.ndarray, np.ndarray] | None = None
    normals: tuple[np.ndarray, np.ndarray] | None = None


def load(source: Path, flags: SimpleNamespace, watch: Watch, gpu: Callable[[], int] = lambda: -1) -> tuple[Shape, str]:
    """Read a mesh, or labelled samples; and the hash of the very bytes that were read, as `content_of` computes it.

    gpu: number of the GPU that computes distances and signs, as for `DistanceOracle`; asked once the mesh has been
    read. Raises UserError or OSError.
    """
    if source.suffix.lower() == choices.SAMPLES_SUFFIX:
        with open_hashed(source) as (file, content):
            return load_labelled(source, file, flags, watch), content
    read = read_source(source)
    mesh = load_mesh(read, flags.reconstructionRes)
    for line in diagnosis_lines(mesh.diagnosis):
        say(line)
    oracle = DistanceOracle(mesh, flags.distanceEngine, gpu=gpu(), note=watch.note)
    return Shape(mesh.transform, mesh, oracle), read.content


def load_labelled(source: Path, file: BinaryIO, flags: SimpleNamespace, watch: Watch) -> Shape:
    """Read a samples file, which is open, and keep a fraction of it from training. Raises UserError.

    A note says if its signs had to be changed.
    """
    for name in ("targetError", "validationRes", "damError"):
        if getattr(flags, name, 0):
            raise UserError(f"{source}: --{name} needs a mesh; samples have no surface to look at: leave it out")
    points, sdf, transform = load_samples(source, file)
    sdf, line = negative_inside(source, points, sdf)
    if line:
        watch.note(line)
    order = random_stream(flags.seed, "held_out").permutation(len(points))
    count = min(HELD_OUT_SAMPLES, max(1, int(len(points) * HELD_OUT_FRACTION)))
    held_out, trained = order[:count], order[count:]
    if len(trained) == 0:
        raise UserError(f"{source}: too few samples to train on and to score; give at least 2")
    say(f"{len(points):,} samples, {count:,} of them kept from training to score it")
    return Shape(transform, samples=(points[trained], sdf[trained]), kept=(points[held_out], sdf[held_out]))


def labelled(shape: Shape, content: str, flags: SimpleNamespace, watch: Watch) -> Labelled:
    """The points that the flags ask for, labelled. Raises Interrupted."""
    return Labelled(
        content,
        shape.transform,
        with_near(label(shape, flags, watch), shape, flags, watch),
        label_pairs(shape, flags, watch),
        held_out_points(shape, flags.seed),
        validation_distances(shape, flags.validationRes),
        shape.mesh_in_file_units() if flags.logDir else None,
        drawn_normals(shape, flags.numNormals, flags.seed),
    )


def label(shape: Shape, flags: SimpleNamespace, watch: Watch) -> tuple[np.ndarray, np.ndarray]:
    """Labelled points (N, 3) and sdf (N,), float32, domain: those of the file, or newly drawn. Raises Interrupted."""
    if shape.samples is not None:
        return shape.samples
    with watch.count_bar("label", flags.num_points) as add:

        def progress(count: int) -> None:
            add(count)
            if watch.should_stop is not None and watch.should_stop():
                raise Interrupted("stopped on request")

        return draw_samples(
            flags.samplingMethod,
            shape.oracle,
            flags.num_points,
            random_stream(flags.seed, "samples"),
            importance_weight=flags.importanceWeight if flags.samplingMethod == "Importance" else None,
            uniform_ratio=flags.uniformRatio,
            progress=progress,
        )


def with_near(
    samples: tuple[np.ndarray, np.ndarray], shape: Shape, flags: SimpleNamespace, watch: Watch
) -> tuple[np.ndarray, np.ndarray]:
    """samples, and behind them those that --numNear asks for; none where samples come without a mesh."""
    if shape.oracle is None or flags.numNear == 0:
        return samples
    with watch.bar("label near points"):
        generator = random_stream(flags.seed, "near")
        near = near_surface_samples(shape.oracle, flags.numNear, generator, flags.importanceWeight)
    points, sdf = (np.concatenate(both) for both in zip(samples, near, strict=True))
    return points, sdf


def label_pairs(shape: Shape, flags: SimpleNamespace, watch: Watch) -> "Pairs | None":
    """The pairs of points that --numPairs asks for; None for none, and where samples come without a mesh."""
    if shape.oracle is None or flags.numPairs == 0:
        return None
    with watch.bar("label pairs"):
        return pair_samples(shape.oracle, flags.numPairs, random_stream(flags.seed, "pairs"))


def drawn_normals(shape: Shape, count: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The normals that --numNormals asks for; None for none, and where samples come without a mesh."""
    if shape.mesh is None or count == 0:
        return None
    return surface_normals(shape.mesh, count, random_stream(seed, "normals"))


def held_out_points(shape: Shape, seed: int) -> np.ndarray | None:
    """(HELD_OUT_POINTS, 3) points of the surface for the held-out curve; None for samples, which have no surface."""
    if shape.mesh is None:
        return None
    return points_on_surface(shape.mesh, HELD_OUT_POINTS, random_stream(seed, "held_out"))[0]


def validation_distances(shape: Shape, resolution: int) -> np.ndarray | None:
    """Signed distances at the grid of resolution^3 points; None where that is off or there is no mesh."""
    if resolution == 0 or shape.oracle is None:
        return None
    from neuralparts.metrics import grid_points  # brings scipy.special

    return shape.oracle.signed_distance(grid_points(resolution))
