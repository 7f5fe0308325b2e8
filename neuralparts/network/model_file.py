"""The file of a model: safetensors, that is tensors and a description in JSON, never pickle.

In: a path, a description that JSON can hold, tensors by name. Out: the same two again. It knows nothing of networks:
whoever reads a file hands in a function that compares the description with the tensors' shapes before any is read.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from neuralparts.errors import UserError, one_line
from neuralparts.foreign_files import fault_of_kind
from neuralparts.whole_file import write_whole
from neuralparts.wording import quoted

# Key of the description among the file's metadata, and the name and number of the format, which the description holds.
_KEY = "neural-sdf"
_FORMAT = "neural-sdf 1"
# Characters of a reason that a library gives; it may quote the file.
_LONGEST_REASON = 200

# Shapes of tensors by name.
Shapes = dict[str, tuple[int, ...]]


def write_model(path: str | os.PathLike, description: dict, tensors: dict[str, torch.Tensor]) -> None:
    """Write a model whole. Raises OSError."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {_KEY: json.dumps({"format": _FORMAT} | description)}
    write_whole(path, save(on_cpu, metadata=metadata))


def read_model(
    path: str | os.PathLike | bytes, check: Callable[[dict, Shapes], None], dtypes: Callable[[dict], dict[str, str]]
) -> tuple[dict, dict[str, torch.Tensor]]:
    """(description, tensors by name on the CPU) of a model file, or of the bytes of one.

    check, dtypes: see `read_tensors`. Raises FileNotFoundError, or UserError if `write_model` did not write the file,
    or wrote it in another format.
    """

    def check_format(description: dict, shapes: Shapes) -> None:
        found = description.pop("format", None)
        if found != _FORMAT:
            raise ValueError(f"format '{quoted(found)}', expected '{_FORMAT}'")
        check(description, shapes)

    try:
        if isinstance(path, bytes):
            with tempfile.TemporaryDirectory() as folder:  # the library reads the head of a file alone
                file = Path(folder) / "model.safetensors"
                file.write_bytes(path)
                return read_tensors(file, _KEY, check_format, dtypes)
        return read_tensors(path, _KEY, check_format, dtypes)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such model file") from None
    except ValueError as error:
        raise not_a_model(path, error) from error


def read_tensors(
    path: str | os.PathLike,
    key: str,
    check: Callable[[dict, Shapes], None],
    dtypes: Callable[[dict], dict[str, str]] = lambda description: {},
) -> tuple[dict, dict[str, torch.Tensor]]:
    """(JSON dictionary that the metadata hold under `key`, tensors by name on the CPU) of a safetensors file.

    check: called with the dictionary and the tensors' shapes before any tensor is read; it raises ValueError to refuse
    them. dtypes: gives for the dictionary the dtypes of tensors, such as {"layers": "F16"} for all layers.*, by the
    names of safetensors; the others are F32. Raises FileNotFoundError, or ValueError with the reason in one line, which
    does not name the file.
    """
    try:
        if fault := fault_of_kind(path):
            raise ValueError(fault)
        with safe_open(str(path), framework="pt", device="cpu") as file:
            description = json.loads((file.metadata() or {})[key])
            if not isinstance(description, dict):
                raise ValueError(f"the description is no dictionary: '{quoted(description)}'")
            check(description, _shapes(file, dtypes(description)))
            return description, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise
    except KeyError as error:
        raise ValueError(f"nothing is stored under {quoted(error)}") from error
    except RecursionError as error:
        raise ValueError("the description is nested too deeply") from error
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(quoted(one_line(error), _LONGEST_REASON)) from error
    except OSError as error:
        raise ValueError(error.strerror or one_line(error)) from error


def _shapes(file: Any, dtypes: dict[str, str]) -> Shapes:
    """Shapes of all tensors of an open safetensors file. Raises ValueError for a tensor of another dtype than `dtypes`
    has; see `read_tensors`."""
    shapes = {}
    for name in file.keys():  # noqa: SIM118 (not a dict)
        tensor = file.get_slice(name)
        expected = dtypes.get(name.partition(".")[0], "F32")
        if tensor.get_dtype() != expected:
            raise ValueError(f"tensor '{quoted(name)}' holds {quoted(tensor.get_dtype())}, not {expected}")
        shapes[name] = tuple(tensor.get_shape())
    return shapes


def not_a_model(path: str | os.PathLike | bytes, error: Exception) -> UserError:
    """The error for a file that holds no model: one line that names the file, says why, and what to do."""
    if isinstance(path, bytes):
        return UserError(f"not the bytes of a model written by this program ({one_line(error)}); fit the mesh again")
    is_named_so = os.fspath(path).lower().endswith(".safetensors")
    cure = "fit the mesh again" if is_named_so else "give the model, NAME.safetensors"
    return UserError(f"{path}: not a model written by this program ({one_line(error)}); {cure}")
