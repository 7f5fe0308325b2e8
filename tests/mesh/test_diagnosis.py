"""The diagnosis: its numbers, and its lines in plain words."""

import json

import numpy as np
import pytest

from neuralparts.mesh import diagnosis_lines
from tests.meshes import box, loaded, pierced, sphere, together


def test_thin_against_the_grid(tmp_path):
    vertices, faces = box(size=(1, 1, 0.01))
    radius = np.sqrt(0.5 + 0.01**2 / 4)
    for resolution, thin in ((64, True), (1024, False)):
        diagnosis = loaded(tmp_path, vertices, faces, reconstruction_res=resolution).diagnosis
        assert diagnosis["cell"] == pytest.approx(2 / (resolution - 1) * radius / 0.9)
        assert diagnosis["thin_against_grid"] == thin
        assert any("reconstructionRes" in line for line in diagnosis_lines(diagnosis)) == thin
    off = loaded(tmp_path, vertices, faces, reconstruction_res=0).diagnosis
    assert off["cell"] is None and not off["thin_against_grid"]


@pytest.mark.parametrize(
    ("pieces", "pairs"),
    [
        ([box(), box((3, 0, 0))], 0),
        ([box(), box((0.5, 0.1, 0.1))], 1),
        ([box(), box((0.5, 0.1, 0.1)), box((0.3, 0.6, 0.2))], 3),
        ([box(), box((1, 0, 0))], 0),
        ([box(size=3), box()], 1),
        ([box(size=3), box(inside_out=True)], 0),
        ([box(size=3), box(size=2, inside_out=True), box()], 0),
        ([sphere(2), sphere(2, 1.0, (1.5, 0, 0)), sphere(2, 1.0, (5, 0, 0))], 1),
    ],
)
def test_pairs_of_bodies_that_overlap(tmp_path, pieces, pairs):
    assert loaded(tmp_path, *together(*pieces)).diagnosis["overlapping_bodies"] == pairs


def test_diagnosis_is_json_and_its_lines_name_the_flaws(tmp_path):
    vertices, faces = together(box(inside_out=True), box((0.5, 0.2, 0.1)), pierced(size=0.5))
    mesh = loaded(tmp_path, vertices, np.concatenate([faces, faces[:1]]))
    assert json.loads(json.dumps(mesh.diagnosis)) == mesh.diagnosis
    assert mesh.diagnosis["closed"] is mesh.closed is False
    lines = diagnosis_lines(mesh.diagnosis)
    assert "not closed: sign by generalised winding number" in lines[0]
    assert "1 inside-out body" in lines[1] and "3 boundary edges" in lines[1]
    assert set(mesh.diagnosis["changes"]) <= set(lines) and all("\n" not in line for line in lines)


def test_clean_part_has_one_line(tmp_path):
    lines = diagnosis_lines(loaded(tmp_path, *box()).diagnosis)
    assert len(lines) == 1 and "1 body, closed" in lines[0]


def test_coarse_coordinates_are_reported(tmp_path):
    far = loaded(tmp_path, *box((1e5, 0, 0)), suffix=".stl")
    assert any("far from the origin" in line for line in diagnosis_lines(far.diagnosis))
    near = loaded(tmp_path, *box((100, 0, 0)), suffix=".stl")
    assert not any("far from the origin" in line for line in diagnosis_lines(near.diagnosis))
