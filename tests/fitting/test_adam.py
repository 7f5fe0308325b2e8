"""Adam against torch's own class."""

import torch

from neuralparts.fitting.adam import Adam


def test_adam_is_torchs_adam():
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(7, 5, generator=generator), torch.randn(3, generator=generator)]
    ours = [tensor.clone() for tensor in start]
    theirs = [tensor.clone().requires_grad_() for tensor in start]
    optimizer, twin = Adam(ours), torch.optim.Adam(theirs, lr=0.01, fused=True)
    for _ in range(20):
        gradients = [torch.randn(tensor.shape, generator=generator) for tensor in start]
        optimizer.step(gradients, 0.01)
        for tensor, gradient in zip(theirs, gradients, strict=True):
            tensor.grad = gradient.clone()
        twin.step()
    assert optimizer.steps == 20
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
