"""Open3D as an engine: why it needs help, its chunks, and its import errors in plain words."""

import numpy as np
import pytest

from neuralparts.distance.open3d_search import Open3dSearch, explain_import_error
from tests.distance.brute import (
    DISTANCE_TOLERANCE,
    FLOAT32_TOLERANCE,
    brute_distance,
    needles,
    oracle_of,
    points_around,
    torus,
)


def test_open3d_alone_is_wrong_about_needles(generator):
    """The reason for TRUSTED_HEIGHT: without it, Open3D alone is far from the truth here."""
    open3d = pytest.importorskip("open3d", reason="open3d cannot be imported", exc_type=ImportError)
    mesh = needles(generator)
    points = points_around(mesh, 150, generator)
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32))
    assert np.abs(scene.compute_distance(points).numpy() - brute_distance(points, mesh)).max() > 10 * DISTANCE_TOLERANCE


def test_chunks_change_nothing(generator):
    oracle = oracle_of(torus(), "open3d")
    chunks = Open3dSearch(oracle.mesh.vertices[oracle.mesh.faces], chunk=777)
    points = generator.uniform(-1, 1, (5000, 3))
    assert np.abs(oracle.distance(points) - chunks.nearest(points)[2]).max() <= FLOAT32_TOLERANCE


@pytest.mark.parametrize(
    "library, package",
    [
        ("libusb-1.0.so.0", "libusb-1.0-0"),
        ("libGL.so.1", "libgl1"),
        ("libX11.so.6", "libx11-6"),
        ("libgomp.so.1", "libgomp1"),
        ("libEGL.so.1", "libegl1"),
        ("libudev.so.1", "libudev1"),
    ],
)
def test_missing_library_is_named_with_its_package(library, package):
    error = ImportError(f"{library}: cannot open shared object file: No such file or directory")
    assert explain_import_error(error) == f"{library} is missing (on Debian: apt-get install {package})"


def test_other_import_errors_are_one_line():
    other = ImportError("version `GLIBC_2.99'\n not found")
    assert explain_import_error(other) == "version `GLIBC_2.99' not found"
    assert "open3d is not installed" in explain_import_error(ModuleNotFoundError(name="open3d"))
