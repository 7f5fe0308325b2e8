"""Checkpoints: the whole state of a fit in one file, so that it resumes to the bit.

In: a `FitState`, and an identity that says which fit it belongs to. Out: a safetensors file of tensors and JSON, and
from it the state again. A checkpoint of another fit is refused; the message names the difference.
"""

import json
import math
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from neuralparts.errors import CheckpointError
from neuralparts.fitting.adam import Adam
from neuralparts.fitting.averaged_weights import AveragedWeights
from neuralparts.fitting.settings import FitHooks, FitSettings, empty_history
from neuralparts.fitting.soap import Soap
from neuralparts.network import NeuralSDF, read_tensors
from neuralparts.whole_file import write_whole
from neuralparts.wording import quoted

CHECKPOINT_FORMAT = "neural-sdf-checkpoint 3"
# Fields of a state that the file holds as JSON; the others are tensors.
_PLAIN_FIELDS = ("attempt", "steps", "loss_steps", "seconds", "history")
# The optimiser counts its steps in float32, which ends here.
_LAST_COUNTED_STEP = 2**24


@dataclass
class FitState:
    """All that changes during a fit and that its next steps depend on.

    network, optimizer: changed in place by every step. attempt: 0, or 1 after a collapse; the weights and the order of
    the samples come from the seed plus this number. steps: taken so far. loss_sum, shape (), and loss_steps: sum of the
    losses since the last check, and how many. seconds: of fitting until this state was made or read, an earlier attempt
    included. history: curves. average: of the weights, for a target error, else None.
    """

    network: NeuralSDF
    optimizer: Adam | Soap
    loss_sum: torch.Tensor
    attempt: int = 0
    steps: int = 0
    loss_steps: int = 0
    seconds: float = 0.0
    history: dict[str, list[float]] = field(default_factory=empty_history)
    average: AveragedWeights | None = None


def fit_identity(network: NeuralSDF, settings: FitSettings, sample_count: int, more: dict) -> dict:
    """All that a checkpoint must agree in with a fit, by name, as JSON can hold it. more: `FitHooks.identity`."""
    # The map to file units changes no weight.
    shape = {name: value for name, value in network.description().items() if name not in ("center", "scale")}
    return asdict(settings) | shape | {"samples": sample_count} | more


def write_checkpoint(path: Path, state: FitState, identity: dict) -> None:
    """Write a state whole. Raises OSError."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors_of(state).items()}
    plain = {name: getattr(state, name) for name in _PLAIN_FIELDS}
    plain |= {"format": CHECKPOINT_FORMAT, "identity": identity}
    write_whole(path, save(tensors, metadata={"fit": json.dumps(plain)}))


def restore_checkpoint(path: Path, state: FitState, identity: dict) -> None:
    """Replace a state by that of a checkpoint, in place.

    Raises CheckpointError if the file cannot be read, if its identity is another, or if its content is not that of a
    fit; the state is then as it was. Weights that are not finite are taken over: the fit goes on to the collapse that
    it had reached.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in _tensors_of(state).items()}

    def check(plain: dict, found: dict[str, tuple[int, ...]]) -> None:
        _check_identity(path, plain, json.loads(json.dumps(identity)))
        _check_plain(plain)
        if found != shapes:
            names = [name for name in sorted(found.keys() | shapes.keys()) if found.get(name) != shapes.get(name)]
            raise ValueError(f"the tensor '{quoted(names[0])}' is not that of this fit")

    try:
        plain, tensors = read_tensors(path, "fit", check)
        _check_values(plain, tensors, state.network.scaler)
    except CheckpointError:
        raise
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error
    state.network.load_state_dict(_under("network.", tensors))
    state.optimizer.load(_under("optimizer.", tensors))
    state.loss_sum.copy_(tensors["loss_sum"])
    for name, tensor in _average_of(state).items():
        tensor.detach().copy_(tensors[name])
    for name in _PLAIN_FIELDS:
        setattr(state, name, plain[name])


def checkpoint_widths(path: Path) -> tuple[int, ...]:
    """The hidden widths of the network whose fit a checkpoint holds. Raises CheckpointError if it cannot be read."""

    def check(plain: dict, found: dict[str, tuple[int, ...]]) -> None:
        _check_format(path, plain)
        widths = plain["identity"].get("widths")
        if not (isinstance(widths, list) and widths and all(type(width) is int for width in widths)):
            raise ValueError("it does not say its widths")
        if any(found.get(f"network.layers.{2 * index}.bias") != (width,) for index, width in enumerate(widths)):
            raise ValueError("its widths are not those of its tensors")

    try:
        return tuple(read_tensors(path, "fit", check)[0]["identity"]["widths"])
    except CheckpointError:
        raise
    except (ValueError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that is no checkpoint, or a damaged one."""
    return CheckpointError(f"{path}: not a readable checkpoint ({error}); remove it or leave out --resume 1")


def _tensors_of(state: FitState) -> dict[str, torch.Tensor]:
    """All tensors of a state, by the names that they have in a checkpoint."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in state.optimizer.state().items()}
    return tensors | _average_of(state) | {"loss_sum": state.loss_sum}


def _average_of(state: FitState) -> dict[str, torch.Tensor]:
    """The tensors of a state's averaged weights, by the names that they have in a checkpoint."""
    return {} if state.average is None else {f"average.{name}": tensor for name, tensor in state.average.tensors()}


def _check_format(path: Path, plain: dict) -> None:
    """Raise CheckpointError for a checkpoint of another version, ValueError for one of no fit."""
    if plain.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(f"{path}: checkpoint of another version; remove it or leave out --resume 1")
    if not isinstance(plain.get("identity"), dict):
        raise ValueError("it does not say which fit it belongs to")


def _check_identity(path: Path, plain: dict, identity: dict) -> None:
    """Raise CheckpointError for a checkpoint of another version or of another fit, ValueError for one of no fit."""
    _check_format(path, plain)
    if difference := first_difference(plain["identity"], identity):
        raise CheckpointError(f"{path}: checkpoint of another fit ({difference}); remove it or leave out --resume 1")


def _check_plain(plain: dict) -> None:
    """Raise ValueError unless the fields that are no tensors are those of a fit."""
    attempt, steps, loss_steps = (plain.get(name) for name in ("attempt", "steps", "loss_steps"))
    whole = all(type(value) is int for value in (attempt, steps, loss_steps))
    if not whole or attempt not in (0, 1) or not 0 <= loss_steps <= steps < 2**53:
        raise ValueError("its counts of attempts and steps are none that a fit has")
    seconds, history = plain.get("seconds"), plain.get("history")
    if not (type(seconds) in (int, float) and 0 <= seconds < math.inf):
        raise ValueError("its seconds are no time")
    if (
        not isinstance(history, dict)
        or history.keys() != empty_history().keys()
        or not all(map(_is_curve, history.values()))
    ):
        raise ValueError("its curves are none that a fit has")
    if len({len(curve) for name, curve in history.items() if name != "validation"}) > 1:
        raise ValueError("its curves have different lengths")


def _is_curve(values: object) -> bool:
    """True for a list of floats, and of ints that a float can hold; JSON gives NaN as a float."""
    return isinstance(values, list) and all(
        type(value) is float or (type(value) is int and abs(value) < 2**53) for value in values
    )


def _check_values(plain: dict, tensors: dict[str, torch.Tensor], scaler: nn.Module) -> None:
    """Raise ValueError unless the optimiser has taken the fit's steps and the scaler is one. scaler: the fit's own.

    With a head start the optimiser has taken fewer.
    """
    for name in tensors.keys() & {"optimizer.steps", "optimizer.adam.steps"}:
        if not 0 <= float(tensors[name]) <= min(plain["steps"], _LAST_COUNTED_STEP):
            raise ValueError("the steps of the fit and of its optimiser differ")
    if not 0 < float(tensors.get("average.rate_factor", 1)) <= 1:
        raise ValueError("the factor of its learning rate is not between 0 and 1")
    saved = deepcopy(scaler)
    saved.load_state_dict(_under("network.scaler.", tensors))
    if fault := saved.fault():
        raise ValueError(f"{saved.name}: {fault}")


def first_difference(theirs: dict, ours: dict) -> str:
    """'name: checkpoint has X, this fit has Y' for the first name in which two identities differ, or ''.

    What the checkpoint has is cut, and its characters that do not print are escaped.
    """
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            return f"{quoted(name)}: checkpoint has {quoted(theirs.get(name))}, this fit has {quoted(ours.get(name))}"
    return ""


class CheckpointWriter:
    """Writes the checkpoints of one fit, at most one every `hooks.checkpoint_seconds`; if that is None, none.

    A checkpoint that cannot be written ends no fit: `hooks.warn` is called once per reason, and the next one is tried.
    written: reading of the fit's clock when the last one was written, or the fit began.
    """

    def __init__(self, hooks: FitHooks, identity: dict):
        self._path = None if hooks.checkpoint_seconds is None else hooks.checkpoint
        self._hooks, self._identity = hooks, identity
        self.written = hooks.clock()
        self._warned = ""

    @property
    def is_on(self) -> bool:
        """False if no checkpoint is ever written."""
        return self._path is not None

    def is_due(self, now: float) -> bool:
        """True if enough time has passed since the last checkpoint."""
        return now - self.written >= self._hooks.checkpoint_seconds

    def write(self, state: FitState, seconds: float) -> None:
        """Write a checkpoint. seconds: of fitting until now."""
        try:
            write_checkpoint(self._path, replace(state, seconds=seconds), self._identity)
        except OSError as error:
            self._warn_once(f"no checkpoint written: {self._path}: {error.strerror or error}")

    def _warn_once(self, line: str) -> None:
        """Hand a line to `hooks.warn`, unless it was the last one already."""
        if line != self._warned and self._hooks.warn is not None:
            self._hooks.warn(line)
        self._warned = line


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
