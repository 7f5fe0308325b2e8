"""The name of a part in source code, from the name of its file."""

import re
from pathlib import Path

from neuralparts.export.templating import template_text

# Words and functions of GLSL ES 3.00 and GLSL 3.30 that a file may be named as; no function may have these names.
_GLSL_WORDS = frozenset(template_text("glsl_words.txt").split())


def identifier(path: Path) -> str:
    """An identifier of C, C++ and GLSL: the file's name without its suffix, every other character an underscore.

    Two underscores in a row are reserved there, as is one at the start and `gl_`; `part_` goes before such a name,
    before a digit, and stands for nothing.
    """
    name = re.sub("[^A-Za-z0-9]+", "_", path.stem).strip("_")
    return name if re.match("(?!gl_)[A-Za-z]", name) else f"part_{name}".rstrip("_")


def glsl_identifier(path: Path) -> str:
    """`identifier`, but with `part_` before a word of GLSL."""
    name = identifier(path)
    return f"part_{name}" if name in _GLSL_WORDS else name
