"""The distance outside the cube: a lower bound of the true one, up to the error of the value at the cube's border."""

import numpy as np
import pytest
import torch

from neuralparts.network import HashGrid, NeuralSDF, continue_outside
from tests.network.cases import a_model


def torus(points):
    """Exact signed distance of a torus about z, radii 0.6 and 0.25, moved by 0.04 along x. points: (..., 3)."""
    x, y, z = (points - points.new_tensor([0.04, 0.0, 0.0])).unbind(-1)
    return torch.hypot(torch.hypot(x, y) - 0.6, z) - 0.25


def ball(points):
    """Exact signed distance of a ball of radius 0.2 that touches the sphere of radius 0.9. points: (..., 3)."""
    return (points - points.new_tensor([0.7, 0.0, 0.0])).norm(dim=-1) - 0.2


def points_around(count=100_000, farthest=1000.0, seed=0):
    """(count, 3) float64 outside the cube, at all distances up to `farthest` cube sizes, a third beside a face."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(-1, 1, (count, 3))
    points /= np.abs(points).max(axis=1, keepdims=True)
    points[::3] = np.clip(points[::3] * 1.3, -1, 1)
    return torch.from_numpy(points * np.exp(generator.uniform(1e-9, np.log(2 * farthest), (count, 1))))


@pytest.mark.parametrize("shape", [torus, ball])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_true_distance_is_overestimated_nowhere(shape, dtype):
    points = points_around().to(dtype)
    values = continue_outside(points, shape(points.clamp(-1, 1)))
    rounding = 4 * torch.finfo(dtype).eps * points.double().norm(dim=-1)
    true = shape(points.double())
    assert (values - true <= rounding).all()
    # Far away it is off by no more than the ball's diameter.
    assert (true - values <= 1.8 + rounding).all() and (values > 0).all()


def test_it_is_continuous_at_the_cubes_border_and_never_steeper_than_a_distance():
    border = points_around(3000, seed=1)
    border /= border.abs().amax(-1, keepdim=True)
    # Positive values of any size: a fit may say that the surface is nearer to the border than the ball of radius 0.9.
    any_values = torch.rand(len(border), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for inside in (torus(border), ball(border), any_values):
        values = continue_outside(border * (1 + 1e-9), inside)
        assert (values - inside).abs().max() < 1e-8
    points = points_around(3000, seed=2).requires_grad_(True)
    (gradient,) = torch.autograd.grad(continue_outside(points, torus(points.clamp(-1, 1))).sum(), points)
    assert (gradient.norm(dim=-1) <= 1 + 1e-9).all()


def test_points_of_the_cube_keep_their_bits_beside_others():
    model = a_model(encoding=HashGrid(2, 2, 4, 8, 8))
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (500, 3)).astype(np.float32)
    inside = np.abs(points).max(axis=1) <= 1
    points[0] = 1.0  # a corner of the cube belongs to it
    whole = model.domain(np.where(np.abs(points) <= 1, points, 0.5))
    np.testing.assert_array_equal(model.domain(points)[inside], whole[inside])


@pytest.mark.parametrize("encoding", [None, (2, 2, 4, 8, 8)])
def test_a_part_of_any_size_and_a_point_at_any_distance(encoding):
    for scale in (1e-45, 1e-12, 1.0, 1e40):  # the part's coordinates overflow float32, or vanish in it
        model = a_model(encoding=None if encoding is None else HashGrid(*encoding), scale=scale)
        for distance in (1e9, 1e20, 1e60):
            far = np.array([[3.0, -4.0, 12.0], [0.0, 0.0, 13.0]]) / 13 * distance / scale
            with np.errstate(all="raise"):
                values, gradients = model(far), model.gradient(far)
            np.testing.assert_allclose(values, distance / scale, rtol=1e-8)
            np.testing.assert_allclose(gradients, far / distance * scale, atol=1e-8)


def test_bounds_are_found_as_fogleman_sdf_finds_them():
    """Its `_estimate_bounds`: narrow a box of side 2e9 to the cells whose value is within half their diagonal."""
    model = NeuralSDF((4,), center=(5.0, 0.0, 0.0), scale=0.1)
    with torch.no_grad():  # f = |x| + |y| / 2 - 0.5, an even and rough distance to a slab within the cube
        for parameter in model.parameters():
            parameter.zero_()
        model.layers[0].weight[:, 0] = torch.tensor([1.0, -1.0, 0.0, 0.0])
        model.layers[0].weight[:, 1] = torch.tensor([0.0, 0.0, 0.5, -0.5])
        model.layers[2].weight.fill_(1.0)
        model.layers[2].bias.fill_(-0.5)
    low, high = np.full(3, -1e9), np.full(3, 1e9)
    previous = None
    for _ in range(32):
        axes = [np.linspace(low[axis], high[axis], 16) for axis in range(3)]
        step = np.array([axis[1] - axis[0] for axis in axes])
        threshold = np.linalg.norm(step) / 2
        if threshold == previous:
            break
        previous = threshold
        values = model(np.stack(np.meshgrid(*axes, indexing="ij"), -1))
        near = np.argwhere(np.abs(values) <= threshold)
        high, low = low + near.max(0) * step + step / 2, low + near.min(0) * step - step / 2
    # The cube about the part reaches from -5 to 15 along x, and to 10 from 0 along the others.
    assert (low > [-8, -14, -14]).all() and (high < [18, 14, 14]).all()
    assert (low < [0, -9, -9]).all() and (high > [10, 9, 9]).all()
