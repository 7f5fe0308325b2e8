"""The training loop: schedule, stopping, checkpoints, resuming.

In: a `NeuralSDF` and labelled points as arrays; it knows nothing of meshes or files of meshes. Out: the network fitted
in place, and a `FitResult`. All samples lie on the network's device for the whole fit; the loop reads nothing back from
it between checks and checkpoints. Same machine, same seed, same flags: same weights to the bit on the CPU, interrupted
or not, unless a clock ends the fit.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from neuralparts.choices import LOSSES, SCHEDULES
from neuralparts.errors import UserError
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.network import NeuralSDF, is_rounded, threads_for
from neuralparts.whole_file import write_whole

# DeepSDF's clamping distance (Park et al., 2019), domain units.
CLAMP_DISTANCE = 0.1
# Weight of a sample on the surface against one far away, of the weighted loss.
SURFACE_WEIGHT = 4.0
# Distance at which a sample weighs half as much as on the surface, of the relative loss, domain units.
RELATIVE_DISTANCE = 0.05
# Steps over which the rate of a fit with an encoding rises from 0: without them some fits collapsed (docs/log.md).
WARM_UP_STEPS = 30
# The loop looks at its loss and its held-out error this often: 100 times a fit; of a fit whose number of steps is not
# known beforehand every 50 steps, or after so many seconds if these are fewer steps.
CHECKS = 100
CHECK_STEPS = 50
CHECK_SECONDS = 1.0
# The held-out points of a check are at most this share of the samples since the last one, as a point costs a third of a
# sample: of a fit of few steps a check looks at fewer, but at this many. A fit with a target error looks at all.
HELD_OUT_SHARE, LEAST_HELD_OUT = 0.1, 64
# A fit has collapsed when its outputs vary less than this share of its targets.
COLLAPSED_SPREAD = 1e-3
# Points that are looked at to see a collapse.
COLLAPSE_POINTS = 8192
# Share of the learning rate that sines take: their frequency of 30 magnifies every step.
SINE_RATE = 0.2
CHECKPOINT_FORMAT = "neural-sdf-checkpoint 2"


class CollapseError(RuntimeError):
    """A fit that ended in NaN, in a constant, or without any sign change; the message says which. finite: the network
    gives numbers, so it can be kept and looked at."""

    def __init__(self, message: str, finite: bool = False):
        super().__init__(message)
        self.finite = finite


class CheckpointError(UserError):
    """A checkpoint that belongs to another fit or cannot be read; the message names the difference."""


@dataclass(frozen=True)
class FitSettings:
    """What the weights depend on, beside the samples and the network's shape.

    epochs: passes over the samples, each cut into whole batches, what is left over left out. learning_rate: Adam's
    rate; SOAP takes 5 times it; a network with an encoding reaches it after WARM_UP_STEPS. importance_weight: decay of
    the weighted loss with |d|, per domain unit.
    time_budget: seconds, 0 for none; it replaces `epochs`. target_error: domain units, 0 for none.
    """

    epochs: int = 4
    batch_size: int = 1024
    learning_rate: float = 1e-3
    init: str = "he_uniform"
    loss: str = "l1"
    schedule: str = "linear"
    optimizer: str = "soap"
    importance_weight: float = 60.0
    time_budget: float = 0.0
    target_error: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if self.loss not in LOSSES or self.schedule not in SCHEDULES:
            raise ValueError(f"unknown loss {self.loss!r} or schedule {self.schedule!r}")
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise ValueError("epochs, batch size and learning rate must be positive")


@dataclass
class FitResult:
    """How a fit ended. history: lists by name, one value a check (`validation`: one an epoch). collapsed: why the
    network, the second attempt's, stands for nothing, or ''."""

    ended_by: str = "epochs"
    collapsed: str = ""
    seconds: float = 0.0
    samples: int = 0
    restarts: int = 0
    resumed_at: int = 0
    history: dict[str, list[float]] = field(
        default_factory=lambda: {
            name: [] for name in ("samples", "seconds", "loss", "learning_rate", "held_out", "validation")
        }
    )


@dataclass(frozen=True)
class FitHooks:
    """What a fit calls and keeps beside its weights; none of it changes them.

    held_out: (M, 3) points of the zero level in random order, for `target_error` and the curve. validate: called after
    each epoch, its number is kept. progress: called with (share done in [0, 1], loss) at every check. should_stop:
    asked after every step. checkpoint: path that is read to resume, and written every `checkpoint_seconds` and when
    the fit is stopped; None seconds: never. identity: what it must agree in, by name. warn: called with a line when it
    cannot be written, which ends no fit.
    """

    held_out: np.ndarray | None = None
    validate: Callable[[], float] | None = None
    progress: Callable[[float, float], None] | None = None
    checkpoint: Path | None = None
    checkpoint_seconds: float | None = 30.0
    identity: dict = field(default_factory=dict)
    warn: Callable[[str], None] | None = None
    should_stop: Callable[[], bool] | None = None


class Interrupted(RuntimeError):
    """`should_stop` said so; the checkpoint, if one is written, holds the fit as it stands."""


def fit(
    network: NeuralSDF,
    points: np.ndarray,
    sdf: np.ndarray,
    settings: FitSettings,
    hooks: FitHooks | None = None,
    resume: bool = False,
) -> FitResult:
    """Fit `network` in place to points (N, 3) float32 and sdf (N,) float32, domain units, negative inside.

    A fit that collapses is begun once more from the next seed; one that collapses again is told by `collapsed`. Raises
    ValueError for samples of other shapes or with values that are not finite, CollapseError where the second attempt
    gives no numbers, CheckpointError for a checkpoint of another fit, Interrupted when the hooks ask to stop.
    """
    check_samples(points, sdf)
    hooks = hooks or FitHooks()
    for restarts in (0, 1):
        run = FitRun(network, points, sdf, settings, hooks, restarts)
        if resume and hooks.checkpoint is not None and hooks.checkpoint.is_file():
            run.load(hooks.checkpoint)
        try:
            with threads_for(network.encoding, network.widths, run.batch_size):
                run.to_the_end()
            return run.result
        except CollapseError as error:
            if run.result.restarts == 1 and not error.finite:
                raise
            if run.result.restarts == 1:
                run.result.collapsed = str(error)
                return run.result
            resume = False
        finally:
            network.eval()
    raise AssertionError("unreachable")


def check_samples(points: np.ndarray, sdf: np.ndarray) -> None:
    """Raise ValueError unless points are (N, 3), sdf (N,), N > 0, all finite."""
    if points.ndim != 2 or points.shape[1] != 3 or sdf.shape != (len(points),) or len(points) == 0:
        raise ValueError(f"samples need points (N, 3) and sdf (N,), N > 0; got {points.shape} and {sdf.shape}")
    if not (np.isfinite(points).all() and np.isfinite(sdf).all()):
        raise ValueError("samples hold values that are not finite")


class FitRun:
    """One attempt at a fit: its tensors, its place in the schedule, its checkpoint."""

    def __init__(
        self,
        network: NeuralSDF,
        points: np.ndarray,
        sdf: np.ndarray,
        settings: FitSettings,
        hooks: FitHooks,
        restarts: int,
    ):
        self.network, self.settings, self.hooks = network, settings, hooks
        self.result = FitResult(restarts=restarts)
        self.seed = settings.seed + restarts
        network.train()
        network.initialise(settings.init, generator_of(self.seed))
        device = next(network.parameters()).device
        distances = torch.as_tensor(sdf, dtype=torch.float32, device=device)
        points = torch.as_tensor(points, dtype=torch.float32, device=device)
        with torch.no_grad():
            weights = sample_weights(distances, settings)
            columns = [points, network.scaler(distances)[:, None], *([] if weights is None else [weights[:, None]])]
            self.limits = [network.scaler(distances.new_tensor(sign * CLAMP_DISTANCE)) for sign in (-1, 1)]
        # x, y, z, target and perhaps weight side by side: a batch then reads one place in memory for each sample.
        self.samples = torch.cat(columns, dim=1)
        self.parameters = list(network.parameters())
        encoded, rounded = network.encoding is not None, is_rounded(network.layers)
        self.optimizer = make_optimizer(settings.optimizer, self.parameters, encoded, rounded)
        self.peak_rate = settings.learning_rate * self.optimizer.rate
        if network.activation == "sine":
            self.peak_rate *= SINE_RATE
        self.batch_size = min(settings.batch_size, len(points))
        self.steps_an_epoch = len(points) // self.batch_size
        self.held_out = None
        if hooks.held_out is not None:
            self.held_out = torch.as_tensor(hooks.held_out, dtype=torch.float32, device=device)[: self.points_a_check]
        self.steps = 0
        self.loss_sum = torch.zeros((), device=device)
        self.loss_steps = 0
        self.order = None
        self.seconds_before = 0.0
        self.started = time.monotonic()
        self.checkpointed = self.checked = self.started
        self.warned = ""

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole fit, or None where the clock ends it."""
        return None if self.settings.time_budget else self.settings.epochs * self.steps_an_epoch

    @property
    def steps_a_check(self) -> int:
        """Steps between two checks, at the most."""
        return CHECK_STEPS if self.total_steps is None else max(1, self.total_steps // CHECKS)

    @property
    def points_a_check(self) -> int | None:
        """Held-out points that a check looks at, at the most; None for all."""
        if self.settings.target_error:
            return None
        return max(LEAST_HELD_OUT, int(HELD_OUT_SHARE * self.steps_a_check * self.batch_size))

    @property
    def seconds(self) -> float:
        """Seconds of fitting, those before an interruption counted in."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def share_done(self) -> float:
        """Place in the schedule, from 0 to 1: by samples, or by the clock where that ends the fit."""
        if self.total_steps is not None:
            return self.steps / self.total_steps
        return min(1.0, self.seconds / self.settings.time_budget)

    @property
    def warm_up(self) -> float:
        """Factor in (0, 1] of the learning rate in the first steps of a fit with an encoding."""
        return 1.0 if self.network.encoding is None else min(1.0, (self.steps + 1) / WARM_UP_STEPS)

    def to_the_end(self) -> None:
        """Take all steps. Raises CollapseError, Interrupted."""
        while (share := self.share_done) < 1:
            rate = self.peak_rate * rate_factor(self.settings.schedule, share) * self.warm_up
            self.step(rate)
            if self.steps % self.steps_an_epoch == 0 and self.hooks.validate is not None:
                self.result.history["validation"].append(self.hooks.validate())
            if self.check_is_due() and self.check(rate):
                break
            self.keep()
        else:
            self.result.ended_by = "timeBudget" if self.settings.time_budget else "epochs"
        self.result.seconds, self.result.samples = self.seconds, self.steps * self.batch_size
        self.raise_if_collapsed()

    def step(self, rate: float) -> None:
        """One batch, one step of the optimiser."""
        points, targets, weights = self.batch()
        loss = loss_of(self.network.scaled(points), targets, weights, self.settings.loss, self.limits)
        gradients = torch.autograd.grad(loss, self.parameters)
        self.optimizer.step(list(gradients), rate)
        self.loss_sum += loss.detach()
        self.loss_steps += 1
        self.steps += 1

    def batch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The next batch of this epoch's order; each epoch has its own, from the seed and its number alone."""
        epoch, index = divmod(self.steps, self.steps_an_epoch)
        if self.order is None or index == 0:
            order = torch.randperm(len(self.samples), generator=generator_of(self.seed * 1_000_003 + epoch))
            self.order = order.to(self.samples.device)
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        samples = self.samples.index_select(0, chosen)
        return samples[:, :3], samples[:, 3], samples[:, 4] if samples.shape[1] == 5 else None

    def check_is_due(self) -> bool:
        """Whether it is time for a check: by steps, and by the clock where that ends the fit."""
        if self.steps % self.steps_a_check == 0:
            return True
        return self.total_steps is None and time.monotonic() - self.checked >= CHECK_SECONDS

    def check(self, rate: float) -> bool:
        """Keep the curves, look for NaN; True when the target error is reached."""
        self.checked = time.monotonic()
        loss = float(self.loss_sum) / max(1, self.loss_steps)
        self.loss_sum.zero_()
        self.loss_steps = 0
        if not math.isfinite(loss):
            raise CollapseError("the loss is not a number any more: try a lower --learningRate")
        held_out = self.held_out_error()
        history = self.result.history
        for name, value in (
            ("samples", self.steps * self.batch_size),
            ("seconds", self.seconds),
            ("loss", loss),
            ("learning_rate", rate),
            ("held_out", held_out),
        ):
            history[name].append(value)
        if self.hooks.progress is not None:
            self.hooks.progress(self.share_done, loss)
        if self.settings.target_error and held_out <= self.settings.target_error:
            self.result.ended_by = "targetError"
            return True
        return False

    def keep(self) -> None:
        """Write a checkpoint when it is time or when the fit is asked to stop. Raises Interrupted."""
        hooks = self.hooks
        stop = hooks.should_stop is not None and hooks.should_stop()
        written = hooks.checkpoint is not None and hooks.checkpoint_seconds is not None
        if written and (stop or time.monotonic() - self.checkpointed >= hooks.checkpoint_seconds):
            self.save_or_warn(hooks.checkpoint)
            self.checkpointed = time.monotonic()
        if stop:
            raise Interrupted("stopped on request")

    def save_or_warn(self, path: Path) -> None:
        """Write a checkpoint; where it cannot be written say so once and go on: the next time may do."""
        try:
            self.save(path)
        except OSError as error:
            line = f"no checkpoint written: {path}: {error.strerror or error}"
            if line != self.warned and self.hooks.warn is not None:
                self.hooks.warn(line)
            self.warned = line

    def held_out_error(self) -> float:
        """Mean |f| over the held-out points of the surface, domain units; NaN where there are none."""
        if self.held_out is None:
            return math.nan
        with torch.no_grad():
            return float(self.network.domain(self.held_out).abs().mean())

    def raise_if_collapsed(self) -> None:
        """Raise CollapseError if the network is constant, not a number, or without the targets' sign change."""
        with torch.no_grad():
            points, targets = self.samples[:COLLAPSE_POINTS, :3], self.samples[:COLLAPSE_POINTS, 3]
            values = self.network.domain(points)
            distances = self.network.scaler.inverse(targets)
            spread, expected = float(values.std(correction=0)), float(distances.std(correction=0))
            signs_expected = bool((distances < 0).any()) and bool((distances > 0).any())
            signs_found = bool((values < 0).any()) and bool((values > 0).any())
        if not math.isfinite(spread):
            raise CollapseError("the network's values are not numbers: try a lower --learningRate")
        if spread < COLLAPSED_SPREAD * expected:
            constant = "the network collapsed to a constant: try a lower --learningRate or another --seed"
            raise CollapseError(constant, finite=True)
        if signs_expected and not signs_found:
            raise CollapseError("the network has one sign everywhere: try more --epochs or another --seed", finite=True)

    def identity(self) -> dict:
        """What a checkpoint must agree in to go on from it."""
        description = {
            key: value for key, value in self.network.description().items() if key not in ("center", "scale")
        }
        return asdict(self.settings) | description | {"samples": len(self.samples)} | self.hooks.identity

    def save(self, path: Path) -> None:
        """Write the whole state to `path` (safetensors), under another name first. Raises OSError."""
        from safetensors.torch import save

        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"optimizer.{key}": value for key, value in self.optimizer.state().items()}
        tensors |= {"loss_sum": self.loss_sum}
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        place = {
            "format": CHECKPOINT_FORMAT,
            "identity": self.identity(),
            "steps": self.steps,
            "loss_steps": self.loss_steps,
            "seconds": self.seconds,
            "restarts": self.result.restarts,
            "history": self.result.history,
        }
        write_whole(path, save(tensors, metadata={"fit": json.dumps(place)}))

    def load(self, path: Path) -> None:
        """Go on from a checkpoint. Raises CheckpointError if it belongs to another fit, naming the difference."""
        place, tensors = read_checkpoint(path)
        difference = first_difference(place["identity"], json.loads(json.dumps(self.identity())))
        if difference:
            raise CheckpointError(
                f"{path}: checkpoint of another fit ({difference}); remove it or leave out --resume 1"
            )
        network = {key.removeprefix("network."): value for key, value in tensors.items() if key.startswith("network.")}
        self.network.load_state_dict(network)
        self.optimizer.load(
            {key.removeprefix("optimizer."): v for key, v in tensors.items() if key.startswith("optimizer.")}
        )
        self.loss_sum.copy_(tensors["loss_sum"])
        self.steps, self.loss_steps = place["steps"], place["loss_steps"]
        self.seconds_before, self.started = place["seconds"], time.monotonic()
        self.seed = self.settings.seed + place["restarts"]
        self.result.restarts, self.result.history = place["restarts"], place["history"]
        self.result.resumed_at = self.steps * self.batch_size


def generator_of(seed: int) -> torch.Generator:
    """torch's generator of a seed of 0 or more, however large."""
    return torch.Generator().manual_seed(seed % 2**63)


def read_checkpoint(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """A checkpoint's place in its fit and its tensors. Raises CheckpointError if the file is no such thing."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            place = json.loads((file.metadata() or {})["fit"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint; remove it or leave out --resume 1") from error
    if place.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(f"{path}: checkpoint of another version; remove it or leave out --resume 1")
    return place, tensors


def first_difference(theirs: dict, ours: dict) -> str:
    """'name: checkpoint has X, this fit has Y' for the first name in which two identities differ, or ''."""
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            return f"{name}: checkpoint has {theirs.get(name)}, this fit has {ours.get(name)}"
    return ""


def rate_factor(schedule: str, share: float) -> float:
    """Factor of the learning rate at `share` in [0, 1] of the fit: linear and cosine fall from 1 to 0."""
    if schedule == "constant":
        return 1.0
    return 1 - share if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * share))


def sample_weights(distances: torch.Tensor, settings: FitSettings) -> torch.Tensor | None:
    """Weights (N,) of mean 1 that fall with |d| for the weighted and the relative loss; None for the others."""
    if settings.loss == "weighted":
        weights = 1 + (SURFACE_WEIGHT - 1) * torch.exp(-settings.importance_weight * distances.abs())
    elif settings.loss == "relative":
        weights = RELATIVE_DISTANCE / (RELATIVE_DISTANCE + distances.abs())
    else:
        return None
    return weights / weights.mean()


def loss_of(
    values: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None,
    loss: str,
    limits: list[torch.Tensor],
) -> torch.Tensor:
    """Loss of scaled values against scaled targets, both (B,): l2, clamp (l1 of both clamped), or l1, weighted (B,)."""
    if loss == "clamp":
        values, targets = torch.clamp(values, *limits), torch.clamp(targets, *limits)
    errors = values - targets
    if loss == "l2":
        return (errors * errors).mean()
    return errors.abs().mean() if weights is None else (errors.abs() * weights).mean()
