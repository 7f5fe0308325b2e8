"""Matrix products of a training step: values in float32, gradients in bfloat16 where the processor has it.

In: float32 tensors. Out: float32 tensors. What a network computes stays float32 to the last bit; the direction of a
step is rounded, by 2^-9 of each factor, which is far below the noise of a batch (docs/log.md). A processor without
AVX512-BF16 or AMX, and every other device, multiplies all in float32.
"""

from functools import cache

import torch

# A matrix with a shorter side than this gains less than its cast costs.
SHORTEST_SIDE = 64


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


class RoundedGradients(torch.autograd.Function):
    """values @ weight.T + bias, with both gradients' products in `dtype`; differentiable once."""

    @staticmethod
    def forward(ctx, values, weight, bias, dtype):
        ctx.save_for_backward(values, weight)
        ctx.dtype = dtype
        return torch.addmm(bias, values, weight.T)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        values, weight = (tensor.to(ctx.dtype) for tensor in ctx.saved_tensors)
        rounded = gradient.to(ctx.dtype)
        of_values = (rounded @ weight).float() if ctx.needs_input_grad[0] else None
        of_weight = (rounded.T @ values).float() if ctx.needs_input_grad[1] else None
        return of_values, of_weight, gradient.sum(0), None


class Linear(torch.nn.Linear):
    """A linear layer whose gradients, in training mode alone, may be multiplied in bfloat16."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """values (N, in_features) -> (N, out_features)."""
        dtype = gradient_dtype(self.weight)
        if not self.training or dtype == self.weight.dtype:
            return super().forward(values)
        return RoundedGradients.apply(values, self.weight, self.bias, dtype)
