"""What the stages of a part hand over in files, where they run in different processes: labelled points.

A file of safetensors: arrays by name, and the rest as JSON in its metadata.
"""

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from neuralparts.domain import Transform
from neuralparts.inputs import Labelled
from neuralparts.whole_file import write_whole

# The arrays of `Labelled` that may be None, by their names in the file: the field, and the place in it if it has two.
OPTIONAL = {
    "pair_points": ("pairs", 0),
    "pair_sdf": ("pairs", 1),
    "held_out": ("held_out", None),
    "validation": ("validation", None),
    "vertices": ("shown", 0),
    "faces": ("shown", 1),
    "normal_points": ("normals", 0),
    "normals": ("normals", 1),
}


def write_labelled(path: Path, data: Labelled) -> None:
    """Write labelled points whole. Raises OSError."""
    arrays = {"points": data.samples[0], "sdf": data.samples[1]}
    for name, (field, place) in OPTIONAL.items():
        if (value := getattr(data, field)) is not None:
            arrays[name] = value if place is None else value[place]
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    transform = {"center": data.transform.center.tolist(), "scale": data.transform.scale}
    write_whole(path, save(arrays, metadata={"content": data.content, "transform": json.dumps(transform)}))


def read_labelled(path: Path) -> Labelled:
    """Labelled points as `write_labelled` wrote them. Raises OSError, SafetensorError."""
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        metadata = file.metadata()
    fields = {}
    for name, (field, place) in OPTIONAL.items():
        if name in arrays:
            fields[field] = arrays[name] if place is None else (*fields.get(field, ()), arrays[name])
    transform = Transform(**json.loads(metadata["transform"]))
    return Labelled(metadata["content"], transform, (arrays["points"], arrays["sdf"]), **fields)
