"""Networks that others published: Keras weights (HDF5) of dense layers, read as a `NeuralSDF`.

In: an .h5 file as Davies, Nowrouzezahrai, Jacobson published for Thingi10k (2020): layers in order, each with a kernel
(inputs, outputs) and a bias, ReLU between them and tanh at the end; inside is negative. The file holds weights alone:
the activations are those of that set. Out: a model like any other, whose file units are the network's own coordinates.
The package h5py is an optional extra.
"""

import os
from types import ModuleType
from typing import Any

import numpy as np
import torch

from neuralparts.domain import DOMAIN_RADIUS
from neuralparts.errors import UserError, missing_package, one_line
from neuralparts.foreign_files import fault_of_kind
from neuralparts.network.neural_sdf import NeuralSDF
from neuralparts.network.scalers import QuantileTransformer
from neuralparts.wording import quoted

# The published networks lie in a sphere of radius 1 / 1.1 about the origin of their coordinates, up to their own error.
# So this many domain units are one of theirs.
PUBLISHED_SCALE = 1.1 * DOMAIN_RADIUS
# tanh at the end, as a piecewise linear map between so many knots up to this number: 4e-7 from tanh up to there, and
# constant beyond, where tanh is within 0.0007 of 1.
_KNOTS, _LAST_KNOT = 4097, 4.0


def read_keras_file(path: str | os.PathLike) -> NeuralSDF:
    """Read a published network. Needs the package h5py.

    The tanh becomes the inverse of a QuantileTransformer with equal steps. Raises FileNotFoundError, or UserError if
    h5py is missing or the file holds no such network.
    """
    h5py = _import_h5py()
    try:
        if fault := fault_of_kind(path):
            raise ValueError(fault)
        with h5py.File(path, "r") as file:
            layers = _read_layers(file, os.path.getsize(path))
        return _make_model(layers, {"source": os.path.basename(path)})
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: not a published Keras network ({quoted(one_line(error), 200)})") from error


def _import_h5py() -> ModuleType:
    """The package h5py. Raises UserError if it is missing."""
    try:
        import h5py
    except ImportError as error:
        raise missing_package("a Keras file", "h5py", "export") from error
    return h5py


def _read_layers(file: Any, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weight (outputs, inputs), bias (outputs,)) of every layer with weights, float32. size: bytes of the file.

    Raises ValueError or KeyError for anything else than dense layers that follow each other from 3 inputs to 1 output.
    """
    layers, inputs = [], 3
    for name in file.attrs["layer_names"]:
        group = file[name]
        names = list(group.attrs["weight_names"])
        if not names:
            continue  # a layer without weights, such as an activation
        if len(names) != 2:
            raise ValueError(f"layer '{quoted(name)}' has {len(names)} arrays, not a kernel and a bias")
        kernel, bias = group[names[0]], group[names[1]]
        outputs = kernel.shape[-1] if kernel.ndim == 2 else 0
        if outputs < 1 or kernel.shape != (inputs, outputs) or bias.shape != (outputs,):
            raise ValueError(f"layer '{quoted(name)}' has the shapes {kernel.shape} and {bias.shape} after {inputs}")
        if 4 * kernel.size > size:  # promised, and not stored
            raise ValueError(f"layer '{quoted(name)}' promises more numbers than the file holds")
        weight, bias = (np.asarray(array, dtype=np.float32) for array in (kernel, bias))
        layers.append((np.ascontiguousarray(weight.T), bias))
        inputs = outputs
    if len(layers) < 2 or inputs != 1:
        raise ValueError(f"{len(layers)} dense layers that end in {inputs} outputs; expected two or more, and 1 output")
    if not all(np.isfinite(array).all() for layer in layers for array in layer):
        raise ValueError("a weight is NaN or infinite")
    return layers


def _make_model(layers: list[tuple[np.ndarray, np.ndarray]], about: dict) -> NeuralSDF:
    """The model of these layers: a function of domain coordinates, whose first layer undoes their scale."""
    widths = tuple(len(bias) for _, bias in layers[:-1])
    knots = np.linspace(-_LAST_KNOT, _LAST_KNOT, _KNOTS)
    scaler = QuantileTransformer((PUBLISHED_SCALE * np.tanh(knots)).astype(np.float32), knots.astype(np.float32))
    model = NeuralSDF(widths, "relu", None, scaler, scale=PUBLISHED_SCALE, about=about)
    with torch.no_grad():
        for linear, (weight, bias) in zip(model.layers[::2], layers, strict=True):
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        model.layers[0].weight.div_(PUBLISHED_SCALE)
    return model
