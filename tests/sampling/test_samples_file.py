"""The .npz of samples: round trips, and wrong or broken files."""

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
