"""The forms `npz` and `vti`: values, places and contours of the grid, as numpy, an XML reader and PyVista see them."""

import re

import numpy as np
import pytest
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from neuralparts.errors import UserError
from neuralparts.export import export_model
from neuralparts.marching import as_function, march
from tests.export.formed_models import octahedron

RESOLUTION = 21


@pytest.fixture
def model():
    return octahedron()


def marched_vertices(model):
    """Vertices (V, 3) of the model's mesh in file units, and the edge of a cell."""
    result = march(as_function(model.signed_distance), RESOLUTION)
    return model.transform.to_file(result.vertices), 2 / (RESOLUTION - 1) / model.transform.scale


def farthest(first, second):
    """The largest distance from a point of one set to the nearest of the other, both ways."""
    return max(cKDTree(first).query(second)[0].max(), cKDTree(second).query(first)[0].max())


def read_vti(path):
    """(sdf (R, R, R) by x, y, z, origin, spacing) of a .vti file: the slow twin of VTK's reader."""
    head, _, rest = path.read_bytes().partition(b'<AppendedData encoding="raw">\n_')
    shape = [int(last) + 1 for last in re.findall(r"0 (\d+)", re.search(r'WholeExtent="([^"]*)"', head.decode())[1])]
    origin, spacing = (
        np.array(re.search(rf'{name}="([^"]*)"', head.decode())[1].split(), float) for name in ("Origin", "Spacing")
    )
    size = int.from_bytes(rest[:8], "little")
    assert rest[8 + size :] == b"\n</AppendedData>\n</VTKFile>\n"
    return np.frombuffer(rest[8 : 8 + size], "<f4").reshape(shape[::-1]).transpose(2, 1, 0), origin, spacing


def test_npz_has_the_distances_at_its_places(model, tmp_path):
    path = tmp_path / "part.npz"
    assert export_model(model, "npz", path, RESOLUTION) == [path]
    with np.load(path) as arrays:
        sdf, origin, spacing = arrays["sdf"], arrays["origin"], arrays["spacing"]
    assert sdf.shape == (RESOLUTION,) * 3 and sdf.dtype == np.float32
    indices = np.stack(np.meshgrid(*[np.arange(RESOLUTION)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    expected = model(origin + spacing * indices)
    np.testing.assert_allclose(sdf.ravel(), expected, atol=1e-5 / model.transform.scale)
    np.testing.assert_allclose(model.transform.to_domain(origin + spacing * (RESOLUTION - 1)), 1, atol=1e-12)


def test_the_contour_of_the_grid_is_the_marched_mesh(model, tmp_path):
    export_model(model, "npz", tmp_path / "part.npz", RESOLUTION)
    with np.load(tmp_path / "part.npz") as arrays:
        contour = arrays["origin"] + arrays["spacing"] * marching_cubes(arrays["sdf"], 0.0)[0]
    vertices, cell = marched_vertices(model)
    assert farthest(contour, vertices) < cell / 2


def test_vti_holds_the_same_grid(model, tmp_path):
    export_model(model, "npz", tmp_path / "part.npz", RESOLUTION)
    export_model(model, "vti", tmp_path / "part.vti", RESOLUTION)
    sdf, origin, spacing = read_vti(tmp_path / "part.vti")
    with np.load(tmp_path / "part.npz") as arrays:
        np.testing.assert_array_equal(sdf, arrays["sdf"])
        np.testing.assert_array_equal(origin, arrays["origin"])
        np.testing.assert_array_equal(spacing, [arrays["spacing"]] * 3)


def test_pyvista_reads_the_vti(model, tmp_path):
    pyvista = pytest.importorskip("pyvista", reason="PyVista is not installed")
    export_model(model, "vti", tmp_path / "part.vti", RESOLUTION)
    image = pyvista.read(tmp_path / "part.vti")
    assert image.dimensions == (RESOLUTION,) * 3
    vertices, cell = marched_vertices(model)
    assert farthest(image.contour([0.0], scalars="sdf").points, vertices) < cell / 2


@pytest.mark.parametrize("form", ["npz", "vti"])
def test_equal_grids_make_equal_files_and_a_grid_of_one_node_none(model, tmp_path, form):
    for name in ("a", "b"):
        export_model(model, form, tmp_path / f"{name}.{form}", 5)
    assert (tmp_path / f"a.{form}").read_bytes() == (tmp_path / f"b.{form}").read_bytes()
    with pytest.raises(UserError, match="2 nodes"):
        export_model(model, form, tmp_path / f"c.{form}", 1)
    assert not (tmp_path / f"c.{form}").exists()
