"""The 3-D views: large meshes are simplified, in any unit."""

import numpy as np
import pytest

from neuralparts.report.views import shown_meshes, simplified
from tests.report.shown import array, mesh_of, sphere


def test_large_mesh_is_simplified_and_says_so():
    vertices, faces = sphere(radius=3.0)
    shown = shown_meshes({"reconstruction": (vertices, faces)}, lambda points: points[:, 2], most_triangles=1000)
    trace = shown.views["reconstruction"].figure["data"][0]
    shown_vertices, shown_faces = mesh_of(trace)
    assert len(shown_faces) <= 1000 and shown_faces.max() < len(shown_vertices) and not shown.frame.origin.any()
    caption = shown.views["reconstruction"].caption
    assert caption.startswith(f"{len(faces):,} triangles (drawn simplified to {len(shown_faces):,})")
    # 1,000 triangles of a sphere: edges of 0.5 by area, so about 0.5^2 / (8 * 3) = 0.01 off the surface
    assert np.abs(np.linalg.norm(shown_vertices, axis=1) - 3.0).max() < 0.05
    # The colour is that of the nearest original vertex, whose edges are 0.2 long.
    assert np.abs(array(trace["intensity"]) - shown_vertices[:, 2]).max() < 0.2


def test_the_distance_is_asked_for_at_vertices_of_the_mesh_itself():
    vertices, faces = sphere()
    asked = []

    def signed_distance(points):
        asked.append(points)
        return np.zeros(len(points))

    shown_meshes({"reconstruction": (vertices, faces)}, signed_distance, most_triangles=500)
    own = {tuple(vertex) for vertex in vertices}
    assert all(tuple(point) in own for point in asked[0]) and len(asked[0]) < len(vertices) / 5


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_a_mesh_is_simplified_alike_in_any_unit(scale):
    vertices, faces = sphere(radius=3.0)
    fewer, kept = simplified(scale * vertices, faces, 1000)
    assert len(kept) <= 1000
    assert np.abs(np.linalg.norm(fewer / scale, axis=1) - 3.0).max() < 0.05


def test_a_mesh_without_triangles_has_no_view():
    shown = shown_meshes({"input": (np.zeros((3, 3)), np.zeros((0, 3), int))})
    assert shown.views == {} and shown.frame is None and shown.deviation is None


def test_arrays_of_another_shape_are_refused_by_the_name_of_their_mesh():
    with pytest.raises(ValueError, match=r"input: expected vertices \(V, 3\)"):
        shown_meshes({"input": (np.zeros((4, 2)), np.zeros((1, 3), int))})
