"""A model as a Python module that needs numpy and safetensors alone, and its weights beside.

In: a model, the path of the module. Out: the module, with a function for the signed distance and one for its gradient,
and its weights in float32, from which it reads: the model's own file NAME.safetensors, or for a model in another
precision NAME.weights.safetensors. The code is templates/numpy_module.py.j2.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from neuralparts.errors import UserError
from neuralparts.export.network_arrays import NetworkArrays, network_arrays
from neuralparts.export.templating import render
from neuralparts.network import NeuralSDF
from neuralparts.whole_file import write_whole


def write_numpy_module(sdf: NeuralSDF, out: Path) -> list[Path]:
    """Write the module and the weights beside it, unless they lie there already; returns both paths.

    Raises UserError if there is another file of that name.
    """
    is_plain = sdf.precision.name == "float32"
    weights = out.with_suffix(".safetensors" if is_plain else ".weights.safetensors")
    if not weights.exists():
        if is_plain:
            sdf.save(weights)
        else:
            write_whole(weights, save({name: value.cpu().contiguous() for name, value in sdf.state_dict().items()}))
    elif not (holds_model if is_plain else holds_tensors)(weights, sdf):
        raise UserError(f"{weights}: exists and holds something else; give the module another name")
    write_whole(out, module_text(network_arrays(sdf), weights.name).encode())
    return [out, weights]


def holds_model(path: Path, sdf: NeuralSDF) -> bool:
    """True if the file holds a model with this description and these tensors."""
    try:
        other = NeuralSDF.load(path)
    except (ValueError, OSError):
        return False
    return other.description() == sdf.description() and _are_equal(other.state_dict(), sdf)


def holds_tensors(path: Path, sdf: NeuralSDF) -> bool:
    """True if the file holds these tensors, of a model or alone."""
    try:
        return _are_equal(load_file(path), sdf)
    except (SafetensorError, OSError):
        return False


def _are_equal(tensors: dict[str, torch.Tensor], sdf: NeuralSDF) -> bool:
    """True if these are the tensors of the model, in its dtype."""
    own = sdf.state_dict()
    same_kinds = {name: value.dtype for name, value in tensors.items()} == {name: own[name].dtype for name in own}
    return same_kinds and all(torch.equal(own[name].cpu(), tensors[name]) for name in own)


def module_text(arrays: NetworkArrays, weights: str) -> str:
    """The text of the module. weights: the name of the model's file."""
    return render(
        "numpy_module.py.j2",
        weights=weights,
        layers=len(arrays.layers),
        inputs=arrays.inputs,
        center=arrays.transform.center.tolist(),
        scale=arrays.transform.scale,
        activation=arrays.activation,
        scaler=arrays.scaler,
        lowest=float(arrays.constants.get("lowest", 0)),
        highest=float(arrays.constants.get("highest", 0)),
        grid=arrays.grid is not None,
        **grid_values(arrays),
    )


def grid_values(arrays: NetworkArrays) -> dict[str, Any]:
    """What the template needs of the hash grid, if there is one."""
    grid = arrays.grid
    if grid is None:
        return {}
    rows = zip(grid.resolutions.tolist(), grid.starts.tolist(), grid.dense.tolist(), strict=True)
    return {"levels": list(rows), "mask": grid.table_size - 1}
