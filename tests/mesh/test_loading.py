"""From a file to a Mesh: what counts, what is flat, and real files."""

import numpy as np
import pytest

from neuralparts.mesh import load_mesh, solid_angle_winding_number
from neuralparts.mesh_files import MeshError, write_mesh
from tests.meshes import box, directed_edge_balance, loaded, real


def test_unused_vertices_do_not_count(tmp_path):
    vertices, faces = box()
    lines = ["v {} {} {}".format(*vertex) for vertex in vertices] + ["v 1000 0 0", "v nan 0 0"]
    (tmp_path / "part.obj").write_text("\n".join(lines + ["f {} {} {}".format(*face) for face in faces + 1]))
    mesh = load_mesh(tmp_path / "part.obj")
    assert len(mesh.vertices) == 8 and np.allclose(mesh.transform.center, 0)
    assert mesh.transform.scale == pytest.approx(0.9 / np.sqrt(0.75))


@pytest.mark.parametrize("thickness", [1e-3, 1e-5])
def test_thin_plate_is_not_flat(tmp_path, thickness):
    assert loaded(tmp_path, *box(size=(1, 1, thickness))).closed


# Closed or not, bodies, pairs that overlap (None: not known independently).
REAL = {
    "parts/1002_tray_bottom.STL": (True, 1, 0),
    "parts/ADIS16480.STL": (True, 1, 0),
    "parts/angle_block.STL": (True, 1, 0),
    "parts/counter.unitsmm.STL": (True, 6, None),
    "parts/featuretype.STL": (True, 1, 0),
    "parts/idler_riser.STL": (True, 1, 0),
    "parts/octagonal_pocket.stl": (True, 1, 0),
    "parts/plate_holes.STL": (True, 1, 0),
    "parts/round.stl": (True, 1, 0),
    "parts/torus.STL": (True, 1, 0),
    "organic/cow.obj": (True, 1, 0),
    "organic/homer.obj": (True, 1, 0),
    "wild/beetle.obj": (False, None, None),
    "wild/box.STL": (True, 10, None),
    "wild/bunny.ply": (False, 1, 0),
    "wild/busted.STL": (True, 1, 0),
    "wild/cycloidal.ply": (True, 100, None),
    "wild/multibody.stl": (True, 2, None),
    "wild/quadknot.obj": (True, 1, 0),
    "wild/shared.STL": (True, 1, 0),
    "wild/soup.stl": (False, 100, 0),
    "wild/spot.obj": (True, 1, 0),
    "wild/suzanne.obj": (False, None, None),
    "wild/teapot.stl": (False, 3, 0),
}


@pytest.mark.parametrize("name", REAL)
def test_real_file(name):
    closed, bodies, pairs = REAL[name]
    mesh = load_mesh(real(name))
    assert mesh.closed == mesh.diagnosis["closed"] == closed == directed_edge_balance(mesh.faces)
    assert bodies is None or mesh.diagnosis["bodies"] == bodies
    assert pairs is None or mesh.diagnosis["overlapping_bodies"] == pairs
    assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(0.9, abs=1e-9)
    winding = solid_angle_winding_number(np.random.default_rng(0).uniform(-1, 1, (40, 3)), mesh.vertices[mesh.faces])
    if closed:
        assert np.abs(winding - winding.round()).max() < 1e-6 and winding.min() > -0.5


@pytest.mark.parametrize(("name", "words"), [("wild/empty.stl", "no triangles"), ("wild/alligator.obj", "flat")])
def test_real_file_that_is_refused(name, words):
    with pytest.raises(MeshError, match=words):
        load_mesh(real(name))


def test_soup_keeps_its_sign():
    mesh = load_mesh(real("wild/soup.stl"))
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    points = np.random.default_rng(0).uniform(low, high, (3000, 3))
    inside = (solid_angle_winding_number(points, mesh.vertices[mesh.faces]) > 0.5).mean()
    assert inside == pytest.approx(1 / 7, abs=0.03)


@pytest.mark.parametrize("factor", [1e-323, 1e-310, 1e302, 1e308])
def test_sizes_beyond_the_range_of_arithmetic_are_refused_in_one_line(tmp_path, factor):
    vertices, faces = box()
    write_mesh(tmp_path / "part.obj", vertices * factor, faces)
    with pytest.raises(MeshError, match=r"part.obj: .*; export "):
        load_mesh(tmp_path / "part.obj")


def test_triangles_that_join_few_vertices_over_and_over_are_no_surface(tmp_path):
    generator = np.random.default_rng(0)
    faces = np.array([generator.choice(60, 3, replace=False) for _ in range(9000)])
    with pytest.raises(MeshError, match="join only 60 vertices, so they are no surface"):
        loaded(tmp_path, generator.normal(size=(60, 3)), faces)


def test_a_part_that_stands_a_hundred_times_in_its_file_counts_once(tmp_path):
    vertices, faces = box()
    assert len(loaded(tmp_path, vertices, np.tile(faces, (150, 1))).faces) == len(faces)
