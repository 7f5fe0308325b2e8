"""Reading and writing glTF, .glb and .gltf."""

import json

import numpy as np
import pytest
import trimesh

from neuralparts.mesh import load_mesh
from neuralparts.mesh_files import MeshError, files_beside, read_triangles, write_mesh
from tests.mesh_files.handmade import minimal, write_gltf
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
