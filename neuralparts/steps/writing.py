"""What a fit writes beside its mesh and its record: what the model says of itself, the page, pictures."""

import sys
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np

import neuralparts
from neuralparts.fitting import FitResult
from neuralparts.mesh import Mesh
from neuralparts.network import NeuralSDF
from neuralparts.output import StagedFiles, decisive, plain
from neuralparts.report import html_report, sheet_png, thumbnail_png
from neuralparts.steps.inputs import Shape
from neuralparts.steps.reconstruction import Surface
from neuralparts.steps.sections import section_through

# Packages whose versions the record names, because the result depends on them.
RECORDED_PACKAGES = ("torch", "numpy", "numba", "libigl", "scipy", "scikit-image", "scikit-learn", "trimesh")


def about_fit(source: str, shape: Shape, flags: SimpleNamespace, metrics: dict[str, float]) -> dict:
    """What the model file says of its fit. It goes where the model goes, so it names no folder and no machine."""
    about = {"source": source, "version": neuralparts.__version__, "metrics": metrics, "flags": decisive(vars(flags))}
    if shape.mesh is not None:
        corners = np.stack([shape.mesh.vertices.min(axis=0), shape.mesh.vertices.max(axis=0)])  # (2, 3)
        about["bounds"] = shape.transform.to_file(corners)
    return plain(about)


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    return {name: version(name) for name in RECORDED_PACKAGES} | {"python": sys.version.split()[0]}


def write_report(
    files: StagedFiles,
    record: dict,
    result: FitResult,
    network: NeuralSDF,
    shape: Shape,
    surface: Surface | None,
    deviation: np.ndarray | None,
    in_folder: bool,
) -> None:
    """Write the page and the sheet of pictures, and the thumbnail of a part in a folder. Raises OSError."""

    def in_file_units(mesh: Mesh | Surface | None) -> tuple[np.ndarray, np.ndarray] | None:
        return None if mesh is None else (shape.transform.to_file(mesh.vertices), mesh.faces)

    shown_input, shown_surface = in_file_units(shape.mesh), in_file_units(surface)
    page = html_report(files.name, record, result.history, shown_input, shown_surface, deviation)
    section = section_through(network, shown_input or shown_surface)
    sheet = sheet_png(files.name, result.history, record, shown_input, shown_surface, deviation, section)
    files.write_report(page, sheet)
    if in_folder and (pictured := shown_surface or shown_input) is not None:
        files.write_thumbnail(thumbnail_png(*pictured))
