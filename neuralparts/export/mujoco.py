"""A model as collision geometry of MuJoCo: the C file of a signed distance plugin, and a model that uses it.

In: a model, the path of the C file. Out: that file, the C header that it includes, and an XML model beside. The code is
in templates/mujoco_plugin.c.j2 and templates/mujoco_model.xml.j2.
"""

import math
import shlex
from pathlib import Path

import numpy as np

from neuralparts.domain import DOMAIN_RADIUS, Transform
from neuralparts.export.c_header import header_text
from neuralparts.export.names import identifier
from neuralparts.export.templating import render
from neuralparts.network import NeuralSDF
from neuralparts.whole_file import write_whole

# MuJoCo's own times suit a part of this radius in metres; what falls takes a time that grows with the root of lengths.
REFERENCE_RADIUS = 0.6
TIMESTEP, CONTACT_TIME = 0.002, 0.02
# Where balls start, over the radius of the part, beside its center and above it; their own radius.
BALLS = ((0, 0), (0.25, 0.1), (-0.25, -0.1), (0.1, -0.25), (-0.1, 0.25))
HEIGHT, BALL_RADIUS = 1.0, 0.07


def write_mujoco_plugin(sdf: NeuralSDF, out: Path) -> list[Path]:
    """Write the plugin, its header and the XML model; returns the three paths.

    Raises UserError for a part too small or too large for float32.
    """
    header, model = out.with_suffix(".h"), out.with_suffix(".xml")
    write_whole(header, header_text(sdf, header).encode())
    write_whole(model, model_text(sdf.transform, out).encode())
    write_whole(out, plugin_text(out).encode())
    return [out, header, model]


def build_command(source: Path) -> str:
    """The shell command that builds the plugin of a C file, in the folder of that file, on Linux and macOS."""
    find = 'M=$(python3 -c "import mujoco, os; print(os.path.dirname(mujoco.__file__))")'
    files = f"{shlex.quote(source.name)} -o {shlex.quote(library(source))}"
    return f'{find} && cc -O3 -shared -fPIC -I"$M/include" {files} "$M"/libmujoco.* -lm'


def library(source: Path) -> str:
    """The name of the library that the command builds."""
    return f"lib{identifier(source)}.so"


def plugin_text(out: Path) -> str:
    """The text of the C file."""
    return render(
        "mujoco_plugin.c.j2",
        file=out.name,
        name=identifier(out),
        header=out.with_suffix(".h").name,
        model=out.with_suffix(".xml").name,
        library=library(out),
        command=build_command(out),
    )


def model_text(transform: Transform, out: Path) -> str:
    """The text of the XML model: the part, five balls above it, a floor below; lengths in file units."""
    center, radius = transform.center, DOMAIN_RADIUS / transform.scale
    time = math.sqrt(radius / REFERENCE_RADIUS)

    def place(x: float, y: float, z: float) -> str:
        """A place given over the radius of the part, from its center."""
        return " ".join(f"{value:.9g}" for value in center + radius * np.array([x, y, z]))

    return render(
        "mujoco_model.xml.j2",
        file=out.with_suffix(".xml").name,
        source=out.name,
        name=identifier(out),
        timestep=f"{TIMESTEP * time:.6g}",
        contact_time=f"{CONTACT_TIME * time:.6g}",
        rolling=f"{0.1 * BALL_RADIUS * radius:.6g}",
        light=place(0, 0, 4),
        floor=place(0, 0, -1.1),
        floor_size=f"{5 * radius:.6g}",
        radius=f"{BALL_RADIUS * radius:.9g}",
        balls=[place(x, y, HEIGHT) for x, y in BALLS],
    )
