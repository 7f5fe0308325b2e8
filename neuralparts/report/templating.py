"""The templates of the pages: values in, the text of a page out. Every value is escaped; the templates alone make HTML,
or Markdown.

A template may mark only its own words as safe. The styles and scripts are files beside the templates, which include
them.
"""

import base64
import contextlib
import gzip
import json
import re
import zlib
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any, NamedTuple

import jinja2

from neuralparts.report.formatting import readable

# The highest takes half as long again, and plotly.js, which is most of a page, gets 0.2% smaller.
GZIP_LEVEL = 6


class Card(NamedTuple):
    """A large number with its label above and a note below, as macros.html shows it."""

    label: str
    value: str
    note: str


def template_text(name: str) -> str:
    """A file of templates/, from wherever the package is installed."""
    return (files("neuralparts.report") / "templates" / name).read_text("utf-8")


def _escaped_in_markdown(text: str) -> str:
    """Text on one line that Markdown and HTML show letter by letter: a backslash before each of their signs."""
    return re.sub(r"([\\`*_<>&|#~$\[\]])", r"\\\1", text)


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FunctionLoader(template_text),
    autoescape=lambda name: not name.endswith(".md"),
    undefined=jinja2.StrictUndefined,  # a misspelt name in a template is an error
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

_TEMPLATES.filters["markdown"] = _escaped_in_markdown


def render(template: str, **values: Any) -> str:
    """Fill a template. Returns the text of a page, which can always be written as UTF-8."""
    return readable(_TEMPLATES.get_template(template).render(values))


def compressed(text: str) -> str:
    """Text as base64 of gzip, the same for the same text. It has no character that HTML escapes."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), GZIP_LEVEL, mtime=0)).decode("ascii")


def compressed_json(value: Any) -> str:
    """A value as compressed JSON. Raises ValueError for NaN and infinity, which JSON lacks."""
    return compressed(json.dumps(value, allow_nan=False))


@lru_cache(maxsize=1)
def compressed_plotly() -> str:
    """plotly.js, compressed from 4.8 MB to 2. It takes a fifth of a second, so it is kept between starts."""
    from neuralparts.kept import keep, read_kept  # brings numba

    name, origin = f"plotly-{version('plotly')}.gz64", f"{GZIP_LEVEL} {zlib.ZLIB_RUNTIME_VERSION}".encode()
    if (kept := read_kept(__file__, name, origin)) is not None:
        return kept.decode("ascii")
    from plotly.offline import get_plotlyjs

    text = compressed(get_plotlyjs())
    with contextlib.suppress(OSError):  # no folder takes it: it is made anew at the next start
        keep(__file__, name, origin, text.encode("ascii"))
    return text
