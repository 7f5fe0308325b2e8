"""The inverses of the target scalers as ONNX operations: scaled values (N,) -> distances (N,), domain units.

Each follows `inverse` of its class in `network/scalers.py`, which says what it computes.
"""

from collections.abc import Callable

import numpy as np

from neuralparts.export.onnx_builder import GraphBuilder
from neuralparts.network import LOGARITHM_BELOW

# A scaler's numbers by name, as `network_arrays` gives them.
Constants = dict[str, np.ndarray]


def add_scaler_inverse(graph: GraphBuilder, scaler: str, constants: Constants, scaled: str) -> str:
    """Add the inverse of `scaler`, one of SCALERS, to the graph; returns the name of the distances."""
    return _INVERSES[scaler](graph, constants, scaled)


def _no_scaler(graph: GraphBuilder, constants: Constants, scaled: str) -> str:
    return scaled


def _standard(graph: GraphBuilder, constants: Constants, scaled: str) -> str:
    product = graph.add("Mul", scaled, graph.constant(constants["standard_deviation"]))
    return graph.add("Add", product, graph.constant(constants["mean"]))


def _power(graph: GraphBuilder, constants: Constants, scaled: str) -> str:
    """In float64: ONNX has neither expm1 nor log1p, and what they save would be lost in float32."""
    exponent = float(constants["exponent"])
    lowest, highest, deviation, mean, unit = (
        _double(graph, constants[name]) for name in ("lowest", "highest", "standard_deviation", "mean", "unit")
    )
    # Within the fitted range, in the units of the bent values: (N,).
    inside = graph.add("Clip", graph.cast(scaled, np.float64), lowest, highest)
    bent = graph.add("Add", graph.add("Mul", inside, deviation), mean)
    # Each side of 0 has an exponent of its own.
    zero = _double(graph, 0.0)
    positive = _power_inverse(graph, graph.add("Max", bent, zero), exponent)
    negative = _power_inverse(graph, graph.add("Max", graph.add("Neg", bent), zero), 2 - exponent)
    straight = graph.add("Sub", positive, negative)  # one of the two is 0
    return graph.cast(graph.add("Mul", straight, unit), np.float32)


def _power_inverse(graph: GraphBuilder, bent: str, exponent: float) -> str:
    """(1 + exponent * bent)^(1 / exponent) - 1 for bent >= 0 (N,) float64; exp(bent) - 1 if the exponent is 0."""
    logarithm = bent
    if abs(exponent) >= LOGARITHM_BELOW:
        product = graph.add("Mul", bent, _double(graph, exponent))
        base = graph.add("Add", product, _double(graph, 1.0))
        # A negative exponent has an asymptote at base 0.
        base = graph.add("Max", base, _double(graph, np.finfo(np.float32).eps))
        logarithm = graph.add("Div", graph.add("Log", base), _double(graph, exponent))
    return graph.add("Sub", graph.add("Exp", logarithm), _double(graph, 1.0))


def _double(graph: GraphBuilder, value: float | np.ndarray) -> str:
    return graph.constant(value, np.float64)


def _quantile(graph: GraphBuilder, constants: Constants, scaled: str) -> str:
    """Piecewise linear between K knots; the knot is found by halving, which ONNX has no operation for."""
    knots, images = constants["scaled"], constants["distances"]
    inside = graph.add("Clip", scaled, graph.constant(knots[0]), graph.constant(knots[-1]))
    left = _interval_of(graph, knots, inside)
    # Slope and start of each interval (K - 1,), in float64 until they are rounded once.
    slopes = np.diff(images.astype(np.float64)) / np.diff(knots.astype(np.float64))
    start, slope, image = (
        graph.add("Gather", graph.constant(values), left) for values in (knots[:-1], slopes, images[:-1])
    )
    rise = graph.add("Mul", graph.add("Sub", inside, start), slope)
    return graph.add("Add", image, rise)


def _interval_of(graph: GraphBuilder, knots: np.ndarray, values: str) -> str:
    """Places (N,) int32 of the intervals, 0 to K - 2, of the knots (K,) that hold the values (N,), by halving."""
    intervals = len(knots) - 1
    # The left ends, filled up to a power of two with ends that no value reaches.
    size = 1 << (intervals - 1).bit_length()
    ends = graph.constant(np.concatenate([knots[:-1], np.full(size - intervals, np.inf)]))
    # Place 0 for each value, made of the values, whose number is not known.
    zeros = graph.cast(graph.add("Less", values, values), np.int32)
    place, step = zeros, size // 2
    while step:
        ahead = graph.add("Add", place, graph.constant(step, np.int32))
        reached = graph.add("LessOrEqual", graph.add("Gather", ends, ahead), values)
        place, step = graph.add("Where", reached, ahead, place), step // 2
    return place


_INVERSES: dict[str, Callable[[GraphBuilder, Constants, str], str]] = {
    "none": _no_scaler,
    "StandardScaler": _standard,
    "PowerTransformer": _power,
    "QuantileTransformer": _quantile,
}
