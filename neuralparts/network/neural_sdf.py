"""`NeuralSDF`: the signed distance function of one part, held by a network.

In: hidden widths, an activation, perhaps a hash grid and a scaler, and the map to file units. Out: a torch module from
points to signed distances, negative inside: in scaled targets (`scaled`, which is trained), in domain units (`domain`,
`signed_distance`), or in the file's own units (`sdf(points)`).
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from neuralparts.domain import DOMAIN_RADIUS, Transform
from neuralparts.network.continuation import distance_everywhere
from neuralparts.network.hash_grid import HashGrid
from neuralparts.network.layers import DAM_WIDTHS, initialise, make_layers
from neuralparts.network.matrix_products import evaluate
from neuralparts.network.model_checks import check_description, check_finite, described_layers
from neuralparts.network.model_file import not_a_model, read_model, write_model
from neuralparts.network.precision import Precision, decoded, kept_dtypes, kept_tensors
from neuralparts.network.queries import NARROW, Points, answer, check_points, result_dtype
from neuralparts.network.scalers import NoScaler, make_scaler
from neuralparts.network.self_description import html_table, summary_line
from neuralparts.packed import PackedFolder

# Points evaluated at once on the CPU: 7 MB of activations of the DAM network, which stay in the caches.
_CPU_BATCH = 4096
# For so few points, the layers one by one are faster than a product that is padded to many rows.
_FEW_POINTS = 8
# Elsewhere more of them, but their activations, all of which a gradient keeps, and the intermediate values of the
# encoding are at most so many bytes.
_GPU_BATCH, _GPU_BYTES = 2**18, 2**31
# `level_distance` takes a gradient for no shorter than this. The function is nearly constant there, and |f| over the
# gradient says nothing. A hundredth of the true length 1 gives the right mean on flat fits (docs/log.md).
LEAST_SLOPE = 0.01


class NeuralSDF(nn.Module):
    """A signed distance function held by a network, negative inside.

    widths: hidden widths. encoding: a HashGrid or None. scaler: a module of `scalers`, or None for none. center (3,),
    scale: the map from file units to the domain, domain = (file - center) * scale. about: what a fit records of itself
    (`self_description`), as JSON can hold it; nothing that is computed depends on it. In training mode gradients may be
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
        about: dict | None = None,
    ):
        super().__init__()
        self.widths, self.activation = tuple(int(width) for width in widths), activation
        self.encoding = encoding
        self.layers = make_layers(self.widths, activation, 3 if encoding is None else encoding.output_width)
        self.scaler = NoScaler() if scaler is None else scaler
        self.transform = Transform(center, scale)
        self.about = {} if about is None else about
        self.precision = Precision()  # of the numbers in the file; `rounding` sets another
        self.eval()

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "NeuralSDF":
        """What torch calls to move or cast a module. Raises ValueError for a dtype that cannot hold coordinates."""
        dtype = fn(torch.empty(0)).dtype
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"a NeuralSDF computes in float32 or float64; {dtype} is too coarse for coordinates")
        return super()._apply(fn, recurse)

    @property
    def parameter_count(self) -> int:
        """Number of trained parameters, the encoding's among them."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def bounds(self) -> np.ndarray:
        """(2, 3) float64, file units: the lowest and the highest corner of the box of the mesh that was fitted.

        Where the model does not name it (fitted to samples, or by an earlier version): of the ball that holds the part.
        """
        if (box := self.about.get("bounds")) is not None:
            return np.array(box, dtype=np.float64)
        radius = self.transform.length_to_file(DOMAIN_RADIUS)
        return np.stack([self.transform.center - radius, self.transform.center + radius])

    def __repr__(self) -> str:
        return summary_line(self)

    def _repr_html_(self) -> str:
        return html_table(self)

    def initialise(self, init: str, generator: torch.Generator) -> None:
        """Draw all weights from `generator`, the encoding's first. Raises ValueError for an unknown name."""
        if self.encoding is not None:
            self.encoding.initialise(generator)
        initialise(self.layers, init, generator)

    # --- values and gradients

    def scaled(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3), domain, finite, of the network's dtype -> (N,) in the scaler's units: the trained values.

        Differentiable. On the CPU a layer may hide a NaN of its input; `signed_distance` does not.
        """
        features = points if self.encoding is None else self.encoding(points)
        return evaluate(self.layers, features).squeeze(-1)

    def signed_distance(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3), domain, of the network's dtype and device -> (N,) signed distance, domain units.

        Differentiable. Outside the cube it is the lower bound of `continuation`. NaN for a point with a NaN, +inf for
        another with an infinite coordinate; the gradient of either is NaN.
        """
        return distance_everywhere(self._in_cube, points)

    def domain(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (N, 3), domain, array or tensor -> (N,) signed distance, domain units, of the same kind.

        `signed_distance` in batches, without gradients, in the network's dtype: float32, or float64 after `double()`.
        Raises ValueError for other shapes.
        """
        return self._answer_in_domain(points, self.signed_distance)

    def forward(self, points: Points) -> np.ndarray | torch.Tensor:
        """points (..., 3), file units -> (...) signed distance, file units: a tensor for a tensor, else an array.

        Outside the cube about the part the value is a lower bound of the true distance, up to the fit's own error
        there (`continuation`): it grows with the distance, and no safe step is too long. NaN for a point with a NaN,
        +inf for another with an infinite coordinate.

        The dtype is float32 for points of float32 or narrower, else float64; the network computes in its own. A tensor
        that requires a gradient keeps its graph; otherwise there is none. Raises ValueError for other shapes.
        """
        if not isinstance(points, torch.Tensor):
            points = np.asarray(points)
            if points.size <= 3 * _FEW_POINTS and (values := self._few_in_cube(points)) is not None:
                return values
        return self._answer(points, lambda places: self.transform.length_to_file(self._distance(places)))

    def gradient(self, points: Points) -> np.ndarray | torch.Tensor:
        """points (..., 3), file units -> (..., 3) gradient of the signed distance, of the same kind and dtype.

        It has no unit: a distance in file units over a length in file units. NaN, all three components, for a point
        that is not finite. That of a tensor that requires a gradient can be differentiated again; with ReLU and the
        hash grid its derivative is that of the piece that the point lies in. Raises ValueError for other shapes.
        """
        return self._answer(points, self._gradient)

    def level_distance(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (N, 3), domain -> (N,) distance to the zero level, to first order, of the kind and dtype of `domain`.

        |f| / |gradient of f| (Taubin 1991): domain units, 0 or more. Unlike |f| it is not small merely because the
        function is flat. See LEAST_SLOPE for tiny gradients. NaN for a point that is not finite. Raises ValueError for
        other shapes.
        """
        return self._answer_in_domain(points, self._level_distance)

    def _level_distance(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3), domain, of the network's dtype and device -> (N,) as `level_distance`."""
        with torch.enable_grad():
            points = points.detach().requires_grad_(True)
            values = self.signed_distance(points)
            (gradient,) = torch.autograd.grad(values.sum(), points)
        return values.detach().abs() / torch.linalg.vector_norm(gradient, dim=1).clamp(min=LEAST_SLOPE)

    def _answer_in_domain(
        self, points: np.ndarray | torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]
    ) -> np.ndarray | torch.Tensor:
        """function(points) for points (N, 3), domain, of the same kind. function: (B, 3) -> (B,)."""
        if np.ndim(points) != 2 or np.shape(points)[1] != 3:
            raise ValueError(f"points must have shape (N, 3); got {tuple(np.shape(points))}")
        weight = self.layers[0].weight
        if not isinstance(points, torch.Tensor):
            with np.errstate(over="ignore"):  # infinite in float32
                points = np.require(points, np.float64 if weight.dtype == torch.float64 else np.float32, ("C", "W"))
        with torch.no_grad():
            return answer(points, lambda batch: function(batch.to(weight)), self._batch_size, weight.dtype)

    def _in_cube(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) in the cube, of the network's dtype and device -> (N,) signed distance, domain units."""
        return self.scaler.inverse(self.scaled(points))

    def _in_cube_by_layers(self, points: torch.Tensor, fixed_table: bool = False) -> torch.Tensor:
        """As `_in_cube`, layer by layer: for a few points faster than one product that is padded to many rows.

        fixed_table: nobody asks for the gradient by the hash grid's table.
        """
        # `forward` itself: a module's call costs as much as the products of one point.
        values = points if self.encoding is None else self.encoding.forward(points, fixed_table)
        for layer in self.layers:
            values = layer.forward(values)
        return self.scaler.inverse(values.squeeze(-1))

    def _distance(self, places: torch.Tensor, fixed_table: bool = False) -> torch.Tensor:
        """places (N, 3) float64, domain, on any device -> (N,) float64 signed distance, domain units, on that device.

        The network's dtype holds the point of the cube alone: how far a point lies from it is computed in float64.
        fixed_table: nobody asks for the gradient by the hash grid's table.
        """
        weight = self.layers[0].weight

        def in_cube(inside: torch.Tensor) -> torch.Tensor:
            inside = inside.to(weight)
            if fixed_table or len(inside) <= _FEW_POINTS:
                return self._in_cube_by_layers(inside, fixed_table).to(places)
            return self._in_cube(inside).to(places)

        return distance_everywhere(in_cube, places)

    def _few_in_cube(self, points: np.ndarray) -> np.ndarray | None:
        """Values as `_answer` gives them for `_distance`, to the bit, by fewer calls.

        points (..., 3), a few, file units -> (...). None unless there are points, and all of them lie in the cube.
        """
        if points.size == 0 or points.shape[-1:] != (3,):
            return None
        places = self._to_domain(points)
        if not np.abs(places).max() <= 1:
            return None
        with torch.set_grad_enabled(False):  # half the time of `no_grad`
            inside = torch.from_numpy(places.reshape(-1, 3)).to(self.layers[0].weight)
            values = self._in_cube_by_layers(inside).cpu().numpy().astype(np.float64)
        values = self.transform.length_to_file(values.reshape(points.shape[:-1]))
        return values.astype(np.float32) if points.dtype in NARROW else values

    def _to_domain(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (..., 3) in file units -> float64 in the domain, infinite where they overflow, of the same kind."""
        with np.errstate(over="ignore"):
            return self.transform.to_domain(points)

    def _gradient(self, places: torch.Tensor) -> torch.Tensor:
        """places (N, 3) float64, domain -> (N, 3) float64 gradient of the signed distance; with a graph if they have
        one."""
        is_followed = torch.is_grad_enabled() and places.requires_grad
        with torch.enable_grad():
            places = places if is_followed else places.detach().requires_grad_(True)
            distance = self._distance(places, fixed_table=not is_followed).sum()
            return torch.autograd.grad(distance, places, create_graph=is_followed)[0]

    def _answer(self, points: Points, function: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray | torch.Tensor:
        """function(places) for points (..., 3) in file units, of the same kind. function: (B, 3) float64, domain."""
        points = points if isinstance(points, torch.Tensor) else np.asarray(points)
        check_points(points)
        is_followed = torch.is_grad_enabled() and isinstance(points, torch.Tensor) and points.requires_grad
        with torch.set_grad_enabled(is_followed):
            places = self._to_domain(points)
            return answer(places, function, self._batch_size, result_dtype(points.dtype))

    @property
    def _batch_size(self) -> int:
        """Points evaluated at once on the network's device."""
        if self.layers[0].weight.device.type == "cpu":
            return _CPU_BATCH
        of_encoding = 0 if self.encoding is None else self.encoding.bytes_per_point
        return max(_CPU_BATCH, min(_GPU_BATCH, _GPU_BYTES // (4 * sum(self.widths) + of_encoding)))

    # --- the file

    def description(self) -> dict:
        """All that is needed beside the tensors to make this model again, as JSON can hold it."""
        description = {
            "widths": list(self.widths),
            "activation": self.activation,
            "encoding": None if self.encoding is None else self.encoding.description(),
            "scaler": self.scaler.name,
            "center": self.transform.center.tolist(),
            "scale": self.transform.scale,
            "about": self.about,
        }
        if self.precision.name == "float32":
            return description
        return description | {"precision": {"name": self.precision.name, "bytes": self.precision.bytes}}

    def keep(self, precision: Precision) -> None:
        """Decide how the numbers are kept in the file. Raises ValueError for numbers that cannot be kept so."""
        self.precision = precision
        self._kept_tensors()

    def _kept_tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of the file, on the CPU. Sets the number of their bytes."""
        tensors = {name: tensor.detach().cpu() for name, tensor in self.state_dict().items()}
        kept = kept_tensors(tensors, self.precision, self.encoding)
        if self.precision.name != "float32":
            self.precision = self.precision._replace(bytes=sum(tensor.nbytes for tensor in kept.values()))
        return kept

    def save(self, path: str | os.PathLike) -> None:
        """Write the whole model to `path` (.safetensors), its numbers as `precision` says.

        Numbers that changed since the network was rounded or loaded are rounded. Raises OSError, and ValueError for
        numbers that cannot be kept so.
        """
        kept = self._kept_tensors()
        write_model(path, self.description(), kept)

    def export(self, path: str | os.PathLike) -> list[Path]:
        """Write the model in the form of the path's suffix (`choices.EXPORT_FORMS`), in file units.

        Returns the paths of the files written, the given one first. Raises UserError for a suffix that belongs to no
        form and for a model that the form cannot hold, OSError where a file cannot be written.
        """
        from neuralparts.export import export_model, form_of

        return export_model(self, form_of(path), Path(path))

    @classmethod
    def load(
        cls, path: str | os.PathLike | bytes, device: str | torch.device = "cpu", name: str | None = None
    ) -> "NeuralSDF":
        """Read a model. Raises FileNotFoundError, or UserError (a ValueError) if the file holds no model.

        path: of a model file, or the bytes of one; of a packed folder with the name of a part in it.

        Refused are: what is not a regular file; a description that the tensors contradict, which are compared before
        memory is set aside for either; tensors of another dtype or not finite; packed bytes that are damaged or that
        unpack to another size; a scaler that does not grow; a
        scale that is not positive.
        """
        if name is not None:
            path = PackedFolder(path).read(name)
        description, kept = read_model(path, check_description, kept_dtypes)
        try:
            tensors, precision = decoded(description, kept, described_layers(description))
            check_finite(tensors)
            model = cls._from_description(description, tensors)
            model.precision = precision
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
            description.get("about"),  # models of earlier versions have none
        )
        model.load_state_dict(tensors)
        return model
