"""What a model says of itself: facts by name for `neuralparts info`, a line for Python, a table for a notebook.

In: a NeuralSDF. Its `about`, which a fit writes into the model file, may hold: `source` (name of the input, without its
folder), `version` (of this program), `bounds` (2, 3) of the surface in file units, `metrics` as NAME.json has them, and
`flags` (those that change the result). Models of earlier versions have none of these.
"""

import html
from typing import TYPE_CHECKING

import numpy as np

from neuralparts.metric_names import METRIC_NAMES
from neuralparts.wording import quoted, visible

if TYPE_CHECKING:
    from neuralparts.network.neural_sdf import NeuralSDF

# The kinds of `about`'s entries, as JSON has them.
ABOUT_KINDS = {"source": str, "version": str, "bounds": list, "metrics": dict, "flags": dict}


def facts(model: "NeuralSDF") -> dict[str, str]:
    """What there is to say about a model, a printable line each, by name."""
    about, transform = model.about, model.transform
    encoding = "none"
    if model.encoding is not None:
        encoding = ", ".join(f"{name} {value}" for name, value in model.encoding.description().items())
    low, high = model.bounds
    which = "" if "bounds" in about else "; of the ball about the part, as the file names no box"
    known = {
        "source": visible(about.get("source", "not recorded")),
        "file units": "those of the source file",
        "bounds": f"{_numbers(low)} to {_numbers(high)} (file units{which})",
        "size": f"{' x '.join(f'{side:.6g}' for side in high - low)} (file units)",
        "parameters": f"{model.parameter_count:,}",
        "precision": "{name}: {bytes:,} bytes, {bits:.3g} bits a number".format(
            **model.precision.facts(model.parameter_count)
        ),
        "hidden widths": " ".join(map(str, model.widths)),
        "activation": model.activation,
        "hash grid": encoding,
        "scaler": model.scaler.name,
        "center": f"{_numbers(transform.center)} (file units)",
        "cube": f"center +- {transform.length_to_file(1.0):.9g} (file units)",
        "scale": f"{transform.scale:.9g} domain units per file unit",
    }
    known |= {name: _metric(model, name) for name, value in about.get("metrics", {}).items() if value is not None}
    if flags := about.get("flags"):
        known["flags"] = " ".join(f"--{name} {value}" for name, value in flags.items() if value not in (None, ""))
    if version := about.get("version"):
        known["fitted by"] = f"neuralparts {version}"
    return {quoted(name): visible(value) for name, value in known.items()}


def summary_line(model: "NeuralSDF") -> str:
    """The part, its parameters, its size, its surface error."""
    low, high = model.bounds
    kind = "hash grid" if model.encoding is not None else f"{len(model.widths)} hidden layers"
    words = [
        quoted(model.about.get("source", "a part without a name")),
        f"{model.parameter_count:,} parameters, {kind}",
        f"{' x '.join(f'{side:.4g}' for side in high - low)} file units",
    ]
    if model.about.get("metrics", {}).get("surface_error") is not None:
        words.append(f"surface error {_metric(model, 'surface_error')}")
    return f"NeuralSDF({'; '.join(words)})"


def html_table(model: "NeuralSDF") -> str:
    """The facts as a table of HTML, every text escaped."""
    rows = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in facts(model).items())
    return f"<table>{''.join(rows)}</table>"


def _metric(model: "NeuralSDF", name: str) -> str:
    """A metric that is not None as text; a length in both units."""
    value = model.about["metrics"][name]
    if name not in METRIC_NAMES or not METRIC_NAMES[name].is_length:
        return f"{value:.4g}"
    return f"{value:.4g} domain units, {model.transform.length_to_file(value):.4g} file units"


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.9g}" for value in values)
