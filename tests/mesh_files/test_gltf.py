"""Reading and writing glTF, .glb and .gltf."""

import json

import numpy as np
import pytest
import trimesh

from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import MeshError, files_beside, read_triangles, write_mesh
from neuralparts.triangles import doubled_normals, triangle_areas
from tests.mesh_files.handmade import add_accessor, minimal, write_gltf
from tests.meshes import BOX_FACES, box, winding_at


def box_scene():
    """A scene of one box, made by trimesh."""
    return trimesh.Scene(trimesh.Trimesh(*box(), process=False))


def test_glb_far_from_the_origin_keeps_its_shape(tmp_path):
    vertices, faces = box((1e6, -1e6, 0), 1)
    write_mesh(tmp_path / "far.glb", vertices, faces)
    back, faces, _ = read_triangles(tmp_path / "far.glb")
    assert np.abs(np.sort(back[faces].ravel()) - np.sort(vertices[BOX_FACES].ravel())).max() < 1e-7


def test_scene_nodes_are_placed_and_mirrored_ones_flipped(tmp_path):
    scene = trimesh.Scene()
    piece = trimesh.Trimesh(*box(size=(1, 2, 3)), process=False)
    rotation = trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0], [0, 0, 0])
    rotation[:3, 3] = [10, 0, 0]
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[:3, 3] = [-10, 0, 0]
    scene.add_geometry(piece, geom_name="piece", transform=rotation)
    scene.add_geometry(piece, geom_name="again", transform=mirror)
    scene.export(tmp_path / "scene.glb")
    mesh = load_mesh(tmp_path / "scene.glb")
    assert mesh.closed and mesh.diagnosis["bodies"] == 2 and mesh.diagnosis["inside_out_bodies"] == 0
    inside = winding_at(mesh, [[10, 1.4, 0.9], [10, 0.9, 1.4], [-10, 0.9, 1.4], [0, 0, 0]])
    assert np.allclose(inside, [1, 0, 1, 0], atol=1e-9)


def test_pieces_without_triangles_are_ignored_with_a_note(tmp_path):
    scene = box_scene()
    scene.add_geometry(trimesh.PointCloud(np.eye(3)))
    scene.export(tmp_path / "scene.glb")
    _, faces, notes = read_triangles(tmp_path / "scene.glb")
    assert len(faces) == 12 and notes == ["Ignored 1 piece without triangles (points or lines)."]


def test_gltf_beside_its_buffers(tmp_path):
    for name, data in box_scene().export(file_type="gltf").items():
        (tmp_path / name).write_bytes(data)
    path = tmp_path / "model.gltf"
    assert load_mesh(path).closed
    header = json.loads(path.read_text())
    buffer = tmp_path / header["buffers"][0]["uri"]
    (tmp_path / "elsewhere").mkdir()
    for uri, place in (("my%20part.bin", "my part.bin"), ("elsewhere/b.bin", "elsewhere/b.bin")):
        header["buffers"][0]["uri"] = uri
        path.write_text(json.dumps(header))
        buffer = buffer.rename(tmp_path / place)
        assert load_mesh(path).closed and files_beside(path)[0] == place
    buffer.unlink()
    with pytest.raises(MeshError, match=r"model\.gltf: .*names a file that cannot be read: .*b\.bin"):
        read_triangles(path)


def test_files_beside_a_file_that_cannot_be_read_are_none(tmp_path):
    (tmp_path / "model.gltf").write_text('{"buffers": [{"uri": 5}]}')
    assert files_beside(tmp_path / "model.gltf") == []
    assert files_beside(tmp_path / "missing.gltf") == []
    assert files_beside(tmp_path / "part.stl") == []


@pytest.mark.parametrize(
    ("name", "place"),
    [("KHR_draco_mesh_compression", "file"), ("VENDOR_shape", "file"), ("EXT_mesh_gpu_instancing", "node")],
)
def test_extension_that_is_not_read_is_refused_by_name(tmp_path, name, place):
    header = minimal()
    if place == "file":
        header["extensionsRequired"] = [name]
    else:
        header["nodes"][0]["extensions"] = {name: {}}
    with pytest.raises(MeshError, match=rf"model\.gltf: .*{name}"):
        read_triangles(write_gltf(tmp_path, header))


def total_area(path):
    """The area of all triangles of a file, and the box of its used vertices."""
    vertices, faces, _ = read_triangles(path)
    return triangle_areas(vertices[faces]).sum(), np.array([vertices[faces].min((0, 1)), vertices[faces].max((0, 1))])


SQUARE = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]


@pytest.mark.parametrize(("mode", "order"), [(5, [0, 1, 2, 3]), (6, [0, 1, 3, 2]), (4, [0, 1, 2, 2, 1, 3])])
def test_triangle_strips_and_fans_face_the_same_way(tmp_path, mode, order):
    header = minimal(SQUARE, order)
    header["meshes"][0]["primitives"][0]["mode"] = mode
    vertices, faces, _ = read_triangles(write_gltf(tmp_path, header))
    normals = doubled_normals(vertices[faces])
    assert len(faces) == 2 and (normals[:, 2] == 1).all()


def test_default_weights_of_morph_targets_are_applied(tmp_path):
    header = minimal(SQUARE, [0, 1, 2, 2, 1, 3])
    primitive = header["meshes"][0]["primitives"][0]
    primitive["targets"] = [
        {"POSITION": add_accessor(header, np.array([[0, 0, 0], [2, 0, 0], [0, 0, 0], [2, 0, 0]], "<f4"))},
        {"POSITION": add_accessor(header, np.full((4, 3), 9, "<f4"))},
        {"NORMAL": 0},
    ]
    assert total_area(write_gltf(tmp_path, header))[0] == 1
    header["meshes"][0]["weights"] = [1.0, 0.0, 1.0]
    assert total_area(write_gltf(tmp_path, header))[0] == 3
    header["nodes"][0]["weights"] = [0.5]  # those of the node come first
    assert total_area(write_gltf(tmp_path, header))[0] == 2
    primitive["targets"][0]["POSITION"] = add_accessor(header, np.zeros((3, 3), "<f4"))
    with pytest.raises(MeshError, match="a morph target moves 3 of 4 vertices"):
        read_triangles(write_gltf(tmp_path, header))


def test_sparse_morph_target_without_a_view(tmp_path):
    header = minimal(SQUARE, [0, 1, 2, 2, 1, 3])
    indices, values = (
        add_accessor(header, np.array([3], "<u2")),
        add_accessor(header, np.array([[0, 0, 4]], "<f4")),
    )
    header["accessors"].append(
        {
            "componentType": 5126,
            "count": 4,
            "type": "VEC3",
            "sparse": {
                "count": 1,
                "indices": {"bufferView": indices, "componentType": 5123},
                "values": {"bufferView": values},
            },
        }
    )
    header["meshes"][0]["primitives"][0]["targets"] = [{"POSITION": len(header["accessors"]) - 1}]
    header["meshes"][0]["weights"] = [1]
    assert total_area(write_gltf(tmp_path, header))[1].tolist() == [[0, 0, 0], [1, 1, 4]]


def test_skin_places_its_mesh_by_joints_not_by_its_node(tmp_path):
    header = minimal(SQUARE, [0, 1, 2, 2, 1, 3])
    shift = np.eye(4, dtype="<f4")
    shift[:3, 3] = [0, 0, -5]
    matrices = np.stack([np.eye(4, dtype="<f4").T, shift.T]).reshape(2, 16)
    header["meshes"][0]["primitives"][0]["attributes"] |= {
        "JOINTS_0": add_accessor(header, np.array([[0, 1, 0, 0]] * 4, "<u1")),
        "WEIGHTS_0": add_accessor(header, np.array([[1, 0, 0, 0]] * 2 + [[0.5, 0.5, 0, 0]] * 2, "<f4")),
    }
    header["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [100, 100, 100]},
        {"translation": [10, 0, 0], "children": [2]},
        {"translation": [0, 0, 5]},
    ]
    header["scenes"][0]["nodes"] = [0, 1]
    header["skins"] = [{"joints": [1, 2], "inverseBindMatrices": add_accessor(header, matrices)}]
    # Joint 1 moves by (10, 0, 0); joint 2 by (10, 0, 5) after its matrix moved by (0, 0, -5).
    assert total_area(write_gltf(tmp_path, header))[1].tolist() == [[10, 0, 0], [11, 1, 0]]
    header["meshes"][0]["primitives"][0]["attributes"]["JOINTS_0"] = add_accessor(header, np.full((4, 4), 2, "<u1"))
    with pytest.raises(MeshError, match="joints do not fit"):
        read_triangles(write_gltf(tmp_path, header))


def test_quantised_and_sparse_positions(tmp_path):
    header = minimal()
    quantised = np.array([[0, 0, 0], [127, 0, 0], [0, -127, 0], [-128, 0, 0]], "<i1")
    header["meshes"][0]["primitives"][0]["attributes"]["POSITION"] = add_accessor(header, quantised, normalized=True)
    header["extensionsRequired"] = ["KHR_mesh_quantization"]
    assert total_area(write_gltf(tmp_path, header))[1].tolist() == [[-1, -1, 0], [1, 0, 0]]
    header = minimal()
    indices, values = (
        add_accessor(header, np.array([3], "<u1")),
        add_accessor(header, np.array([[0, 0, 7]], "<f4")),
    )
    sparse = {"indices": {"bufferView": indices, "componentType": 5121}, "values": {"bufferView": values}}
    header["accessors"][0]["sparse"] = sparse | {"count": 1}
    assert total_area(write_gltf(tmp_path, header))[1][1].tolist() == [1, 1, 7]


def test_gltf_without_a_scene_shows_all_nodes_and_without_nodes_all_meshes(tmp_path):
    header = minimal()
    for name in ("scene", "scenes"):
        del header[name]
    header["nodes"] = [{"mesh": 0, "translation": [5, 0, 0]}, {"children": [0]}]
    assert total_area(write_gltf(tmp_path, header))[1].tolist() == [[5, 0, 0], [6, 1, 1]]
    assert len(read_triangles(write_gltf(tmp_path, header | {"scenes": []}))[1]) == 4
    del header["nodes"]
    assert total_area(write_gltf(tmp_path, header))[1].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_corners_that_make_no_whole_triangle_are_ignored_with_a_note(tmp_path):
    header = minimal(corners=[0, 2, 1, 0, 1, 3, 1, 2])
    _, faces, notes = read_triangles(write_gltf(tmp_path, header))
    assert len(faces) == 2 and notes == ["Ignored 2 corners after the last whole triangle."]
    # Arrays that are not read may have any length.
    header = minimal()
    header["meshes"][0]["primitives"][0]["attributes"]["NORMAL"] = add_accessor(header, np.zeros((2, 3), "<f4"))
    assert len(read_triangles(write_gltf(tmp_path, header))[1]) == 4


def damaged(change):
    header = minimal()
    change(header)
    return header


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (minimal() | {"asset": {"version": "1.0"}}, "glTF 1.0 is not read"),
        ({"accessors": {"a": {}}, "buffers": {"b": {}}}, "glTF 1.0 is not read"),
        (minimal(corners=[0, 1, 4]), "names vertex 4 of a piece with 4 vertices"),
        (damaged(lambda h: h["nodes"][0].update(children=[0])), "holds itself"),
        (damaged(lambda h: h["nodes"][0].update(mesh=-1)), "no mesh -1"),
        (damaged(lambda h: h["accessors"][0].update(count=5)), "promises 5 rows but its bufferView holds fewer"),
        (damaged(lambda h: h["accessors"][0].update(type="VEC2")), "accessor 0 is of the type VEC2"),
        (damaged(lambda h: h["bufferViews"][0].update(byteLength=49)), "ends beyond its buffer of 48 bytes"),
    ],
)
def test_damaged_gltf_is_refused_in_its_own_words(tmp_path, header, words):
    with pytest.raises(MeshError, match=rf"model\.gltf: .*{words}"):
        read_triangles(write_gltf(tmp_path, header))
