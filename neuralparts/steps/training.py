"""The fit of a part: the network that the flags describe, trained on the labelled points."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from neuralparts.domain import Transform
from neuralparts.fitting import FitHooks, FitResult, FitSettings, HeadStart, Member, fit_batch, relative_weights
from neuralparts.inputs import Labelled
from neuralparts.metrics import grid_points, mean_absolute_error
from neuralparts.network import DAM_WIDTHS, HashGrid, NeuralSDF, RefitPoints, fit_scaler, refit_finest_levels
from neuralparts.steps.event_log import EventLog
from neuralparts.watch import Watch
from neuralparts.widths import given_widths, search_identity
from neuralparts.wording import say

# Samples nearer to the surface than this, domain units, are fitted again with the normals: one of so many of them.
REFIT_WITHIN, REFIT_EVERY = 0.04, 5


def make_network(
    flags: SimpleNamespace, sdf: np.ndarray, transform: Transform, widths: tuple[int, ...] | None = None
) -> NeuralSDF:
    """The network that the flags describe, its scaler fitted to the targets sdf (N,).

    widths: hidden widths, by default those of the flags, which --damArch search does not say.
    """
    if widths is None:
        widths = DAM_WIDTHS if flags.damArch else given_widths(flags)
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
    data: Labelled,
    flags: SimpleNamespace,
    checkpoint: Path,
    log: EventLog | None,
    watch: Watch,
    head_start: HeadStart | None = None,
) -> FitResult:
    """Train the network in place. log: for --logDir. head_start: how far it is fitted already, or None."""
    with watch.bar("fit") as show:
        one = member(network, data, flags, checkpoint, log, watch, show)
        (outcome,) = fit_batch([replace(one, head_start=head_start)], fit_settings(flags))
    if isinstance(outcome, Exception):
        raise outcome
    tell_fit(network, outcome, watch)
    return outcome


def member(
    network: NeuralSDF,
    data: Labelled,
    flags: SimpleNamespace,
    checkpoint: Path,
    log: EventLog | None,
    watch: Watch,
    progress: Callable[[float, float], None] | None = None,
) -> Member:
    """A network, its samples, and what its fit calls and writes, for `fit_batch`. log: for --logDir."""
    # A checkpoint belongs to one content and one way of sampling it; FitSettings has the weight and the seed.
    sampled = ("num_points", "samplingMethod", "uniformRatio", "numNear", "numPairs", "distanceEngine")
    hooks = FitHooks(
        held_out=data.held_out,
        validate=validation(network, data.validation, flags.validationRes),
        progress=progress,
        log=log.write if log else None,
        checkpoint=checkpoint,
        checkpoint_seconds=flags.checkpointSeconds or None,
        identity={"content": data.content} | {name: getattr(flags, name) for name in sampled} | search_identity(flags),
        warn=watch.note,
        should_stop=watch.should_stop,
    )
    return Member(network, *data.samples, data.pairs, hooks, bool(flags.resume))


def refit(network: NeuralSDF, data: Labelled, result: FitResult, flags: SimpleNamespace, watch: Watch) -> None:
    """Fit the hash grid's finest levels once more, in place, to the normals that --numNormals asked for, and to samples
    near the surface. What does not lower the held-out error is taken back; a collapsed fit stays as it is."""
    if data.normals is None or result.collapsed:
        return
    on_surface = data.held_out, np.zeros(len(data.held_out), np.float32)
    device = network.layers[0].weight.device
    network.cpu()
    with watch.timed("fit"), watch.bar("fit the normals"):
        table, error = network.encoding.table.detach().clone(), mean_absolute_error(network.domain, *on_surface)
        refit_finest_levels(network, refit_points(data, flags.importanceWeight))
        if not mean_absolute_error(network.domain, *on_surface) < error:
            network.encoding.table.data.copy_(table)
            watch.note("the fit of the normals did not lower the held-out error: it was taken back")
    network.to(device)


def refit_points(data: Labelled, importance_weight: float) -> RefitPoints:
    """What the finest levels are fitted to: one of REFIT_EVERY samples near the surface, and the normals."""
    points, distances = data.samples
    near = np.flatnonzero(np.abs(distances) < REFIT_WITHIN)[::REFIT_EVERY]
    points, distances = points[near], distances[near]
    return RefitPoints(points, distances, relative_weights(distances, importance_weight), *data.normals)


def tell_fit(network: NeuralSDF, result: FitResult, watch: Watch) -> None:
    """Say how a fit ended."""
    if result.resumed_at:
        say(f"resumed from the checkpoint at {result.resumed_at:,} samples")
    if result.restarts:
        watch.note("the first attempt collapsed; this is the second, from the next seed")
    visits = f"{result.samples:,} sample visits"
    say(f"fitted {network.parameter_count:,} parameters in {visits}, ended by {result.ended_by}")


def validation(network: NeuralSDF, distances: np.ndarray | None, resolution: int) -> Callable[[], float] | None:
    """A function that scores the grid of resolution^3 points, whose signed distances are given; None without them."""
    if distances is None:
        return None
    points = grid_points(resolution)
    return lambda: mean_absolute_error(network.domain, points, distances)
