"""Matrix products of a network: values in float32, a training step's gradients in bfloat16 where the processor has it.

In: float32 tensors. Out: float32 tensors. What a network computes stays float32; the direction of a step is rounded, by
2^-9 of each factor, which is far below the noise of a batch (docs/log.md). A processor without AVX512-BF16 or AMX, and
every other device, multiplies all in float32. Values that no autograd watches come from oneDNN on the CPU, with a ReLU
in the same pass: 1.4 times as fast as a product and a pass over its result.
"""

from collections.abc import Iterator
from functools import cache

import torch
from torch import nn

# A matrix with a shorter side than this gains less than its cast costs.
SHORTEST_SIDE = 64
# oneDNN compiles a product for each number of rows that it meets and keeps a thousand of them: 20 ms and 6 MB a number
# with the DAM network. So it meets few: powers of two from the first number on, then multiples of the second.
FEWEST_ROWS, MANY_ROWS = 64, 4096
# The gradient before an activation from the one behind it and from what the activation gave. Sines are not here: theirs
# needs what they were given, and more digits of it than bfloat16 has.
BACKWARD = {
    nn.ReLU: lambda gradient, given: torch.ops.aten.threshold_backward(gradient, given, 0),
    nn.LeakyReLU: lambda gradient, given: torch.ops.aten.leaky_relu_backward(gradient, given, 0.01, True),
    nn.ELU: lambda gradient, given: torch.ops.aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, given),
}


@cache
def processor_dtype() -> torch.dtype:
    """The dtype in which this processor multiplies gradients fastest: bfloat16 with instructions for it, or float32."""
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if native else torch.float32


def gradient_dtype(matrix: torch.Tensor) -> torch.dtype:
    """The dtype in which to multiply gradients with `matrix` (m, n): that of its device, float32 for a small one."""
    if matrix.dtype != torch.float32 or matrix.device.type != "cpu" or min(matrix.shape) < SHORTEST_SIDE:
        return matrix.dtype
    return processor_dtype()


def evaluate(layers: nn.Sequential, values: torch.Tensor) -> torch.Tensor:
    """layers(values), values (N, inputs), by the fastest way that there is for them.

    layers: linear ones with activations of one kind between them. Gradients are rounded in training mode alone.
    """
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return layers(values)
    if not torch.is_grad_enabled():
        count = len(values)
        values = torch.nn.functional.pad(values, (0, 0, 0, padded_rows(count) - count))
        for linear, activation in pairs(layers):
            values = unwatched(values, linear, activation)
        return values[:count]
    if layers.training and is_rounded(layers):
        return RoundedGradients.apply(values, layers, *layers.parameters())
    return layers(values)


def padded_rows(count: int) -> int:
    """The number of rows, at least `count`, with which oneDNN is asked."""
    if count > MANY_ROWS:
        return -(-count // MANY_ROWS) * MANY_ROWS
    return max(FEWEST_ROWS, 1 << (count - 1).bit_length()) if count else 0


def pairs(layers: nn.Sequential) -> Iterator[tuple[nn.Linear, nn.Module | None]]:
    """(linear layer, the activation behind it or None) of each linear layer."""
    return zip(layers[::2], [*layers[1::2], None], strict=True)


def is_rounded(layers: nn.Sequential) -> bool:
    """Whether rounding the gradients pays for these layers, and the activations between them allow it."""
    large = any(gradient_dtype(linear.weight) != linear.weight.dtype for linear in layers[::2])
    return large and all(type(activation) in BACKWARD for activation in layers[1::2])


def unwatched(values: torch.Tensor, linear: nn.Linear, activation: nn.Module | None) -> torch.Tensor:
    """activation(linear(values)), float32 on the CPU, without gradients."""
    is_relu = isinstance(activation, nn.ReLU)
    if torch.backends.mkldnn.is_available():
        fused = "relu" if is_relu else "none"
        values = torch.ops.mkldnn._linear_pointwise(values, linear.weight, linear.bias, fused, [], "")
        return values if activation is None or is_relu else activation(values)
    values = linear(values)
    return values if activation is None else activation(values)


class RoundedGradients(torch.autograd.Function):
    """layers(values); the gradient goes back through them in the processor's dtype; differentiable once."""

    @staticmethod
    def forward(ctx, values, layers, *parameters):
        dtype = processor_dtype()
        inputs = []
        for linear, activation in pairs(layers):
            inputs.append(values.to(dtype))
            values = unwatched(values, linear, activation)
        ctx.save_for_backward(*inputs, *(weight.to(dtype) for weight in parameters[::2]))
        ctx.backward_of = BACKWARD[type(layers[1])] if len(layers) > 1 else None
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        count = len(ctx.saved_tensors) // 2
        inputs, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        gradient = gradient.to(weights[0].dtype)
        of_parameters = []
        for index in reversed(range(count)):
            of_parameters += [gradient.sum(0, dtype=torch.float32), (gradient.T @ inputs[index]).float()]
            if index > 0:
                gradient = ctx.backward_of(gradient @ weights[index], inputs[index])
        of_values = (gradient @ weights[0]).float() if ctx.needs_input_grad[0] else None
        return of_values, None, *reversed(of_parameters)
