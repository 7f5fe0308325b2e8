"""The bytes of an input, read once: the mesh file and the files beside it that it names, and the hash of them all.

A mesh file is somebody else's, so a name in it is followed only to a regular file within the input's own folder.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from neuralparts.choices import MESH_SUFFIXES, SAMPLES_SUFFIX
from neuralparts.mesh_files.gltf_container import buffer_names, read_header
from neuralparts.mesh_files.mesh_error import MeshError
from neuralparts.wording import quoted

# Formats that may keep a part of their shape in other files.
WITH_FILES_BESIDE = (".gltf", ".glb")
# A FIFO is opened without waiting for its other end. Windows has neither flag, and needs O_BINARY.
OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, eq=False)
class SourceFile:
    """An input as it was read: what is parsed and what is hashed are the same bytes. It stands where a path may.

    path: of the mesh file. data: its bytes. beside: the other files that hold a part of its shape, bytes by their names
    relative to its folder, in the order of the mesh file.
    """

    path: Path
    data: bytes = field(repr=False)
    beside: dict[str, bytes] = field(default_factory=dict, repr=False)

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def content(self) -> str:
        """The hash of the bytes; `hash_source` computes the same of files that are not parsed."""
        return _combined(hashlib.sha256(self.data), map(hashlib.sha256, self.beside.values()))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return len(self.data) + sum(map(len, self.beside.values()))


def read_source(path: str | os.PathLike) -> SourceFile:
    """Read a mesh file and the files beside it, each once.

    path: a file with one of MESH_SUFFIXES, in any case of letters. Raises MeshError unless all are regular files that
    can be read, not empty, and those beside lie in the folder of the mesh file after links are resolved; MemoryError.
    """
    path = Path(path)
    if path.suffix.lower() not in MESH_SUFFIXES:
        if path.is_dir():
            raise MeshError(f"{path}: is a folder, not a mesh file; name a file in it")
        kind = f"suffix '{quoted(path.suffix)}'" if path.suffix else "a name without suffix"
        raise MeshError(
            f"{path}: {kind} is not a mesh format; use one of {' '.join(MESH_SUFFIXES)} "
            f"(a fit takes samples too, {SAMPLES_SUFFIX})"
        )
    with _readable(path):
        if not path.exists():
            raise MeshError(f"{path}: no such file; check the spelling of the path")
        with _open_regular(path, path) as file:
            data = file.read()
    if not data:
        raise MeshError(f"{path}: the file is empty (0 bytes); export it again")
    return SourceFile(path, data, {name: _read_beside(path, name) for name in _names_beside(path, data)})


@contextmanager
def open_hashed(path: str | os.PathLike) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file of any format that has no files beside it; yields it, at its beginning, and its hash.

    Raises OSError, and MeshError for what is not a regular file.
    """
    path = Path(path)
    with _open_regular(path, path) as file:
        content = _combined(hashlib.file_digest(file, "sha256"), [])
        file.seek(0)
        yield file, content


def hash_source(path: str | os.PathLike) -> str:
    """SHA-256, in hexadecimal, of any file and of the files beside it, without keeping them in memory.

    It is that of the file followed by the SHA-256 digest of each file beside it; one that is missing, or is refused by
    `read_source`, is left out. Raises OSError, and MeshError for what is not a regular file.
    """
    path = Path(path)
    with _open_regular(path, path) as file:
        main = hashlib.file_digest(file, "sha256")
    beside = []
    for name in _names_on_disk(path):
        with suppress(FileNotFoundError, MeshError), _open_beside(path, name) as file:
            beside.append(hashlib.file_digest(file, "sha256"))
    return _combined(main, beside)


def files_beside(path: str | os.PathLike) -> list[str]:
    """Names, relative to a mesh file's folder, of the other files that hold a part of its shape: a glTF's buffers.

    [] for every other format, and for a file that cannot be read: `read_source` reports that. Raises MeshError for a
    name that leads out of the folder, or to what is not a regular file, but not for a file that is missing.
    """
    names = _names_on_disk(Path(path))
    for name in names:
        with suppress(OSError), _open_beside(Path(path), name):
            pass
    return names


def _names_on_disk(path: Path) -> list[str]:
    """`_names_beside` of a file that is not read yet; [] for one that cannot be read."""
    if path.suffix.lower() not in WITH_FILES_BESIDE:
        return []
    try:
        with _open_regular(path, path) as file:
            return _names_beside(path, file.read())
    except (OSError, MeshError):
        return []


def _combined(main: "hashlib._Hash", beside: Iterable["hashlib._Hash"]) -> str:
    """The hash of an input, from those of its files."""
    for one in beside:
        main.update(one.digest())
    return main.hexdigest()


def _names_beside(path: Path, data: bytes) -> list[str]:
    """The names of the files beside a mesh file, each once; [] for a damaged file, which its reader reports."""
    if path.suffix.lower() not in WITH_FILES_BESIDE:
        return []
    try:
        return list(dict.fromkeys(buffer_names(read_header(data)[0])))
    except (ValueError, RecursionError):
        return []


@contextmanager
def _open_beside(path: Path, name: str) -> Iterator[BinaryIO]:
    """Open a file beside a mesh file. Raises OSError, and MeshError if it is outside the folder after links are
    resolved, or not a regular file."""
    try:
        folder = path.parent.resolve()
        place = (folder / name).resolve()
        inside = place.is_relative_to(folder)
    except (ValueError, RuntimeError):  # a null character, a loop of links
        inside = False
    if not inside:
        raise MeshError(
            f"{path}: it names the file '{quoted(name)}', which is outside its folder and is not read; copy the file "
            "beside it and name it there"
        )
    with _open_regular(place, path, f"the file '{quoted(name)}' that it names ") as file:
        yield file


def _read_beside(path: Path, name: str) -> bytes:
    """The bytes of a file beside. Raises MeshError."""
    try:
        with _open_beside(path, name) as file:
            return file.read()
    except OSError as error:
        raise MeshError(
            f"{path}: it names a file that cannot be read: '{quoted(name)}' ({error.strerror}); copy it there"
        ) from None


@contextmanager
def _open_regular(place: Path, path: Path, subject: str = "") -> Iterator[BinaryIO]:
    """Open a regular file for reading. path, subject: for the message. Raises OSError, or MeshError for any other kind.

    The kind is looked at before the file is opened, because to open a device may do something, and after it, because
    another file may have taken its place.
    """
    _check_regular(os.stat(place).st_mode, path, subject)
    with open(os.open(place, OPEN_FLAGS), "rb") as file:
        _check_regular(os.fstat(file.fileno()).st_mode, path, subject)
        yield file


def _check_regular(mode: int, path: Path, subject: str) -> None:
    """Raise MeshError unless a mode of `os.stat` is that of a regular file."""
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise MeshError(f"{path}: {subject}is a folder, not a mesh file; name a file in it")
    raise MeshError(f"{path}: {subject}is a pipe, a socket or a device, not a regular file; use a regular file")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Change an OSError of the block into a MeshError."""
    try:
        yield
    except OSError as error:
        raise MeshError(
            f"{path}: cannot be read ({error.strerror}); check the file and your right to read it"
        ) from None
