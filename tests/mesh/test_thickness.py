"""The thinnest feature of shapes whose walls are known."""

import pytest

from tests.meshes import box, loaded, together


@pytest.mark.parametrize("thickness", [0.3, 0.05, 0.002])
def test_thinnest_wall_of_plates_and_hollow_boxes(tmp_path, thickness):
    plate = loaded(tmp_path, *box(size=(3, 2, thickness)))
    assert plate.diagnosis["thinnest_feature"] == pytest.approx(thickness, rel=0.02)
    hollow = together(box(size=2), box(size=2 - 2 * thickness, inside_out=True))
    assert loaded(tmp_path, *hollow).diagnosis["thinnest_feature"] == pytest.approx(thickness, rel=0.02)


def test_depth_of_an_overlap_is_no_wall(tmp_path):
    mesh = loaded(tmp_path, *together(box(), box((0.999, 0, 0)), box((0, 0.999, 0.2))))
    assert mesh.diagnosis["thinnest_feature"] > 0.9
