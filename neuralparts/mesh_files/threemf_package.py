"""The package of a 3MF: the model files in its zip archive, parsed within limits on what they expand to."""

import io
import re
import zipfile
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat

import numpy as np

from neuralparts.wording import quoted

# What the archive may expand to: so many bytes, and so many times its own. Models compress to a tenth or so.
FREE_BYTES, MOST_EXPANSION = 2**24, 32
# Objects, items and components of all model files.
MOST_ELEMENTS = 100_000
# Elements of the XML within elements; a model has fewer than ten.
MOST_DEPTH = 100
# Compressions that the package format allows. Others may take more memory than the archive says.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Parts of the names of the extensions that a file may require although they are not read: they change no shape.
HARMLESS = ("/core/", "/production/", "/material/", "/trianglesets/", "schemas.bambulab.com", "schemas.slic3r.org")


class Reference(NamedTuple):
    """A build item, or a component of an object. model: the file of the object, None for the same. transform: 12
    numbers."""

    object: str | None
    model: str | None
    transform: str | None


@dataclass
class ThreeMfObject:
    """An object: its triangles as (V * 3) coordinates and (F * 3) indices, or the components that stand for it."""

    role: str
    coordinates: array = field(default_factory=lambda: array("d"))
    corners: array = field(default_factory=lambda: array("q"))
    components: list[Reference] = field(default_factory=list)

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (V, 3) float64, faces (F, 3) int64, which share the object's memory."""
        return np.array(self.coordinates).reshape(-1, 3), np.array(self.corners, np.int64).reshape(-1, 3)


@dataclass
class Model:
    """A model file: its unit, its objects by number, the items to build, and how many beam lattices it has."""

    unit: str = "millimeter"
    objects: dict[str | None, ThreeMfObject] = field(default_factory=dict)
    items: list[Reference] = field(default_factory=list)
    lattices: int = 0


class Package:
    """The archive of a 3MF. Model files are parsed when they are asked for, each once."""

    def __init__(self, data: bytes):
        """Raises BadZipFile or ValueError."""
        self.archive = zipfile.ZipFile(io.BytesIO(data))
        self.most = self.left = FREE_BYTES + MOST_EXPANSION * len(data)
        self.elements = 0
        self.models: dict[str, Model] = {}
        names = self.archive.namelist()
        self.names = {name for name in names if name.lower().endswith(".model")}
        if not self.names:
            raise ValueError("no model in it")
        relationships = b"".join(self._bytes(name) for name in names if name.lower() == "_rels/.rels")
        targets = re.findall(rb'Target="/?([^"]+\.model)"', relationships, re.IGNORECASE)
        # The model file whose items are built.
        self.root = next(
            (name for name in (t.decode() for t in targets) if name in self.names), min(self.names, key=len)
        )

    def model(self, name: str) -> Model:
        """A model file by its name in the archive. Raises ValueError for one that is missing or damaged."""
        if name not in self.models:
            if name not in self.names:
                raise ValueError(f"no model file '{quoted(name)}' in it")
            parsed = _ModelParser(self)
            parse_xml(self._bytes(name), parsed.start, parsed.end)
            self.models[name] = parsed.model
        return self.models[name]

    def settings(self) -> list[bytes]:
        """The files in which slicers keep what the parts of an object are for."""
        names = ("metadata/slic3r_pe_model.config", "metadata/model_settings.config")
        return [self._bytes(name) for name in self.archive.namelist() if name.lower() in names]

    def count_element(self) -> None:
        """Count an object, item or component. Raises ValueError if there are too many."""
        self.elements += 1
        if self.elements > MOST_ELEMENTS:
            raise ValueError(f"more than {MOST_ELEMENTS:,} objects, items and components")

    def _bytes(self, name: str) -> bytes:
        """A file of the archive. Raises ValueError if the archive expands too far."""
        info = self.archive.getinfo(name)
        if info.compress_type not in COMPRESSIONS:
            raise ValueError("compressed in a way that 3MF does not allow")
        self.left -= info.file_size
        if self.left < 0:
            raise ValueError(f"it expands to more than {self.most:,} bytes")
        return self.archive.read(info)


class _ModelParser:
    """Collects a model file from the elements of its XML."""

    def __init__(self, package: Package):
        self.model, self.package = Model(), package
        self.object: ThreeMfObject | None = None
        self.handlers = {
            "model": self._model,
            "object": self._object,
            "vertex": self._vertex,
            "triangle": self._triangle,
            "component": self._component,
            "item": self._item,
            "beamlattice": self._beamlattice,
        }

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if handler := self.handlers.get(local_name(name)):
            try:
                handler(attributes)
            except KeyError as error:
                raise ValueError(f"a {local_name(name)} without {error}") from None

    def end(self, name: str) -> None:
        """An element ends."""
        if local_name(name) == "object":
            self.object = None

    def _model(self, attributes: dict[str, str]) -> None:
        self.model.unit = attributes.get("unit", "millimeter")
        for prefix in attributes.get("requiredextensions", "").split():
            space = attributes.get(f"xmlns:{prefix}", prefix)
            if not any(known in f"{space}/" for known in HARMLESS):
                raise UnreadExtensionError(f"the extension {quoted(space)}")

    def _object(self, attributes: dict[str, str]) -> None:
        self.package.count_element()
        self.object = ThreeMfObject(attributes.get("type", "model"))
        self.model.objects[attributes.get("id")] = self.object

    def _vertex(self, attributes: dict[str, str]) -> None:
        if self.object is not None:
            xyz = float(attributes["x"]), float(attributes["y"]), float(attributes["z"])
            self.object.coordinates.extend(xyz)

    def _triangle(self, attributes: dict[str, str]) -> None:
        if self.object is not None:
            self.object.corners.extend((int(attributes["v1"]), int(attributes["v2"]), int(attributes["v3"])))

    def _component(self, attributes: dict[str, str]) -> None:
        self.package.count_element()
        if self.object is not None:
            self.object.components.append(_reference(attributes))

    def _item(self, attributes: dict[str, str]) -> None:
        self.package.count_element()
        self.model.items.append(_reference(attributes))

    def _beamlattice(self, attributes: dict[str, str]) -> None:
        self.model.lattices += 1


class UnreadExtensionError(ValueError):
    """A required extension that is not read; the message names it."""


def parse_xml(data: bytes, start: Callable[[str, dict[str, str]], None], end: Callable[[str], None]) -> None:
    """Parse XML by functions of an element's beginning and end. Raises ValueError; a document type is refused."""
    depth = 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            raise ValueError(f"its XML has more than {MOST_DEPTH} elements within each other")
        start(name, attributes)

    def finish(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(name)

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, finish
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"its XML is damaged: {error}") from None


def _refuse_document_type(name: str, *_) -> None:
    raise ValueError("its XML has a document type, which 3MF forbids")


def local_name(name: str) -> str:
    """The name of an element or attribute without the prefix of its namespace."""
    return name.rpartition(":")[2]


def _reference(attributes: dict[str, str]) -> Reference:
    """What an item or a component places."""
    path = next((value for name, value in attributes.items() if local_name(name) == "path"), None)
    model = path.lstrip("/") if path is not None else None
    return Reference(attributes.get("objectid"), model, attributes.get("transform"))
