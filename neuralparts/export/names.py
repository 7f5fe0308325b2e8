"""The name of a part in source code, from the name of its file."""

import re
from pathlib import Path


def identifier(path: Path) -> str:
    """An identifier of C, C++ and GLSL: the file's name without its suffix, every other character an underscore.

    Two underscores in a row are reserved there, as is one at the start; `part_` goes before a digit and before nothing.
    """
    name = re.sub("[^A-Za-z0-9]+", "_", path.stem).strip("_")
    return name if re.match("[A-Za-z]", name) else f"part_{name}".rstrip("_")
