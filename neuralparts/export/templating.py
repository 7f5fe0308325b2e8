"""The templates of source code: values in, the text of a file in C, GLSL, Python or XML out.

A template holds all code of its language; the values are numbers, names and lists of them.
"""

from importlib.resources import files
from typing import Any

import jinja2

from neuralparts.domain import DOMAIN_RADIUS
from neuralparts.network import HASH_PRIMES, LOGARITHM_BELOW, SINE_FREQUENCY


def template_text(name: str) -> str:
    """A file of templates/, from wherever the package is installed."""
    return (files("neuralparts.export") / "templates" / name).read_text("utf-8")


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FunctionLoader(template_text),
    undefined=jinja2.StrictUndefined,  # a misspelt name in a template is an error
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
# Numbers that are the same in every model.
_TEMPLATES.globals |= {
    "domain_radius": DOMAIN_RADIUS,
    "sine_frequency": SINE_FREQUENCY,
    "hash_primes": HASH_PRIMES,
    "logarithm_below": LOGARITHM_BELOW,
}


def render(template: str, **values: Any) -> str:
    """Fill a template. Returns the text of a file."""
    return _TEMPLATES.get_template(template).render(values)
