"""A model as one C header without dependencies, which is C++ too.

In: a model, the path of the header. Out: the header with the network as arrays, a function for the signed distance, one
for its analytic gradient. The code is templates/c_header.h.j2; here its numbers are written.

A million numbers as decimals take gcc and clang about four seconds; as bit patterns they would take half of that, but
the header would depend on the order of the bytes in a word, or on a union that C++ does not promise to understand.
"""

from pathlib import Path
from typing import Any

import numpy as np

from neuralparts.export.names import identifier
from neuralparts.export.network_arrays import GridArrays, Layer, NetworkArrays, check_range, network_arrays
from neuralparts.export.templating import render
from neuralparts.network import NeuralSDF
from neuralparts.whole_file import write_whole

# Widths are padded with zeros to a multiple of a vector register's float32 numbers.
LANES = 4
# Numbers on a line.
ROW = 8


def write_c_header(sdf: NeuralSDF, out: Path) -> list[Path]:
    """Write the header; returns [out]. Raises UserError for a part too small or too large for float32."""
    write_whole(out, header_text(sdf, out).encode())
    return [out]


def header_text(sdf: NeuralSDF, out: Path) -> str:
    """The text of the header. Raises UserError for a part too small or too large for float32."""
    check_range(sdf.transform, out)
    arrays, name = network_arrays(sdf), identifier(out)
    layers = padded_layers(arrays.layers)
    return render(
        "c_header.h.j2",
        file=out.name,
        name=name,
        guard=f"{name.upper()}_SIGNED_DISTANCE_H",
        bounds=[doubles(corner) for corner in sdf.bounds],
        center=doubles(arrays.transform.center),
        scale=doubles([arrays.transform.scale]),
        layers=[layer_text(layer) for layer in layers],
        last_inputs=layers[-1].weight.shape[1],
        restrict=f"{name.upper()}_RESTRICT",
        inline=f"{name.upper()}_INLINE",
        inputs=arrays.inputs,
        padded_inputs=layers[0].weight.shape[1],
        widest=max(size for layer in layers for size in layer.weight.shape),
        activation=arrays.activation,
        grid=None if arrays.grid is None else grid_text(arrays.grid),
        scaler=arrays.scaler,
        **scaler_text(arrays),
    )


def padded_layers(layers: list[Layer]) -> list[Layer]:
    """The layers with zeros added to all inputs and to the hidden outputs, up to a multiple of LANES."""
    padded = []
    inputs = -(-layers[0].weight.shape[1] // LANES) * LANES
    for layer in layers:
        outputs = -(-len(layer.bias) // LANES) * LANES if layer is not layers[-1] else len(layer.bias)
        weight, bias = np.zeros((outputs, inputs), np.float32), np.zeros(outputs, np.float32)
        weight[: layer.weight.shape[0], : layer.weight.shape[1]], bias[: len(layer.bias)] = layer.weight, layer.bias
        padded.append(Layer(weight, bias))
        inputs = outputs
    return padded


def layer_text(layer: Layer) -> dict[str, Any]:
    """Sizes and numbers of a layer, as the template takes them: a row of weights for each input."""
    outputs, inputs = layer.weight.shape
    return {
        "inputs": inputs,
        "outputs": outputs,
        "weights": floats(layer.weight.T),
        "bias": floats(layer.bias),
    }


def grid_text(grid: GridArrays) -> dict[str, Any]:
    """Sizes and numbers of a hash grid, as the template takes them."""
    return {
        "levels": len(grid.resolutions),
        "features": grid.features,
        "rows": len(grid.table),
        "mask": grid.table_size - 1,
        "resolutions": integers(grid.resolutions),
        "starts": integers(grid.starts),
        "dense": integers(grid.dense),
        "table": floats(grid.table),
    }


def scaler_text(arrays: NetworkArrays) -> dict[str, Any]:
    """Constants of the scaler, or the knots of a QuantileTransformer, as the template takes them."""
    if arrays.scaler == "QuantileTransformer":
        scaled, distances = arrays.constants["scaled"], arrays.constants["distances"]
        return {"knots": len(scaled), "scaled": floats(scaled), "distances": floats(distances)}
    return {"constants": constant_text(arrays)}


def constant_text(arrays: NetworkArrays) -> dict[str, str]:
    """The scaler's single numbers by name, as C's and GLSL's."""
    return {name: floats(value) for name, value in arrays.constants.items() if value.ndim == 0}


def floats(values: np.ndarray) -> str:
    """float32 numbers as C's, some on a line; nine digits give back the same bits."""
    numbers = [f"{value:.8e}f" for value in values.ravel().tolist()]
    return ",\n".join(", ".join(numbers[start : start + ROW]) for start in range(0, len(numbers), ROW))


def doubles(values: np.ndarray | list[float]) -> str:
    """float64 numbers as C's; seventeen digits give back the same bits."""
    return ", ".join(f"{float(value):.16e}" for value in values)


def integers(values: np.ndarray) -> str:
    """Whole numbers as C's."""
    return ", ".join(str(int(value)) for value in values)
