"""`metrics.py`, `neuralparts measure`: the errors of a fitted model against a mesh file."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from neuralparts.choices import PROTOCOL_POINTS, PROTOCOL_RESOLUTION, RECONSTRUCTION_RESOLUTION
from neuralparts.command_line import CommandLine
from neuralparts.commands import complain
from neuralparts.errors import UserError
from neuralparts.flags import FLAGS, add_flags
from neuralparts.machine import check_address_space, settle_threads
from neuralparts.watch import Watch
from neuralparts.wording import say

if TYPE_CHECKING:
    from neuralparts.mesh import Mesh
    from neuralparts.network import NeuralSDF

# Fresh points for each error.
NUM_POINTS = 200_000


def main(arguments: list[str] | None = None, program: str = "metrics.py") -> int:
    """Print the errors of a fitted model against a mesh file, a line each; returns the exit code."""
    parser = CommandLine(prog=program, description="The errors of a fitted model against a mesh file, in domain units.")
    parser.add_argument("model", metavar="MODEL", type=Path, help="a fitted model, .safetensors")
    parser.add_argument("mesh", metavar="MESH", type=Path, help="the mesh that it was fitted to")
    points = f"fresh points for each error (default {NUM_POINTS}; {PROTOCOL_POINTS} with --protocol neurbf)"
    add_flags(parser, "num_points", default=None, help=points)
    beta = "beta of the importance samples of importance_error and sign_error; the default compares with NAME.json"
    add_flags(parser, "importanceWeight", help=beta)
    resolution = FLAGS["reconstructionRes"].help
    resolution += f" (default {RECONSTRUCTION_RESOLUTION}; {PROTOCOL_RESOLUTION} with --protocol neurbf)"
    add_flags(parser, "reconstructionRes", default=None, help=resolution)
    add_flags(parser, "protocol", "seed", "gpu")
    flags = with_defaults(parser.parse_args(arguments))
    settle_threads()
    try:
        check_address_space()
        errors, failure = model_errors(flags)
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        return complain(program, error, flags.model)
    for name, value in errors.items():
        print(f"{name:24} {value:.6g}")
    return complain(program, failure) if failure else 0


def with_defaults(flags: argparse.Namespace) -> argparse.Namespace:
    """The flags with the numbers that were left out, which depend on the protocol. Changed in place."""
    by_protocol = flags.protocol != "none"
    if flags.num_points is None:
        flags.num_points = PROTOCOL_POINTS if by_protocol else NUM_POINTS
    if flags.reconstructionRes is None:
        flags.reconstructionRes = PROTOCOL_RESOLUTION if by_protocol else RECONSTRUCTION_RESOLUTION
    return flags


def model_errors(flags: argparse.Namespace) -> tuple[dict[str, float], str]:
    """All errors of flags.model against flags.mesh, and why those of a reconstruction are missing, or ''."""
    import numpy as np

    from neuralparts.device import choose_device
    from neuralparts.distance import DistanceOracle
    from neuralparts.domain import grid_cell
    from neuralparts.marching import as_function, march
    from neuralparts.mesh import load_mesh
    from neuralparts.metrics import explain_disagreement, mesh_errors, point_errors, protocol_errors
    from neuralparts.network import NeuralSDF

    if flags.reconstructionRes == 1:
        raise UserError("--reconstructionRes 1: a grid needs 2 points along an axis or more; 0 is off")
    if flags.protocol != "none" and flags.reconstructionRes == 0:
        raise UserError("--protocol neurbf compares the nodes of a grid; --reconstructionRes 0 has none: leave it out")
    device = choose_device(flags.gpu, Watch())
    model = NeuralSDF.load(flags.model, device)
    mesh = in_domain_of(model, load_mesh(flags.mesh))
    oracle, generator = DistanceOracle(mesh), np.random.default_rng(flags.seed)
    function = as_function(model.signed_distance, device)
    # A model may have any values, and what is computed from them may overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        if flags.protocol == "neurbf":
            return protocol_errors(function, mesh, generator, flags.reconstructionRes, flags.num_points), ""
        errors = point_errors(
            function, model.level_distance, oracle, flags.num_points, generator, flags.importanceWeight
        )
        cell, failure = 0.0, ""
        if flags.reconstructionRes:
            cell = grid_cell(flags.reconstructionRes)
            try:
                made = march(function, flags.reconstructionRes, generator=generator)
                errors |= mesh_errors(made.vertices, made.faces, mesh, oracle, flags.num_points, generator, cell)
            except ValueError as error:  # no surface, or values that are not finite
                failure = f"{flags.model}: {error}"
    if line := explain_disagreement(errors, mesh.closed, cell):
        say(line)
    return errors, failure


def in_domain_of(model: "NeuralSDF", mesh: "Mesh") -> "Mesh":
    """The mesh in the domain of a model that may be of another file. Raises UserError where it reaches out of it."""
    vertices = model.transform.to_domain(mesh.transform.to_file(mesh.vertices))
    if abs(vertices).max() > 1.0:
        raise UserError(f"{mesh.path}: lies outside the model's domain, so it is not the mesh that was fitted")
    return dataclasses.replace(mesh, vertices=vertices, transform=model.transform)
