"""Matrix products of a network: values in float32, a training step's gradients in bfloat16 if the CPU has it.

In: float32 tensors. Out: float32 tensors. A network's values are always computed in float32. Only the direction of a
training step is rounded, by 2^-9 of each factor, which is far below the noise of a batch (docs/log.md). A CPU without
AVX512-BF16 or AMX multiplies everything in float32. A GPU does too, but for the gradients of stacked networks, whose
factors it rounds to TF32, by 2^-11 (`stacked_layers`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn

# For a matrix with a shorter side than this, casting costs more than the faster product gains.
_SHORTEST_SIDE = 64
# oneDNN compiles a product for each number of rows that it meets, and keeps a thousand of them: with the DAM network
# 20 ms and 6 MB for each number. So the rows are padded to powers of two from the first number on, and beyond the
# second to its multiples.
_FEWEST_ROWS, _MANY_ROWS = 64, 4096
# The gradient of an activation's input from the gradient of its output and the output itself, by torch's own kernels.
# Sine is missing: its gradient needs the input, in more digits than bfloat16 has.
ACTIVATION_BACKWARD = {
    nn.ReLU: lambda gradient, output: torch.ops.aten.threshold_backward(gradient, output, 0),
    nn.LeakyReLU: lambda gradient, output: torch.ops.aten.leaky_relu_backward(gradient, output, 0.01, True),
    nn.ELU: lambda gradient, output: torch.ops.aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, output),
}


@cache
def processor_dtype() -> torch.dtype:
    """The dtype in which this CPU multiplies gradients fastest: bfloat16 if it has the instructions, else float32."""
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if native else torch.float32


def gradient_dtype(matrix: torch.Tensor) -> torch.dtype:
    """The dtype in which to multiply gradients with `matrix` (m, n), or with stacked ones (P, m, n).

    bfloat16 for one float32 matrix whose sides are all 64 or more, on a CPU with instructions for bfloat16; else the
    matrix's own dtype.
    """
    is_other = matrix.dtype != torch.float32 or matrix.device.type != "cpu" or matrix.ndim != 2
    if is_other or min(matrix.shape) < _SHORTEST_SIDE:
        return matrix.dtype
    return processor_dtype()


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Inside the block a GPU multiplies float32 matrices in float32, whatever torch's flags are."""
    with _products(device, are_rounded=False):
        yield


@contextmanager
def gradient_products(device: torch.device) -> Iterator[None]:
    """Inside the block a GPU multiplies float32 matrices in TF32: exact enough for a step's direction (docs/log.md)."""
    with _products(device, are_rounded=True):
        yield


@contextmanager
def _products(device: torch.device, are_rounded: bool) -> Iterator[None]:
    """Inside the block a GPU rounds the factors of float32 products to TF32, or does not."""
    # torch's older getter raises an error where somebody has set the newer flag; its setter sets both.
    was_rounded = torch.backends.cuda.matmul.fp32_precision == "tf32"
    if device.type == "cpu" or was_rounded == are_rounded:
        yield
        return
    torch.set_float32_matmul_precision("high" if are_rounded else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("high" if was_rounded else "highest")


def evaluate(layers: nn.Sequential, values: torch.Tensor) -> torch.Tensor:
    """layers(values): values (N, inputs) -> (N, outputs), in the fastest way for this device and mode.

    layers: linear layers with activations of one kind between them. Gradients are rounded in training mode only.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return layers(values)
    if not torch.is_grad_enabled():
        # Rows of zeros are added for oneDNN and cut off at the end.
        count = len(values)
        if missing := padded_rows(count) - count:
            values = torch.nn.functional.pad(values, (0, 0, 0, missing))
        for linear, activation in _pairs(layers):
            values = _without_gradients(values, linear, activation)
        return values[:count]
    if layers.training and is_rounded(layers):
        return RoundedGradients.apply(values, layers, *layers.parameters())
    return layers(values)


def padded_rows(count: int) -> int:
    """The number of rows, at least `count`, to which oneDNN's inputs are padded."""
    if count > _MANY_ROWS:
        return -(-count // _MANY_ROWS) * _MANY_ROWS
    return max(_FEWEST_ROWS, 1 << (count - 1).bit_length()) if count else 0


def _pairs(layers: nn.Sequential) -> Iterator[tuple[nn.Linear, nn.Module | None]]:
    """(linear layer, activation after it or None), for each linear layer."""
    modules = list(layers)  # a slice of the Sequential would make another one
    return zip(modules[::2], [*modules[1::2], None], strict=True)


def is_rounded(layers: nn.Sequential) -> bool:
    """True if some of these layers are large enough that rounding the gradients pays, and the activations allow it."""
    large = any(gradient_dtype(linear.weight) != linear.weight.dtype for linear in layers[::2])
    return large and all(type(activation) in ACTIVATION_BACKWARD for activation in layers[1::2])


def _without_gradients(values: torch.Tensor, linear: nn.Linear, activation: nn.Module | None) -> torch.Tensor:
    """activation(linear(values)): float32 (N, inputs) on the CPU -> (N, outputs), without gradients.

    The only use of a private function of torch in this package's networks: oneDNN's linear layer with the ReLU in the
    same pass is 1.4 times as fast as `linear` and then a pass over its result, and torch.nn offers no such pair. That
    ReLU gives 0 for a NaN: who needs NaN for NaN checks the points and the weights (`continuation`,
    `model_checks.check_finite`).
    """
    if not torch.backends.mkldnn.is_available():
        values = linear(values)
        return values if activation is None else activation(values)
    is_relu = isinstance(activation, nn.ReLU)
    fused = "relu" if is_relu else "none"
    values = torch.ops.mkldnn._linear_pointwise.default(values, linear.weight, linear.bias, fused, [], "")
    return values if activation is None or is_relu else activation(values)


class RoundedGradients(torch.autograd.Function):
    """layers(values), whose gradient is computed in the CPU's fastest dtype; differentiable once.

    Apply to values (N, inputs) float32, layers, and the layers' parameters in their order.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, layers: nn.Sequential, *parameters: torch.Tensor) -> torch.Tensor:
        """(N, outputs) float32."""
        dtype = processor_dtype()
        inputs = []  # rounded, of each linear layer, (N, its inputs); but for the first, an activation's outputs
        for linear, activation in _pairs(layers):
            inputs.append(values.to(dtype))
            values = _without_gradients(values, linear, activation)
        ctx.save_for_backward(*inputs, *(weight.to(dtype) for weight in parameters[::2]))
        ctx.activation_backward = ACTIVATION_BACKWARD[type(layers[1])] if len(layers) > 1 else None
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients, float32, of values, layers (None), and the parameters, from that of the outputs (N, outputs)."""
        count = len(ctx.saved_tensors) // 2
        inputs, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        gradient = gradient.to(weights[0].dtype)
        of_parameters = []  # last layer first, bias before weight
        for index in reversed(range(count)):
            # Here `gradient` is that of the layer's outputs (N, outputs): bias (outputs,), weight (outputs, inputs).
            of_parameters += [gradient.sum(0, dtype=torch.float32), (gradient.T @ inputs[index]).float()]
            if index > 0:
                gradient = ctx.activation_backward(gradient @ weights[index], inputs[index])
        of_values = (gradient @ weights[0]).float() if ctx.needs_input_grad[0] else None
        return of_values, None, *reversed(of_parameters)
