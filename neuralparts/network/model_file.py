"""The file of a model: safetensors, that is tensors and a description in JSON, never pickle.

In: a path, a description that JSON can hold, tensors by name. Out: the same two again. It knows nothing of networks.
"""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from neuralparts.errors import UserError, one_line
from neuralparts.whole_file import write_whole

# Key of the description among the file's metadata, and the name and number of the format, which the description holds.
_KEY = "neural-sdf"
_FORMAT = "neural-sdf 1"


def write_model(path: str | os.PathLike, description: dict, tensors: dict[str, torch.Tensor]) -> None:
    """Write a model whole. Raises OSError."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {_KEY: json.dumps({"format": _FORMAT} | description)}
    write_whole(path, save(on_cpu, metadata=metadata))


def read_model(path: str | os.PathLike) -> tuple[dict, dict[str, torch.Tensor]]:
    """(description, tensors by name on the CPU) of a model file.

    Raises FileNotFoundError, or UserError if `write_model` did not write the file, or wrote it in another format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            description = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        found = description.pop("format", None)
        if found != _FORMAT:
            raise ValueError(f"format {found!r}, expected {_FORMAT!r}")
    except (SafetensorError, KeyError, ValueError) as error:
        raise not_a_model(path, error) from error
    return description, tensors


def not_a_model(path: str | os.PathLike, error: Exception) -> UserError:
    """The error for a file that holds no model: one line that names the file, says why, and says to fit again."""
    return UserError(f"{path}: not a model written by this program ({one_line(error)}); fit the mesh again")
