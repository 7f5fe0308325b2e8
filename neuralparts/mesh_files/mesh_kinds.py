"""What a file is that its name says is a mesh: asked only after its reader has failed, for a message that helps."""

import re

from neuralparts.mesh_files.text import plain_text

# Bytes of the beginning that are looked at.
LOOKED_AT = 4096
COMPRESSED = "compressed by {}", "unpack it first"
# How a file begins, what it then is, and what to do.
BEGINNINGS = {
    b"version https://git-lfs.github.com": ("the pointer of Git LFS, not the file", "get the file by 'git lfs pull'"),
    b"\x1f\x8b": (COMPRESSED[0].format("gzip"), COMPRESSED[1]),
    b"PK\x03\x04": ("a zip archive", COMPRESSED[1]),
    b"BZh": (COMPRESSED[0].format("bzip2"), COMPRESSED[1]),
    b"\xfd7zXZ\0": (COMPRESSED[0].format("xz"), COMPRESSED[1]),
    b"\x28\xb5\x2f\xfd": (COMPRESSED[0].format("zstd"), COMPRESSED[1]),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", COMPRESSED[1]),
    b"Rar!": ("a RAR archive", COMPRESSED[1]),
    b"%PDF": ("a PDF", "export the mesh"),
    b"\x89PNG": ("a picture (PNG)", "export the mesh"),
    b"\xff\xd8\xff": ("a picture (JPEG)", "export the mesh"),
    b"ISO-10303-21": ("a STEP file", "export a mesh from it"),
}
# The mesh formats in text, and how one of their first lines looks, in lower case.
TEXTS = {
    ".ply": rb"\A\s*ply\s",
    ".off": rb"\A(\s*#[^\n]*\n)*\s*(st)?c?n?4?n?off\b",
    ".stl": rb"\A\s*solid\b[^\n]*\n\s*facet\b",
    ".gltf": rb"\A\s*\{",
    ".obj": rb"^[ \t]*(v|vn|vt|f)[ \t]+[-+.\d]",
}


def kind_of(data: bytes, suffix: str) -> tuple[str, str] | None:
    """What a file is, and what to do about it, if it is plainly not what its suffix (in lower case) says; else None."""
    start = data[:LOOKED_AT]
    for beginning, found in BEGINNINGS.items():
        if start.startswith(beginning) and not (beginning[:2] == b"PK" and suffix == ".3mf"):
            return found
    text = plain_text(start).lower()
    if re.match(rb"\s*<(!doctype html|html|head|body)", text):
        return "a web page", "download the file itself"
    other = ".glb" if start.startswith(b"glTF") else None
    if other is None and b"\0" not in text:
        other = next((kind for kind, pattern in TEXTS.items() if re.search(pattern, text, re.MULTILINE)), None)
    if other is None or other == suffix or {other, suffix} == {".glb", ".gltf"}:
        return None
    return f"{'an' if other[1:] in ('stl', 'obj', 'off') else 'a'} {other[1:].upper()} file", f"name it *{other}"
