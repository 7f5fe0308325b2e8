"""Which function writes which form.

In: a model, the name of a form, the path of its file. Out: that file, and others beside it where the form has several.
A form's function takes (sdf, path), and that of a grid its resolution. It returns the paths of the files that it wrote,
that one first; it writes whole files only, in file units. What a form cannot hold it refuses with a UserError.
"""

import os
from collections.abc import Callable
from pathlib import Path

from neuralparts.choices import EXPORT_FORMS, RECONSTRUCTION_RESOLUTION
from neuralparts.errors import UserError
from neuralparts.export.c_header import write_c_header
from neuralparts.export.glsl import write_glsl
from neuralparts.export.grids import write_npz_grid, write_vti_grid
from neuralparts.export.mujoco import write_mujoco_plugin
from neuralparts.export.nanovdb import write_nanovdb
from neuralparts.export.numpy_module import write_numpy_module
from neuralparts.export.onnx_graph import write_onnx
from neuralparts.export.torch_program import write_torch_program
from neuralparts.network import NeuralSDF

WRITERS: dict[str, Callable[[NeuralSDF, Path], list[Path]]] = {
    "c": write_c_header,
    "numpy": write_numpy_module,
    "glsl": write_glsl,
    "mujoco": write_mujoco_plugin,
    "onnx": write_onnx,
    "torch": write_torch_program,
}
# Those of GRID_FORMS, whose third argument is the number of nodes along an edge.
GRID_WRITERS: dict[str, Callable[[NeuralSDF, Path, int], list[Path]]] = {
    "npz": write_npz_grid,
    "vti": write_vti_grid,
    "nvdb": write_nanovdb,
}


def form_of(path: str | os.PathLike) -> str:
    """The form whose files have this path's suffix, in any case of letters. Raises UserError if there is none."""
    suffix = Path(path).suffix.lower()
    for form, known in EXPORT_FORMS.items():
        if suffix == known:
            return form
    forms = ", ".join(f"{known} ({form})" for form, known in EXPORT_FORMS.items())
    raise UserError(f"{path}: no form has the suffix '{suffix}'; use one of {forms}")


def export_model(sdf: NeuralSDF, form: str, out: Path, resolution: int = RECONSTRUCTION_RESOLUTION) -> list[Path]:
    """Write the model in a form, in file units.

    form: one of EXPORT_FORMS. out: the path of its file, with the form's suffix; an existing file is replaced.
    resolution: nodes along an edge of a grid, 2 or more; the other forms ignore it. Returns the paths of the files
    written, `out` first. Raises ValueError for an unknown form, UserError for another suffix and for a model that the
    form cannot hold, OSError where a file cannot be written.
    """
    if form not in EXPORT_FORMS:
        raise ValueError(f"unknown form {form!r}; one of {', '.join(EXPORT_FORMS)}")
    if out.suffix.lower() != EXPORT_FORMS[form]:
        raise UserError(f"{out}: the form {form} is written to a file with the suffix {EXPORT_FORMS[form]}")
    return GRID_WRITERS[form](sdf, out, resolution) if form in GRID_WRITERS else WRITERS[form](sdf, out)
