"""Reading 3MF."""

import zipfile

import numpy as np
import pytest

from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import MeshError, read_triangles
from tests.mesh_files.handmade import object_3mf, write_3mf
from tests.meshes import winding_at


@pytest.mark.parametrize("inner", ["1 0 0 0 1 0 0 0 1 2 0 0", "0 1 0 -1 0 0 0 0 1 2 0 0", "-1 0 0 0 1 0 0 0 1 2 0 0"])
def test_items_and_components_are_placed(tmp_path, inner):
    component = f'<components><component objectid="1" transform="{inner}"/></components>'
    write_3mf(
        tmp_path / "part.3mf",
        '<item objectid="1"/><item objectid="2" transform="2 0 0 0 2 0 0 0 2 10 0 0"/>',
        f'<object id="2" type="model">{component}</object>',
    )
    mesh = load_mesh(tmp_path / "part.3mf")
    ends = mesh.transform.to_file(mesh.vertices)
    assert np.allclose([ends.min(axis=0), ends.max(axis=0)], [[-0.5, -1, -1], [15, 1, 1]])
    assert mesh.closed and mesh.diagnosis["bodies"] == 2 and mesh.diagnosis["inside_out_bodies"] == 0
    assert np.allclose(winding_at(mesh, [[0, 0, 0], [14, 0, 0], [10, 0, 0]]), [1, 1, 0], atol=1e-9)


def cubes(path):
    """[(lowest x, highest x)] of the cubes in a file, sorted: every object has 12 triangles."""
    vertices, faces, _ = read_triangles(path)
    x = vertices[faces][:, :, 0].reshape(-1, 36)
    return sorted(zip(x.min(axis=1).tolist(), x.max(axis=1).tolist(), strict=True))


def test_objects_of_other_model_files(tmp_path):
    """Components and items may name objects of other model files, each of which counts its objects from 1."""
    components = "".join(
        f'<component xmlns:p="p" p:path="/3D/other.model" objectid="{k}" transform="1 0 0 0 1 0 0 0 1 {10 * k} 0 0"/>'
        for k in (1, 2)
    )
    more = f'<object id="3" type="model"><components>{components}</components></object>'
    item = '<item xmlns:p="p" p:path="/3D/other.model" objectid="2" transform="1 0 0 0 1 0 0 0 1 40 0 0"/>'
    write_3mf(tmp_path / "part.3mf", '<item objectid="1"/><item objectid="3"/>' + item, more)
    with zipfile.ZipFile(tmp_path / "part.3mf", "a") as file:
        file.writestr("3D/other.model", f"<model><resources>{object_3mf(1, 3)}{object_3mf(2, 5)}</resources></model>")
    assert cubes(tmp_path / "part.3mf") == [(-0.5, 0.5), (8.5, 11.5), (17.5, 22.5), (37.5, 42.5)]
    assert load_mesh(tmp_path / "part.3mf").diagnosis["bodies"] == 4


def test_items_with_the_same_part_number_are_all_read(tmp_path):
    items = "".join(f'<item objectid="1" partnumber="bolt" transform="1 0 0 0 1 0 0 0 1 {x} 0 0"/>' for x in (0, 5, 10))
    write_3mf(tmp_path / "part.3mf", items)
    assert cubes(tmp_path / "part.3mf") == [(-0.5, 0.5), (4.5, 5.5), (9.5, 10.5)]
    assert load_mesh(tmp_path / "part.3mf").diagnosis["bodies"] == 3


@pytest.mark.parametrize(
    ("build", "more", "words"),
    [
        ('<item objectid="7"/>', "", "no object 7"),
        (
            '<item objectid="2"/>',
            '<object id="2"><components><component objectid="2"/></components></object>',
            "components that hold each other",
        ),
    ],
)
def test_object_that_is_missing_or_holds_itself_is_refused(tmp_path, build, more, words):
    write_3mf(tmp_path / "part.3mf", build, more)
    with pytest.raises(MeshError, match=rf"part\.3mf: .*{words}.*export it again"):
        read_triangles(tmp_path / "part.3mf")


def test_note_about_a_unit_other_than_the_millimetre(tmp_path):
    write_3mf(tmp_path / "part.3mf", '<item objectid="1"/>')
    assert any("unit is the inch" in line for line in load_mesh(tmp_path / "part.3mf").diagnosis["changes"])
