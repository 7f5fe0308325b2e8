"""Rounded gradients against float32: same values to the bit, close directions, no rounding outside training."""

import pytest
import torch

import products
from products import Linear, gradient_dtype

BOTH = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])


def layer_and_values(seed=0, outputs=96, inputs=64, batch=256, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    layer = Linear(inputs, outputs).to(dtype)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
        layer.bias.normal_(generator=generator)
    return layer, torch.randn(batch, inputs, generator=generator, dtype=dtype, requires_grad=True)


def gradients(layer, values):
    """(output, gradients of values, weight and bias) of a loss that is not symmetric in its inputs."""
    output = layer(values)
    loss = (output.sin() * torch.linspace(0, 1, output.shape[1], dtype=output.dtype)).mean()
    return output, torch.autograd.grad(loss, (values, layer.weight, layer.bias))


@BOTH
def test_values_are_those_of_torch_to_the_bit_and_gradients_point_the_same_way(monkeypatch, dtype):
    monkeypatch.setattr(products, "processor_dtype", lambda: dtype)
    layer, values = layer_and_values()
    exact_output, exact = gradients(layer.eval(), values)
    output, rounded = gradients(layer.train(), values)
    assert torch.equal(output, exact_output)
    for found, true in zip(rounded, exact, strict=True):
        assert found.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(found.flatten(), true.flatten(), dim=0) > 0.9999
        assert (found - true).norm() <= (0.01 if dtype == torch.bfloat16 else 0.0) * true.norm()
    # The bias takes no product: its gradient is exact in both.
    assert torch.allclose(rounded[2], exact[2], rtol=1e-5, atol=1e-7)


def test_rounding_is_seen_in_training_mode_alone(monkeypatch):
    monkeypatch.setattr(products, "processor_dtype", lambda: torch.bfloat16)
    layer, values = layer_and_values()
    plain = torch.nn.Linear(64, 96)
    plain.load_state_dict(layer.state_dict())
    _, exact = gradients(plain, values)
    assert torch.equal(gradients(layer.eval(), values)[1][1], exact[1])
    assert not torch.equal(gradients(layer.train(), values)[1][1], exact[1])


def test_small_double_and_foreign_matrices_are_multiplied_as_they_are(monkeypatch):
    monkeypatch.setattr(products, "processor_dtype", lambda: torch.bfloat16)
    assert gradient_dtype(torch.empty(64, 64)) == torch.bfloat16
    assert gradient_dtype(torch.empty(64, 8)) == torch.float32
    assert gradient_dtype(torch.empty(64, 64, dtype=torch.float64)) == torch.float64
    assert gradient_dtype(torch.empty(64, 64, device="meta")) == torch.float32


def test_double_precision_passes_gradcheck_in_training_mode():
    layer, values = layer_and_values(outputs=5, inputs=4, batch=3, dtype=torch.float64)
    assert torch.autograd.gradcheck(layer.train(), (values,))
