"""Architectures, activations, initialisation, and `NeuralSDF`: one fitted shape in one file.

In: widths, an activation, optionally an encoding and a scaler, and the transform to file units. Out: a torch module
that maps points to signed distances, negative inside, in scaled targets (`scaled`, what is trained), in domain units
(`domain`), or in the file's own units (`sdf(points)`). Files are safetensors: tensors and JSON, never pickle.
"""

import json
import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from neuralparts.choices import ACTIVATIONS, INITIALISATIONS
from neuralparts.domain import Transform
from neuralparts.network.hash_grid import HashGrid
from neuralparts.network.matrix_products import evaluate
from neuralparts.network.scalers import NoScaler, make_scaler
from neuralparts.whole_file import write_whole

# Widths that DAM (Bu et al., 2021) selected: 11 hidden widths, 10 layers between them, 589,790 parameters.
DAM_WIDTHS = (333, 442, 351, 340, 304, 139, 76, 53, 39, 36, 35)

# Biases of the first layer, as a share of its weights' bound: the planes where its units bend then lie spread through
# the domain instead of all going through its centre. Measured in docs/log.md.
FIRST_BIAS_SHARE = 0.5
# SIREN's frequency (Sitzmann et al., 2020).
SINE_FREQUENCY = 30.0
FORMAT = "neural-sdf 1"
# Points evaluated at once on the CPU, where activations of 7 MB stay in the caches, and elsewhere, where a gradient
# keeps all activations, so many numbers at the most.
BATCH, GPU_BATCH, GPU_ACTIVATIONS = 4096, 2**18, 2**29


def check_points(points: np.ndarray | torch.Tensor) -> None:
    """Raise ValueError unless points have shape (N, 3)."""
    if np.ndim(points) != 2 or np.shape(points)[1] != 3:
        raise ValueError(f"points must have shape (N, 3); got {tuple(np.shape(points))}")


class Sine(nn.Module):
    """sin(30 x), SIREN's activation (Sitzmann et al., 2020)."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.sin(SINE_FREQUENCY * values)


def make_activation(name: str) -> nn.Module:
    """The activation module `name`; raises ValueError for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; one of {', '.join(ACTIVATIONS)}")
    return {"relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "elu": nn.ELU, "sine": Sine}[name]()


def make_layers(widths: tuple[int, ...], activation: str, inputs: int = 3) -> nn.Sequential:
    """Linear layers of the given hidden widths with activations between them and one linear output."""
    if len(widths) == 0 or min(widths) < 1:
        raise ValueError(f"hidden widths must be positive, at least one; got {tuple(widths)}")
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), make_activation(activation)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


@torch.no_grad()
def initialise(layers: nn.Sequential, init: str, generator: torch.Generator) -> None:
    """Draw all weights from `generator` (He et al., 2015; Glorot and Bengio, 2010; SIREN, 2020).

    Biases start at 0, but for those of a first layer that reads coordinates, and SIREN's, which are uniform within
    1 / sqrt(inputs) as its sines need phases. Raises ValueError for an unknown name.
    """
    if init not in INITIALISATIONS:
        raise ValueError(f"unknown init {init!r}; one of {', '.join(INITIALISATIONS)}")
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    for index, layer in enumerate(linear):
        bound, normal = weight_spread(init, layer, first=index == 0)
        # Drawn where the generator is: a device takes no other's, and so the numbers are the same on all.
        weight = torch.empty(layer.weight.shape, device=generator.device)
        if normal:
            weight.normal_(0.0, bound, generator=generator)
        else:
            weight.uniform_(-bound, bound, generator=generator)
        bias = torch.zeros(layer.bias.shape, device=generator.device)
        if init == "siren":
            bias_bound = 1 / math.sqrt(layer.in_features)
            bias.uniform_(-bias_bound, bias_bound, generator=generator)
        elif index == 0 and layer.in_features == 3:
            bias_bound = FIRST_BIAS_SHARE * float(weight.abs().max())
            bias.uniform_(-bias_bound, bias_bound, generator=generator)
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


def weight_spread(init: str, layer: nn.Linear, first: bool) -> tuple[float, bool]:
    """(bound, False) of a uniform or (standard deviation, True) of a normal distribution of a layer's weights."""
    inputs, outputs = layer.in_features, layer.out_features
    if init == "siren":
        return (1 / inputs if first else math.sqrt(6 / inputs) / SINE_FREQUENCY), False
    variance = 2 / inputs if init.startswith("he") else 2 / (inputs + outputs)
    if init.endswith("normal"):
        return math.sqrt(variance), True
    return math.sqrt(3 * variance), False


class NeuralSDF(nn.Module):
    """A signed distance function held by a network, negative inside.

    widths: hidden widths. encoding: a HashGrid or None. scaler: a module of `scaling`. center (3,), scale: the map from
    file units to the domain, domain = (file - center) * scale. In training mode gradients may be rounded (`products`);
    a network is made, and left by a fit, in evaluation mode.
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
        self.layers = make_layers(self.widths, activation, encoding.output_width if encoding is not None else 3)
        self.scaler = scaler if scaler is not None else NoScaler()
        self.transform = Transform(center, scale)
        self.eval()

    @property
    def parameter_count(self) -> int:
        """Number of trained parameters, the encoding's among them."""
        return sum(parameter.numel() for parameter in self.parameters())

    def initialise(self, init: str, generator: torch.Generator) -> None:
        """Draw all weights, the encoding's too, from `generator`; raises ValueError for an unknown name."""
        if self.encoding is not None:
            self.encoding.initialise(generator)
        initialise(self.layers, init, generator)

    def scaled(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) float32, domain -> (N,) in the scaler's units: what is trained. Differentiable."""
        features = points if self.encoding is None else self.encoding(points)
        return evaluate(self.layers, features).squeeze(-1)

    def signed_distance(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) float32, domain -> (N,) signed distance, domain units. Differentiable."""
        return self.scaler.inverse(self.scaled(points))

    def domain(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (N, 3), domain, array or tensor -> (N,) float32 signed distance, domain units, of the same kind.

        Evaluated in batches without gradients; use `signed_distance` to differentiate. Raises ValueError for other
        shapes.
        """
        return self._batched(points, self.signed_distance)

    def forward(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (N, 3), file units, array or tensor -> (N,) signed distance, file units, of the same kind."""
        values = self.domain(self._to_domain(points))
        return self.transform.length_to_file(values)

    def gradient(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        """points (N, 3), file units, array or tensor -> (N, 3) gradient of the distance, free of units, same kind."""
        return self._batched(self._to_domain(points), self.domain_gradient)

    def domain_gradient(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) float32, domain -> (N, 3) gradient of the signed distance."""
        with torch.enable_grad():
            points = points.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.signed_distance(points).sum(), points)
        return gradient

    def _to_domain(self, points: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
        check_points(points)
        points = self.transform.to_domain(points)
        return points.float() if isinstance(points, torch.Tensor) else points.astype(np.float32)

    def _batched(self, points, function):
        check_points(points)
        as_array = not isinstance(points, torch.Tensor)
        points = torch.as_tensor(np.ascontiguousarray(points, dtype=np.float32)) if as_array else points.float()
        home, device = points.device, next(self.parameters()).device
        with torch.no_grad():
            of_gpu = max(BATCH, min(GPU_BATCH, GPU_ACTIVATIONS // sum(self.widths)))
            batches = points.split(BATCH if device.type == "cpu" else of_gpu)
            results = [function(batch.to(device)).to(home) for batch in batches]
        values = torch.cat(results)
        return values.numpy() if as_array else values

    def save(self, path: str | os.PathLike) -> None:
        """Write the whole model to `path` (.safetensors), under another name first. Raises OSError."""
        from safetensors.torch import save

        tensors = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        write_whole(path, save(tensors, metadata={"neural-sdf": json.dumps(self.description())}))

    def description(self) -> dict:
        """What, beside the tensors, makes this model again: JSON-able."""
        return {
            "format": FORMAT,
            "widths": list(self.widths),
            "activation": self.activation,
            "encoding": None if self.encoding is None else self.encoding.description(),
            "scaler": self.scaler.name,
            "center": self.transform.center.tolist(),
            "scale": self.transform.scale,
        }

    @classmethod
    def load(cls, path: str | os.PathLike, device: str | torch.device = "cpu") -> "NeuralSDF":
        """Read a model. Raises FileNotFoundError, or ValueError in one line if the file is no such model."""
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such model file")
        try:
            with safe_open(str(path), framework="pt", device="cpu") as file:
                description = json.loads((file.metadata() or {})["neural-sdf"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            model = cls.from_description(description, tensors)
        except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: not a model that this program wrote ({reason}); fit the mesh again") from error
        return model.to(device)

    @classmethod
    def from_description(cls, description: dict, tensors: dict[str, torch.Tensor]) -> "NeuralSDF":
        """The model that `description()` and `state_dict()` came from. Raises ValueError, KeyError, RuntimeError."""
        if description.get("format") != FORMAT:
            raise ValueError(f"format {description.get('format')!r}, expected {FORMAT!r}")
        encoding = description["encoding"]
        prefix = "scaler."
        scaler_state = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
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
