"""The form `onnx`: one file for onnxruntime, onnxruntime-web and whatever else reads ONNX.

In: a model. Out: a graph of operator set 18 with the input `points (N, 3)` and the output `distance (N,)`, both
float32 in file units, N any number from 0 on. Everything is float32 but the power transform: 10^19 domain units away,
where squares overflow, the distance is infinite. Written by hand: no tracer knows that the hash fits into 32 bits.
Metadata: source, units, sign, bounds.
"""

import json
from pathlib import Path

import numpy as np

from neuralparts.domain import DOMAIN_RADIUS, Transform
from neuralparts.errors import UserError
from neuralparts.export.network_arrays import NetworkArrays, network_arrays
from neuralparts.export.onnx_builder import GraphBuilder
from neuralparts.export.onnx_hash_grid import add_hash_grid
from neuralparts.export.onnx_scalers import add_scaler_inverse
from neuralparts.network import SINE_FREQUENCY, NeuralSDF
from neuralparts.whole_file import write_whole


def write_onnx(sdf: NeuralSDF, out: Path) -> list[Path]:
    """Write the model as an ONNX file; returns [out]. Needs the package onnx.

    Raises UserError if onnx is missing, the network is larger than 2 GiB, or float32 cannot hold the part's units;
    OSError.
    """
    write_whole(out, onnx_model(sdf).SerializeToString())
    return [out]


def onnx_model(sdf: NeuralSDF) -> "onnx.ModelProto":  # noqa: F821 (an optional extra)
    """The model as an `onnx.ModelProto`. Raises as `write_onnx`."""
    graph, network = GraphBuilder(), network_arrays(sdf)
    place = _add_domain_points(graph, sdf.transform)
    # How far the points lie from the origin (N,): infinite or NaN if a coordinate is.
    radius = _add_norm(graph, place)
    is_finite = graph.add("Less", radius, graph.constant(np.inf))
    # The nearest points (N, 3) of the cube; the origin for points that are not finite.
    is_usable = graph.add("Unsqueeze", is_finite, graph.axes(1))
    usable = graph.add("Where", is_usable, place, graph.constant(0.0))
    nearest = graph.add("Clip", usable, graph.constant(-1.0), graph.constant(1.0))
    inside = _add_distance(graph, network, nearest)
    distance = _add_continuation(graph, inside, nearest, graph.add("Sub", usable, nearest), radius)
    distance = graph.add("Where", is_finite, distance, radius)
    graph.add("Div", distance, graph.constant(sdf.transform.scale), result="distance")
    return graph.model("signed_distance", {"points": ["N", 3]}, {"distance": ["N"]}, _metadata(sdf))


def _metadata(sdf: NeuralSDF) -> dict[str, str]:
    """What the file says about itself, texts by name."""
    return {
        "source": sdf.about.get("source", "not recorded"),
        "units": "those of the source file",
        "sign": "negative inside",
        "bounds": json.dumps(sdf.bounds.tolist()),
    }


def _add_domain_points(graph: GraphBuilder, transform: Transform) -> str:
    """The input in the domain (N, 3).

    The center is subtracted in two parts, since a part may lie so far from the origin of its file that float32 holds
    its center too roughly. Raises UserError if float32 cannot hold the center or the scale.
    """
    center, scale = transform.center, transform.scale
    smallest, largest = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    if not (smallest <= scale <= largest and abs(center).max() <= largest):
        raise UserError(f"the form onnx computes in float32, which cannot hold the center {center} or scale {scale:g}")
    coarse = center.astype(np.float32)
    moved = graph.add("Sub", "points", graph.constant(coarse))
    moved = graph.add("Sub", moved, graph.constant(center - coarse))
    return graph.add("Mul", moved, graph.constant(scale))


def _add_norm(graph: GraphBuilder, vectors: str) -> str:
    """The lengths (N,) of vectors (N, 3)."""
    squares = graph.add("ReduceSum", graph.add("Mul", vectors, vectors), graph.axes(1), keepdims=0)
    return graph.add("Sqrt", squares)


def _add_distance(graph: GraphBuilder, network: NetworkArrays, points: str) -> str:
    """The signed distances (N,) at points (N, 3) of the cube, domain units."""
    values = points if network.grid is None else add_hash_grid(graph, network.grid, points)
    for index, layer in enumerate(network.layers):
        values = graph.add("Gemm", values, graph.constant(layer.weight), graph.constant(layer.bias), transB=1)
        if index < len(network.layers) - 1:
            values = _add_activation(graph, network.activation, values)
    scaled = graph.add("Squeeze", values, graph.axes(1))
    return add_scaler_inverse(graph, network.scaler, network.constants, scaled)


def _add_activation(graph: GraphBuilder, name: str, values: str) -> str:
    """An activation, one of ACTIVATIONS; each has its torch module's default parameters."""
    if name == "sine":
        return graph.add("Sin", graph.add("Mul", values, graph.constant(SINE_FREQUENCY)))
    operation = {"relu": "Relu", "leakyrelu": "LeakyRelu", "elu": "Elu"}[name]
    return graph.add(operation, values)


def _add_continuation(graph: GraphBuilder, inside: str, nearest: str, step: str, radius: str) -> str:
    """The distance (N,) everywhere, from that at the nearest points (N, 3) of the cube.

    step (N, 3): the way from there. radius (N,): distance from the origin. Beyond the cube the value is the larger of
    two lower bounds.
    """
    length = _add_norm(graph, step)
    positive = graph.add("Max", inside, graph.constant(0.0))
    squares = graph.add("Add", graph.add("Mul", positive, positive), graph.add("Mul", length, length))
    # At the border of the cube the network may say that the part is nearer than its sphere: that fades with the length.
    lacking = graph.add("Sub", graph.add("Sub", _add_norm(graph, nearest), graph.constant(DOMAIN_RADIUS)), inside)
    lacking = graph.add("Max", lacking, graph.constant(0.0))
    faded = graph.add("Div", lacking, graph.add("Add", length, graph.constant(1.0)))
    from_sphere = graph.add("Sub", graph.add("Sub", radius, graph.constant(DOMAIN_RADIUS)), faded)
    beyond = graph.add("Max", graph.add("Sqrt", squares), from_sphere)
    is_beyond = graph.add("Greater", length, graph.constant(0.0))
    return graph.add("Where", is_beyond, beyond, inside)
