"""Checkpoints: the whole state of a fit in one file, so that it resumes to the bit.

In: a `FitState`, and an identity that says which fit it belongs to. Out: a safetensors file of tensors and JSON, and
from it the state again. A checkpoint of another fit is refused; the message names the difference.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from neuralparts.errors import CheckpointError
from neuralparts.fitting.adam import Adam
from neuralparts.fitting.settings import FitHooks, FitSettings, empty_history
from neuralparts.fitting.soap import Soap
from neuralparts.network import NeuralSDF
from neuralparts.whole_file import write_whole

CHECKPOINT_FORMAT = "neural-sdf-checkpoint 3"
# Fields of a state that the file holds as JSON; the others are tensors.
_PLAIN_FIELDS = ("attempt", "steps", "loss_steps", "seconds", "history")


@dataclass
class FitState:
    """All that changes during a fit and that its next steps depend on.

    network, optimizer: changed in place by every step. attempt: 0, or 1 after a collapse; the weights and the order of
    the samples come from the seed plus this number. steps: taken so far. loss_sum, shape (), and loss_steps: sum of the
    losses since the last check, and how many. seconds: of fitting until this state was made or read. history: curves.
    """

    network: NeuralSDF
    optimizer: Adam | Soap
    loss_sum: torch.Tensor
    attempt: int = 0
    steps: int = 0
    loss_steps: int = 0
    seconds: float = 0.0
    history: dict[str, list[float]] = field(default_factory=empty_history)


def fit_identity(network: NeuralSDF, settings: FitSettings, sample_count: int, more: dict) -> dict:
    """All that a checkpoint must agree in with a fit, by name, as JSON can hold it. more: `FitHooks.identity`."""
    # The map to file units changes no weight.
    shape = {name: value for name, value in network.description().items() if name not in ("center", "scale")}
    return asdict(settings) | shape | {"samples": sample_count} | more


def write_checkpoint(path: Path, state: FitState, identity: dict) -> None:
    """Write a state whole. Raises OSError."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in state.optimizer.state().items()}
    tensors["loss_sum"] = state.loss_sum
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    plain = {name: getattr(state, name) for name in _PLAIN_FIELDS}
    plain |= {"format": CHECKPOINT_FORMAT, "identity": identity}
    write_whole(path, save(tensors, metadata={"fit": json.dumps(plain)}))


def restore_checkpoint(path: Path, state: FitState, identity: dict) -> None:
    """Replace a state by that of a checkpoint, in place.

    Raises CheckpointError if the file cannot be read, or if its identity is another.
    """
    plain, tensors = _read(path)
    if difference := first_difference(plain["identity"], json.loads(json.dumps(identity))):
        raise CheckpointError(f"{path}: checkpoint of another fit ({difference}); remove it or leave out --resume 1")
    state.network.load_state_dict(_under("network.", tensors))
    state.optimizer.load(_under("optimizer.", tensors))
    state.loss_sum.copy_(tensors["loss_sum"])
    for name in _PLAIN_FIELDS:
        setattr(state, name, plain[name])


def first_difference(theirs: dict, ours: dict) -> str:
    """'name: checkpoint has X, this fit has Y' for the first name in which two identities differ, or ''."""
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            return f"{name}: checkpoint has {theirs.get(name)}, this fit has {ours.get(name)}"
    return ""


class CheckpointWriter:
    """Writes the checkpoints of one fit, at most one every `hooks.checkpoint_seconds`; if that is None, none.

    A checkpoint that cannot be written ends no fit: `hooks.warn` is called once per reason, and the next one is tried.
    """

    def __init__(self, hooks: FitHooks, identity: dict):
        self._path = None if hooks.checkpoint_seconds is None else hooks.checkpoint
        self._hooks, self._identity = hooks, identity
        self._written = hooks.clock()
        self._warned = ""

    def write_if_due(self, state: FitState, seconds: Callable[[], float], is_last: bool) -> None:
        """Write a checkpoint if enough time has passed since the last one, or if this is the last chance.

        seconds: returns the seconds of fitting until now.
        """
        clock = self._hooks.clock
        if self._path is None or not (is_last or clock() - self._written >= self._hooks.checkpoint_seconds):
            return
        try:
            write_checkpoint(self._path, replace(state, seconds=seconds()), self._identity)
        except OSError as error:
            self._warn_once(f"no checkpoint written: {self._path}: {error.strerror or error}")
        self._written = clock()

    def _warn_once(self, line: str) -> None:
        """Hand a line to `hooks.warn`, unless it was the last one already."""
        if line != self._warned and self._hooks.warn is not None:
            self._hooks.warn(line)
        self._warned = line


def _read(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """The JSON and the tensors, by name and on the CPU, of a checkpoint. Raises CheckpointError."""
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            plain = json.loads((file.metadata() or {})["fit"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint; remove it or leave out --resume 1") from error
    if plain.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(f"{path}: checkpoint of another version; remove it or leave out --resume 1")
    return plain, tensors


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
