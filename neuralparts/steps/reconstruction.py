"""The reconstruction of a part: the marched surface, and its file."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from neuralparts.domain import Transform, grid_cell
from neuralparts.marching import MemoryBoundError, NoSurfaceError, march
from neuralparts.mesh_files import rounding_note, write_mesh
from neuralparts.network import NeuralSDF
from neuralparts.output import StagedFiles
from neuralparts.random_streams import random_stream
from neuralparts.simplification import not_simplified, simplify
from neuralparts.watch import Watch
from neuralparts.wording import say


@dataclass(frozen=True)
class Surface:
    """A reconstruction: vertices (V, 3) float64 in the domain, faces (F, 3) int64.

    marched_faces: triangles before it was simplified. simplify_error: as `Simplified.error`, domain units; 0 if it was
    not simplified.
    """

    vertices: np.ndarray
    faces: np.ndarray
    marched_faces: int
    simplify_error: float = 0.0

    def sizes(self) -> dict[str, float]:
        """What the record says of it."""
        sizes = {"vertices": len(self.vertices), "faces": len(self.faces)}
        if len(self.faces) < self.marched_faces:
            sizes |= {"marched_faces": self.marched_faces, "simplify_error": self.simplify_error}
        return sizes


def reconstruct(network: NeuralSDF, flags: SimpleNamespace, watch: Watch) -> tuple[Surface | None, str]:
    """The surface, marched and perhaps simplified, or None, and why there is none though one was asked for, or ''."""
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
    surface = Surface(marched.vertices, marched.faces, len(marched.faces))
    return simplified(surface, flags.simplify, network.transform, watch) if flags.simplify else surface, ""


def simplified(surface: Surface, wanted: float | str, transform: Transform, watch: Watch) -> Surface:
    """The surface as --simplify wants it; says how many triangles are left, or notes that all are."""
    with watch.bar("simplify") as show:
        result = simplify(surface.vertices, surface.faces, wanted, transform.scale, show)
    if len(result.faces) == surface.marched_faces:
        watch.note(not_simplified(wanted))
        return surface
    error = transform.length_to_file(result.error)
    say(f"simplified to {len(result.faces):,} triangles, at most {error:.3g} (file units) from the marched surface")
    return Surface(result.vertices, result.faces, surface.marched_faces, result.error)


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
