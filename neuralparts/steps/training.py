"""The fit of a part: the network that the flags describe, trained on the labelled points."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from neuralparts import choices
from neuralparts.domain import Transform
from neuralparts.fitting import FitHooks, FitResult, FitSettings, Pairs, fit
from neuralparts.metrics import grid_points, mean_absolute_error
from neuralparts.network import DAM_WIDTHS, HashGrid, NeuralSDF, fit_scaler
from neuralparts.sampling import points_on_surface
from neuralparts.steps.event_log import EventLog
from neuralparts.steps.inputs import Shape
from neuralparts.steps.random_streams import random_stream
from neuralparts.watch import Watch
from neuralparts.wording import say

# Points of the surface for the curve of the held-out error and for --targetError; the final metrics draw their own.
HELD_OUT_POINTS = 1024


def make_network(flags: SimpleNamespace, sdf: np.ndarray, transform: Transform) -> NeuralSDF:
    """The network that the flags describe, its scaler fitted to the targets sdf (N,)."""
    widths = DAM_WIDTHS if flags.damArch else (flags.layerWidth,) * (flags.numLayers or choices.NUM_LAYERS)
    encoding = None
    if flags.encoding == "hashgrid":
        encoding = HashGrid(
            levels=flags.hashLevels,
            features=flags.hashFeatures,
            base_resolution=flags.hashBaseRes,
            finest_resolution=flags.hashFinestRes,
            log2_table_size=flags.hashTableLog2,
        )
    scaler = fit_scaler(flags.scaler, sdf)
    return NeuralSDF(widths, flags.activation, encoding, scaler, transform.center, transform.scale)


def fit_settings(flags: SimpleNamespace) -> FitSettings:
    """What the flags say about the fit itself."""
    return FitSettings(
        epochs=flags.epochs,
        batch_size=flags.batchSize,
        learning_rate=flags.learningRate,
        init=flags.init,
        loss=flags.loss,
        schedule=flags.schedule,
        optimizer=flags.optimizer,
        importance_weight=flags.importanceWeight,
        time_budget=flags.timeBudget,
        target_error=flags.targetError,
        seed=flags.seed,
    )


def fit_network(
    network: NeuralSDF,
    samples: tuple[np.ndarray, np.ndarray],
    pairs: Pairs | None,
    shape: Shape,
    content: str,
    flags: SimpleNamespace,
    checkpoint: Path,
    log: EventLog | None,
    watch: Watch,
) -> FitResult:
    """Train the network in place. content: hash of the input, which a checkpoint must agree with. log: for --logDir."""
    # A checkpoint belongs to one content and one way of sampling it; FitSettings has the weight and the seed.
    sampled = ("num_points", "samplingMethod", "uniformRatio", "numPairs", "distanceEngine")
    identity = {"content": content} | {name: getattr(flags, name) for name in sampled}
    with watch.bar("fit") as show:
        hooks = FitHooks(
            held_out=held_out_points(shape, flags.seed),
            validate=validation(shape, network, flags.validationRes),
            progress=show,
            log=log.write if log else None,
            checkpoint=checkpoint,
            checkpoint_seconds=flags.checkpointSeconds or None,
            identity=identity,
            warn=watch.note,
            should_stop=watch.should_stop,
        )
        result = fit(network, *samples, fit_settings(flags), hooks, resume=bool(flags.resume), pairs=pairs)
    if result.resumed_at:
        say(f"resumed from the checkpoint at {result.resumed_at:,} samples")
    if result.restarts:
        watch.note("the first attempt collapsed; this is the second, from the next seed")
    visits = f"{result.samples:,} sample visits"
    say(f"fitted {network.parameter_count:,} parameters in {visits}, ended by {result.ended_by}")
    return result


def held_out_points(shape: Shape, seed: int) -> np.ndarray | None:
    """(HELD_OUT_POINTS, 3) points of the surface for the held-out curve; None for samples, which have no surface."""
    if shape.mesh is None:
        return None
    return points_on_surface(shape.mesh, HELD_OUT_POINTS, random_stream(seed, "held_out"))[0]


def validation(shape: Shape, network: NeuralSDF, resolution: int) -> Callable[[], float] | None:
    """A function that scores the grid of resolution^3 points; None where that is off or there is no mesh."""
    if resolution == 0 or shape.oracle is None:
        return None
    points = grid_points(resolution)
    distances = shape.oracle.signed_distance(points)
    return lambda: mean_absolute_error(network.domain, points, distances)
