"""Rounded gradients and evaluation against torch's own layers: gradients are rounded in training mode only."""

import pytest
import torch

from neuralparts.choices import ACTIVATIONS
from neuralparts.network import gradient_dtype, initialise, is_rounded, make_layers
from neuralparts.network import matrix_products as products
from neuralparts.network.matrix_products import evaluate, exact_products, gradient_products, padded_rows


def layers_and_points(activation="relu", widths=(96, 64, 5)):
    generator = torch.Generator().manual_seed(3)
    layers = make_layers(widths, activation)
    initialise(layers, "siren" if activation == "sine" else "he_uniform", generator)
    return layers, (torch.rand(256, 3, generator=generator) * 2 - 1).requires_grad_()


def gradients(function, layers, points):
    """(values, gradients of the points and of all parameters) of a loss with another weight for each point."""
    values = function(points)
    loss = (values[:, 0].sin() * torch.linspace(0, 1, len(points), dtype=values.dtype)).mean()
    return values, torch.autograd.grad(loss, [points, *layers.parameters()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_rounded_gradients_point_where_those_of_autograd_point(monkeypatch, dtype, activation):
    monkeypatch.setattr(products, "processor_dtype", lambda: dtype)
    layers, points = layers_and_points(activation)
    exact_values, exact = gradients(layers, layers, points)
    values, rounded = gradients(lambda p: evaluate(layers.train(), p), layers, points)
    assert torch.allclose(values, exact_values, rtol=1e-5, atol=1e-5)
    bound = 0.02 if dtype == torch.bfloat16 and activation != "sine" else 1e-5
    for found, true in zip(rounded, exact, strict=True):
        assert found.dtype == torch.float32 and found.shape == true.shape
        assert (found - true).norm() <= bound * true.norm()


@pytest.mark.parametrize("activation", ["relu", "leakyrelu", "elu"])
def test_backward_without_rounding_is_that_of_autograd(monkeypatch, activation):
    monkeypatch.setattr(products, "processor_dtype", lambda: torch.float32)
    layers, points = layers_and_points(activation)
    _, exact = gradients(layers, layers, points)
    _, found = gradients(lambda p: products.RoundedGradients.apply(p, layers, *layers.parameters()), layers, points)
    for ours, true in zip(found, exact, strict=True):
        assert (ours - true).norm() <= 1e-5 * true.norm()


def test_gradients_are_rounded_in_training_mode_only(monkeypatch):
    monkeypatch.setattr(products, "processor_dtype", lambda: torch.bfloat16)
    layers, points = layers_and_points()
    _, exact = gradients(layers, layers, points)
    _, evaluated = gradients(lambda p: evaluate(layers.eval(), p), layers, points)
    _, trained = gradients(lambda p: evaluate(layers.train(), p), layers, points)
    assert torch.equal(evaluated[1], exact[1])
    assert not torch.equal(trained[1], exact[1])


def test_small_matrices_doubles_other_devices_and_sines_are_not_rounded(monkeypatch):
    monkeypatch.setattr(products, "processor_dtype", lambda: torch.bfloat16)
    assert gradient_dtype(torch.empty(64, 64)) == torch.bfloat16
    assert gradient_dtype(torch.empty(64, 8)) == torch.float32
    assert gradient_dtype(torch.empty(64, 64, dtype=torch.float64)) == torch.float64
    assert gradient_dtype(torch.empty(64, 64, device="meta")) == torch.float32
    assert is_rounded(make_layers((64, 64, 32), "relu"))
    assert not is_rounded(make_layers((32, 32), "relu"))
    assert not is_rounded(make_layers((64, 64, 32), "sine"))


def test_double_precision_passes_gradcheck_in_training_mode():
    layers = make_layers((64, 64), "elu").double().train()
    points = torch.rand(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: evaluate(layers, p), (points,))


@pytest.mark.parametrize(("activation", "init"), [("relu", "he_uniform"), ("elu", "he_normal"), ("sine", "siren")])
def test_evaluation_without_gradients_is_that_of_the_layers(activation, init):
    generator = torch.Generator().manual_seed(1)
    layers = make_layers((96, 64, 5), activation)
    initialise(layers, init, generator)
    points = torch.rand(777, 3, generator=generator) * 2 - 1
    with torch.no_grad():
        fast, part = evaluate(layers, points), evaluate(layers, points[:13])
        slow = layers.double()(points.double())
    # Rounding of float32; sines magnify that of their arguments thirtyfold a layer.
    bound = (1e-3 if activation == "sine" else 1e-5) * slow.std()
    assert fast.dtype == torch.float32 and (fast - slow).abs().max() < bound
    assert (part - slow[:13]).abs().max() < bound


def test_evaluation_with_gradients_can_be_differentiated():
    layers = make_layers((64,), "relu")
    points = torch.rand(9, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(evaluate(layers, points).sum(), points)
    assert gradient.shape == (9, 3) and float(gradient.abs().max()) > 0


def test_onednn_meets_few_numbers_of_rows_and_the_padding_is_cut_off():
    layers = make_layers((96, 64), "relu")
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(2))
    counts = (0, 1, 2, 63, 64, 65, 100, 127, 200, 300, 333, 1000, 2047, 3000, 4095, 4096, 4097, 9000, 20_000)
    assert {padded_rows(count) for count in counts} == {0, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 12288, 20480}
    with torch.no_grad():
        whole = layers(points)
        for count in counts:
            found = evaluate(layers, points[:count])
            assert found.shape == (count, 1) and torch.allclose(found, whole[:count], rtol=1e-5, atol=1e-6)


def set_old_flag(value):
    torch.set_float32_matmul_precision("high" if value == "tf32" else "highest")


def set_new_flag(value):
    torch.backends.cuda.matmul.fp32_precision = value


@pytest.mark.parametrize("set_flag", [set_old_flag, set_new_flag])
@pytest.mark.parametrize("before", ["tf32", "ieee"])
def test_products_of_a_gpu_are_as_the_code_says_and_the_users_flag_comes_back(set_flag, before):
    gpu, cpu = torch.device("cuda"), torch.device("cpu")  # no tensor is made there
    set_flag(before)
    try:
        with gradient_products(gpu):
            assert torch.backends.cuda.matmul.fp32_precision == "tf32"
            with exact_products(gpu):
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        with gradient_products(cpu), exact_products(cpu):
            assert torch.backends.cuda.matmul.fp32_precision == before
        assert torch.backends.cuda.matmul.fp32_precision == before
    finally:
        torch.set_float32_matmul_precision("highest")
