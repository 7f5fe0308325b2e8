"""`NeuralSDF`: the signed distance function of one part, held by a network.

In: hidden widths, an activation, perhaps a hash grid and a scaler, and the map to file units. Out: a torch module from
points to signed distances, negative inside: in scaled targets (`scaled`, which is trained), in domain units (`domain`,
`signed_distance`), or in the file's own units (`sdf(points)`).
"""

import math
import os
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from neuralparts.domain import Transform
from neuralparts.network.hash_grid import HashGrid
from neuralparts.network.layers import DAM_WIDTHS, initialise, make_layers
from neuralparts.network.matrix_products import evaluate
from neuralparts.network.model_checks import check_description, check_finite
from neuralparts.network.model_file import not_a_model, read_model, write_model
from neuralparts.network.scalers import NoScaler, make_scaler

# Points evaluated at once on the CPU: 7 MB of activations of the DAM network, which stay in the caches.
_CPU_BATCH = 4096
# Elsewhere more of them, but their activations, all of which a gradient keeps, are at most so many numbers.
_GPU_BATCH, _GPU_ACTIVATIONS = 2**18, 2**29
# `level_distance` takes a gradient for no shorter than this. The function is nearly constant there, and |f| over the
# gradient says nothing. A hundredth of the true length 1 gives the right mean on flat fits (docs/log.md).
LEAST_SLOPE = 0.01


class NeuralSDF(nn.Module):
    """A signed distance function held by a network, negative inside.

    widths: hidden widths. encoding: a HashGrid or None. scaler: a module of `scalers`, or None for none. center (3,),
    scale: the map from file units to the domain, domain = (file - center) * scale. In training mode gradients may be
    rounded (`matrix_products`); a network is made, and left by a fit, in evaluation mode. Raises ValueError for
    widths, an activation or a map that make no sense.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = DAM_WIDTHS,
        activation: str = "relu",
        encoding: HashGrid | None = None,
        scaler: nn.Module | None = None,
        center: np.ndarray | tuple[float, float, float] = (0.0, 0.0, 0.0),
        scale: float = 1.0,
    ):
        super().__init__()
        self.widths, self.activation = tuple(int(width) for width in widths), activation
        self.encoding = encoding
        self.layers = make_layers(self.widths, activation, 3 if encoding is None else encoding.output_width)
        self.scaler = NoScaler() if scaler is None else scaler
        self.transform = Transform(center, scale)
        self.eval()

    @property
    def parameter_count(self) -> int:
        """Number of trained parameters, the encoding's among them."""
        return sum(parameter.numel() for parameter in self.parameters())

    def initialise(self, init: str, generator: torch.Generator) -> None:
        """Draw all weights from `generator`, the encoding's first. Raises ValueError for an unknown name."""
        if self.encoding is not None:
            self.encoding.initialise(generator)
        initialise(self.layers, init, generator)

    # --- values and gradients

    def scaled(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) float32, domain, finite -> (N,) in the scaler's units: the trained values. Differentiable.

        On the CPU a layer may hide a NaN of its input; `signed_distance` does not.
        """
        features = points if self.encoding is None else self.encoding(points)
        return evaluate(self.layers, features).squeeze(-1)

    def signed_distance(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) float32, domain, on the network's device -> (N,) signed distance, domain units.

        Differentiable. The distance and its gradient are NaN for a point with a coordinate that is NaN or infinite.
        """
        return nan_unless_finite(points, self.scaler.inverse(self.scaled(points)))

    def domain(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (N, 3), domain, array or tensor -> (N,) float32 signed distance, domain units, of the same kind.

        Evaluated in batches without gradients; use `signed_distance` to differentiate. NaN for a point with a
        coordinate that is NaN or infinite, or is so in float32. Raises ValueError for other shapes.
        """
        return self._in_batches(points, self.signed_distance)

    def forward(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (N, 3), file units, array or tensor -> (N,) signed distance, file units, of the same kind.

        Evaluated as by `domain`: a point that is not finite gives NaN. Raises ValueError for other shapes.
        """
        return self.transform.length_to_file(self.domain(self._to_domain(points)))

    def gradient(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (N, 3), file units, array or tensor -> (N, 3) gradient of the signed distance, of the same kind.

        It has no unit: a distance in file units over a length in file units. All three components are NaN for a point
        that is not finite. Raises ValueError for other shapes.
        """
        return self._in_batches(self._to_domain(points), self._domain_gradient)

    def level_distance(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (N, 3), domain -> (N,) float32 distance to the zero level, to first order, of the same kind.

        |f| / |gradient of f| (Taubin 1991): domain units, 0 or more. Unlike |f| it is not small merely because the
        function is flat. See LEAST_SLOPE for tiny gradients. NaN for a point that is not finite. Raises ValueError for
        other shapes.
        """
        return self._in_batches(points, self._level_distance)

    def _level_distance(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) float32, domain -> (N,) as `level_distance`."""
        values, gradient = self._value_and_gradient(points)
        return values.abs() / torch.linalg.vector_norm(gradient, dim=1).clamp(min=LEAST_SLOPE)

    def _domain_gradient(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) float32, domain -> (N, 3) gradient of the signed distance."""
        return self._value_and_gradient(points)[1]

    def _value_and_gradient(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """points (N, 3) float32, domain -> signed distances (N,) and their gradients (N, 3)."""
        with torch.enable_grad():
            points = points.detach().requires_grad_(True)
            values = self.signed_distance(points)
            (gradient,) = torch.autograd.grad(values.sum(), points)
        return values.detach(), gradient

    def _to_domain(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (N, 3) in file units -> (N, 3) float32 in the domain, of the same kind."""
        _check_points(points)
        with np.errstate(over="ignore"):  # infinite in float32, and then NaN
            points = self.transform.to_domain(points)
            return points.float() if isinstance(points, torch.Tensor) else points.astype(np.float32)

    def _in_batches(
        self, points: np.ndarray | torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]
    ) -> np.ndarray | torch.Tensor:
        """`in_batches` on the network's device, in batches that suit it."""
        device = next(self.parameters()).device
        elsewhere = max(_CPU_BATCH, min(_GPU_BATCH, _GPU_ACTIVATIONS // sum(self.widths)))
        return in_batches(function, points, _CPU_BATCH if device.type == "cpu" else elsewhere, device)

    # --- the file

    def description(self) -> dict:
        """All that is needed beside the tensors to make this model again, as JSON can hold it."""
        return {
            "widths": list(self.widths),
            "activation": self.activation,
            "encoding": None if self.encoding is None else self.encoding.description(),
            "scaler": self.scaler.name,
            "center": self.transform.center.tolist(),
            "scale": self.transform.scale,
        }

    def save(self, path: str | os.PathLike) -> None:
        """Write the whole model to `path` (.safetensors). Raises OSError."""
        write_model(path, self.description(), self.state_dict())

    @classmethod
    def load(cls, path: str | os.PathLike, device: str | torch.device = "cpu") -> "NeuralSDF":
        """Read a model. Raises FileNotFoundError, or UserError (a ValueError) if the file holds no model.

        Refused are: what is not a regular file; a description that the tensors contradict, which are compared before
        memory is set aside for either; tensors that are not float32 or not finite; a scaler that does not grow; a
        scale that is not positive.
        """
        description, tensors = read_model(path, check_description)
        try:
            check_finite(tensors)
            model = cls._from_description(description, tensors)
            if fault := model.scaler.fault():
                raise ValueError(f"{description['scaler']}: {fault}")
        except ValueError as error:
            raise not_a_model(path, error) from error
        return model.to(device)

    @classmethod
    def _from_description(cls, description: dict, tensors: dict[str, torch.Tensor]) -> "NeuralSDF":
        """The model that `description()` and `state_dict()` came from, both of which `check_description` passed."""
        encoding, prefix = description["encoding"], "scaler."
        scaler_state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        model = cls(
            tuple(description["widths"]),
            description["activation"],
            None if encoding is None else HashGrid(**encoding),
            make_scaler(description["scaler"], scaler_state),
            description["center"],
            description["scale"],
        )
        model.load_state_dict(tensors)
        return model


def nan_unless_finite(points: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """values (N,), but NaN, and with a NaN gradient, where a coordinate of points (N, 3) is NaN or infinite.

    All other values and gradients keep their bits, but for the sign of a zero. A GPU is not waited for.
    """
    is_followed = torch.is_grad_enabled() and points.requires_grad
    if points.device.type == "cpu" and not is_followed and math.isfinite(points.sum()):
        return values
    # (N,): 0 for a finite point, else NaN.
    zero = points.detach() @ points.new_zeros(3)
    if is_followed:  # the same again, with 0 or NaN as its derivative by all three coordinates
        zero = (points * zero[:, None]).sum(1)
    return values - zero


def in_batches(
    function: Callable[[torch.Tensor], torch.Tensor],
    points: np.ndarray | torch.Tensor,
    batch_size: int,
    device: torch.device,
) -> np.ndarray | torch.Tensor:
    """function(points), points (N, 3), for `batch_size` points at a time, without gradients.

    function: (B, 3) float32 tensor on `device` -> (B, ...) tensor. Returns (N, ...), an array for an array, else a
    tensor on the points' device. Raises ValueError for points of other shapes.
    """
    _check_points(points)
    is_array = not isinstance(points, torch.Tensor)
    with np.errstate(over="ignore"):  # infinite in float32, and then NaN
        points = torch.as_tensor(np.ascontiguousarray(points, dtype=np.float32)) if is_array else points.float()
    with torch.no_grad():
        # One batch on the device at a time; its values come back at once.
        values = torch.cat([function(batch.to(device)).to(points.device) for batch in points.split(batch_size)])
    return values.numpy() if is_array else values


def _check_points(points: np.ndarray | torch.Tensor) -> None:
    """Raise ValueError unless points have shape (N, 3)."""
    if np.ndim(points) != 2 or np.shape(points)[1] != 3:
        raise ValueError(f"points must have shape (N, 3); got {tuple(np.shape(points))}")
