"""The .npz of samples: round trips, and wrong or broken files."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest

from neuralparts.domain import Transform
from neuralparts.errors import UserError
from neuralparts.sampling import load_samples, save_samples


def test_files_come_back_to_the_bit(tmp_path, generator):
    points, sdf = generator.uniform(-1, 1, (100, 3)).astype(np.float32), generator.normal(size=100).astype(np.float32)
    transform = Transform(np.array([1e6, -2.5, 1 / 3]), 0.1)
    save_samples(tmp_path / "part.npz", points, sdf, transform)
    assert [path.name for path in tmp_path.iterdir()] == ["part.npz"]
    read_points, read_sdf, read_transform = load_samples(tmp_path / "part.npz")
    assert (read_points == points).all() and (read_sdf == sdf).all()
    assert (read_transform.center == transform.center).all() and read_transform.scale == transform.scale


def test_samples_without_a_transform_are_in_domain_units(tmp_path):
    np.savez(tmp_path / "plain.npz", train=np.zeros((3, 4), np.float32))
    transform = load_samples(tmp_path / "plain.npz")[2]
    assert (transform.center == 0).all() and transform.scale == 1


TRAIN = np.zeros((3, 4), np.float32)
HALF_NAN = np.array([[0, 0, 0, np.nan]], np.float32)
OUTSIDE = np.array([[0, 37.5, 0, 1]], np.float32)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"points": TRAIN}, "no array named train"),
        ({"train": TRAIN[:, :3]}, r"train must be \(N, 4\)"),
        ({"train": TRAIN[:0]}, r"train must be \(N, 4\)"),
        ({"train": TRAIN.astype(int)}, r"train must be \(N, 4\)"),
        ({"train": np.array([None])}, "not a readable .npz"),
        ({"train": HALF_NAN}, "NaN or infinite"),
        ({"train": OUTSIDE}, "outside the domain .* 37.5"),
        ({"train": TRAIN, "center": np.zeros(3)}, "both or neither"),
        ({"train": TRAIN, "center": np.zeros(2), "scale": 1.0}, r"center must be \(3,\)"),
        ({"train": TRAIN, "center": np.zeros(3), "scale": 0.0}, "scale positive"),
        ({"train": TRAIN, "center": np.full(3, np.inf), "scale": 1.0}, "center must be finite"),
        ({"train": TRAIN, "center": np.zeros(3), "scale": "large"}, "numbers"),
    ],
)
def test_wrong_samples_are_refused_in_one_line(tmp_path, arrays, message):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(UserError, match=message) as refusal:
        load_samples(tmp_path / "wrong.npz")
    assert "wrong.npz" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut short", None])
def test_unreadable_samples_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "broken.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.npz: not a readable \.npz") as refusal:
        load_samples(path)
    assert "\n" not in str(refusal.value)


def test_one_array_under_the_name_of_an_archive_is_refused(tmp_path):
    with open(tmp_path / "train.npz", "wb") as file:
        np.save(file, np.zeros((3, 4), np.float32))
    with pytest.raises(UserError, match=r"train\.npz: not a readable \.npz"):
        load_samples(tmp_path / "train.npz")


def test_damaged_samples_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "part.npz", train=np.random.default_rng(0).random((1000, 4), np.float32))
    data = bytearray((tmp_path / "part.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "part.npz").write_bytes(data)
    with pytest.raises(UserError, match=r"not a readable \.npz"):
        load_samples(tmp_path / "part.npz")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_samples(tmp_path / "part.npz", np.zeros((1, 3)), np.zeros(1), Transform(np.zeros(3), 1.0))
    assert list(tmp_path.iterdir()) == []


def npy(header, data=b"", version=1):
    """The bytes of an .npy file with this header as its author wrote it."""
    text = header.encode("latin1")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + data


def an_archive(path, member, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("train.npy", member)


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }\n"


@pytest.mark.parametrize("shape", ["3, 4", "3L, 4L", "3,4"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_headers_that_other_programs_write_are_read(tmp_path, shape, version):
    train = np.random.default_rng(0).random((3, 4), np.float32)
    an_archive(tmp_path / "a.npz", npy(HEADER % shape, train.tobytes(), version))
    points, sdf, _ = load_samples(tmp_path / "a.npz")
    assert (points == train[:, :3]).all() and (sdf == train[:, 3]).all()
    an_archive(tmp_path / "a.npz", npy((HEADER % shape).replace("False", "True"), train.tobytes(order="F"), version))
    assert (load_samples(tmp_path / "a.npz")[0] == train[:, :3]).all()


@pytest.mark.parametrize(
    "member, message",
    [
        (npy(HEADER % "500000000, 4", bytes(64)), "promises .* 8,000,000,000 bytes, and holds 64"),
        (npy(HEADER % ("9" * 60 + ", 4")), "none that an array can have"),
        (npy(HEADER % ("1, " * 60)), "none that an array can have"),
        (npy("1+" * 400 + "1"), "not the header of a plain array"),
        (npy("(" * 4000, version=3), "not the header of a plain array"),
        (npy("\tx\n y"), "not the header of a plain array"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (3, 4), }"), "Python objects"),
        (npy("{'descr': '<q9', 'fortran_order': False, 'shape': (3, 4), }"), "not understood"),
        (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3, 4), }"), "not the header"),
        (npy(HEADER % "3, 4" + " " * 20_000), "a header of 20"),
        (npy("{'descr': '\x1b[31m\x07', 'shape': (3, 4)}"), r"\\x1b\[31m\\x07"),
        (b"", "not a .npy file"),
        (b"\x93NUMPY\x09\x00", "not a .npy file"),
    ],
)
def test_headers_are_not_believed(tmp_path, member, message):
    an_archive(tmp_path / "part.npz", member)
    with pytest.raises(UserError, match=rf"part\.npz: not a readable \.npz .*{message}") as refusal:
        load_samples(tmp_path / "part.npz")
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < len(str(tmp_path)) + 300


def test_an_archive_that_grows_too_much_is_refused_before_it_is_read(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", train=np.zeros((2_000_000, 4), np.float32))
    assert (tmp_path / "bomb.npz").stat().st_size < 100_000
    with pytest.raises(UserError, match=r"train would grow from .* more than 100 times; write it with numpy\.savez"):
        load_samples(tmp_path / "bomb.npz")
    # Samples of a grid with truncated distances, which shrink as well as samples can, are read.
    line = np.linspace(-1, 1, 48, dtype=np.float32)
    points = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    sdf = np.clip(np.linalg.norm(points, axis=1) - 0.5, -0.1, 0.1)
    np.savez_compressed(tmp_path / "grid.npz", train=np.column_stack([points, sdf]).astype(np.float32))
    assert len(load_samples(tmp_path / "grid.npz")[0]) == 48**3


def test_other_compressions_and_passwords_are_refused(tmp_path):
    stored = io.BytesIO()
    np.save(stored, np.zeros((3, 4), np.float32))
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        an_archive(tmp_path / "a.npz", stored.getvalue(), compression)
        with pytest.raises(UserError, match="a way that numpy does not write"):
            load_samples(tmp_path / "a.npz")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "device.npz").symlink_to("/dev/zero")
    for name, reason in (("pipe", "a pipe"), ("folder", "a folder"), ("device", "a device")):
        with pytest.raises(UserError, match=f"{name}.npz: .*{reason}"):
            load_samples(tmp_path / f"{name}.npz")
