"""The signed distance outside the cube [-1, 1]^3, from its value at the nearest point of the cube.

In: points p (..., 3) in the domain and f(q), the signed distance at q = clamp(p, -1, 1). Out: a distance for every p.
Inside the cube it is f(p), to the bit. Outside it is the larger of two lower bounds of the true distance:

- sqrt(max(f(q), 0)^2 + |p - q|^2). The cube is convex and q is its point nearest to p, so for a surface point s the
  angle at q between p and s is at least a right one: |p - s|^2 >= |p - q|^2 + |q - s|^2.
- |p| - DOMAIN_RADIUS - e / (1 + |p - q|), because the surface lies in the ball of that radius. e is what f(q) lacks to
  |q| - DOMAIN_RADIUS, by an error of the fit; it is 0 if f(q) is larger.

So beyond the cube the value overestimates the true distance by no more than f does at q: by the fit's own error. With e
it is continuous at the border of the cube where f(q) is positive, and the error fades with the distance.
"""

from collections.abc import Callable

import torch

from neuralparts.domain import DOMAIN_RADIUS


def distance_everywhere(function: Callable[[torch.Tensor], torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """The signed distance at points (..., 3), domain, from `function`, which knows it in the cube -> (...).

    function: (..., 3) within the cube -> (...) signed distance. NaN for a point with a NaN; +inf for another point with
    an infinite coordinate; the gradient of either is NaN. Differentiable as often as `function`. No GPU is waited for.
    """
    if points.device.type == "cpu" and (points.numel() == 0 or bool(points.abs().max() <= 1)):
        return function(points)
    return continue_outside(points, function(points.clamp(-1, 1)))


def continue_outside(points: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The signed distance at points (..., 3) from values (...), the signed distance at clamp(points, -1, 1).

    The formula of this module, in operations that torch can trace. points and values: of one floating dtype, domain
    units. What is not finite: see `distance_everywhere`.
    """
    outside = ~(points.abs() <= 1).all(-1)  # (...), True for NaN
    # (..., 3): a point inside is replaced by a fixed one outside, so that no NaN arises in a gradient that is not used.
    outer = torch.where(outside[..., None], points, 2.0)
    nearest = outer.clamp(-1, 1)  # (..., 3): q
    beyond = outer - nearest  # (..., 3)
    legs = torch.cat([beyond, values.clamp(min=0)[..., None]], -1)  # (..., 4)
    lacking = (_length(nearest) - DOMAIN_RADIUS - values).clamp(min=0)  # (...): e
    bound = torch.maximum(_length(legs), _length(outer) - DOMAIN_RADIUS - lacking / (1 + _length(beyond)))
    if torch.is_grad_enabled() and points.requires_grad:
        # (...): 0, or NaN for a point that is not finite, and so its derivative by all three coordinates. An infinite
        # distance keeps its value; its gradient is 0 times NaN, which is NaN.
        zero = points.detach().mul(0).sum(-1)
        bound = torch.where(bound.isinf(), bound, bound - (points * zero[..., None]).sum(-1))
    return torch.where(outside, bound, values)


def _length(vectors: torch.Tensor) -> torch.Tensor:
    """Lengths (...) of vectors (..., K), none of them zero. Their squares may overflow: 10^20 has none in float32."""
    # (..., 1): the largest coordinate, finite, so that an infinite vector gets an infinite length and not NaN.
    largest = vectors.detach().abs().amax(-1, keepdim=True).clamp(max=torch.finfo(vectors.dtype).max)
    return (vectors / largest).norm(dim=-1) * largest.squeeze(-1)
