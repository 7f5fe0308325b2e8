"""What a fit writes beside its mesh and its record: what the model says of itself, the page, pictures."""

import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

import neuralparts
from neuralparts.choices import EXPORT_FORMS
from neuralparts.fitting import FitResult
from neuralparts.inputs import Shape
from neuralparts.machine import give_memory_back
from neuralparts.network import NeuralSDF
from neuralparts.output import StagedFiles, decisive, plain
from neuralparts.report import (
    FileLink,
    PageDrawing,
    Sheet,
    draw_page,
    draw_sheet,
    network_view,
    page_html,
    sheet_png,
    thumbnail_png,
)
from neuralparts.steps.reconstruction import Surface
from neuralparts.steps.sections import section_through

# Packages whose versions the record names, because the result depends on them.
RECORDED_PACKAGES = ("torch", "numpy", "numba", "libigl", "scipy", "scikit-image", "scikit-learn", "trimesh")


def about_fit(source: str, shape: Shape, flags: SimpleNamespace, metrics: dict[str, float]) -> dict:
    """What the model file says of its fit. It goes where the model goes, so it names no folder and no machine."""
    # The description of the model itself names the precision.
    recorded = {name: value for name, value in decisive(vars(flags)).items() if name != "precision"}
    about = {"source": source, "version": neuralparts.__version__, "metrics": metrics, "flags": recorded}
    if shape.mesh is not None:
        corners = np.stack([shape.mesh.vertices.min(axis=0), shape.mesh.vertices.max(axis=0)])  # (2, 3)
        about["bounds"] = shape.transform.to_file(corners)
    return plain(about)


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    return {name: version(name) for name in RECORDED_PACKAGES} | {"python": sys.version.split()[0]}


def files_beside(files: StagedFiles) -> list[FileLink]:
    """The files that the page has links to: those of this fit, and exports of an earlier model of this name."""
    own = []
    if files.model.is_file():
        own.append(FileLink(files.model.name, "the network: weights, transform to file units, errors"))
    if files.reconstruction.is_file():
        own.append(FileLink(files.reconstruction.name, "the marched mesh, in file units"))
    own.append(FileLink(files.sheet.name, "the part, a section and the curves of the fit as a picture"))
    own.append(FileLink(files.record.name, "the record: flags, versions, timings, metrics"))
    if files.card.is_file():
        own.append(FileLink(files.card.name, "a page about the model for those who get it"))
    exports = (files.in_place(files.model).with_suffix(suffix) for suffix in EXPORT_FORMS.values())
    return own + [FileLink(path.name, "an export of the model before this fit") for path in exports if path.is_file()]


class Drawings(NamedTuple):
    """The drawings of a report, which need no record: of the page, the sheet, the network, perhaps a thumbnail."""

    page: PageDrawing
    sheet: Sheet
    network: dict[str, Any]
    thumbnail: bytes | None


def draw_report(
    name: str,
    result: FitResult,
    network: NeuralSDF,
    shape: Shape,
    surface: Surface | None,
    missing: str,
    in_folder: bool,
) -> Drawings:
    """Draw the page and the sheet of pictures, and the thumbnail of a part in a folder.

    missing: why there is no surface.
    """
    give_memory_back()  # on one processor that of the evaluation, which is over then
    shown_input = shape.mesh_in_file_units()
    shown_surface = None if surface is None else (shape.transform.to_file(surface.vertices), surface.faces)

    def signed_distance(points: np.ndarray) -> np.ndarray:
        distances = shape.oracle.signed_distance(shape.transform.to_domain(points))
        return shape.transform.length_to_file(distances)

    measured = signed_distance if shape.oracle is not None else None
    page = draw_page(result.history, shown_input, shown_surface, measured)
    # The pictures show the meshes as the page draws them: finer than their pixels.
    drawn_input, drawn_surface = (page.shown.drawn.get(key) for key in ("input", "reconstruction"))
    deviation = None if page.shown.deviation is None else page.shown.deviation.values
    section = section_through(network, shown_input or shown_surface)
    marched = None if surface is None else len(surface.faces)
    sheet = draw_sheet(name, result.history, missing, drawn_input, drawn_surface, deviation, section, marched)
    pictured = drawn_surface or drawn_input
    thumbnail = thumbnail_png(*pictured) if in_folder and pictured is not None else None
    return Drawings(page, sheet, network_view(network), thumbnail)


def write_report(files: StagedFiles, record: dict, drawings: Drawings) -> None:
    """Write the page and the sheet of pictures, and the thumbnail of a part in a folder. Raises OSError."""
    page = page_html(files.name, record, drawings.page, drawings.network, files_beside(files))
    files.write_report(page, sheet_png(drawings.sheet, record))
    if drawings.thumbnail is not None:
        files.write_thumbnail(drawings.thumbnail)
