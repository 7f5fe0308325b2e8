"""The first steps of a part: a mesh or samples file in, labelled points out."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import numpy as np

from neuralparts import choices
from neuralparts.distance import DistanceOracle
from neuralparts.domain import Transform
from neuralparts.errors import Interrupted, UserError
from neuralparts.fitting import Pairs
from neuralparts.mesh import Mesh, diagnosis_lines, load_mesh
from neuralparts.mesh_files import open_hashed, read_source
from neuralparts.sampling import draw_samples, load_samples, negative_inside, pair_samples
from neuralparts.steps.random_streams import random_stream
from neuralparts.watch import Watch
from neuralparts.wording import say

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


def load(source: Path, flags: SimpleNamespace, watch: Watch, gpu: int | None = -1) -> tuple[Shape, str]:
    """Read a mesh, or labelled samples; and the hash of the very bytes that were read, as `content_of` computes it.

    gpu: may compute distances and signs, as for `DistanceOracle`. Raises UserError or OSError.
    """
    if source.suffix.lower() == choices.SAMPLES_SUFFIX:
        with open_hashed(source) as (file, content):
            return load_labelled(source, file, flags, watch), content
    read = read_source(source)
    mesh = load_mesh(read, flags.reconstructionRes)
    for line in diagnosis_lines(mesh.diagnosis):
        say(line)
    return Shape(mesh.transform, mesh, DistanceOracle(mesh, flags.distanceEngine, gpu=gpu)), read.content


def load_labelled(source: Path, file: BinaryIO, flags: SimpleNamespace, watch: Watch) -> Shape:
    """Read a samples file, which is open, and keep a fraction of it from training. Raises UserError.

    A note says if its signs had to be changed.
    """
    for name in ("targetError", "validationRes"):
        if getattr(flags, name):
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


def label_pairs(shape: Shape, flags: SimpleNamespace, watch: Watch) -> Pairs | None:
    """The pairs of points that --numPairs asks for; None for none, and where samples come without a mesh."""
    if shape.oracle is None or flags.numPairs == 0:
        return None
    with watch.bar("label pairs"):
        return pair_samples(shape.oracle, flags.numPairs, random_stream(flags.seed, "pairs"))
