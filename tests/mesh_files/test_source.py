"""Reading the bytes of an input: only regular files within its folder, and the hash of what was parsed."""

import hashlib
import os

import pytest

from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import MeshError, files_beside, hash_source, open_hashed, read_source, read_triangles
from tests.mesh_files.handmade import minimal, stl_binary, write_gltf
from tests.meshes import box


@pytest.fixture
def folder(tmp_path):
    """A folder with a secret file beside it, which would do as a buffer of `minimal`."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(72))
    return tmp_path / "in"


def with_buffer(folder, uri):
    """A glTF whose first buffer is at an address."""
    header = minimal()
    header["buffers"][0]["uri"] = uri
    return write_gltf(folder, header)


@pytest.mark.parametrize(
    "uri",
    [
        "../secret.bin",
        "%2e%2e/secret.bin",
        "..%2Fsecret.bin",
        "deep/../../secret.bin",
        "link.bin",
        "way/secret.bin",
        "/dev/zero",
        "/dev/stdin",
        "/etc/passwd",
        "pipe",
        "deep",
        ".",
        "loop",
        "nul%00.bin",
        "{absolute}",
    ],
)
def test_buffer_outside_the_folder_or_not_a_regular_file_is_refused_unread(folder, uri):
    (folder / "link.bin").symlink_to("../secret.bin")
    (folder / "way").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    path = with_buffer(folder, uri.replace("{absolute}", str(folder.parent / "secret.bin")))
    with pytest.raises(MeshError, match=r"model\.gltf: .*(outside its folder|is a folder|is a pipe|cannot be read)"):
        read_triangles(path)
    with pytest.raises(MeshError):
        files_beside(path)
    assert hash_source(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_images_are_never_read(folder):
    header = minimal() | {"images": [{"uri": "/dev/zero"}, {"uri": "../secret.bin"}], "textures": [{"source": 0}]}
    assert len(read_triangles(write_gltf(folder, header))[1]) == 4


def test_link_within_the_folder_is_followed(folder):
    positions = bytes(read_source(write_gltf(folder, minimal())).data)  # any bytes: 72 of them are needed
    (folder / "deep" / "b.bin").write_bytes(positions[:72])
    (folder / "b.bin").symlink_to("deep/b.bin")
    assert files_beside(with_buffer(folder, "b.bin")) == ["b.bin"]
    assert read_source(folder / "model.gltf").beside == {"b.bin": positions[:72]}


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_input_that_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "part.stl"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to("/dev/stdin")
        if path.is_file():
            pytest.skip("the standard input is a file here")
    with pytest.raises(MeshError, match=r"part\.stl: (is a pipe|cannot be read|no such file)"):
        read_source(path)
    if kind != "socket":
        with pytest.raises(MeshError, match="is a pipe"):
            hash_source(path)


def test_content_is_the_hash_of_the_bytes_that_are_parsed(folder):
    (folder / "b c.bin").write_bytes(bytes(48))
    path = with_buffer(folder, "b%20c.bin")
    source = read_source(path)
    assert source.content == hash_source(path)
    inner = hashlib.sha256(bytes(48)).digest()
    assert source.content == hashlib.sha256(path.read_bytes() + inner).hexdigest()
    # The input is replaced after it was read: neither what is parsed nor its hash changes.
    before = read_triangles(source)[0].copy()
    (folder / "b c.bin").write_bytes(bytes(range(48)))
    path.write_text("{}")
    assert (read_triangles(source)[0] == before).all()
    assert source.content == hashlib.sha256(source.data + inner).hexdigest() != hash_source(path)


def test_load_mesh_takes_a_file_that_is_read(tmp_path):
    (tmp_path / "part.stl").write_bytes(stl_binary(*box()))
    source = read_source(tmp_path / "part.stl")
    (tmp_path / "part.stl").unlink()
    mesh = load_mesh(source)
    assert len(mesh.faces) == 12 and mesh.path == tmp_path / "part.stl"


def test_open_hashed_is_at_its_beginning(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"samples")
    with open_hashed(tmp_path / "a.npz") as (file, content):
        (tmp_path / "a.npz").unlink()
        assert file.read() == b"samples" and content == hashlib.sha256(b"samples").hexdigest()
