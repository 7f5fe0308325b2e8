"""Finished parts for the tests of packing, made without a fit."""

import zlib

import torch

from neuralparts.network import NeuralSDF
from neuralparts.output.records import describe, record_bytes

# A name of every kind that webdataset would cut, or read as a folder, if it were a key as it is.
AWKWARD = ["part.v2", "Gehäuse ß", "a b", ".hidden.x", "__meta__", "c%2E", "x" * 120, "日本.1.2", "-", "~"]


def a_part(folder, name, **more):
    """A finished part of a small model whose weights come from its name; returns the bytes of the model."""
    model = NeuralSDF((4,))
    model.initialise("he_uniform", torch.Generator().manual_seed(zlib.crc32(name.encode())))
    path = folder / f"{name}.safetensors"
    model.save(path)
    files = {path.name: describe(path)}
    for suffix in ("stl", "html"):
        if suffix in more:
            (folder / f"{name}.{suffix}").write_bytes(more[suffix])
            files[f"{name}.{suffix}"] = describe(folder / f"{name}.{suffix}")
    record = {"input": f"{name}.stl", "content": "", "flags": {}, "metrics": {}, "timings": {}, "failure": ""}
    (folder / f"{name}.json").write_bytes(record_bytes(record | {"failure": more.get("failure", ""), "files": files}))
    return path.read_bytes()


def parts(folder, names):
    """Finished parts; returns their models by name."""
    folder.mkdir()
    return {name: a_part(folder, name) for name in names}
