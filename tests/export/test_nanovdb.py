"""The form `nvdb`, read by Warp: every voxel, inside and outside the band, and what Warp cannot place."""

import numpy as np
import pytest

from neuralparts.errors import UserError
from neuralparts.export import export_model
from tests.export.formed_models import formed_model

warp = pytest.importorskip("warp", reason="Warp is not installed: requirements-volume.txt")


@warp.kernel
def read(volume: warp.uint64, values: warp.array3d(dtype=float)):
    i, j, k = warp.tid()
    values[i, j, k] = warp.volume_lookup_f(volume, i, j, k)


# A multiple of a tile's 8 voxels, and one that ends in the midst of a tile.
@pytest.mark.parametrize("resolution", [24, 37])
def test_every_voxel_is_the_grid_clamped_to_the_band(tmp_path, resolution):
    model = formed_model("none", "elu", "StandardScaler", center=(12.5, -3.0, 0.25))
    export_model(model, "npz", tmp_path / "part.npz", resolution)
    export_model(model, "nvdb", tmp_path / "part.nvdb", resolution)
    with np.load(tmp_path / "part.npz") as arrays:
        sdf, origin, spacing = arrays["sdf"], arrays["origin"], float(arrays["spacing"])
    with open(tmp_path / "part.nvdb", "rb") as file:
        volume = warp.Volume.load_from_nvdb(file, device="cpu")
    values = warp.zeros((resolution + 8,) * 3, dtype=float, device="cpu")
    warp.launch(read, dim=values.shape, inputs=[volume.id, values], device="cpu")
    band = np.float32(3 * spacing)
    expected = np.full(values.shape, band)
    expected[(slice(resolution),) * 3] = np.clip(sdf, -band, band)
    np.testing.assert_array_equal(values.numpy(), expected)
    info = volume.get_grid_info()
    np.testing.assert_allclose(info.translation, origin, rtol=1e-6)
    np.testing.assert_allclose(volume.get_voxel_size(), spacing, rtol=1e-6)
    # Tiles of 8^3 voxels are stored if one of theirs lies nearer than the band, or inside.
    tiles = -(-len(expected) // 8)
    padded = np.pad(expected, (0, 8 * tiles - len(expected)), constant_values=band)
    nearest = padded.reshape(tiles, 8, tiles, 8, tiles, 8).min(axis=(1, 3, 5))
    assert volume.get_tile_count() == (nearest < band).sum()


def test_a_part_too_far_away_is_refused(tmp_path):
    model = formed_model(center=(1e7, 0, 0), scale=1.0)
    with pytest.raises(UserError, match="too far from the origin"):
        export_model(model, "nvdb", tmp_path / "part.nvdb", 8)
    assert list(tmp_path.iterdir()) == []
