"""The reconstruction of a part: the marched surface, and its file."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from neuralparts.domain import Transform, grid_cell
from neuralparts.marching import MemoryBoundError, NoSurfaceError, march
from neuralparts.mesh_files import rounding_note, write_mesh
from neuralparts.network import NeuralSDF
from neuralparts.output import StagedFiles
from neuralparts.steps.random_streams import random_stream
from neuralparts.watch import Watch
from neuralparts.wording import say


@dataclass(frozen=True)
class Surface:
    """A reconstruction: vertices (V, 3) float64 in the domain, faces (F, 3) int64."""

    vertices: np.ndarray
    faces: np.ndarray


def reconstruct(network: NeuralSDF, flags: SimpleNamespace, watch: Watch) -> tuple[Surface | None, str]:
    """The marched surface, or None, and why there is none though one was asked for, or ''."""
    if flags.reconstructionRes == 0:
        return None, ""
    with watch.bar("march") as show:
        try:
            marched = march(
                network.domain,
                flags.reconstructionRes,
                max_memory=flags.maxMemory or None,
                generator=random_stream(flags.seed, "marching"),
                progress=show,
            )
        except (NoSurfaceError, MemoryBoundError) as error:
            say(f"no reconstruction: {error}")
            return None, str(error)
    say(f"reconstruction: {len(marched.faces):,} triangles; {marched.stats['evaluated']:,} points evaluated")
    return Surface(marched.vertices, marched.faces), ""


def write_reconstruction(
    surface: Surface, transform: Transform, flags: SimpleNamespace, files: StagedFiles, watch: Watch
) -> None:
    """Write the surface in file units. Notes where the format rounds its coordinates visibly. Raises OSError."""
    vertices = transform.to_file(surface.vertices)
    cell = transform.length_to_file(grid_cell(flags.reconstructionRes))
    if line := rounding_note(files.in_place(files.reconstruction), vertices, cell):
        watch.note(f"{line}; --outputFormat ply keeps all digits")
    with watch.bar("write the mesh"):
        write_mesh(files.reconstruction, vertices, surface.faces)
