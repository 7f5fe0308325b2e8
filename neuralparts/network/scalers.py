"""Target scalers: monotone maps of signed distances, fitted with scikit-learn, applied and inverted as torch modules.

In: the training targets, `sdf (N,) float32`, domain units. Out: a module with `forward` (distance -> scaled target)
and `inverse` (scaled target -> distance). Both are elementwise, differentiable, defined for every real number, and
never NaN for one. Each scaler grows strictly within the fitted range and keeps distance 0 at the level `forward(0)`, so
the sign of an inverted value says on which side of that level the scaled value lies. The inverses of the power and the
quantile transform are defined within the fitted range alone; outside it they are clamped to it.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from neuralparts.choices import SCALERS
from neuralparts.errors import UserError

# The scalers' few parameters settle long before this many targets; scikit-learn's power transform is the slow one.
_MAX_FITTED_TARGETS = 200_000
_QUANTILES = 1000
# scikit-learn's own bound of the normal output: ndtri(1e-7), 5.2 standard deviations.
_NORMAL_TAIL = 1e-7
# An exponent this near to 0 is the logarithm within float32: the next term of the series is smaller than rounding.
LOGARITHM_BELOW = 1e-6


class NoScaler(nn.Module):
    """The identity."""

    name = "none"

    def fault(self) -> str:
        """Why the scaler is no growing map, or ''."""
        return ""

    def forward(self, sdf: torch.Tensor) -> torch.Tensor:
        """Distances, any shape -> the same."""
        return sdf

    def inverse(self, scaled: torch.Tensor) -> torch.Tensor:
        """Scaled targets, any shape -> the same."""
        return scaled


class StandardScaler(nn.Module):
    """(sdf - mean) / standard deviation."""

    name = "StandardScaler"

    def __init__(self, mean: float = 0.0, standard_deviation: float = 1.0):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("standard_deviation", torch.tensor(standard_deviation, dtype=torch.float32))

    @classmethod
    def fit(cls, sdf: np.ndarray) -> "StandardScaler":
        """The scaler of targets (N,)."""
        from sklearn.preprocessing import StandardScaler as Fitted

        fitted = Fitted().fit(sdf.reshape(-1, 1))
        return cls(float(fitted.mean_[0]), float(fitted.scale_[0]))

    def fault(self) -> str:
        """Why the scaler is no growing map, or ''."""
        if not bool(torch.isfinite(self.mean)):
            return "its mean is not finite"
        return "" if 0 < self.standard_deviation < math.inf else "its standard deviation is not positive"

    def forward(self, sdf: torch.Tensor) -> torch.Tensor:
        """Distances, any shape, domain units -> scaled targets."""
        return (sdf - self.mean) / self.standard_deviation

    def inverse(self, scaled: torch.Tensor) -> torch.Tensor:
        """Scaled targets, any shape -> distances, domain units."""
        return scaled * self.standard_deviation + self.mean


class PowerTransformer(nn.Module):
    """Yeo and Johnson's power transform (2000) of the targets in units of their standard deviation, then standardised.

    unit: that standard deviation. exponent: lambda of the transform. mean, standard_deviation: of the transformed
    targets. low, high: the fitted range, domain units. With lambda outside [0, 2] the inverse is undefined beyond an
    asymptote; inverted values are clamped to the fitted range, well inside of it.
    """

    name = "PowerTransformer"

    def __init__(
        self,
        unit: float = 1.0,
        exponent: float = 1.0,
        mean: float = 0.0,
        standard_deviation: float = 1.0,
        low: float = -1.0,
        high: float = 1.0,
    ):
        super().__init__()
        for name, value in (
            ("unit", unit),
            ("exponent", exponent),
            ("mean", mean),
            ("standard_deviation", standard_deviation),
            ("low", low),
            ("high", high),
        ):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    @classmethod
    def fit(cls, sdf: np.ndarray) -> "PowerTransformer":
        """The scaler of targets (N,)."""
        from sklearn.preprocessing import PowerTransformer as Fitted
        from sklearn.preprocessing import StandardScaler as FittedStandard

        # Yeo and Johnson's bend lies at |y| about 1: distances of 0.01 would all fall on its straight part.
        unit = float(np.std(sdf))
        fitted = Fitted(method="yeo-johnson", standardize=False)
        bent = fitted.fit_transform((sdf.astype(np.float64) / unit).reshape(-1, 1))  # (N, 1)
        standard = FittedStandard().fit(bent)
        return cls(
            unit,
            float(fitted.lambdas_[0]),
            float(standard.mean_[0]),
            float(standard.scale_[0]),
            float(np.min(sdf)),
            float(np.max(sdf)),
        )

    def fault(self) -> str:
        """Why the scaler is no growing map of its fitted range, or ''."""
        if not (self.unit > 0 and self.standard_deviation > 0):
            return "its standard deviations are not positive"
        if not self.low < self.high:
            return "its fitted range is empty"
        ends = self.forward(torch.stack([self.low, self.high]))
        grows = bool(torch.isfinite(ends).all()) and bool(ends[0] < ends[1])
        return "" if grows else "its parameters map the fitted range to nothing"

    def forward(self, sdf: torch.Tensor) -> torch.Tensor:
        """Distances, any shape, domain units -> scaled targets."""
        bent = yeo_johnson(sdf / self.unit, self.exponent)
        return (bent - self.mean) / self.standard_deviation

    def inverse(self, scaled: torch.Tensor) -> torch.Tensor:
        """Scaled targets, any shape -> distances within the fitted range, domain units."""
        low, high = self.forward(self.low), self.forward(self.high)
        bent = torch.clamp(scaled, low, high) * self.standard_deviation + self.mean
        return yeo_johnson_inverse(bent, self.exponent) * self.unit


class QuantileTransformer(nn.Module):
    """Piecewise linear map of the targets' quantiles onto those of the normal distribution.

    distances (K,): knots, increasing, domain units, at scikit-learn's quantiles. scaled (K,): their images, increasing.
    Equal quantiles are merged into one knot, at the mean of their images, so that the map is strictly monotone both
    ways. Between knots both directions are linear, so the inverse undoes `forward` within rounding.
    """

    name = "QuantileTransformer"

    def __init__(
        self,
        distances: np.ndarray | torch.Tensor = (-1.0, 1.0),
        scaled: np.ndarray | torch.Tensor = (-1.0, 1.0),
    ):
        super().__init__()
        self.register_buffer("distances", torch.as_tensor(distances, dtype=torch.float32))
        self.register_buffer("scaled", torch.as_tensor(scaled, dtype=torch.float32))

    @classmethod
    def fit(cls, sdf: np.ndarray) -> "QuantileTransformer":
        """The scaler of targets (N,). Raises UserError for fewer than two different quantiles."""
        from scipy.special import ndtri
        from sklearn.preprocessing import QuantileTransformer as Fitted

        fitted = Fitted(n_quantiles=min(_QUANTILES, len(sdf)), output_distribution="normal", subsample=None)
        fitted.fit(sdf.astype(np.float64).reshape(-1, 1))
        # Images of all quantiles (Q,): quantiles of the normal distribution, made finite.
        scaled = ndtri(np.clip(fitted.references_, _NORMAL_TAIL, 1 - _NORMAL_TAIL))
        # Different quantiles (K,), and for each of the Q which of the K it equals.
        distances, group = np.unique(fitted.quantiles_[:, 0].astype(np.float32), return_inverse=True)
        if len(distances) < 2:
            raise UserError("QuantileTransformer needs at least two different distances; give --scaler none")
        return cls(distances, np.bincount(group, scaled) / np.bincount(group))

    def fault(self) -> str:
        """Why the scaler is no growing map, or ''."""
        steps = torch.cat([torch.diff(self.distances), torch.diff(self.scaled)])  # (2 (K - 1),)
        grows = bool((steps > 0).all()) and bool(torch.isfinite(steps).all())
        return "" if grows else "its knots do not grow"

    def forward(self, sdf: torch.Tensor) -> torch.Tensor:
        """Distances, any shape, domain units -> scaled targets."""
        return interpolate(sdf, self.distances, self.scaled)

    def inverse(self, scaled: torch.Tensor) -> torch.Tensor:
        """Scaled targets, any shape -> distances within the fitted range, domain units."""
        return interpolate(scaled, self.scaled, self.distances)


_SCALER_CLASSES = {cls.name: cls for cls in (StandardScaler, PowerTransformer, QuantileTransformer)}


def fit_scaler(name: str, sdf: np.ndarray) -> nn.Module:
    """The scaler `name`, fitted to targets.

    sdf: (N,) float32, domain units, in random order. Raises ValueError for an unknown name and for targets of other
    shapes, UserError for targets that are all the same.
    """
    sdf = np.asarray(sdf)
    if sdf.ndim != 1 or len(sdf) == 0:
        raise ValueError(f"targets must have shape (N,), N > 0; got {sdf.shape}")
    if name not in SCALERS:
        raise ValueError(f"unknown scaler {name!r}; one of {', '.join(SCALERS)}")
    if name == "none":
        return NoScaler()
    if not float(np.std(sdf)) > 0:
        raise UserError(f"{name} needs targets that differ; all {len(sdf)} are {sdf[0]}: give --scaler none")
    # Samples come in random order: an even stride is a fair subset, and needs no generator.
    sdf = sdf[:: max(1, math.ceil(len(sdf) / _MAX_FITTED_TARGETS))]
    return _SCALER_CLASSES[name].fit(sdf)


def scaler_shapes(name: str, knots: tuple[int, ...] = ()) -> dict[str, tuple[int, ...]]:
    """Shapes of the saved buffers of the scaler `name`, one of SCALERS, by the buffers' names.

    knots: the shape that the file gives the knots of a QuantileTransformer, which decides their number. Raises
    ValueError unless it is (K,), K >= 2; the other scalers ignore it.
    """
    if name == "none":
        return {}
    if name == "QuantileTransformer":
        if len(knots) != 1 or knots[0] < 2:
            raise ValueError(f"QuantileTransformer needs two knots or more, found the shape {knots}")
        return {"distances": knots, "scaled": knots}
    return {buffer: tuple(value.shape) for buffer, value in _SCALER_CLASSES[name]().state_dict().items()}


def make_scaler(name: str, state: dict[str, torch.Tensor]) -> nn.Module:
    """A scaler from its name and its saved buffers.

    Raises ValueError for an unknown name, KeyError or RuntimeError for a missing buffer.
    """
    if name == "none":
        return NoScaler()
    if name not in _SCALER_CLASSES:
        raise ValueError(f"unknown scaler {name!r}; one of {', '.join(SCALERS)}")
    if name == "QuantileTransformer":  # the number of its knots is theirs
        return QuantileTransformer(state["distances"], state["scaled"])
    scaler = _SCALER_CLASSES[name]()
    scaler.load_state_dict(state)
    return scaler


def inverse_of_each(scalers: Sequence[nn.Module]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function (P, M) -> (P, M), scaled targets to distances, that inverts row p by scaler p.

    At once for scalers of one class whose buffers are numbers, as these are now; else one row after the other.
    """
    (first, *others) = scalers
    is_alike = all(type(other) is type(first) for other in others)
    if not is_alike or any(buffer.ndim > 0 for buffer in first.buffers()):
        return lambda scaled: torch.stack(
            [scaler.inverse(row) for scaler, row in zip(scalers, scaled.unbind(), strict=True)]
        )
    whole = type(first)()
    for name, _ in first.named_buffers():
        setattr(whole, name, torch.stack([getattr(scaler, name) for scaler in scalers])[:, None])  # (P, 1)
    return whole.inverse


def yeo_johnson(values: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Yeo and Johnson's transform (2000), elementwise. values: any shape. exponent: (), their lambda."""
    positive = power_minus_one(torch.clamp(values, min=0), exponent)
    negative = power_minus_one(torch.clamp(-values, min=0), 2 - exponent)
    return torch.where(values >= 0, positive, -negative)


def yeo_johnson_inverse(bent: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Inverse of `yeo_johnson` for values within its image, any shape."""
    positive = power_minus_one_inverse(torch.clamp(bent, min=0), exponent)
    negative = power_minus_one_inverse(torch.clamp(-bent, min=0), 2 - exponent)
    return torch.where(bent >= 0, positive, -negative)


def power_minus_one(values: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """((1 + values)^exponent - 1) / exponent for values >= 0, any shape; the logarithm if the exponent () is 0.

    expm1 and log1p keep values near 0 exact.
    """
    logarithm = torch.log1p(values)
    is_logarithm = exponent.abs() < LOGARITHM_BELOW
    safe = torch.where(is_logarithm, torch.ones_like(exponent), exponent)  # never divide by 0
    return torch.where(is_logarithm, logarithm, torch.expm1(safe * logarithm) / safe)


def power_minus_one_inverse(bent: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Inverse of `power_minus_one`; beyond a negative exponent's asymptote it stays at the last finite value."""
    is_logarithm = exponent.abs() < LOGARITHM_BELOW
    safe = torch.where(is_logarithm, torch.ones_like(exponent), exponent)
    inside = torch.clamp(safe * bent, min=-1 + torch.finfo(bent.dtype).eps)
    logarithm = torch.where(is_logarithm, bent, torch.log1p(inside) / safe)
    return torch.expm1(logarithm)


def interpolate(values: torch.Tensor, knots: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Piecewise linear interpolation, constant outside the knots. values: any shape; knots, images: (K,), K >= 2."""
    inside = torch.clamp(values, knots[0], knots[-1])
    # Index of the knot at or right of each value, at least 1 so that there is one left of it.
    right = torch.clamp(torch.searchsorted(knots, inside.detach().contiguous()), 1, len(knots) - 1)
    fraction = (inside - knots[right - 1]) / (knots[right] - knots[right - 1])
    return images[right - 1] + fraction * (images[right] - images[right - 1])
