"""Reading 3MF."""

import zipfile

import numpy as np
import pytest

from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import MeshError, read_triangles
from tests.mesh_files.handmade import object_3mf, write_3mf
from tests.meshes import box, winding_at


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


def requiring(path, prefix, space):
    """A 3MF that requires the extension of a name space."""
    write_3mf(path, '<item objectid="1"/>')
    with zipfile.ZipFile(path) as file:
        texts = {name: file.read(name).decode() for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, text in texts.items():
            file.writestr(
                name, text.replace("<model ", f'<model xmlns:{prefix}="{space}" requiredextensions="{prefix}" ')
            )


@pytest.mark.parametrize(
    "space",
    [
        "http://schemas.microsoft.com/3dmanufacturing/beamlattice/2017/02",
        "http://schemas.microsoft.com/3dmanufacturing/slice/2015/07",
        "http://schemas.3mf.io/3dmanufacturing/volumetric/2022/01",
        "http://schemas.3mf.io/3dmanufacturing/booleanoperations/2023/07",
        "http://example.com/shape",
    ],
)
def test_required_extension_that_is_not_read_is_refused_by_name(tmp_path, space):
    requiring(tmp_path / "part.3mf", "b", space)
    with pytest.raises(MeshError, match=rf"part\.3mf: it requires the extension {space[:50]}"):
        read_triangles(tmp_path / "part.3mf")


@pytest.mark.parametrize("kind", ["production/2015/06", "material/2015/02", "trianglesets/2021/07", "core/2015/02"])
def test_required_extension_that_changes_no_shape_is_accepted(tmp_path, kind):
    requiring(tmp_path / "part.3mf", "p", f"http://schemas.microsoft.com/3dmanufacturing/{kind}")
    assert cubes(tmp_path / "part.3mf") == [(-0.5, 0.5)]


@pytest.mark.parametrize("role", ["support", "solidsupport", "other"])
def test_objects_that_are_no_part_of_the_shape_are_left_out_with_a_note(tmp_path, role):
    more = object_3mf(2, 3).replace('type="model"', f'type="{role}"')
    more += '<object id="3"><components><component objectid="1"/><component objectid="2"/></components></object>'
    write_3mf(tmp_path / "part.3mf", '<item objectid="3"/><item objectid="2"/>', more)
    assert cubes(tmp_path / "part.3mf") == [(-0.5, 0.5)]
    notes = read_triangles(tmp_path / "part.3mf")[2]
    assert any(note.startswith("Left out 2 ") and role.removeprefix("solid") in note for note in notes)


PRUSA = (
    '<config><object id="2"><volume firstid="0" lastid="11"><metadata key="volume_type" value="ModelPart"/></volume>'
    '<volume firstid="12" lastid="23"><metadata type="volume" key="{key}" value="{role}"/></volume></object>'
    "</config>"
)
BAMBU = '<config><object id="3"><part id="1" subtype="normal_part"/><part id="2" subtype="{role}"/></object></config>'


def project(path, name, config):
    """A cube of 1 with one of 3, as the ranges of one object (2) and as the components of another (3)."""
    vertices, faces = box()
    both = np.concatenate([vertices, 3 * vertices]), np.concatenate([faces, faces + 8])
    joined = object_3mf(2).partition("<mesh>")[0] + "<mesh><vertices>"
    joined += "".join('<vertex x="{}" y="{}" z="{}"/>'.format(*v) for v in both[0]) + "</vertices><triangles>"
    joined += (
        "".join('<triangle v1="{}" v2="{}" v3="{}"/>'.format(*f) for f in both[1]) + "</triangles></mesh></object>"
    )
    if "Slic3r" not in name:
        parts = '<component objectid="1"/><component objectid="2"/>'
        joined = object_3mf(2, 3) + f'<object id="3"><components>{parts}</components></object>'
    write_3mf(path, f'<item objectid="{2 if "Slic3r" in name else 3}"/>', joined)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, config)


PROJECTS = [("Metadata/Slic3r_PE_model.config", PRUSA.replace("{key}", "volume_type"), roles) for roles in
            [("ParameterModifier", "SupportBlocker", "SupportEnforcer", "NegativeVolume")]]  # fmt: skip
PROJECTS += [("Metadata/Slic3r_PE_model.config", PRUSA.replace("{key}", "modifier"), ("1",))]
PROJECTS += [
    ("Metadata/model_settings.config", BAMBU, ("modifier_part", "support_blocker", "support_enforcer", "negative_part"))
]


@pytest.mark.parametrize(("name", "config", "role"), [(n, c, role) for n, c, roles in PROJECTS for role in roles])
def test_parts_that_a_slicer_takes_for_no_shape(tmp_path, name, config, role):
    project(tmp_path / "part.3mf", name, config.replace("{role}", role))
    if "egative" in role:
        with pytest.raises(MeshError, match=r"part\.3mf: negative volumes are not subtracted here"):
            read_triangles(tmp_path / "part.3mf")
        return
    assert cubes(tmp_path / "part.3mf") == [(-0.5, 0.5)]
    assert any(note.startswith("Left out 1 ") for note in read_triangles(tmp_path / "part.3mf")[2])


def test_triangle_of_a_vertex_that_its_object_lacks_is_refused(tmp_path):
    """Joined to the next object, it would name a vertex of that."""
    more = object_3mf(2).replace('v1="0"', 'v1="8"', 1)
    write_3mf(tmp_path / "part.3mf", '<item objectid="2"/><item objectid="1"/>', more)
    with pytest.raises(MeshError, match="names vertex 8 of a piece with 8 vertices"):
        read_triangles(tmp_path / "part.3mf")
