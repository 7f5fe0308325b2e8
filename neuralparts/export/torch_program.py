"""The form `torch`: a `.pt2` that `torch.export.load` reads in a process without this package.

In: a model. Out: a program from `points (N, 3)` to `distance (N,)`, both float32 in file units, N any number from 0 on,
differentiable by the points. It holds torch's own operations alone: the compiled kernels of the hash grid and the fused
layers are replaced by their slow twins.
"""

import copy
import io
from pathlib import Path

import torch
from torch import nn

from neuralparts.network import NeuralSDF, continue_outside, interpolate_hash_grid
from neuralparts.whole_file import write_whole


def write_torch_program(sdf: NeuralSDF, out: Path) -> list[Path]:
    """Write the model as an exported program of torch; returns [out]. Raises OSError.

    `torch.export.load(out).module()(points)` gives the distances.
    """
    data = io.BytesIO()
    torch.export.save(torch_program(sdf), data)
    write_whole(out, data.getvalue())
    return [out]


def torch_program(sdf: NeuralSDF) -> torch.export.ExportedProgram:
    """The model as an exported program of torch."""
    # An example with more than one point: torch takes sizes of 0 and 1 for constants.
    example, number = torch.zeros(5, 3), torch.export.Dim("N", min=0)
    with torch.no_grad():
        program = torch.export.export(PlainSDF(sdf), (example,), dynamic_shapes={"points": {0: number}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names the folders of this machine
    return program


class PlainSDF(nn.Module):
    """A model in plain operations of torch on the CPU, with the distance continued beyond the cube, in file units."""

    def __init__(self, sdf: NeuralSDF):
        super().__init__()
        parts = copy.deepcopy(nn.ModuleList([sdf.layers, sdf.scaler, *([sdf.encoding] if sdf.encoding else [])]))
        self.layers, self.scaler, *encoding = parts.cpu().float()
        self.encoding = encoding[0] if encoding else None
        self.register_buffer("center", torch.tensor(sdf.transform.center, dtype=torch.float64))
        self.scale = sdf.transform.scale
        self.requires_grad_(False)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) float32, file units -> (N,) float32 signed distance, file units.

        NaN for a point with a NaN, else infinite for one with an infinite coordinate.
        """
        # In float64, because a part may lie far from the origin in its file, and a point far from the part.
        place = (points.double() - self.center) * self.scale
        nearest = place.nan_to_num(0.0).clamp(-1, 1)
        inside = self._distance_in_cube(nearest.float()).double()
        return (continue_outside(place, inside) / self.scale).float()

    def _distance_in_cube(self, points: torch.Tensor) -> torch.Tensor:
        """points (N, 3) float32 of the cube -> (N,) signed distance, domain units."""
        if self.encoding is not None:
            points = interpolate_hash_grid(points, self.encoding.table, self.encoding.level_sizes)
        return self.scaler.inverse(self.layers(points).squeeze(-1))
