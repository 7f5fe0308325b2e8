"""What slicers note about the parts of a 3MF's objects: which of them are no part of the shape, and which are taken
from it. PrusaSlicer notes it by ranges of triangles, Bambu Studio and OrcaSlicer by components.
"""

import re
from typing import NamedTuple

from neuralparts.mesh_files.threemf_package import local_name, parse_xml

# Roles of objects and of parts of objects, by how their names begin in lower case without spaces and underscores. The
# type of an object is one too.
LEFT_OUT = {
    "parametermodifier": "modifier",
    "modifier": "modifier",
    "supportblocker": "support blocker",
    "supportenforcer": "support enforcer",
    "support": "support object",
    "solidsupport": "support object",
    "other": "object with the type 'other'",
}
NEGATIVE = "negative"


class TriangleRange(NamedTuple):
    """Triangles first to last of an object that have a role: a value of LEFT_OUT, or NEGATIVE."""

    first: int
    last: int
    role: str


class Roles:
    """ranges: of triangles, by the number of their object. parts: roles by the numbers of an object and a component."""

    def __init__(self, settings: list[bytes]):
        """settings: files of slicers in XML. Raises ValueError."""
        self.ranges: dict[str | None, list[TriangleRange]] = {}
        self.parts: dict[tuple[str | None, str | None], str] = {}
        self._object, self._part = None, None
        for data in settings:
            parse_xml(data, self._start, self._end)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = local_name(name)
        if name == "object":
            self._object = attributes.get("id")
        elif name in ("volume", "part"):
            self._part = dict(attributes)
        elif name == "metadata" and self._part is not None:
            key, value = attributes.get("key"), attributes.get("value", "")
            if key in ("volume_type", "subtype"):
                self._part["subtype"] = value
            elif key == "modifier" and value == "1":  # older than volume_type
                self._part.setdefault("subtype", "modifier")

    def _end(self, name: str) -> None:
        if local_name(name) not in ("volume", "part") or self._part is None:
            return
        part, self._part = self._part, None
        role = role_of(part.get("subtype", ""))
        if role and "firstid" in part and "lastid" in part:
            found = TriangleRange(int(part["firstid"]), int(part["lastid"]), role)
            self.ranges.setdefault(self._object, []).append(found)
        elif role:
            self.parts[self._object, part.get("id")] = role


def role_of(name: str) -> str:
    """The role that a slicer or the type of an object names: a value of LEFT_OUT, NEGATIVE, or '' for the shape."""
    plain = re.sub("[ _-]", "", name).lower()
    if plain.startswith(NEGATIVE):
        return NEGATIVE
    return next((role for beginning, role in LEFT_OUT.items() if plain.startswith(beginning)), "")
