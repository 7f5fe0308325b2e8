"""Scalers against scikit-learn's own, and their inverses on every real number."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import preprocessing

from neuralparts.choices import SCALERS
from neuralparts.network import fit_scaler
from neuralparts.network.scalers import PowerTransformer, make_scaler


def targets(seed=0, count=20_000):
    """Distances like those of an importance sample: Laplacian about 0, a few of them uniform."""
    generator = np.random.default_rng(seed)
    near = generator.laplace(0, 1 / 60, count)
    return np.concatenate([near, generator.uniform(-0.2, 1.2, count // 20)]).astype(np.float32)


@pytest.mark.parametrize("name", SCALERS)
def test_inverse_undoes_forward(name):
    sdf = targets()
    scaler = fit_scaler(name, sdf)
    values = torch.as_tensor(sdf)
    back = scaler.inverse(scaler(values))
    # float32 of values of size 1, through an exponential and back.
    assert torch.allclose(back, values, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", SCALERS)
def test_strictly_monotone_and_signs_kept(name):
    scaler = fit_scaler(name, targets())
    distances = torch.linspace(-0.15, 1.1, 5001, dtype=torch.float64).float()
    scaled = scaler(distances)
    assert (scaled.diff() > 0).all()
    level = scaler(torch.zeros(1))
    assert torch.equal((scaled < level), (distances < 0))
    inverted = scaler.inverse(torch.cat([level - 1e-2, level + 1e-2]))
    assert inverted[0] < 0 < inverted[1]


@pytest.mark.parametrize("name", SCALERS)
def test_inverse_is_finite_and_monotone_for_every_number(name):
    sdf = targets()
    scaler = fit_scaler(name, sdf)
    scaled = torch.cat([torch.tensor([-1e30, -1e6]), torch.linspace(-50, 50, 2001), torch.tensor([1e6, 1e30])])
    values = scaler.inverse(scaled)
    assert torch.isfinite(values).all()
    assert (values.diff() >= 0).all()
    if name in ("PowerTransformer", "QuantileTransformer"):
        assert values.min() >= sdf.min() - 1e-5 and values.max() <= sdf.max() + 1e-5


@pytest.mark.parametrize("name", ["StandardScaler", "PowerTransformer", "QuantileTransformer"])
def test_agrees_with_scikit_learn(name):
    sdf = targets()
    ours = fit_scaler(name, sdf)(torch.as_tensor(sdf)).numpy()
    column = sdf.astype(np.float64).reshape(-1, 1)
    if name == "PowerTransformer":
        column = column / np.std(sdf)
    twin = {
        "StandardScaler": preprocessing.StandardScaler(),
        "PowerTransformer": preprocessing.PowerTransformer(),
        "QuantileTransformer": preprocessing.QuantileTransformer(output_distribution="normal", subsample=None),
    }[name].fit_transform(column)[:, 0]
    inside = np.abs(twin) < 3  # scikit-learn interpolates the normal's tails in another variable
    assert np.abs(ours - twin)[inside].max() < (0.02 if name == "QuantileTransformer" else 1e-3)


@given(st.floats(-3, 5), st.floats(-1, 1))
def test_power_transform_for_any_exponent(exponent, value):
    scaler = PowerTransformer(unit=0.1, exponent=exponent, low=-1.0, high=1.0)
    back = scaler.inverse(scaler(torch.tensor([value])))
    slope = abs(float(scaler(torch.tensor([value + 1e-3])) - scaler(torch.tensor([value - 1e-3])))) / 2e-3
    # Where the transform is flat, float32 of the image has the same value for neighbours.
    assert abs(float(back) - value) <= 1e-5 + 1e-5 / max(slope, 1e-12)


@pytest.mark.parametrize("name", SCALERS)
def test_saved_state_makes_the_same_scaler(name):
    scaler = fit_scaler(name, targets())
    again = make_scaler(name, scaler.state_dict())
    values = torch.linspace(-3, 3, 101)
    assert torch.equal(scaler.inverse(values), again.inverse(values))


def test_unknown_names_and_targets_without_spread_are_refused():
    with pytest.raises(ValueError, match="unknown scaler"):
        fit_scaler("MinMax", targets())
    with pytest.raises(ValueError, match="differ"):
        fit_scaler("StandardScaler", np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="shape"):
        fit_scaler("StandardScaler", np.zeros((10, 1), np.float32))


def test_quantiles_survive_repeated_targets():
    sdf = np.concatenate([np.zeros(5000, np.float32), targets()])
    scaler = fit_scaler("QuantileTransformer", sdf)
    values = torch.linspace(-0.1, 0.1, 101)
    assert torch.allclose(scaler.inverse(scaler(values)), values, atol=1e-5)
    both_sides = np.concatenate([np.zeros(5000), np.linspace(-1, 1, 5000)]).astype(np.float32)
    assert abs(fit_scaler("QuantileTransformer", both_sides)(torch.zeros(1))) < 0.01
