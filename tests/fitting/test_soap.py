"""SOAP: its bases, what it leaves to Adam, and a problem on which it beats Adam."""

import pytest
import torch

from neuralparts.choices import OPTIMIZERS
from neuralparts.fitting.losses import batch_loss
from neuralparts.fitting.optimizers import make_optimizer
from neuralparts.network import NeuralSDF, fit_scaler
from tests import shapes
from tests.fitting.cases import WIDTHS


def test_soap_keeps_orthonormal_bases_and_beats_adam_on_a_skewed_problem():
    generator = torch.Generator().manual_seed(0)
    skew_left = torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q * torch.logspace(0, -3, 12)
    skew_right = torch.linalg.qr(torch.randn(9, 9, generator=generator)).Q * torch.logspace(0, -2, 9)
    goal = torch.randn(12, 9, generator=generator)
    errors = {}
    for name in OPTIMIZERS:
        weight = torch.zeros(12, 9)
        optimizer = make_optimizer(name, [weight])
        for step in range(400):
            difference = skew_left.T @ (weight - goal) @ skew_right
            optimizer.step([skew_left @ difference @ skew_right.T], 0.02 * (1 - step / 400))
        errors[name] = float((skew_left.T @ (weight - goal) @ skew_right).norm())
        if name == "soap":
            left = optimizer.bases[0].state["left"]
            assert torch.allclose(left.T @ left, torch.eye(12), atol=1e-5)
    assert errors["soap"] < 0.5 * errors["adam"]


def test_soap_leaves_tables_and_small_matrices_to_adam():
    parameters = [torch.zeros(100_000, 8), torch.zeros(333, 3), torch.zeros(333, 442), torch.zeros(442)]
    assert len(make_optimizer("soap", parameters).bases) == 1


@pytest.fixture
def adam_of_shapes():
    """The kernel of Adam that torch lacks on the meta device: it does nothing."""
    library = torch.library.Library("aten", "IMPL", "Meta")
    library.impl("_fused_adam_.tensor_lr", lambda *arguments, **options: None)
    yield
    library._destroy()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_and_an_evaluation_stay_on_the_meta_device(optimizer, adam_of_shapes):
    network = NeuralSDF(WIDTHS, "relu", None, fit_scaler("QuantileTransformer", shapes.samples(shapes.box, 500)[1])).to(
        "meta"
    )
    parameters = list(network.parameters())
    steps = make_optimizer(optimizer, parameters)
    limits = torch.empty((), device="meta"), torch.empty((), device="meta")
    points, targets = torch.empty(64, 3, device="meta"), torch.empty(64, device="meta")
    for _ in range(2):
        loss = batch_loss(network.scaled(points), targets, None, "l1", limits)
        steps.step(list(torch.autograd.grad(loss, parameters)), 1e-3)
    assert loss.device.type == "meta"
    assert network.signed_distance(points).device.type == "meta"
    assert all(tensor.device.type == "meta" for tensor in steps.state().values())
